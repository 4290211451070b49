"""Two reports side by side: class by class, and paired where both judged the same examples."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from cwbench.internal.errors import ReportError
from cwbench.report.counts import Ints
from cwbench.report.intervals import holm, mcnemar
from cwbench.report.predictions import column
from cwbench.report.report import Report

Bools = np.ndarray[Any, np.dtype[np.bool_]]


@dataclass(frozen=True)
class Row:
    """One class, or all of them."""

    name: str
    first: float | None
    second: float | None
    p_value: float | None
    """Exact McNemar test, adjusted over the classes by Holm's method; None without paired predictions."""

    @property
    def difference(self) -> float | None:
        return None if self.first is None or self.second is None else self.second - self.first


def compare(
    first: Report,
    second: Report,
    *,
    condition: str,
    columns: tuple[dict[str, Ints] | None, dict[str, Ints] | None] = (None, None),
) -> list[Row]:
    """Return a row for all examples and one for each class, under one condition that both reports have.

    ``columns`` are the predictions beside each report. They are compared in pairs where both judged the same examples
    of the same data.

    Raises:
        ReportError: other data, another threat, other settings of the attack, or a condition that one of them lacks.
    """
    if first.dataset.digest != second.dataset.digest or first.dataset.classes != second.dataset.classes:
        raise ReportError(
            f"the reports are about different data: {first.dataset.name} {first.dataset.digest[:12]} "
            f"and {second.dataset.name} {second.dataset.digest[:12]}",
            "only results on the same split can be compared",
        )
    if condition != "clean" and not _same_threat(first, second):
        raise ReportError(
            f"the reports have different threats: {first.threat.norm} {first.threat.eps} "
            f"and {second.threat.norm} {second.threat.eps}",
            "compare clean accuracy with --condition clean",
        )
    if condition != "clean" and (first.cascade or second.cascade):
        raise ReportError(
            "in a cascade the counts of an attack are also those of the attacks before it",
            "compare runs without --cascade, or clean accuracy with --condition clean",
        )
    if condition != "clean" and not _same_attack(first, second, condition):
        raise ReportError(f"{condition} ran with different settings", "cwbench report show --format markdown tells")
    pairs = _paired(first, second, condition, columns)
    p_values: list[float | None] = [None] * len(first.dataset.classes)
    overall = None
    if pairs:
        labels, right_first, right_second = pairs
        overall = _p_value(right_first, right_second)
        present = sorted(set(labels.tolist()))
        raw = [_p_value(right_first[labels == index], right_second[labels == index]) for index in present]
        for index, value in zip(present, holm(raw), strict=True):
            p_values[index] = value
    rows = [Row("all", first.accuracy(condition), second.accuracy(condition), overall)]
    both = zip(
        first.class_accuracy(condition).items(),
        second.class_accuracy(condition).values(),
        p_values,
        strict=True,
    )
    return rows + [Row(name, a, b, p) for (name, a), b, p in both]


def shared_conditions(first: Report, second: Report) -> list[str]:
    """Return the conditions that two reports have in common: clean, and attacks where the threat is the same."""
    attacks = [label for label in first.labels() if label in second.labels()]
    same = [label for label in attacks if _same_threat(first, second) and _same_attack(first, second, label)]
    return ["clean", *same]


def _same_attack(first: Report, second: Report, name: str) -> bool:
    if first.cascade or second.cascade:
        return False
    a, b = (report.attack(name).attack for report in (first, second))
    used = first.attack(name).substitute, second.attack(name).substitute
    return (a.name, a.fields) == (b.name, b.fields) and used[0] == used[1]


def _same_threat(first: Report, second: Report) -> bool:
    a, b = first.threat, second.threat
    return (a.norm, a.eps.value) == (b.norm, b.eps.value)


def _p_value(first: Bools, second: Bools) -> float:
    return mcnemar(int((first & ~second).sum()), int((second & ~first).sum()))


def _paired(
    first: Report,
    second: Report,
    condition: str,
    columns: tuple[dict[str, Ints] | None, dict[str, Ints] | None],
) -> tuple[Ints, Bools, Bools] | None:
    """Return labels and, for each report, which examples are right; None where they cannot be paired."""
    a, b = columns
    if a is None or b is None or not np.array_equal(a["ids"], b["ids"]):
        return None
    key_a, key_b = (_column(report, condition) for report in (first, second))
    return a["labels"], a[key_a] == a["labels"], b[key_b] == b["labels"]


def _column(report: Report, condition: str) -> str:
    return condition if condition == "clean" else column(report.attack(condition).label)
