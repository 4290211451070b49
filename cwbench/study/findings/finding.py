"""What every finding gives: a small closed record, a table, a figure and a sentence."""

from abc import abstractmethod
from collections.abc import Iterable, Sequence

from matplotlib.figure import Figure

from cwbench.internal.errors import ReportError
from cwbench.internal.validation import Closed
from cwbench.report.report import Report
from cwbench.report.worst_class import Estimate, combined

Cells = list[list[str]]
"""Rows of text, the first of them the headings."""


class Finding(Closed):
    """One result of the study on one dataset. What is in it is JSON; the rest is drawn from it."""

    dataset: str

    @property
    @abstractmethod
    def title(self) -> str:
        """A heading."""

    @abstractmethod
    def summary(self) -> str:
        """Say in a sentence or two what was found, with its numbers."""

    @abstractmethod
    def table(self) -> Cells:
        """Return the numbers as text."""

    def figure(self) -> Figure | None:
        """Return the drawing, if there is anything to draw."""
        return None


def of_seeds(reports: Sequence[Report]) -> Report:
    """Return the first of some reports that differ in nothing but their seed.

    Raises:
        ReportError: there is none, or they are about different data, threats, defenses or attacks.
    """
    if not reports:
        raise ReportError("there is no report to find anything in", "run the cells first")
    first = reports[0]
    for other in reports[1:]:
        for what, mine, its in (
            ("data", first.dataset.digest, other.dataset.digest),
            ("examples", first.dataset.n_per_class, other.dataset.n_per_class),
            ("threats", (first.threat.norm, first.threat.eps.value), (other.threat.norm, other.threat.eps.value)),
            ("subjects", first.subject, other.subject),
            ("attacks", first.labels(), other.labels()),
        ):
            if mine != its:
                raise ReportError(f"the reports have different {what}", "a finding is about seeds of one training")
    return first


def class_estimates(reports: Sequence[Report], condition: str) -> list[Estimate]:
    """Return for each class the accuracy under a condition, the mean of the seeds."""
    first = of_seeds(reports)
    counts = [report.condition(condition).figures.classes for report in reports]
    return [combined([seed[i].correct for seed in counts], n) for i, n in enumerate(first.dataset.n_per_class)]


def overall(reports: Sequence[Report], condition: str) -> float:
    """Return the accuracy over all classes under a condition, the mean of the seeds.

    Raises:
        ReportError: nothing was judged.
    """
    shares = [report.accuracy(condition) for report in reports]
    known = [share for share in shares if share is not None]
    if not known:
        raise ReportError("the reports have judged nothing", "judge at least one example")
    return sum(known) / len(known)


def listed(names: Iterable[str]) -> str:
    """Return names, each of them once, as text."""
    *first, last = dict.fromkeys(names)
    return f"{', '.join(first)} and {last}" if first else last


def points(share: float | None, signed: bool = False) -> str:
    """Return a share of 1 in percent, or a difference of two in points with its sign."""
    if share is None:
        return "–"
    return f"{100 * share:+.1f}" if signed else f"{100 * share:.1f}"
