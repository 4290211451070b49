"""Several processes that train together: their shares of a batch, and the mean of what each of them has."""

from collections.abc import Iterable

import torch
import torch.distributed as dist
from torch import Tensor

from cwbench.internal.distributed import Team


def share_of(rows: Tensor, team: Team) -> Tensor:
    """Return this process's part of some rows; all parts together are all rows."""
    return rows[team.rank :: team.size]


def average(tensors: Iterable[Tensor], team: Team, weight: float = 1.0) -> None:
    """Replace tensors by their weighted mean over the processes; the weights' mean must be 1."""
    held = list(tensors)
    if team.size == 1 or not held:
        return
    flat = torch.cat([tensor.flatten() for tensor in held]) * (weight / team.size)
    dist.all_reduce(flat)
    for tensor, part in zip(held, flat.split([tensor.numel() for tensor in held]), strict=True):
        tensor.copy_(part.view_as(tensor))
