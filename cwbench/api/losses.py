"""The losses of adversarial training that several defenses share, each from its paper's equation."""

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from cwbench.api.classifier import Classifier, traced_pass
from cwbench.api.defense import Batch, Loss


def summed_kl(log_p: Tensor, log_q: Tensor) -> Tensor:
    """Return Σ_k p_k log(p_k / q_k) for each row, shape (N,), from log-probabilities (N, K).

    Written with logarithms throughout: a probability that underflows to 0 has no finite gradient of p log p.
    """
    return (log_p.exp() * (log_p - log_q)).sum(1)


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


def mart_loss(model: Classifier, batch: Batch, adversarial: Tensor, beta: float) -> Loss:
    """Return mean BCE(p′, y) + β · mean KL(p ‖ p′)·(1 − p_y) (Wang et al. 2020, equation 11).

    The boosted cross-entropy is BCE = CE(z′, y) − log(1.0001 − max_{j≠y} p′_j + 1e-12). The constants inside the
    logarithms (with 1.0000001 − p_y, and log(p′ + 1e-12) in the divergence) are those of the authors' code, as is
    that nothing is detached.

    Args:
        model: the network, in train mode.
        batch: clean images (N, C, H, W) and labels (N,).
        adversarial: the result of the inner attack, shape as the images.
        beta: the weight of the regulariser, λ in the paper.
    """
    logits = model(batch.x)
    adversarial_logits = model(adversarial)
    log_p, q = logits.log_softmax(1), adversarial_logits.softmax(1)
    label = batch.y[:, None]
    rival = q.scatter(1, label, -math.inf).amax(1)
    boosted = F.cross_entropy(adversarial_logits, batch.y) - (1.0001 - rival + 1e-12).log().mean()
    doubt = 1.0000001 - log_p.exp().gather(1, label).squeeze(1)
    weighted = (summed_kl(log_p, (q + 1e-12).log()) * doubt).mean()
    return Loss(boosted + beta * weighted)
