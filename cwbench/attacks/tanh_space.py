"""Images as tanh of unbounded numbers, so that no step can leave the box (Carlini & Wagner 2017, section V-B)."""

import torch
from torch import Tensor

EDGE = 1e-6  # keeps black and white pixels at a finite number


def encode(x: Tensor) -> Tensor:
    """Return w with ``decode(w) = x`` up to half of ``EDGE``, for x in [0, 1]."""
    return torch.atanh((2 * x - 1) * (1 - EDGE))


def decode(w: Tensor) -> Tensor:
    """Return (tanh w + 1) / 2."""
    return (torch.tanh(w) + 1) / 2
