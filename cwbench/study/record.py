"""What a piece of the study leaves: its findings as JSON, and what it was done with."""

import json
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError

from cwbench.internal.errors import ReportError, first_complaint
from cwbench.internal.files import reading
from cwbench.internal.validation import Closed, json_schema
from cwbench.study.findings.class_curves import ClassCurves
from cwbench.study.findings.class_table import ClassTable
from cwbench.study.findings.confusion_blocks import ConfusionBlocks
from cwbench.study.findings.homing import Homing
from cwbench.study.findings.hypothesis_tests import Properties
from cwbench.study.findings.output_path import OutputPath
from cwbench.study.findings.probability_variance import ProbabilityVariance
from cwbench.study.findings.robustness_intervals import RobustnessIntervals
from cwbench.study.findings.temperature_table import TemperatureTable
from cwbench.study.findings.training_gap import TrainingGap
from cwbench.study.findings.weight_norm import WeightNorm
from cwbench.study.paper_numbers import PublishedTable
from cwbench.study.settings import Scale

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
    with reading(path, ReportError):
        content = path.read_bytes()
    try:
        return PieceRecord.model_validate_json(content)
    except ValidationError as error:
        raise ReportError(f"{path} is not a figure of a study: {first_complaint(error)}", "remove it") from None


def schema() -> dict[str, Any]:
    """Return the JSON schema of a piece of the study."""
    return json_schema(PieceRecord, "cwbench study, version 1")
