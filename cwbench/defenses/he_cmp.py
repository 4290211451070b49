"""HE-CMP: hypersphere training whose temperature follows a wanted maximum probability."""

import math
from typing import Annotated, final

import torch
import torch.nn.functional as F
from pydantic import Field
from scipy.optimize import root
from torch import Tensor

from cwbench.api import Number, Progress, UsageError
from cwbench.defenses.hypersphere import HypersphereDefense, head


@final
class HECMP(HypersphereDefense):
    """The study, appendix G, control of the maximum probability: each epoch solves equation (3) for 1/T.

    An example on the direction of class l has the largest probability that the weights allow,
    P_l = e^s / (e^s + Σ_{j≠l} e^{s·cos(w_j, w_l)}) with s = 1/T. The mean of P_l over the classes is to rise linearly,
    from what ``first`` gives untrained weights that are at right angles, to ``highest`` at the share ``reached`` of the
    training, and to stay there. The study's end is 1, which no finite s reaches: ``highest`` is how near we go. Should
    the weights not allow the wanted probability below ``most``, as when two of them coincide, 1/T is ``most``.

    The study's text does not print its equation for P_max; that it begins where 1/T_0 = 1 does is its "other settings
    are the same". Solved in log(1 − P), where the curve is nearly straight, with Powell's hybrid method.
    """

    name = "he-cmp"
    reference = "The study, appendix G: Control Maximum Probability for hypersphere embedding (Pang et al. 2020)"

    first: Annotated[Number, Field(gt=0)] = 1.0
    """1/T before training."""
    highest: Annotated[Number, Field(gt=0, lt=1)] = 1 - 1e-6
    """The maximum probability at the end."""
    reached: Annotated[Number, Field(gt=0, le=1)] = 0.9
    """The share of the training after which it is reached: epoch 90 of 100."""
    most: Annotated[Number, Field(gt=0)] = 75.0
    """The largest 1/T, that of HE-LIS."""

    def initial_inverse_temperature(self) -> float:
        return self.first

    def inverse_temperature_at(self, progress: Progress) -> float:
        weight = head(progress.model).weight.detach().double().cpu()
        lowest = math.exp(self.first) / (math.exp(self.first) + len(weight) - 1)
        share = min(progress.epoch / progress.epochs / self.reached, 1.0)
        wanted = lowest + share * (self.highest - lowest)
        return solved(weight, wanted, most=self.most)


def solved(weight: Tensor, wanted: float, *, most: float) -> float:
    """Return the 1/T at which the mean maximum probability is ``wanted``, at most ``most``; ``weight`` is (K, D).

    Raises:
        UsageError: the solver finds none.
    """
    target = math.log1p(-wanted)
    if log_doubt(weight, most) >= target:
        return most
    # With classes at right angles the solution is this.
    start = math.log(wanted / (1 - wanted) * (len(weight) - 1))
    found = root(lambda s: log_doubt(weight, float(s[0])) - target, max(start, 0.0), method="hybr")
    if not found.success:
        raise UsageError(
            f"he-cmp finds no 1/T for a maximum probability of {wanted:g}: {' '.join(found.message.split())}",
            "try a lower he-cmp:highest",
        )
    return float(found.x[0])


def log_doubt(weight: Tensor, scale: float) -> float:
    """Return log(1 − P) with P the mean over the classes of the maximum probability at s = ``scale``."""
    unit = F.normalize(weight)
    logits = scale * (unit @ unit.T)
    others = logits.masked_fill(torch.eye(len(logits), dtype=torch.bool), -math.inf)
    doubts = others.logsumexp(1) - logits.logsumexp(1)
    return float(doubts.logsumexp(0) - math.log(len(doubts)))
