"""MART: misclassification-aware adversarial training."""

import math
from collections.abc import Callable
from typing import Annotated, final

import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from cwbench.api import Batch, Loss
from cwbench.defenses.adversarial import AdversarialDefense, nearby_start, summed_kl
from cwbench.exact import Number
from cwbench.model import Classifier
from cwbench.randomness import Streams
from cwbench.threat import Threat


@final
class MART(AdversarialDefense):
    """Wang et al. 2020, equation (11): mean BCE(p′, y) + β · mean KL(p ‖ p′)·(1 − p_y).

    The boosted cross-entropy is BCE = CE(z′, y) − log(1.0001 − max_{j≠y} p′_j + 1e-12). The constants inside the
    logarithms (with 1.0000001 − p_y, and log(p′ + 1e-12) in the divergence) are those of the authors' code, as is
    that nothing is detached.
    """

    name = "mart"
    reference = "Wang et al. 2020, Improving Adversarial Robustness Requires Revisiting Misclassified Examples, ICLR"

    beta: Annotated[Number, Field(ge=0)] = 5.0
    """Weight of the regulariser: 5 for ResNet-18, 6 for WRN-34-10."""

    def start(self, x: Tensor, *, threat: Threat, streams: Streams) -> Tensor:
        return nearby_start(x, streams)

    def inner_objective(self, model: Classifier, batch: Batch) -> Callable[[Tensor], Tensor]:
        return lambda logits: F.cross_entropy(logits, batch.y, reduction="none")

    def outer(self, model: Classifier, batch: Batch, adversarial: Tensor) -> Loss:
        logits = model(batch.x)
        adversarial_logits = model(adversarial)
        log_p, q = logits.log_softmax(1), adversarial_logits.softmax(1)
        label = batch.y[:, None]
        rival = q.scatter(1, label, -math.inf).amax(1)
        boosted = F.cross_entropy(adversarial_logits, batch.y) - (1.0001 - rival + 1e-12).log().mean()
        doubt = 1.0000001 - log_p.exp().gather(1, label).squeeze(1)
        weighted = (summed_kl(log_p, (q + 1e-12).log()) * doubt).mean()
        return Loss(boosted + self.beta * weighted)
