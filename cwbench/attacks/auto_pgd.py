"""The ascent of Auto-PGD: momentum, and a step size that halves itself where progress stalls.

Croce & Hein 2020, "Reliable evaluation of adversarial robustness with an ensemble of diverse parameter-free attacks",
algorithm 1, for any objective and norm.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from cwbench.api import Exit, Model, Objective, SlotState, Threat, columns, drive, value_and_gradient

MOMENTUM = 0.75  # α of the paper
ENOUGH = 0.75  # ρ of the paper: the share of steps that must have increased the objective


def checkpoints(steps: int) -> list[int]:
    """Return the steps after which the step size is reconsidered.

    w_j = ⌈p_j · steps⌉ with p_0 = 0, p_1 = 0.22, p_{j+1} = p_j + max(p_j − p_{j−1} − 0.03, 0.06).
    """
    shares = [0.0, 0.22]
    while shares[-1] < 1:
        shares.append(shares[-1] + max(shares[-1] - shares[-2] - 0.03, 0.06))
    # A share such as 0.22 · 100 must not be rounded up for its last binary digit; with few steps some fall together.
    return sorted({math.ceil(share * steps - 1e-9) for share in shares if share <= 1})


@dataclass
class _Ascent(SlotState):
    """Where each example stands: images (n, C, H, W), numbers (n,)."""

    origin: Tensor
    iterate: Tensor
    previous: Tensor
    """The iterate before, for the momentum."""
    gradient: Tensor
    """At the iterate."""
    value: Tensor
    """The objective at the iterate."""
    size: Tensor
    """The step size."""
    best: Tensor
    """The iterate with the largest objective so far."""
    best_gradient: Tensor
    best_value: Tensor
    age: Tensor
    """Steps taken; −1 before the start has been looked at."""
    rises: Tensor
    """Steps since the last checkpoint that increased the objective."""
    mark: Tensor
    """How many checkpoints are past."""
    size_at_mark: Tensor
    best_at_mark: Tensor
    """Step size and best objective at the last checkpoint."""

    @classmethod
    def begin(cls, origin: Tensor, start: Tensor, radius: float) -> "_Ascent":
        """Return the state before the first look: the step size is 2 eps, as in the paper."""
        zero = origin.new_zeros(len(origin))
        return cls(
            candidate=start,
            origin=origin,
            iterate=start,
            previous=start,
            gradient=torch.zeros_like(start),
            value=zero - math.inf,
            size=zero + 2 * radius,
            best=start,
            best_gradient=torch.zeros_like(start),
            best_value=zero - math.inf,
            age=zero.long() - 1,
            rises=zero,
            mark=zero.long(),
            size_at_mark=zero + 2 * radius,
            best_at_mark=zero - math.inf,
        )

    def proposal(self, threat: Threat) -> Tensor:
        """Return the next points: lines 4 and 7 of algorithm 1, and for an example that has just begun its start."""
        like = self.iterate
        ahead = threat.project(self.iterate + columns(self.size, like) * threat.steepest(self.gradient), self.origin)
        # The first step has no momentum (line 4), and the start is looked at where it is.
        inertia = columns((self.age == 0).to(like.dtype) * (1 - MOMENTUM) + MOMENTUM, like)
        moved = self.iterate + inertia * (ahead - self.iterate)
        moved = moved + (1 - inertia) * (self.iterate - self.previous)
        return torch.where(columns(self.age < 0, like), self.iterate, threat.project(moved, self.origin))

    def move(self, proposal: Tensor, value: Tensor, gradient: Tensor) -> None:
        """Go to the proposed points, and remember those that are the best so far, with what was measured there."""
        self.candidate = proposal
        self.rises = self.rises + ((self.age >= 0) & (value > self.value))
        self.previous = self.iterate
        self.iterate, self.gradient, self.value = proposal, gradient, value
        better = value > self.best_value
        image = columns(better, proposal)
        self.best = torch.where(image, proposal, self.best)
        self.best_gradient = torch.where(image, gradient, self.best_gradient)
        self.best_value = torch.where(better, value, self.best_value)
        self.age = self.age + 1
        self.best_at_mark = torch.where(self.age == 0, self.best_value, self.best_at_mark)

    def reconsider(self, deadline: Tensor) -> None:
        """Halve the step size at a checkpoint, and go back to the best iterate, where progress has stalled.

        Condition 1: fewer than ρ of the steps since the last checkpoint increased the objective. Condition 2: neither
        step size nor best objective has changed since.
        """
        at_mark = self.age == deadline[self.mark + 1]
        since = deadline[self.mark + 1] - deadline[self.mark]
        stalled = self.rises < ENOUGH * since  # condition 1
        stuck = (self.size == self.size_at_mark) & (self.best_value == self.best_at_mark)  # condition 2
        halve = at_mark & (stalled | stuck)
        self.size_at_mark = torch.where(at_mark, self.size, self.size_at_mark)
        self.best_at_mark = torch.where(at_mark, self.best_value, self.best_at_mark)
        self.size = torch.where(halve, self.size / 2, self.size)
        back = columns(halve, self.iterate)
        self.iterate = torch.where(back, self.best, self.iterate)
        self.gradient = torch.where(back, self.best_gradient, self.gradient)
        self.value = torch.where(halve, self.best_value, self.value)
        self.rises = torch.where(at_mark, torch.zeros_like(self.rises), self.rises)
        self.mark = self.mark + at_mark.long()


def auto_ascend(
    model: Model,
    objective: Objective,
    x: Tensor,
    *,
    start: Tensor,
    threat: Threat,
    steps: int,
    slots: int,
    exit_rule: Exit | None = None,
    tick: Callable[[int], None] | None = None,
) -> Tensor:
    """Return for each example the iterate with the largest objective, or the one that ``exit_rule`` let go.

    Shapes, slots and leaving are as in :func:`cwbench.api.ascend`.
    """
    answer = start.clone()
    deadline = torch.tensor([*checkpoints(steps), steps + 1], device=x.device)

    def begin(rows: Tensor) -> _Ascent:
        return _Ascent.begin(x[rows], start[rows], threat.radius)

    def step(state: _Ascent, rows: Tensor) -> tuple[Tensor, Tensor]:
        proposal = state.proposal(threat)
        logits, value, gradient = value_and_gradient(model, objective, proposal, rows)
        state.move(proposal, value, gradient)
        state.reconsider(deadline)
        spent = state.age == steps
        return exit_rule.claims(logits, rows) if exit_rule else torch.zeros_like(spent), spent

    def finish(state: _Ascent, rows: Tensor, broken: Tensor) -> None:
        answer[rows] = torch.where(columns(broken, x), state.candidate, state.best)
        if tick:
            tick(len(rows))

    confirm = exit_rule.confirm if exit_rule else None
    drive(len(x), slots, device=x.device, begin=begin, step=step, finish=finish, confirm=confirm)
    return answer
