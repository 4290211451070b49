"""The Square attack: random squares, kept when the margin shrinks. It asks for logits and for nothing else."""

import math
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
    columns,
    drive,
    misclassified,
)
from cwbench.attacks.margin import margin
from cwbench.attacks.square_proposals import Bumps, Plain

HALVINGS = (10, 50, 200, 500, 1000, 2000, 4000, 6000, 8000)
"""After which of 10,000 queries the share of changed pixels is halved (section 4.1 of the paper)."""


@dataclass
class _Search(SlotState):
    """Where each example stands."""

    origin: Tensor
    best: Tensor
    """The image with the largest margin so far."""
    value: Tensor
    """That margin, (n,)."""
    asked: Tensor
    """Queries, (n,)."""
    draws: Tensor
    """The uniform numbers of all queries, (n, queries, draws of a query)."""


@final
class Square(Attack):
    """Andriushchenko et al. 2020, algorithms 1 and 2, on the margin.

    It starts from vertical stripes of ±eps and then, in a square at a random place, sets each channel to x ± eps (under
    L2, moves change from one square into another: algorithm 3); it stays if the margin max_{j≠y} z_j − z_y grows. The
    square's share of the image starts at ``share`` and is halved on the paper's schedule. Every place in the image can
    be drawn; the version in AutoAttack never reaches its last row and column, and does not stretch the schedule.
    """

    name = "square"
    reference = "Andriushchenko, Croce, Flammarion & Hein 2020, Square Attack, ECCV"
    access = Access.SCORE
    pooled = True
    effort = ("queries",)
    needs_images = True

    queries: Annotated[int, Field(ge=1, le=MOST_STEPS)] = 5000
    """Images whose logits may be asked for, for each example."""
    share: Annotated[float, Field(gt=0, le=1)] = 0.8
    """Of the pixels, how many the first square covers."""
    stretched: bool = True
    """Stretch the schedule, which is made for 10,000 queries, to the number of queries."""

    def perturb(
        self, model: Model, x: Tensor, y: Tensor, *, threat: Threat, streams: ExampleStreams, budget: Budget
    ) -> Tensor:
        answer = x.clone()
        leaving = misclassified(y, budget)
        kind = Plain if threat.norm == "Linf" else Bumps
        squares = kind(x.shape[1:], threat, self._sides(*x.shape[2:]).to(x.device))

        def begin(rows: Tensor) -> _Search:
            start = squares.start(x[rows], streams=streams[rows])
            # All that an example will ever draw: a generator for each query would cost more than the query.
            draws = torch.empty(len(rows), self.queries, squares.draws, device=x.device)
            return _Search(
                start,
                origin=x[rows],
                best=start,
                value=x.new_full((len(rows),), -math.inf),
                asked=torch.zeros_like(rows),
                draws=streams[rows].child("squares").uniform(draws),
            )

        def proposal(state: _Search) -> Tensor:
            """Return the start at the first query, and afterwards the best image with a fresh square."""
            asked = state.asked
            draw = state.draws[torch.arange(len(asked), device=x.device), asked]
            changed = squares.changed(state.best, state.origin, asked, draw)
            return torch.where(columns(asked == 0, x), state.best, changed)

        def step(state: _Search, rows: Tensor) -> tuple[Tensor, Tensor]:
            candidate = proposal(state)
            with torch.no_grad():
                logits = model(candidate)
            value = margin(logits, y[rows])
            better = value > state.value
            state.candidate = candidate
            state.best = torch.where(columns(better, x), candidate, state.best)
            state.value = torch.where(better, value, state.value)
            state.asked = state.asked + 1
            return leaving.claims(logits, rows), state.asked == self.queries

        def finish(state: _Search, rows: Tensor, broken: Tensor) -> None:
            answer[rows] = torch.where(columns(broken, x), state.candidate, state.best)
            budget.tick(len(rows))

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

    def _sides(self, height: int, width: int) -> Tensor:
        """Return the side of the square at each query, shape (queries,); ``Squares`` keeps it inside the image."""
        at = [query * 10_000 // self.queries if self.stretched else query for query in range(self.queries)]
        shares = [self.share / 2 ** sum(moment > halving for halving in HALVINGS) for moment in at]
        return torch.tensor([round(math.sqrt(share * height * width)) for share in shares])
