"""The fast adaptive boundary attack, one target class after the other."""

from dataclasses import dataclass
from typing import Annotated, final

import torch
from pydantic import Field
from torch import Tensor

from cwbench.api import (
    MOST_STEPS,
    Access,
    Attack,
    Budget,
    ExampleStreams,
    Model,
    SlotState,
    Threat,
    Tick,
    attempts,
    columns,
    drive,
    likeliest,
    misclassified,
    value_and_gradient,
)

MOST_BIAS = 0.1  # α_max of the paper
OVERSHOOT = 1.05  # η
BACKWARD = 0.9  # β


@dataclass
class _Search(SlotState):
    """Where each example stands."""

    origin: Tensor
    iterate: Tensor
    age: Tensor
    """Steps taken, (n,)."""


@final
class FABT(Attack):
    """Croce & Hein 2020, algorithm 1, in the targeted form of "Reliable Evaluation", section 5.

    Each step goes to the hyperplane z_t = z_y of the network linearised at the iterate, from the iterate and, with
    weight α, from the image itself; an iterate that is misclassified is drawn back towards the image. As a member of
    AutoAttack it asks whether eps can be met, not for the smallest perturbation: an example leaves when its iterate is
    misclassified inside the ball, and the final search of the paper is left out. Without restarts nothing is random.
    """

    name = "fab-t"
    reference = "Croce & Hein 2020, Minimally Distorted Adversarial Examples with a Fast Adaptive Boundary Attack, ICML"
    access = Access.WHITE_BOX
    pooled = True
    effort = ("steps", "targets")

    steps: Annotated[int, Field(ge=1, le=MOST_STEPS)] = 100
    """Steps towards each target."""
    targets: Annotated[int, Field(ge=1)] = 9
    """How many target classes are tried."""

    def perturb(
        self, model: Model, x: Tensor, y: Tensor, *, threat: Threat, streams: ExampleStreams, budget: Budget
    ) -> Tensor:
        del streams  # nothing is random
        order = likeliest(model, x, y, self.targets, budget)

        def attempt(position: int, rows: Tensor, tick: Tick) -> Tensor:
            return self._towards(model, x[rows], y[rows], order[rows, position], threat, budget, tick)

        return attempts(order.shape[1], attempt, model=model, x=x, y=y, budget=budget)

    def _towards(
        self, model: Model, x: Tensor, y: Tensor, target: Tensor, threat: Threat, budget: Budget, tick: Tick
    ) -> Tensor:
        answer = x.clone()
        leaving = misclassified(y, budget)

        def preference(logits: Tensor, rows: Tensor) -> Tensor:
            return (logits.gather(1, y[rows, None]) - logits.gather(1, target[rows, None])).squeeze(1)

        def begin(rows: Tensor) -> _Search:
            return _Search(x[rows], origin=x[rows], iterate=x[rows], age=torch.zeros_like(rows))

        def step(state: _Search, rows: Tensor) -> tuple[Tensor, Tensor]:
            here, origin = state.iterate, state.origin
            _, value, gradient = value_and_gradient(model, preference, here, rows)
            value = value.to(x.dtype)  # a model may compute in more precision than its images have
            at_origin = value + (gradient * (origin - here)).flatten(1).sum(1)
            moves = to_hyperplane(
                torch.cat([here, origin]), torch.cat([gradient] * 2), torch.cat([value, at_origin]), threat.norm
            )
            lengths = threat.distance(moves, torch.zeros_like(moves)).to(x.dtype)
            (near, far), (length, other) = moves.chunk(2), lengths.chunk(2)
            bias = columns((length / (length + other).clamp_min(1e-12)).clamp_max(MOST_BIAS), x)
            reached = ((1 - bias) * (here + OVERSHOOT * near) + bias * (origin + OVERSHOOT * far)).clamp(0, 1)
            with torch.no_grad():
                wrong = leaving.claims(model(reached), rows)
            state.candidate = reached
            state.iterate = torch.where(columns(wrong, x), origin + BACKWARD * (reached - origin), reached)
            state.age = state.age + 1
            return wrong & (threat.distance(reached, origin) <= threat.radius), state.age == self.steps

        def finish(state: _Search, rows: Tensor, broken: Tensor) -> None:
            answer[rows] = torch.where(columns(broken, x), state.candidate, state.origin)
            tick(len(rows))

        drive(
            len(x),
            budget.batch_size,
            device=x.device,
            begin=begin,
            step=step,
            finish=finish,
            confirm=leaving.confirm,
        )
        return answer


def to_hyperplane(points: Tensor, normal: Tensor, value: Tensor, norm: str) -> Tensor:
    """Return the shortest move from each point to where ``value + ⟨normal, move⟩ = 0`` without leaving the box [0, 1].

    ``points`` and ``normal`` are (n, ...), ``value`` (n,). Where the box does not reach the hyperplane, the move goes
    as far as it does (equations 5 to 7 of the paper). Every coordinate moves against the normal, by λ (L∞) or λ|w|
    (L2), until it meets the box; what is gained is piecewise linear in λ, so sorting the kinks solves for it.
    """
    flat, w = points.flatten(1), normal.flatten(1)
    direction = -w.sign() * value.sign()[:, None]
    room = torch.where(direction > 0, 1 - flat, flat)
    size = w.abs()
    pace = torch.ones_like(size) if norm == "Linf" else size
    kink = torch.where(pace > 0, room / pace.clamp_min(1e-30), 0)
    gain = size * pace
    kinks, order = kink.sort(1)
    gains = gain.gather(1, order)
    used = (gains * kinks).cumsum(1) - gains * kinks  # by coordinates that have met the box before this kink
    rate = gains.flip(1).cumsum(1).flip(1)  # of those that have not
    needed = value.abs()[:, None]
    first = (used + rate * kinks < needed).sum(1, keepdim=True).clamp_max(kinks.shape[1] - 1)
    reach = (needed - used.gather(1, first)) / rate.gather(1, first).clamp_min(1e-30)
    reach = torch.minimum(reach.clamp_min(0), kinks[:, -1:])
    return (direction * torch.minimum(reach * pace, room)).reshape(points.shape)
