"""Projected-gradient attacks: a loss on the one ascent loop, with random starts and restarts."""

from abc import abstractmethod
from typing import Annotated, final

import torch
from pydantic import Field
from torch import Tensor

from cwbench.api import Access, Attack, Budget
from cwbench.ascent import MOST_STEPS, Leaves, ascend
from cwbench.exact import Number
from cwbench.model import Model
from cwbench.randomness import ExampleStreams
from cwbench.threat import Threat


class ProjectedAttack(Attack):
    """Random start in the ball, K steps of projected ascent on ``objective``, the whole repeated ``restarts`` times.

    A subclass writes its objective and no more.
    """

    access = Access.WHITE_BOX
    pooled = True

    steps: Annotated[int, Field(ge=1, le=MOST_STEPS)] | None = None
    """Ascent steps; the dataset's if unset."""
    step_size: Annotated[Number, Field(gt=0)] | None = None
    """In units of pixels; the dataset's, scaled with eps, if unset."""
    restarts: Annotated[int, Field(ge=1)] = 1
    """Independent random starts; only what still stands is started again."""
    early_stop: bool = True
    """Stop an example at its first misclassified iterate; false is the textbook attack, judged at its last one."""

    @abstractmethod
    def objective(self, logits: Tensor, y: Tensor) -> Tensor:
        """Return the loss to increase, shape (N,), for logits (N, K) and labels (N,)."""

    @final
    def perturb(
        self, model: Model, x: Tensor, y: Tensor, *, threat: Threat, streams: ExampleStreams, budget: Budget
    ) -> Tensor:
        if self.steps is None or self.step_size is None:
            raise ValueError(f"{self.name} needs steps and step_size: a run takes them from the dataset's recipe")
        result = x.clone()
        standing = torch.arange(len(x), device=x.device)
        for restart in range(self.restarts):
            last = restart + 1 == self.restarts
            images, labels = x[standing], y[standing]
            result[standing] = ascend(
                model,
                lambda logits, rows, labels=labels: self.objective(logits, labels[rows]),  # type: ignore[misc]
                images,
                start=threat.random_start(images, streams=streams[standing].child("restart", restart)),
                threat=threat,
                steps=self.steps,
                step_size=self.step_size,
                slots=budget.batch_size,
                leaves=_misclassified(labels) if self.early_stop else None,
                tick=budget.tick if last else None,
            )
            if not last:
                stands = _stands(model, result[standing], labels, budget.batch_size)
                budget.tick(int((~stands).sum()))
                standing = standing[stands]
        return result


def _misclassified(labels: Tensor) -> Leaves:
    return lambda logits, rows: logits.argmax(1) != labels[rows]


@torch.no_grad()
def _stands(model: Model, x: Tensor, y: Tensor, batch_size: int) -> Tensor:
    """Tell for each candidate whether the model still classifies it correctly, shape (N,)."""
    pairs = zip(x.split(batch_size), y.split(batch_size), strict=True)
    return torch.cat([model(images).argmax(1) == labels for images, labels in pairs])
