"""The margin by which a classifier prefers another class to the true one."""

import math

from torch import Tensor


def margin(logits: Tensor, y: Tensor) -> Tensor:
    """Return max_{j≠y} z_j − z_y, shape (N,), for logits (N, K ≥ 2) and labels (N,); above 0 is misclassified."""
    truth = logits.gather(1, y[:, None]).squeeze(1)
    others = logits.scatter(1, y[:, None], -math.inf)
    return others.amax(1) - truth
