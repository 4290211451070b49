"""Projected-gradient attacks: a loss on the one ascent loop, with random starts and restarts."""

from abc import abstractmethod
from typing import Annotated, Self, final

from pydantic import Field
from torch import Tensor

from cwbench.api.attack import Access, Attack, Budget
from cwbench.api.classifier import Model
from cwbench.api.projected_ascent import MOST_STEPS, ascend
from cwbench.api.recipe import Inner
from cwbench.api.restarts import Tick, attempts, misclassified
from cwbench.api.streams import ExampleStreams
from cwbench.api.threat import Threat
from cwbench.internal.exact_number import Number


class SteppedAttack(Attack):
    """An attack of so many steps of some size, which the dataset decides where they are unset."""

    steps: Annotated[int, Field(ge=1, le=MOST_STEPS)] | None = None
    """Ascent steps; the dataset's if unset."""
    step_size: Annotated[Number, Field(gt=0)] | None = None
    """In units of pixels; the dataset's, scaled with eps, if unset."""

    @final
    def with_defaults(self, default: Inner) -> Self:
        steps = default.steps if self.steps is None else self.steps
        step_size = default.step_size if self.step_size is None else self.step_size
        return self.model_copy(update={"steps": steps, "step_size": step_size})

    @final
    def resolved(self) -> Inner:
        """Return steps and step size.

        Raises:
            ValueError: one is unset, because nobody has called :meth:`with_defaults`.
        """
        if self.steps is None or self.step_size is None:
            raise ValueError(f"{self.name} needs steps and step_size: a run takes them from the dataset's recipe")
        return Inner(steps=self.steps, step_size=self.step_size)


class ProjectedAttack(SteppedAttack):
    """Random start in the ball, K steps of projected ascent on ``objective``, the whole repeated ``restarts`` times.

    A subclass writes its objective and no more.
    """

    access = Access.WHITE_BOX
    pooled = True
    effort = ("steps", "restarts")

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
        inner = self.resolved()

        def attempt(restart: int, rows: Tensor, tick: Tick) -> Tensor:
            images, labels = x[rows], y[rows]
            return ascend(
                model,
                lambda logits, among: self.objective(logits, labels[among]),
                images,
                start=threat.random_start(images, streams=streams[rows].child("restart", restart)),
                threat=threat,
                steps=inner.steps,
                step_size=inner.step_size,
                slots=budget.batch_size,
                exit_rule=misclassified(labels, budget) if self.early_stop else None,
                tick=tick,
            )

        return attempts(self.restarts, attempt, model=model, x=x, y=y, budget=budget)
