"""The one projected-ascent loop: the attacks', and with fewer steps the inner maximisation of training.

x_{t+1} = Π(x_t + α · d(∇ objective(model(x_t)))), with Π the projection onto ball and box and d the steepest
direction of the norm: the sign for L∞ (Madry et al. 2018, equation of section 2.1).
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from cwbench.api.classifier import Model
from cwbench.api.continuous_batching import Confirm, SlotState, drive
from cwbench.api.threat import Threat
from cwbench.internal.errors import UsageError, reason_of
from cwbench.internal.out_of_memory import out_of_memory

MOST_STEPS = 1_000_000
"""A bound for typing errors: no attack takes more steps."""

Objective = Callable[[Tensor, Tensor], Tensor]
"""``objective(logits, rows)``: what to increase, shape (n,), for the examples ``rows`` of the whole pool."""


@dataclass(frozen=True)
class Exit:
    """When an example needs no further step."""

    claims: Callable[[Tensor, Tensor], Tensor]
    """``claims(logits, rows)``: a mask of shape (n,) of the examples that the search holds for broken."""
    confirm: Confirm | None = None
    """The verdict on them; None where the search's own logits are it."""


@dataclass
class _Ascent(SlotState):
    """Where each example stands."""

    origin: Tensor
    iterate: Tensor
    taken: Tensor
    """Steps, (n,)."""


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
    exit_rule: Exit | None = None,
    tick: Callable[[int], None] | None = None,
) -> Tensor:
    """Take ``steps`` ascent steps from ``start`` and return the last iterates, shape as ``x``.

    At most ``slots`` examples are in flight (all of them by default); see :func:`cwbench.api.drive`. An example that
    ``exit_rule`` lets go is returned as the iterate whose logits it judged. ``tick(n)`` is told how many examples have
    just been finished.
    """
    finished = start.clone()

    def begin(rows: Tensor) -> _Ascent:
        return _Ascent(start[rows], origin=x[rows], iterate=start[rows], taken=torch.zeros_like(rows))

    def step(state: _Ascent, rows: Tensor) -> tuple[Tensor, Tensor]:
        state.candidate = state.iterate  # its logits are about to be seen, those of the point after it are not
        logits, _, gradient = value_and_gradient(model, objective, state.iterate, rows)
        state.iterate = threat.project(state.iterate + step_size * threat.steepest(gradient), state.origin)
        state.taken = state.taken + 1
        spent = state.taken == steps
        return exit_rule.claims(logits, rows) if exit_rule else torch.zeros_like(spent), spent

    def finish(state: _Ascent, rows: Tensor, broken: Tensor) -> None:
        finished[rows] = torch.where(columns(broken, x), state.candidate, state.iterate)
        if tick:
            tick(len(rows))

    confirm = exit_rule.confirm if exit_rule else None
    drive(len(x), slots or len(x), device=x.device, begin=begin, step=step, finish=finish, confirm=confirm)
    return finished


def value_and_gradient(model: Model, objective: Objective, x: Tensor, rows: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return the logits at ``x``, the objective (n,) and its gradient with respect to ``x``, all detached.

    Raises:
        UsageError: there is no such gradient.
    """
    leaf = x.detach().requires_grad_()
    with torch.enable_grad():
        logits = model(leaf)
        value = objective(logits, rows)
        try:
            (gradient,) = torch.autograd.grad(value.sum(), leaf, allow_unused=True)
        except (RuntimeError, NotImplementedError) as error:
            if out_of_memory(error):
                raise
            raise no_gradient(error) from error
    if gradient is None:
        raise no_gradient("the logits do not depend on it")
    return logits.detach(), value.detach(), gradient


def no_gradient(reason: BaseException | str) -> UsageError:
    """Return the error for a model that attacks with white-box access cannot be run on."""
    told = reason_of(reason) if isinstance(reason, BaseException) else reason
    return UsageError(
        f"the model's logits have no gradient with respect to the image: {told}",
        "white-box attacks need one, and transfer, square and nattack do not",
    )


def columns(vector: Tensor, like: Tensor) -> Tensor:
    """Return the vector shaped so that each entry meets a row of ``like``."""
    return vector.reshape(-1, *[1] * (like.dim() - 1))
