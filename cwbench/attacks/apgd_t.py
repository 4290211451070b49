"""Auto-PGD on the targeted difference of logits ratio, one target class after the other."""

from typing import Annotated, final

from pydantic import Field
from torch import Tensor

from cwbench.api import (
    MOST_STEPS,
    Access,
    Attack,
    Budget,
    ExampleStreams,
    Model,
    Threat,
    Tick,
    attempts,
    likeliest,
    misclassified,
)
from cwbench.attacks.auto_pgd import auto_ascend

TINY = 1e-12  # keeps logits that are all equal from dividing by zero


def targeted_dlr(logits: Tensor, y: Tensor, target: Tensor) -> Tensor:
    """Return (z_t − z_y) / (z_π1 − (z_π3 + z_π4) / 2), shape (N,), π the order of the logits from the largest.

    With fewer than four classes the denominator does not exist and is left out.
    """
    difference = (logits.gather(1, target[:, None]) - logits.gather(1, y[:, None])).squeeze(1)
    if logits.shape[1] < 4:
        return difference
    largest = logits.topk(4, dim=1).values
    return difference / (largest[:, 0] - (largest[:, 2] + largest[:, 3]) / 2 + TINY)


@final
class APGDT(Attack):
    """Croce & Hein 2020, algorithm 1, on their equation (6), the targeted difference of logits ratio.

    The targets are the classes with the largest logits on the clean image, as many as ``targets`` or all but the true
    one if there are fewer. Each is attacked from a uniform point of the ball, and only what still stands.
    """

    name = "apgd-t"
    reference = "Croce & Hein 2020, Reliable Evaluation of Adversarial Robustness with an Ensemble of Attacks, ICML"
    access = Access.WHITE_BOX
    pooled = True
    effort = ("steps", "targets")

    steps: Annotated[int, Field(ge=1, le=MOST_STEPS)] = 100
    """Ascent steps towards each target."""
    targets: Annotated[int, Field(ge=1)] = 9
    """How many target classes are tried."""

    def notes(self, classes: int) -> tuple[str, ...]:
        return () if classes >= 4 else (f"with {classes} classes apgd-t ascends z_t − z_y: its ratio needs four",)

    def perturb(
        self, model: Model, x: Tensor, y: Tensor, *, threat: Threat, streams: ExampleStreams, budget: Budget
    ) -> Tensor:
        order = likeliest(model, x, y, self.targets, budget)

        def attempt(position: int, rows: Tensor, tick: Tick) -> Tensor:
            labels, target = y[rows], order[rows, position]
            return auto_ascend(
                model,
                lambda logits, among: targeted_dlr(logits, labels[among], target[among]),
                x[rows],
                start=threat.random_start(x[rows], streams=streams[rows].child("target", position)),
                threat=threat,
                steps=self.steps,
                slots=budget.batch_size,
                exit_rule=misclassified(labels, budget),
                tick=tick,
            )

        return attempts(order.shape[1], attempt, model=model, x=x, y=y, budget=budget)
