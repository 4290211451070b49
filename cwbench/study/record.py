"""What a piece of the study leaves: its findings as JSON, and what it was done with."""

import json
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError

from cwbench.errors import CwbenchError
from cwbench.findings.class_curves import ClassCurves
from cwbench.findings.class_table import ClassTable
from cwbench.findings.confusion_blocks import ConfusionBlocks
from cwbench.findings.homing import Homing
from cwbench.findings.output_path import OutputPath
from cwbench.findings.probability_variance import ProbabilityVariance
from cwbench.findings.properties import Properties
from cwbench.findings.robustness_intervals import RobustnessIntervals
from cwbench.findings.temperature_table import TemperatureTable
from cwbench.findings.training_gap import TrainingGap
from cwbench.findings.weight_norm import WeightNorm
from cwbench.records import Closed
from cwbench.study.published import PublishedTable
from cwbench.study.scale import Scale

AnyFinding = Annotated[
    ClassCurves
    | ClassTable
    | ConfusionBlocks
    | Homing
    | OutputPath
    | ProbabilityVariance
    | Properties
    | RobustnessIntervals
    | TemperatureTable
    | TrainingGap
    | WeightNorm,
    Field(discriminator="finding"),
]


class PieceRecord(Closed):
    """One figure or table of the study on one dataset."""

    schema_version: Literal[1] = 1
    piece: str
    scale: Scale
    findings: list[AnyFinding]
    published: list[PublishedTable]
    """The study's own figures, on its own datasets."""
    notes: list[str] = []
    """What is missing, and why."""
    warnings: list[str] = []
    """Signs that the results it rests on may not mean what they seem to."""
    created: datetime
    cwbench: str
    torch: str
    device: str

    def to_json(self) -> str:
        """Return the record as JSON."""
        return json.dumps(self.model_dump(mode="json"), indent=1, allow_nan=False, ensure_ascii=False) + "\n"


def read_record(path: Path) -> PieceRecord:
    """Read the record of a piece.

    Raises:
        CwbenchError: it cannot be read, or is none.
    """
    try:
        return PieceRecord.model_validate_json(path.read_bytes())
    except OSError as error:
        raise CwbenchError(f"cannot read {path}: {error.strerror}") from None
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise CwbenchError(f"{path} is no piece of a study: {where}: {first['msg']}", "remove it") from None


def schema() -> dict[str, Any]:
    """Return the JSON schema of a piece of the study."""
    head = {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": "cwbench study, version 1"}
    return head | PieceRecord.model_json_schema(mode="serialization") | head
