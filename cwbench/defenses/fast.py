"""Fast adversarial training: one step from a random start."""

from typing import Annotated, final

import torch.nn.functional as F
from pydantic import Field

from cwbench.api import Batch, Classifier, Defense, Inner, Loss, Number, State, Streams, Threat, ascend, frozen


@final
class Fast(Defense):
    """Wong et al. 2020, algorithm 3: FGSM from a uniform start in the ball, one step of 1.25 eps, then CE(z′, y).

    As in the authors' code the attack, too, runs in train mode. Their learning rates, one-cycle on small images and
    three phases on ImageNet, are the recipe's.
    """

    name = "fast"
    reference = "Wong, Rice & Kolter 2020, Fast is Better than Free: Revisiting Adversarial Training, ICLR"

    step: Annotated[Number, Field(gt=0, le=2)] = 1.25
    """The step, in units of eps."""

    def loss(
        self, model: Classifier, batch: Batch, *, threat: Threat, inner: Inner, streams: Streams, state: State
    ) -> Loss:
        del inner, state
        with frozen(model):
            adversarial = ascend(
                model,
                lambda logits, rows: F.cross_entropy(logits, batch.y[rows], reduction="none"),
                batch.x,
                start=threat.random_start(batch.x, streams=streams),
                threat=threat,
                steps=1,
                step_size=self.step * threat.radius,
            )
        return Loss(F.cross_entropy(model(adversarial), batch.y))
