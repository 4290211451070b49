"""Figure 5 b–d and f–h of the study: the output distribution of one example along the iterations of an attack."""

from collections.abc import Sequence
from typing import Literal

import numpy as np
import torch
import torch.nn.functional as F
from matplotlib.figure import Figure
from torch import Tensor

from cwbench.api import ExampleStreams, Inner, Model, Threat, evaluating, frozen, value_and_gradient
from cwbench.internal.errors import ReportError
from cwbench.report.plots.style import line_style, named, panel_row
from cwbench.report.records import Share
from cwbench.study.findings.finding import Cells, Finding, listed

ITERATIONS = (1, 10, 20)
"""Those that the study shows."""


class Path(Finding):
    """One network attacked at one temperature."""

    subject: str
    inverse_temperature: float
    """1/T of the attack's softmax, and of the shown distribution."""
    probabilities: list[list[Share]]
    """For each shown iteration the K probabilities of softmax(z/T) at its iterate."""
    predicted: list[str]

    @property
    def title(self) -> str:
        return f"{self.subject}, 1/T = {self.inverse_temperature:g}"

    def summary(self) -> str:
        return f"{self.title}: predicted as {', '.join(self.predicted)}."

    def table(self) -> Cells:
        return [
            [
                self.title,
                *(f"{max(row):.2f} ({name})" for row, name in zip(self.probabilities, self.predicted, strict=True)),
            ]
        ]


class OutputPath(Finding):
    """One example under Temperature-PGD: how networks' outputs move along the iterations."""

    finding: Literal["output-path"] = "output-path"
    example: int
    """Its number in the test split."""
    label: str
    classes: list[str]
    iterations: list[int]
    paths: list[Path]

    @property
    def title(self) -> str:
        networks = listed(path.subject for path in self.paths)
        return (
            f"Output of {networks} on test image {self.example} (class {self.label}) of {self.dataset} along the attack"
        )

    def summary(self) -> str:
        return " ".join(path.summary() for path in self.paths)

    def table(self) -> Cells:
        head = ["network", *(f"iteration {number}" for number in self.iterations)]
        return [head] + [row for path in self.paths for row in path.table()]

    def figure(self) -> Figure:
        figure, panels = panel_row(len(self.iterations), 3.6, 3.4)
        width = 0.8 / len(self.paths)
        places = np.arange(len(self.classes))
        for number, (panel, iteration) in enumerate(zip(panels, self.iterations, strict=True)):
            for index, path in enumerate(self.paths):
                label = path.title.replace("$", r"\$") if number == 0 else None
                heights = path.probabilities[number]
                panel.bar(
                    places + index * width - 0.4, heights, width, align="edge", color=line_style(index)[0], label=label
                )
            panel.set_xticks(places, [named(name, 6) for name in self.classes], fontsize=8, parse_math=False)
            panel.set_ylim(0, 1)
            panel.set_title(f"iteration {iteration}", fontsize=10)
        panels[0].set_ylabel("probability")
        figure.legend(loc="outside lower center", ncols=2, frameon=False, fontsize=8)
        return figure


def output_path(
    dataset: str,
    classes: Sequence[str],
    example: tuple[int, Tensor, int],
    networks: Sequence[tuple[str, Model, float]],
    *,
    threat: Threat,
    steps: Inner,
    seed: int,
    iterations: Sequence[int] = ITERATIONS,
) -> OutputPath:
    """Return how the outputs of networks move while one example is attacked.

    ``example`` is its number, its image (C, H, W) and its label; ``networks`` are names, models and 1/T. The attack is
    Temperature-PGD without early stopping: ``steps`` of it, and the random start of that example and seed.

    Raises:
        ReportError: an iteration lies behind the last step.
    """
    shown = [number for number in iterations if number <= steps.steps]
    if not shown:
        raise ReportError(
            f"the attack has {steps.steps} steps, and iteration {min(iterations)} lies behind", "show one of them"
        )
    number, image, label = example
    paths = [
        Path(
            dataset=dataset,
            subject=name,
            inverse_temperature=inverse,
            probabilities=(rows := _along(model, image, label, number, inverse, threat, steps, seed, shown)),
            predicted=[classes[int(np.argmax(row))] for row in rows],
        )
        for name, model, inverse in networks
    ]
    return OutputPath(
        dataset=dataset, example=number, label=classes[label], classes=list(classes), iterations=shown, paths=paths
    )


def _along(
    model: Model,
    image: Tensor,
    label: int,
    number: int,
    inverse: float,
    threat: Threat,
    steps: Inner,
    seed: int,
    shown: Sequence[int],
) -> list[list[float]]:
    """Return the probabilities after each shown iteration; the update is equation (2) of the study's section 4."""
    x, y, rows = image[None], torch.tensor([label], device=image.device), torch.zeros(1, dtype=torch.int64)
    streams = ExampleStreams.of(seed, torch.tensor([number])).child("output path")
    found = []
    with evaluating(model), frozen(model):
        iterate = threat.random_start(x, streams=streams)
        for step in range(1, steps.steps + 1):
            _, _, gradient = value_and_gradient(
                model, lambda logits, _: F.cross_entropy(logits * inverse, y, reduction="none"), iterate, rows
            )
            iterate = threat.project(iterate + steps.step_size * threat.steepest(gradient), x)
            if step in shown:
                with torch.no_grad():
                    found.append((model(iterate) * inverse).double().softmax(1)[0].clamp(0, 1).tolist())
    return found
