"""TRADES: clean accuracy plus a bound on how far the output moves."""

from collections.abc import Callable
from typing import Annotated, final

import torch
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
class TRADES(AdversarialDefense):
    """Zhang et al. 2019, equation (5): mean CE(z, y) + β · mean KL(p ‖ p′), the inner attack on Σ KL(p ‖ p′).

    As in the authors' code the target p carries a gradient in the outer loss, the clean and the adversarial batch go
    through train mode separately, and the KL divergence is averaged over the batch, not over classes.
    """

    name = "trades"
    reference = "Zhang et al. 2019, Theoretically Principled Trade-off between Robustness and Accuracy, ICML"

    beta: Annotated[Number, Field(ge=0)] = 6.0
    """Weight of the regulariser, 1/λ in the paper."""

    def start(self, x: Tensor, *, threat: Threat, streams: Streams) -> Tensor:
        return nearby_start(x, streams)

    def inner_objective(self, model: Classifier, batch: Batch) -> Callable[[Tensor], Tensor]:
        with torch.no_grad():
            log_p = model(batch.x).log_softmax(1)
        return lambda logits: summed_kl(log_p, logits.log_softmax(1))

    def outer(self, model: Classifier, batch: Batch, adversarial: Tensor) -> Loss:
        logits = model(batch.x)
        clean = F.cross_entropy(logits, batch.y)
        robust = summed_kl(logits.log_softmax(1), model(adversarial).log_softmax(1)).mean()
        return Loss(clean + self.beta * robust)
