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
from cwbench.model import Classifier, traced_pass
from cwbench.randomness import Streams
from cwbench.threat import Threat


@final
class TRADES(AdversarialDefense):
    """Zhang et al. 2019, equation (5): mean CE(z, y) + β · mean KL(p ‖ p′), the inner attack on Σ KL(p ‖ p′).

    As in the authors' code the target p carries a gradient in the outer loss, three batches go through train mode one
    by one (clean, adversarial, and clean again for p), and the KL divergence is averaged over the batch, not over
    classes.
    """

    name = "trades"
    reference = "Zhang et al. 2019, Theoretically Principled Trade-off between Robustness and Accuracy, ICML"

    beta: Annotated[Number, Field(ge=0)] = 6.0
    """Weight of the regulariser, 1/λ in the paper."""

    def start(self, x: Tensor, *, threat: Threat, streams: Streams) -> Tensor:
        return nearby_start(x, streams)

    def inner_objective(self, model: Classifier, batch: Batch) -> Callable[[Tensor], Tensor]:
        return divergence_from(model, batch.x)

    def outer(self, model: Classifier, batch: Batch, adversarial: Tensor) -> Loss:
        return trades_loss(model, batch, adversarial, self.beta)


def divergence_from(model: Classifier, x: Tensor) -> Callable[[Tensor], Tensor]:
    """Return the map from logits (N, K) to KL(p ‖ p′), shape (N,), with p the model's output on ``x``, held fixed."""
    with torch.no_grad():
        log_p = model(x).log_softmax(1)
    return lambda logits: summed_kl(log_p, logits.log_softmax(1))


def trades_loss(model: Classifier, batch: Batch, adversarial: Tensor, beta: float) -> Loss:
    """Return the outer loss; ``model`` is in train mode.

    The third pass would repeat the first where that left no trace in the model: there its logits are taken again.
    """
    logits, traced = traced_pass(model, batch.x)
    adversarial_logits = model(adversarial)
    again = model(batch.x) if traced else logits
    robust = summed_kl(again.log_softmax(1), adversarial_logits.log_softmax(1)).mean()
    return Loss(F.cross_entropy(logits, batch.y) + beta * robust)
