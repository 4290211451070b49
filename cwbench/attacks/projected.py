"""Projected-gradient attacks: a loss on the one ascent loop, with random starts and restarts."""

from abc import abstractmethod
from typing import Annotated, final

from pydantic import Field
from torch import Tensor

from cwbench.api import Access, Attack, Budget
from cwbench.ascent import MOST_STEPS, ascend
from cwbench.attacks.attempts import Tick, attempts, misclassified
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
        steps, step_size = self.steps, self.step_size

        def attempt(restart: int, rows: Tensor, tick: Tick) -> Tensor:
            images, labels = x[rows], y[rows]
            return ascend(
                model,
                lambda logits, among: self.objective(logits, labels[among]),
                images,
                start=threat.random_start(images, streams=streams[rows].child("restart", restart)),
                threat=threat,
                steps=steps,
                step_size=step_size,
                slots=budget.batch_size,
                exit_rule=misclassified(labels, budget) if self.early_stop else None,
                tick=tick,
            )

        return attempts(self.restarts, attempt, model=model, x=x, y=y, budget=budget)
