"""Several attempts at the same examples, each on what the ones before have left standing."""

import math
from collections.abc import Callable

import torch
from torch import Tensor

from cwbench.api.attack import Budget
from cwbench.api.classifier import Model
from cwbench.api.projected_ascent import Exit

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
        still = still_robust(model, result[standing], y[standing], budget)
        budget.tick(int((~still).sum()))
        standing = standing[still]
        if not len(standing):
            break
    return result


@torch.no_grad()
def likeliest(model: Model, x: Tensor, y: Tensor, most: int, budget: Budget) -> Tensor:
    """Return the other classes in the order of their logits on the clean image, (N, min(most, K − 1))."""
    logits = torch.cat([model(images) for images in x.split(budget.batch_size)])
    others = logits.scatter(1, y[:, None], -math.inf)
    return others.argsort(1, descending=True)[:, : min(most, logits.shape[1] - 1)]


def misclassified(labels: Tensor, budget: Budget) -> Exit:
    """Return the rule by which an example leaves as soon as its iterate is misclassified in full precision."""
    judge = budget.judge
    confirm = None if judge is None else lambda claims, rows: judge(claims) != labels[rows]
    return Exit(lambda logits, rows: logits.argmax(1) != labels[rows], confirm)


@torch.no_grad()
def still_robust(model: Model, x: Tensor, y: Tensor, budget: Budget) -> Tensor:
    """Tell for each candidate whether it is still classified correctly, shape (N,)."""
    if budget.judge:
        return budget.judge(x) == y
    pairs = zip(x.split(budget.batch_size), y.split(budget.batch_size), strict=True)
    return torch.cat([model(images).argmax(1) == labels for images, labels in pairs])


def _silent(finished: int) -> None:
    del finished
