"""Figure 5 a and e of the study: the class-wise mean of the variance of predicted probabilities."""

from collections.abc import Mapping, Sequence
from typing import Literal

import numpy as np
import torch
from matplotlib.figure import Figure

from cwbench.api import Examples, Model, evaluating
from cwbench.report.plots.style import axes, line_style, named
from cwbench.study.findings.correlation import Correlation, spearman
from cwbench.study.findings.finding import Cells, Finding, listed

BATCH = 256


class ProbabilityVariance(Finding):
    """How far from smooth the output distribution is for each class: the smaller, the smoother."""

    finding: Literal["probability-variance"] = "probability-variance"
    classes: list[str]
    variance: dict[str, list[float | None]]
    """By subject, for each class: the mean over its clean examples of the variance of the K probabilities, and over the
    seeds. At most (K − 1)/K²; 0 for the uniform distribution."""
    with_robustness: dict[str, Correlation]
    """Spearman's with class-wise robustness: the study finds less variance in vulnerable classes."""

    @property
    def title(self) -> str:
        return f"Class-wise variance of the probabilities of {listed(self.variance)} on {self.dataset}"

    def summary(self) -> str:
        means = {name: np.mean([v for v in values if v is not None]) for name, values in self.variance.items()}
        ranked = sorted(means, key=lambda name: float(means[name]))
        text = ", ".join(f"{name} {means[name]:.4f}" for name in ranked)
        related = "; ".join(f"{name} {found}" for name, found in self.with_robustness.items())
        return f"Mean variance, smoothest first: {text}. With robustness (Spearman over classes): {related}."

    def table(self) -> Cells:
        rows = [[name, *("–" if v is None else f"{v:.4f}" for v in values)] for name, values in self.variance.items()]
        return [["defense", *self.classes], *rows]

    def figure(self) -> Figure:
        figure, drawn = axes(7, 3.8, self.title)
        places = range(len(self.classes))
        for number, (name, values) in enumerate(self.variance.items()):
            color, dashes = line_style(number)
            heights = [np.nan if value is None else value for value in values]
            drawn.plot(
                places, heights, marker="o", color=color, linestyle=dashes, label=named(name).replace("$", r"\$")
            )
        drawn.set_xticks(list(places), [named(name, 12) for name in self.classes], parse_math=False)
        drawn.set_ylabel("mean variance")
        drawn.set_xlabel("class")
        drawn.legend(frameon=False, fontsize=8)
        return figure


def probability_variance(
    dataset: str,
    classes: Sequence[str],
    models: Mapping[str, Sequence[Model]],
    examples: Examples,
    robustness: Mapping[str, Sequence[float | None]],
    device: torch.device,
) -> ProbabilityVariance:
    """Return the finding for networks of several defenses: for each its seeds, and its class-wise robustness."""
    found = {
        name: _mean([_of_model(model, examples, len(classes), device) for model in seeds])
        for name, seeds in models.items()
    }
    return ProbabilityVariance(
        dataset=dataset,
        classes=list(classes),
        variance=found,
        with_robustness={name: _related(found[name], robustness[name]) for name in found},
    )


def _of_model(model: Model, examples: Examples, classes: int, device: torch.device) -> np.ndarray:
    sums, counts = torch.zeros(classes, dtype=torch.float64), torch.zeros(classes, dtype=torch.float64)
    with evaluating(model), torch.no_grad():
        for rows in torch.arange(len(examples)).split(BATCH):
            spread = model(examples.images(rows).to(device)).double().softmax(1).var(1, correction=0).cpu()
            labels = examples.labels[rows].cpu()
            sums.index_add_(0, labels, spread)
            counts.index_add_(0, labels, torch.ones_like(spread))
    return (sums / counts).numpy()  # NaN for a class without examples


def _mean(seeds: Sequence[np.ndarray]) -> list[float | None]:
    return [None if np.isnan(value) else float(value) for value in np.mean(seeds, axis=0)]


def _related(variance: Sequence[float | None], robustness: Sequence[float | None]) -> Correlation:
    known = [(v, r) for v, r in zip(variance, robustness, strict=True) if v is not None and r is not None]
    return spearman([v for v, _ in known], [r for _, r in known])
