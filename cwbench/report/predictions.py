"""The predictions beside a report: one row per example, clean and under each attack."""

from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load, save

from cwbench.internal import digest
from cwbench.internal.errors import ReportError
from cwbench.internal.files import reading, write_atomically
from cwbench.report.counts import Floats, Ints, confusion, right_at, right_under
from cwbench.report.records import SavedExamples, Sidecar
from cwbench.report.report import Report

PREDICTIONS = "predictions.safetensors"
Images = np.ndarray[Any, np.dtype[np.float32]]
Columns = dict[str, Any]
"""Integers (n,) by column name, and float64 for distances."""


def column(label: str) -> str:
    """Return the name of the column with the predictions under an attack."""
    return f"under {label}"


def distance_column(label: str) -> str:
    """Return the name of the column with the distances that an attack found."""
    return f"distance {label}"


def encode_predictions(columns: Columns) -> tuple[bytes, Sidecar]:
    """Return the file's bytes and how a report refers to them: columns ``ids``, ``labels``, ``clean`` and attacks."""
    content = save({name: np.ascontiguousarray(column) for name, column in columns.items()})
    return content, Sidecar(file=PREDICTIONS, sha256=digest.of_bytes(content))


def write_predictions(folder: Path, content: bytes) -> None:
    """Write the sidecar into the folder of its report."""
    write_atomically(folder / PREDICTIONS, content)


def read_predictions(report: Report, folder: Path) -> Columns | None:
    """Return the columns, or None where the report has no sidecar or it does not lie in the folder.

    Raises:
        ReportError: the file is not the one that the report was written with, or does not add up to its counts.
    """
    path = folder / report.predictions.file if report.predictions else None
    if path is None or not path.is_file():
        return None
    with reading(path, ReportError):
        content = path.read_bytes()
    if digest.of_bytes(content) != (report.predictions and report.predictions.sha256):
        raise ReportError(f"{path} is not the file that the report was written with: its sha256 differs")
    try:
        columns = load(content)
    except (SafetensorError, KeyError, ValueError, TypeError) as error:
        raise ReportError(f"{path} is damaged: {error}") from None
    check_predictions(report, columns)
    return columns


def check_predictions(report: Report, columns: Columns) -> None:
    """Recount the report from the predictions.

    Raises:
        ReportError: a column is missing or malformed, or the counts differ.
    """
    k, n = len(report.dataset.classes), sum(report.dataset.n_per_class)
    conditions = {"clean": "clean"} | {label: column(label) for label in report.labels()}
    limits = {"ids": report.dataset.n_available, "labels": k} | dict.fromkeys(conditions.values(), k)
    for name, limit in limits.items():
        found = columns.get(name)
        if found is None:
            raise ReportError(f"the predictions lack the column {name!r}")
        if found.dtype != np.int64 or found.shape != (n,) or ((found < 0) | (found >= limit)).any():
            raise ReportError(f"the column {name!r} of the predictions must hold {n} integers from 0 to {limit - 1}")
    if len(np.unique(columns["ids"])) != n:
        raise ReportError("the predictions hold an example twice")
    for name, key in conditions.items():
        if confusion(columns["labels"], columns[key], k) != report.confusion(name):
            raise ReportError(f"the predictions under {name} do not add up to the report's confusion counts")
    wrong = columns["clean"] != columns["labels"]
    for name, key in conditions.items():
        if (columns[key][wrong] != columns["clean"][wrong]).any():
            raise ReportError(f"under {name} examples that are wrong when clean have another prediction")
    under = [columns[key] for key in conditions.values()]
    if right_under(columns["labels"], under, k) != report.worst_case_counts.correct:
        raise ReportError("the predictions do not add up to the report's worst case")
    for attack in report.attacks:
        if attack.eps_curve:
            distances = _distances(columns, attack.label, n)
            if right_at(columns["labels"], distances, attack.eps_curve.eps, k) != attack.eps_curve.correct:
                raise ReportError(f"the distances under {attack.label} do not add up to the report's curve")


def _distances(columns: Columns, label: str, n: int) -> Floats:
    name = distance_column(label)
    found = columns.get(name)
    if found is None or found.dtype != np.float64 or found.shape != (n,) or not (found >= 0).all():
        raise ReportError(f"the predictions lack {n} distances in the column {name!r}")
    distances: Floats = found
    return distances


def read_examples(folder: Path, saved: SavedExamples) -> tuple[Ints, Images]:
    """Return ids (n,) and images (n, C, H, W) of a file beside a report.

    Raises:
        ReportError: it is missing, damaged, or not the one that the report was written with.
    """
    path = folder / saved.file
    with reading(path, ReportError):
        content = path.read_bytes()
    if digest.of_bytes(content) != saved.sha256:
        raise ReportError(f"{path} is not the file that the report was written with: its sha256 differs")
    try:
        tensors = load(content)
        ids, x = tensors["ids"], tensors["x"]
    except (SafetensorError, KeyError, ValueError) as error:
        raise ReportError(f"{path} is damaged: {error}") from None
    fits = ids.dtype == np.int64 and ids.shape == (saved.n,) and x.dtype == np.float32 and x.shape[:1] == (saved.n,)
    if not fits or not saved.n:
        raise ReportError(f"{path} does not hold {saved.n} examples")
    return ids, x
