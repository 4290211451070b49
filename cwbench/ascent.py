"""The one projected-ascent loop: the attacks', and with fewer steps the inner maximisation of training.

x_{t+1} = Π(x_t + α · d(∇ objective(model(x_t)))), with Π the projection onto ball and box and d the steepest
direction of the norm: the sign for L∞ (Madry et al. 2018, equation of section 2.1).
"""

from collections.abc import Callable

import torch
from torch import Tensor

from cwbench.model import Model
from cwbench.threat import Threat

MOST_STEPS = 1_000_000
"""A bound for typing errors: no attack takes more steps."""

Objective = Callable[[Tensor, Tensor], Tensor]
"""``objective(logits, rows)``: what to increase, shape (n,), for the examples ``rows`` of the whole pool."""

Leaves = Callable[[Tensor, Tensor], Tensor]
"""``leaves(logits, rows)``: a mask of shape (n,) of the examples that need no further step."""


def ascend(
    model: Model,
    objective: Objective,
    x: Tensor,
    *,
    start: Tensor,
    threat: Threat,
    steps: int,
    step_size: float,
    slots: int | None = None,
    leaves: Leaves | None = None,
    tick: Callable[[int], None] | None = None,
) -> Tensor:
    """Take ``steps`` ascent steps from ``start`` and return the last iterates, shape as ``x``.

    At most ``slots`` examples are in flight (all of them by default). An example that ``leaves``, or whose steps
    are done, gives its slot to the next one that waits, and each slot counts its own steps, so that the batch
    stays full. The path of an example depends on nothing but the example, up to the rounding with which a
    network's arithmetic depends on the size of its batch.

    An example that ``leaves`` is returned as the iterate whose logits made it leave. ``tick(n)`` is told how many
    examples have just been finished.
    """
    finished = start.clone()
    n = len(x)
    waiting = min(slots or n, n)  # the first of the pool that is not yet in a slot
    rows = torch.arange(waiting, device=x.device)
    origin, iterate = x[rows], start[rows]
    taken = torch.zeros_like(rows)
    while len(rows) and steps:
        logits, gradient = _gradient(model, objective, iterate, rows)
        stepped = threat.project(iterate + step_size * threat.steepest(gradient), origin)
        left = leaves(logits, rows) if leaves else torch.zeros_like(rows, dtype=torch.bool)
        taken += 1
        done = left | (taken == steps)
        iterate = torch.where(_columns(left, iterate), iterate, stepped) if leaves else stepped
        if not done.any():
            continue
        finished[rows[done]] = iterate[done]
        if tick:
            tick(int(done.sum()))
        joining = torch.arange(waiting, min(waiting + int(done.sum()), n), device=x.device)
        waiting += len(joining)
        rows = torch.cat([rows[~done], joining])
        origin = torch.cat([origin[~done], x[joining]])
        iterate = torch.cat([iterate[~done], start[joining]])
        taken = torch.cat([taken[~done], torch.zeros_like(joining)])
    return finished


def _gradient(model: Model, objective: Objective, iterate: Tensor, rows: Tensor) -> tuple[Tensor, Tensor]:
    """Return the logits at the iterates and the gradient of the summed objective, both detached."""
    leaf = iterate.detach().requires_grad_()
    with torch.enable_grad():
        logits = model(leaf)
        (gradient,) = torch.autograd.grad(objective(logits, rows).sum(), leaf)
    return logits.detach(), gradient


def _columns(mask: Tensor, like: Tensor) -> Tensor:
    return mask.reshape(-1, *[1] * (like.dim() - 1))
