"""Figure 1 of the study: class-wise robustness of the test set against the epoch, with the gap."""

from collections.abc import Sequence
from typing import Literal

import numpy as np
from matplotlib.figure import Figure

from cwbench.internal.errors import ReportError
from cwbench.report.plots.curves import accuracy_lines, epoch_axis
from cwbench.report.plots.style import axes
from cwbench.report.records import Share
from cwbench.report.report import Report
from cwbench.study.findings.finding import Cells, Finding, of_seeds, points

MOST = 12
"""As many classes as the study's figure shows of datasets with more, chosen at random."""


class ClassCurves(Finding):
    """Robust accuracy of each class after each recorded epoch, the mean of the seeds."""

    finding: Literal["class-curves"] = "class-curves"
    subject: str
    attack: str
    seeds: int
    epochs: list[int]
    classes: list[str]
    """Those that are shown: all, or twelve drawn at random."""
    of_classes: int
    """How many there are."""
    robust: list[list[Share | None]]
    """For each shown class its accuracy after each epoch."""
    overall: list[Share]
    gap: list[Share]
    """Accuracy of the best of all classes minus that of the worst, after each epoch."""
    best: list[str]
    worst: list[str]

    @property
    def title(self) -> str:
        return f"Class-wise robustness of {self.subject} on {self.dataset} while it is trained"

    def summary(self) -> str:
        return (
            f"After epoch {self.epochs[-1]} {points(self.overall[-1])} % are robust under {self.attack}, and "
            f"{points(self.gap[-1])} points lie between class {self.best[-1]} and class {self.worst[-1]}; the largest "
            f"gap is {points(max(self.gap))} points, after epoch {self.epochs[int(np.argmax(self.gap))]}."
        )

    def table(self) -> Cells:
        head = ["epoch", *self.classes, "overall", "gap"]
        rows = zip(self.epochs, zip(*self.robust, strict=True), self.overall, self.gap, strict=True)
        return [head] + [[str(e), *map(points, row), points(all_), points(gap)] for e, row, all_, gap in rows]

    def figure(self) -> Figure:
        figure, drawn = axes(7, 4.2, f"{self.subject} on {self.dataset} under {self.attack}, gap shaded")
        rows = [[share or 0.0 for share in row] for row in self.robust]
        accuracy_lines(drawn, self.epochs, rows, self.classes, self.overall)
        epoch_axis(drawn)
        return figure


def class_curves(reports: Sequence[Report], *, draw: int = 0) -> ClassCurves:
    """Return the curves of one training, or the mean of several seeds; ``draw`` chooses the classes that are shown.

    Raises:
        ReportError: a report has no curves, or they are of different epochs.
    """
    first = of_seeds(reports)
    curves = [report.training.curves if report.training else [] for report in reports]
    epochs = [point.epoch for point in curves[0]]
    if not epochs or any([point.epoch for point in of_seed] != epochs for of_seed in curves):
        raise ReportError(f"{first.subject} has no curves of the same epochs", "train it with --every N")
    names, k = first.dataset.classes, len(first.dataset.classes)
    n = np.array([[point.n for point in of_seed] for of_seed in curves], dtype=float)
    right = np.array([[point.robust for point in of_seed] for of_seed in curves], dtype=float)
    with np.errstate(invalid="ignore"):
        shares = (right / n).mean(axis=0)  # epochs × classes; NaN for a class without examples
    known = np.flatnonzero(~np.isnan(shares[0]))
    best, worst = known[shares[:, known].argmax(1)], known[shares[:, known].argmin(1)]
    rows = np.arange(len(epochs))
    chosen = sorted(np.random.default_rng(draw).choice(k, size=MOST, replace=False)) if k > MOST else range(k)
    return ClassCurves(
        dataset=first.dataset.name,
        subject=first.subject,
        attack=curves[0][0].attack,
        seeds=len(reports),
        epochs=epochs,
        classes=[names[i] for i in chosen],
        of_classes=k,
        robust=[[None if np.isnan(share) else float(share) for share in shares[:, i]] for i in chosen],
        overall=(right.sum(2) / n.sum(2)).mean(axis=0).tolist(),
        gap=(shares[rows, best] - shares[rows, worst]).tolist(),
        best=[names[i] for i in best],
        worst=[names[i] for i in worst],
    )
