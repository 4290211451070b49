"""Adversarial training in its first form."""

from collections.abc import Callable
from typing import final

import torch.nn.functional as F
from torch import Tensor

from cwbench.api import AdversarialDefense, Batch, Classifier, Loss, Streams, Threat


@final
class Madry(AdversarialDefense):
    """Madry et al. 2018, equation (2.1): min E max CE(z′, y), the inner attack from a uniform start in the ball."""

    name = "madry"
    reference = "Madry et al. 2018, Towards Deep Learning Models Resistant to Adversarial Attacks, ICLR"

    def start(self, x: Tensor, *, threat: Threat, streams: Streams) -> Tensor:
        return threat.random_start(x, streams=streams)

    def inner_objective(self, model: Classifier, batch: Batch) -> Callable[[Tensor], Tensor]:
        return lambda logits: F.cross_entropy(logits, batch.y, reduction="none")

    def outer(self, model: Classifier, batch: Batch, adversarial: Tensor) -> Loss:
        return Loss(F.cross_entropy(model(adversarial), batch.y))
