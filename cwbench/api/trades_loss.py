"""The loss of TRADES, which RST shares (Zhang et al. 2019, equation 5)."""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from cwbench.api.classifier import Classifier, traced_pass
from cwbench.api.defense import Batch, Loss
from cwbench.api.divergence import summed_kl


def divergence_from(model: Classifier, x: Tensor) -> Callable[[Tensor], Tensor]:
    """Return the map from logits (N, K) to KL(p ‖ p′), shape (N,), with p the model's output on ``x``, held fixed.

    It is what TRADES's inner attack increases (Zhang et al. 2019, equation 5).
    """
    with torch.no_grad():
        log_p = model(x).log_softmax(1)
    return lambda logits: summed_kl(log_p, logits.log_softmax(1))


def trades_loss(model: Classifier, batch: Batch, adversarial: Tensor, beta: float) -> Loss:
    """Return mean CE(z, y) + β · mean KL(p ‖ p′) (Zhang et al. 2019, equation 5); ``model`` is in train mode.

    Args:
        model: the network, whose p carries a gradient, as in the authors' code.
        batch: clean images (N, C, H, W) and labels (N,).
        adversarial: the result of the inner attack, shape as the images.
        beta: the weight of the regulariser, 1/λ in the paper.
    """
    logits, traced = traced_pass(model, batch.x)
    adversarial_logits = model(adversarial)
    # The authors' third pass would repeat the first where that left no trace in the model: its logits are taken again.
    again = model(batch.x) if traced else logits
    robust = summed_kl(again.log_softmax(1), adversarial_logits.log_softmax(1)).mean()
    return Loss(F.cross_entropy(logits, batch.y) + beta * robust)
