"""The loss of MART (Wang et al. 2020, equation 11)."""

import math

import torch.nn.functional as F
from torch import Tensor

from cwbench.api.classifier import Classifier
from cwbench.api.defense import Batch, Loss
from cwbench.api.divergence import summed_kl


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
