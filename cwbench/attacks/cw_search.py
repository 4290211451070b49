"""The searches of Carlini & Wagner's attack: Adam in tanh space, a falling τ, and the weight c by bisection.

What they minimise and when they end is told in :mod:`cwbench.attacks.cw`.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from cwbench.api import Model, SlotState, columns, value_and_gradient
from cwbench.attacks.margin import margin
from cwbench.attacks.tanh_space import decode, encode

BETA_1, BETA_2, EPSILON = 0.9, 0.999, 1e-8  # Adam's, Kingma & Ba 2015
LOOKS = 10  # how often in a search an example is asked whether it still gets anywhere
PROGRESS = 0.9999  # of the loss at the last look
SHRINK = 0.9  # of τ after a success


@dataclass
class SearchState(SlotState):
    """Where each example stands: images (n, C, H, W), numbers (n,). Those from ``w`` on begin anew with each search."""

    origin: Tensor
    nearest: Tensor
    """‖δ‖∞ of the candidate, which is the nearest misclassified image so far."""
    threshold: Tensor
    """τ."""
    c: Tensor
    failed: Tensor
    succeeded: Tensor
    """The largest c that failed, and the smallest that succeeded."""
    search: Tensor
    """How many searches are over."""
    w: Tensor
    """The image in tanh space."""
    momentum: Tensor
    scale: Tensor
    """Adam's means of the gradient and of its square."""
    age: Tensor
    """Steps of this search."""
    found: Tensor
    """Whether this search has met a misclassified image."""
    loss_at_look: Tensor


@dataclass(frozen=True)
class Search:
    """The searches on one pool of examples, as :func:`cwbench.api.drive` wants them; the fields are the attack's."""

    iterations: int
    searches: int
    learning_rate: float
    first_c: float
    model: Model
    x: Tensor
    y: Tensor
    answer: Tensor
    """Where the nearest misclassified images are put; shape as ``x``."""
    tick: Callable[[int], None]

    def begin(self, rows: Tensor) -> SearchState:
        images = self.x[rows]
        zero = images.new_zeros(len(rows))
        return SearchState(
            candidate=images,
            origin=images,
            nearest=zero + math.inf,
            threshold=zero + 1,
            c=zero + self.first_c,
            failed=zero,
            succeeded=zero + math.inf,
            search=torch.zeros_like(rows),
            **_fresh(images),
        )

    def step(self, state: SearchState, rows: Tensor) -> tuple[Tensor, Tensor]:
        def objective(logits: Tensor, among: Tensor) -> Tensor:
            return state.c * (-margin(logits, self.y[among])).clamp_min(0)

        here = decode(state.w)
        delta = here - state.origin
        logits, hinge, slope = value_and_gradient(self.model, objective, here, rows)
        over = delta.abs() - columns(state.threshold, delta)
        loss = hinge + over.clamp_min(0).flatten(1).sum(1)
        wrong = logits.argmax(1) != self.y[rows]
        lowered = _remember(state, here, delta, wrong)
        self._descend(state, (slope + (over > 0) * delta.sign()) * 2 * here * (1 - here))  # by d/dw (tanh w + 1) / 2
        self._end_searches(state, loss, lowered=lowered)
        return torch.zeros_like(wrong), state.search == self.searches

    def finish(self, state: SearchState, rows: Tensor, broken: Tensor) -> None:
        del broken  # nothing leaves early: a nearer one may follow
        self.answer[rows] = state.candidate
        self.tick(len(rows))

    def _descend(self, state: SearchState, slope: Tensor) -> None:
        """Take a step of Adam."""
        state.age = state.age + 1
        age = columns(state.age, slope)
        state.momentum = BETA_1 * state.momentum + (1 - BETA_1) * slope
        state.scale = BETA_2 * state.scale + (1 - BETA_2) * slope**2
        mean, square = state.momentum / (1 - BETA_1**age), state.scale / (1 - BETA_2**age)
        state.w = state.w - self.learning_rate * mean / (square.sqrt() + EPSILON)

    def _end_searches(self, state: SearchState, loss: Tensor, *, lowered: Tensor) -> None:
        """Where a search is over, choose the next c and begin again."""
        looks = state.age % max(1, self.iterations // LOOKS) == 0
        # Where τ was lowered since the last look, that is progress, and the loss is another one.
        state.loss_at_look = torch.where(lowered, math.inf, state.loss_at_look)
        stuck = looks & (loss > PROGRESS * state.loss_at_look)
        state.loss_at_look = torch.where(looks, loss, state.loss_at_look)
        over = stuck | (state.age == self.iterations)
        if not over.any():
            return
        c, found = state.c, state.found
        state.succeeded = torch.where(over & found, c, state.succeeded)
        state.failed = torch.where(over & ~found, c, state.failed)
        bracketed = state.succeeded.isfinite()
        following = torch.where(bracketed, (state.failed + state.succeeded) / 2, 10 * c)
        state.c = torch.where(over, following, c)
        state.search = state.search + over.long()
        for name, value in _fresh(state.origin).items():
            setattr(state, name, torch.where(columns(over, value), value, getattr(state, name)))


def _fresh(images: Tensor) -> dict[str, Tensor]:
    """Return what every search begins with."""
    zero = images.new_zeros(len(images))
    return {
        "w": encode(images),
        "momentum": torch.zeros_like(images),
        "scale": torch.zeros_like(images),
        "age": zero.long(),
        "found": zero.bool(),
        "loss_at_look": zero + math.inf,
    }


def _remember(state: SearchState, here: Tensor, delta: Tensor, wrong: Tensor) -> Tensor:
    """Keep the nearest misclassified iterates, lower τ where one lies within it, and tell where."""
    away = delta.abs().flatten(1).amax(1)
    nearer = wrong & (away < state.nearest)
    state.candidate = torch.where(columns(nearer, here), here, state.candidate)
    state.nearest = torch.where(nearer, away, state.nearest)
    state.found = state.found | wrong
    met = wrong & (away <= state.threshold)
    state.threshold = torch.where(met, SHRINK * away, state.threshold)
    return met
