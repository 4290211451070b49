"""Figure 7 of the study: accuracy of standard training beside robustness of adversarial training, class by class."""

from collections.abc import Sequence
from typing import Literal

import numpy as np
from matplotlib.figure import Figure

from cwbench.internal.errors import ReportError
from cwbench.report.plots.style import ATTACKED, CLEAN, axes, named
from cwbench.report.records import Share
from cwbench.report.report import Report
from cwbench.study.findings.correlation import Correlation, spearman
from cwbench.study.findings.finding import Cells, Finding, class_estimates, of_seeds, points


class Gap(Finding):
    """The largest gap between two classes."""

    subject: str
    condition: str
    accuracy: list[float | None]
    gap: Share
    best: str
    worst: str

    @property
    def title(self) -> str:
        return f"{self.subject}, {self.condition}"

    def summary(self) -> str:
        return f"{self.title}: {points(self.gap)} points between {self.best} and {self.worst}"

    def table(self) -> Cells:
        return [[self.title, *map(points, self.accuracy), points(self.gap), self.best, self.worst]]


class TrainingGap(Finding):
    """Standard against adversarial training."""

    finding: Literal["training-gap"] = "training-gap"
    classes: list[str]
    standard: Gap
    adversarial: Gap
    order: Correlation
    """Spearman's between the two over the classes: the study finds almost the same order."""

    @property
    def title(self) -> str:
        return f"Class-wise accuracy of standard training and robustness of adversarial training on {self.dataset}"

    def summary(self) -> str:
        return f"{self.standard.summary()}; {self.adversarial.summary()}. Rank correlation of the two: {self.order}."

    def table(self) -> Cells:
        head = ["training", *self.classes, "gap", "best", "worst"]
        return [head, *self.standard.table(), *self.adversarial.table()]

    def figure(self) -> Figure:
        figure, drawn = axes(7, 3.8, self.title)
        places = np.arange(len(self.classes))
        for shift, gap, color in ((-0.2, self.standard, CLEAN), (0.2, self.adversarial, ATTACKED)):
            heights = [100 * (share or 0.0) for share in gap.accuracy]
            label = f"{gap.title}: gap {points(gap.gap)} ({gap.best}, {gap.worst})".replace("$", r"\$")
            drawn.bar(places + shift, heights, 0.4, color=color, label=label, zorder=2)
            low = 100 * min(share for share in gap.accuracy if share is not None)
            drawn.axhspan(low, low + 100 * gap.gap, color=color, alpha=0.3, hatch="//", linewidth=0, zorder=1)
        drawn.set_xticks(places, [named(name, 12) for name in self.classes], parse_math=False)
        drawn.set_ylim(0, 100)
        drawn.set_ylabel("% correct")
        figure.legend(loc="outside lower center", ncols=1, frameon=False, fontsize=8)
        return figure


def training_gap(standard: Sequence[Report], adversarial: Sequence[Report], attack: str) -> TrainingGap:
    """Return the finding from reports of standard training, read clean, and of adversarial training under ``attack``.

    Raises:
        ReportError: the reports do not belong together, or no class has an example.
    """
    gaps = _gap(standard, "clean"), _gap(adversarial, attack)
    pairs = [(a, b) for a, b in zip(gaps[0].accuracy, gaps[1].accuracy, strict=True) if a is not None and b is not None]
    return TrainingGap(
        dataset=gaps[0].dataset,
        classes=standard[0].dataset.classes,
        standard=gaps[0],
        adversarial=gaps[1],
        order=spearman([a for a, _ in pairs], [b for _, b in pairs]),
    )


def _gap(reports: Sequence[Report], condition: str) -> Gap:
    first = of_seeds(reports)
    accuracy = [estimate.accuracy for estimate in class_estimates(reports, condition)]
    known = [(share, index) for index, share in enumerate(accuracy) if share is not None]
    if not known:
        raise ReportError(f"{first.subject} was judged on no example", "judge at least one of each class")
    (low, worst), (high, best) = min(known), max(known)
    names = first.dataset.classes
    return Gap(
        dataset=first.dataset.name,
        subject=first.subject,
        condition=condition,
        accuracy=accuracy,
        gap=high - low,
        best=names[best],
        worst=names[worst],
    )
