"""The one projected-ascent loop: the attacks', and with fewer steps the inner maximisation of training.

x_{t+1} = Π(x_t + α · d(∇ objective(model(x_t)))), with Π the projection onto ball and box and d the steepest
direction of the norm: the sign for L∞ (Madry et al. 2018, equation of section 2.1).
"""

from collections.abc import Callable

import torch
from torch import Tensor

from cwbench.model import Model
from cwbench.slots import State, drive
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

    At most ``slots`` examples are in flight (all of them by default); see :mod:`cwbench.slots`. An example that
    ``leaves`` is returned as the iterate whose logits made it leave. ``tick(n)`` is told how many examples have just
    been finished.
    """
    finished = start.clone()

    def begin(rows: Tensor) -> State:
        return {"origin": x[rows], "iterate": start[rows], "taken": torch.zeros_like(rows)}

    def step(state: State, rows: Tensor) -> Tensor:
        logits, _, gradient = value_and_gradient(model, objective, state["iterate"], rows)
        stepped = threat.project(state["iterate"] + step_size * threat.steepest(gradient), state["origin"])
        state["taken"] = state["taken"] + 1
        done = state["taken"] == steps
        if leaves is None:
            state["iterate"] = stepped
            return done
        left = leaves(logits, rows)
        state["iterate"] = torch.where(columns(left, x), state["iterate"], stepped)
        return left | done

    def finish(state: State, rows: Tensor) -> None:
        finished[rows] = state["iterate"]
        if tick:
            tick(len(rows))

    drive(len(x), slots or len(x), device=x.device, begin=begin, step=step, finish=finish)
    return finished


def value_and_gradient(model: Model, objective: Objective, x: Tensor, rows: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return the logits at ``x``, the objective (n,) and its gradient with respect to ``x``, all detached."""
    leaf = x.detach().requires_grad_()
    with torch.enable_grad():
        logits = model(leaf)
        value = objective(logits, rows)
        (gradient,) = torch.autograd.grad(value.sum(), leaf)
    return logits.detach(), value.detach(), gradient


def columns(vector: Tensor, like: Tensor) -> Tensor:
    """Return the vector shaped so that each entry meets a row of ``like``."""
    return vector.reshape(-1, *[1] * (like.dim() - 1))
