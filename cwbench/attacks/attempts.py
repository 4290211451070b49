"""Several attempts at the same examples, each on what the ones before have left standing."""

from collections.abc import Callable

import torch
from torch import Tensor

from cwbench.api import Budget
from cwbench.ascent import Leaves
from cwbench.model import Model

Tick = Callable[[int], None]
Attempt = Callable[[int, Tensor, Tick], Tensor]
"""``attempt(number, rows, tick)``: candidates for some rows of the pool, shape as their images."""


def attempts(number: int, attempt: Attempt, *, model: Model, x: Tensor, y: Tensor, budget: Budget) -> Tensor:
    """Return for each example the candidate that broke it, or that of its last attempt; shape as ``x``."""
    result = x.clone()
    standing = torch.arange(len(x), device=x.device)
    for position in range(number):
        if position + 1 == number:
            result[standing] = attempt(position, standing, budget.tick)
            break
        result[standing] = attempt(position, standing, _silent)
        still = stands(model, result[standing], y[standing], budget.batch_size)
        budget.tick(int((~still).sum()))
        standing = standing[still]
        if not len(standing):
            break
    return result


def misclassified(labels: Tensor) -> Leaves:
    """Return the rule by which an example leaves as soon as its iterate is misclassified."""
    return lambda logits, rows: logits.argmax(1) != labels[rows]


@torch.no_grad()
def stands(model: Model, x: Tensor, y: Tensor, batch_size: int) -> Tensor:
    """Tell for each candidate whether the model still classifies it correctly, shape (N,)."""
    pairs = zip(x.split(batch_size), y.split(batch_size), strict=True)
    return torch.cat([model(images).argmax(1) == labels for images, labels in pairs])


def _silent(finished: int) -> None:
    del finished
