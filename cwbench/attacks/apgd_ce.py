"""Auto-PGD on cross-entropy."""

from typing import Annotated, final

import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from cwbench.api import MOST_STEPS, Access, Attack, Budget, ExampleStreams, Model, Threat, Tick, attempts, misclassified
from cwbench.attacks.auto_pgd import auto_ascend


@final
class APGDCE(Attack):
    """Croce & Hein 2020, algorithm 1, on CE(z, y), each restart from a uniform point of the ball.

    It departs from the authors' evaluation in leaving an example at its first misclassified iterate.
    """

    name = "apgd-ce"
    reference = "Croce & Hein 2020, Reliable Evaluation of Adversarial Robustness with an Ensemble of Attacks, ICML"
    access = Access.WHITE_BOX
    pooled = True
    effort = ("steps", "restarts")

    steps: Annotated[int, Field(ge=1, le=MOST_STEPS)] = 100
    """Ascent steps of each restart."""
    restarts: Annotated[int, Field(ge=1)] = 1
    """Independent random starts; only what still stands is started again."""

    def perturb(
        self, model: Model, x: Tensor, y: Tensor, *, threat: Threat, streams: ExampleStreams, budget: Budget
    ) -> Tensor:
        def attempt(restart: int, rows: Tensor, tick: Tick) -> Tensor:
            labels = y[rows]
            return auto_ascend(
                model,
                lambda logits, among: F.cross_entropy(logits, labels[among], reduction="none"),
                x[rows],
                start=threat.random_start(x[rows], streams=streams[rows].child("restart", restart)),
                threat=threat,
                steps=self.steps,
                slots=budget.batch_size,
                exit_rule=misclassified(labels, budget),
                tick=tick,
            )

        return attempts(self.restarts, attempt, model=model, x=x, y=y, budget=budget)
