"""The fast gradient sign method."""

from typing import final

import torch.nn.functional as F
from torch import Tensor

from cwbench.api import Access, Attack, Budget, ExampleStreams, Model, Threat, ascend


@final
class FGSM(Attack):
    """Goodfellow et al. 2015, section 4: one step of the size of eps on cross-entropy from the image itself.

    Under L2 the step follows the normalised gradient.
    """

    name = "fgsm"
    reference = "Goodfellow, Shlens & Szegedy 2015, Explaining and Harnessing Adversarial Examples, ICLR"
    access = Access.WHITE_BOX
    pooled = True

    def perturb(
        self, model: Model, x: Tensor, y: Tensor, *, threat: Threat, streams: ExampleStreams, budget: Budget
    ) -> Tensor:
        del streams  # no random start
        return ascend(
            model,
            lambda logits, rows: F.cross_entropy(logits, y[rows], reduction="none"),
            x,
            start=x,
            threat=threat,
            steps=1,
            step_size=threat.radius,
            slots=budget.batch_size,
            tick=budget.tick,
        )
