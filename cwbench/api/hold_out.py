"""Putting a part of a training set aside: the same one every time, with its share of every class."""

import torch
from torch import Tensor

from cwbench.api.dataset import Examples


def hold_out(examples: Examples, share: float) -> tuple[Examples, Examples]:
    """Return what is kept and what is put aside: ``share`` of each class, spread evenly over its examples in order."""
    order = torch.argsort(examples.labels.cpu(), stable=True)
    _, counts = torch.unique_consecutive(examples.labels.cpu()[order], return_counts=True)
    aside = torch.zeros(len(examples), dtype=torch.bool)
    aside[order] = torch.cat([_spread(int(count), share) for count in counts])
    return examples.part((~aside).nonzero().squeeze(1)), examples.part(aside.nonzero().squeeze(1))


def _spread(n: int, share: float) -> Tensor:
    """Return a mask of length n with ``round(n * share)`` true entries, evenly spaced."""
    taken = round(n * share)
    reached = torch.arange(1, n + 1) * taken // max(n, 1)
    return reached > torch.cat([torch.zeros(1, dtype=torch.int64), reached[:-1]])
