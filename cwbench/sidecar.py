"""The predictions beside a report: one row per example, clean and under each attack."""

from pathlib import Path

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load, save

from cwbench import digest
from cwbench.errors import CwbenchError
from cwbench.files import write_atomically
from cwbench.report import Report, Sidecar
from cwbench.summarise import Ints, confusion, standing

FILE = "predictions.safetensors"


def encode(columns: dict[str, Ints]) -> tuple[bytes, Sidecar]:
    """Return the file's bytes and how a report refers to them; columns are ``ids``, ``labels``, ``clean``, attacks."""
    content = save({name: np.ascontiguousarray(column) for name, column in columns.items()})
    return content, Sidecar(file=FILE, sha256=digest.of_bytes(content))


def write(folder: Path, content: bytes) -> None:
    """Write the sidecar into the folder of its report."""
    write_atomically(folder / FILE, content)


def read(report: Report, folder: Path) -> dict[str, Ints] | None:
    """Return the columns, or None where the report has no sidecar or it does not lie in the folder.

    Raises:
        CwbenchError: the file is not the one that the report was written with.
    """
    path = folder / report.predictions.file if report.predictions else None
    if path is None or not path.is_file():
        return None
    content = path.read_bytes()
    if digest.of_bytes(content) != (report.predictions and report.predictions.sha256):
        raise CwbenchError(f"{path} is not the file that the report was written with: its sha256 differs")
    try:
        return load(content)
    except SafetensorError as error:
        raise CwbenchError(f"{path} is damaged: {error}") from None


def check(report: Report, columns: dict[str, Ints]) -> None:
    """Recount the report's confusion from the predictions.

    Raises:
        CwbenchError: a column is missing, or the counts differ.
    """
    k = len(report.dataset.classes)
    for name in ["clean", *report.labels()]:
        if name not in columns or "labels" not in columns:
            raise CwbenchError(f"the predictions lack the column {name!r}")
        if confusion(columns["labels"], columns[name], k) != report.confusion(name):
            raise CwbenchError(f"the predictions under {name} do not add up to the report's confusion counts")
    conditions = [columns[name] for name in ["clean", *report.labels()]]
    if standing(columns["labels"], conditions, k) != report.worst_case_counts.correct:
        raise CwbenchError("the predictions do not add up to the report's worst case")
