"""Projected gradient descent on cross-entropy."""

from typing import final

import torch.nn.functional as F
from torch import Tensor

from cwbench.api import ProjectedAttack


@final
class PGD(ProjectedAttack):
    """Madry et al. 2018, section 2.1: x_{t+1} = Π(x_t + α sign ∇ CE(z(x_t), y)) from a random start in the ball."""

    name = "pgd"
    reference = "Madry et al. 2018, Towards Deep Learning Models Resistant to Adversarial Attacks, ICLR"

    def objective(self, logits: Tensor, y: Tensor) -> Tensor:
        return F.cross_entropy(logits, y, reduction="none")
