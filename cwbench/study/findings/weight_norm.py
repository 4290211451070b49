"""Figure 4 of the study: the robustness of a class against the l2 norm of its classifier weight."""

from collections.abc import Sequence
from typing import Literal

import numpy as np
from matplotlib.figure import Figure

from cwbench.checkpoints.store import Checkpoint
from cwbench.internal.errors import ReportError
from cwbench.report.plots.style import ATTACKED, INK, named, panel_row
from cwbench.report.report import Report
from cwbench.study.findings.correlation import Correlation, pearson, spearman
from cwbench.study.findings.finding import Cells, Finding, class_estimates, of_seeds

WEIGHT = "head.weight"
"""The last layer of every classifier that cwbench trains, (K, width)."""


class NormOfTraining(Finding):
    """One defense: accuracy and weight norm of each class, both the mean of the seeds."""

    subject: str
    condition: str
    accuracy: list[float | None]
    norm: list[float]
    pearson: Correlation
    spearman: Correlation

    @property
    def title(self) -> str:
        return f"{self.subject}, {self.condition}"

    def summary(self) -> str:
        return f"{self.title}: Pearson {self.pearson}; Spearman {self.spearman}."

    def table(self) -> Cells:
        return [[self.subject, self.condition, str(self.pearson), str(self.spearman)]]

    def normalised(self) -> list[tuple[float, float]]:
        """Return norm and accuracy of each class that has examples, each divided by the largest."""
        known = [(n, a) for n, a in zip(self.norm, self.accuracy, strict=True) if a is not None]
        most = [max(column) or 1.0 for column in zip(*known, strict=True)]
        return [(n / most[0], a / most[1]) for n, a in known]


class WeightNorm(Finding):
    """Robustness against weight norm, for adversarial training and, as the contrast, accuracy for standard training."""

    finding: Literal["weight-norm"] = "weight-norm"
    classes: list[str]
    trainings: list[NormOfTraining]

    @property
    def title(self) -> str:
        return f"Robustness of a class and the norm of its classifier weight on {self.dataset}"

    def summary(self) -> str:
        return " ".join(training.summary() for training in self.trainings)

    def table(self) -> Cells:
        head = ["training", "accuracy", "Pearson [95 %]", "Spearman [95 %]"]
        return [head] + [row for training in self.trainings for row in training.table()]

    def figure(self) -> Figure:
        figure, panels = panel_row(len(self.trainings), 4.2, 3.8)
        for panel, training in zip(panels, self.trainings, strict=True):
            pairs = training.normalised()
            panel.scatter([x for x, _ in pairs], [y for _, y in pairs], color=ATTACKED, s=22)
            for (x, y), name in zip(pairs, self.classes, strict=False):
                label = named(name, 12).replace("$", r"\$")
                panel.annotate(label, (x, y), (3, 3), textcoords="offset points", fontsize=8, color=INK)
            panel.set_title(named(training.title, 60), fontsize=10, parse_math=False)
            panel.set_xlabel("norm of the classifier weight / largest")
            panel.set_ylabel("accuracy / largest")
        return figure


def weight_norm(trained: Sequence[tuple[Sequence[Report], Sequence[Checkpoint], str]]) -> WeightNorm:
    """Return the finding for several trainings: reports and checkpoints of the same seeds, and what is read of them.

    The last is ``clean`` for standard training, and the label of an attack for adversarial training.

    Raises:
        ReportError: a last layer has no norms to speak of, as on the hypersphere, where weights are normalised.
    """
    trainings = [_training(reports, checkpoints, condition) for reports, checkpoints, condition in trained]
    data = trained[0][0][0].dataset
    return WeightNorm(dataset=data.name, classes=data.classes, trainings=trainings)


def _training(reports: Sequence[Report], checkpoints: Sequence[Checkpoint], condition: str) -> NormOfTraining:
    first = of_seeds(reports)
    accuracy = [estimate.accuracy for estimate in class_estimates(reports, condition)]
    norms = np.mean([class_norms(checkpoint, first.subject) for checkpoint in checkpoints], axis=0).tolist()
    known = [(n, a) for n, a in zip(norms, accuracy, strict=True) if a is not None]
    x, y = [n for n, _ in known], [a for _, a in known]
    return NormOfTraining(
        dataset=first.dataset.name,
        subject=first.subject,
        condition=condition,
        accuracy=accuracy,
        norm=norms,
        pearson=pearson(x, y),
        spearman=spearman(x, y),
    )


def class_norms(checkpoint: Checkpoint, subject: str) -> list[float]:
    """Return the l2 norm of the classifier weight of each class.

    Raises:
        ReportError: the last layer has none to speak of.
    """
    weight = checkpoint.weights.get(WEIGHT)
    if weight is None or weight.dim() != 2 or "head.inverse_temperature" in checkpoint.weights:
        raise ReportError(
            f"the last layer of {subject} has no weight norms: it is not linear, or on the hypersphere",
            "the finding is about linear classifiers, such as madry's",
        )
    norms: list[float] = weight.double().norm(dim=1).tolist()
    return norms
