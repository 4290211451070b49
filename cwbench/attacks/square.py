"""The Square attack: random squares, kept when the margin shrinks. It asks for logits and for nothing else."""

import math
from typing import Annotated, final

import torch
from pydantic import Field
from torch import Tensor

from cwbench.api import Access, Attack, Budget
from cwbench.ascent import MOST_STEPS, columns
from cwbench.attacks.attempts import misclassified
from cwbench.attacks.margin import margin
from cwbench.errors import CwbenchError
from cwbench.model import Model
from cwbench.randomness import ExampleStreams
from cwbench.slots import State, drive
from cwbench.threat import Threat

HALVINGS = (10, 50, 200, 500, 1000, 2000, 4000, 6000, 8000)
"""After which of 10,000 queries the share of changed pixels is halved (section 4.1 of the paper)."""


@final
class Square(Attack):
    """Andriushchenko et al. 2020, algorithms 1 and 2, on the margin.

    It starts from vertical stripes of ±eps and then, in a square at a random place, sets each channel to x ± eps; the
    change stays if the margin max_{j≠y} z_j − z_y grows. The square's share of the image starts at ``share`` and is
    halved on the paper's schedule. Every place in the image can be drawn; the version in AutoAttack never reaches its
    last row and column, and does not stretch the schedule.
    """

    name = "square"
    reference = "Andriushchenko, Croce, Flammarion & Hein 2020, Square Attack, ECCV"
    access = Access.SCORE
    pooled = True
    norms = ("Linf",)

    queries: Annotated[int, Field(ge=1, le=MOST_STEPS)] = 5000
    """Images whose logits may be asked for, for each example."""
    share: Annotated[float, Field(gt=0, le=1)] = 0.8
    """Of the pixels, how many the first square covers."""
    stretched: bool = True
    """Stretch the schedule, which is made for 10,000 queries, to the number of queries."""

    def perturb(
        self, model: Model, x: Tensor, y: Tensor, *, threat: Threat, streams: ExampleStreams, budget: Budget
    ) -> Tensor:
        if x.dim() != 4:
            raise CwbenchError(
                f"square needs images (N, C, H, W), not {tuple(x.shape)}", "leave it out, or reshape them"
            )
        answer = x.clone()
        leaving = misclassified(y, budget)
        channels, height, width = x.shape[1:]
        sides = self._sides(height, width).to(x.device)
        down, across = (torch.arange(size, device=x.device) for size in (height, width))

        def begin(rows: Tensor) -> State:
            own = streams[rows]
            stripes = own.child("stripes").uniform(x.new_empty(len(rows), channels, 1, width))
            start = threat.project(x[rows] + threat.radius * _signs(stripes, x.dtype), x[rows])
            return {
                "origin": x[rows],
                "best": start,
                "claim": start,
                "value": x.new_full((len(rows),), -math.inf),
                "asked": torch.zeros_like(rows),
                # All that an example will ever draw: a generator for each query would cost more than the query.
                "draws": own.child("squares").uniform(
                    torch.empty(len(rows), self.queries, 2 + channels, device=x.device)
                ),
            }

        def proposal(state: State) -> Tensor:
            """Return the stripes at the first query, and afterwards the best image with a fresh square."""
            asked = state["asked"]
            draw = state["draws"][torch.arange(len(asked), device=x.device), asked]
            side = sides[asked]
            top, left = (_place(draw[:, axis], size - side) for axis, size in ((0, height), (1, width)))
            inside = _between(down, top, side)[:, None, :, None] & _between(across, left, side)[:, None, None, :]
            change = 2 * threat.radius * _signs(draw[:, 2:], x.dtype)[:, :, None, None]
            changed = threat.project(state["best"] + inside * change, state["origin"])
            return torch.where(columns(asked == 0, x), state["best"], changed)

        def step(state: State, rows: Tensor) -> tuple[Tensor, Tensor]:
            candidate = proposal(state)
            with torch.no_grad():
                logits = model(candidate)
            value = margin(logits, y[rows])
            better = value > state["value"]
            state["claim"] = candidate
            state["best"] = torch.where(columns(better, x), candidate, state["best"])
            state["value"] = torch.where(better, value, state["value"])
            state["asked"] = state["asked"] + 1
            return leaving.claims(logits, rows), state["asked"] == self.queries

        def finish(state: State, rows: Tensor, broken: Tensor) -> None:
            answer[rows] = torch.where(columns(broken, x), state["claim"], state["best"])
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
        """Return the side of the square at each query, shape (queries,)."""
        at = [query * 10_000 // self.queries if self.stretched else query for query in range(self.queries)]
        shares = [self.share / 2 ** sum(moment > halving for halving in HALVINGS) for moment in at]
        sides = [max(1, round(math.sqrt(share * height * width))) for share in shares]
        return torch.tensor([min(side, height, width) for side in sides])


def _signs(draws: Tensor, dtype: torch.dtype) -> Tensor:
    return torch.where(draws < 0.5, -1, 1).to(dtype)


def _place(draw: Tensor, last: Tensor) -> Tensor:
    """Return a position from 0 to ``last``, both possible."""
    return torch.minimum((draw * (last + 1)).long(), last)


def _between(positions: Tensor, first: Tensor, side: Tensor) -> Tensor:
    """Tell for each position whether it lies in the square, shape (n, len(positions))."""
    return (positions >= first[:, None]) & (positions < (first + side)[:, None])
