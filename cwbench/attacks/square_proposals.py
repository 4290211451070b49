"""What the Square attack draws: how an image starts, and what a fresh square does to the best one so far.

Andriushchenko et al. 2020: section 3.2 with algorithm 2 for L∞, section 3.3 with algorithm 3 for L2. The side of the
square belongs to the query an example has reached, so that examples of any age share a batch.
"""

from abc import ABC, abstractmethod
from typing import final

import torch
from torch import Tensor

from cwbench.api import ExampleStreams, Threat, columns

LEAST_SIDE = {"Linf": 1, "L2": 3}
"""A bump of one pixel has no slope: AutoAttack's code does not go below three under L2."""
TILES = 5  # of the L2 start, along the height


class Squares(ABC):
    """Starts and proposals for images of one shape under one threat."""

    def __init__(self, shape: torch.Size, threat: Threat, sides: Tensor) -> None:
        self.channels, self.height, self.width = shape
        self.threat = threat
        self.sides = sides.clamp_min(LEAST_SIDE[threat.norm]).clamp_max(min(self.height, self.width))

    @property
    @abstractmethod
    def draws(self) -> int:
        """How many uniform numbers a query uses up."""

    @abstractmethod
    def start(self, x: Tensor, *, streams: ExampleStreams) -> Tensor:
        """Return the first images to ask about, shape as ``x`` (n, C, H, W)."""

    @abstractmethod
    def changed(self, best: Tensor, x: Tensor, asked: Tensor, draw: Tensor) -> Tensor:
        """Return ``best`` with a fresh square, inside ball and box of ``x``; ``asked`` (n,), ``draw`` (n, draws)."""

    def window(self, side: Tensor, down: Tensor, across: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Place squares by two draws each: rows and columns inside them, (n, H) and (n, W), and a mask (n, 1, H, W)."""
        rows = torch.arange(self.height, device=side.device) - _place(down, self.height - side)[:, None]
        cols = torch.arange(self.width, device=side.device) - _place(across, self.width - side)[:, None]
        inside = ((rows >= 0) & (rows < side[:, None]))[:, :, None] & ((cols >= 0) & (cols < side[:, None]))[:, None, :]
        return rows, cols, inside[:, None]


@final
class Plain(Squares):
    """L∞: every pixel of the square moves to x ± eps, with one sign for each channel; the start is vertical stripes."""

    @property
    def draws(self) -> int:
        return 2 + self.channels

    def start(self, x: Tensor, *, streams: ExampleStreams) -> Tensor:
        stripes = streams.child("stripes").uniform(x.new_empty(len(x), self.channels, 1, self.width))
        return self.threat.project(x + self.threat.radius * signs(stripes, x.dtype), x)

    def changed(self, best: Tensor, x: Tensor, asked: Tensor, draw: Tensor) -> Tensor:
        _, _, inside = self.window(self.sides[asked], draw[:, 0], draw[:, 1])
        change = 2 * self.threat.radius * signs(draw[:, 2:], x.dtype)[:, :, None, None]
        return self.threat.project(best + inside * change, x)


@final
class Bumps(Squares):
    """L2: the change in a second square is given up, and what it held goes into a bump in the first one."""

    def __init__(self, shape: torch.Size, threat: Threat, sides: Tensor) -> None:
        super().__init__(shape, threat, sides)
        largest = min(self.height, self.width)
        table = torch.zeros(largest + 1, largest, largest)
        for side in self.sides.unique().tolist():
            table[side, :side, :side] = bump(side)
        self.table = table.to(sides.device)

    @property
    def draws(self) -> int:
        return 5 + self.channels

    def start(self, x: Tensor, *, streams: ExampleStreams) -> Tensor:
        side = max(1, self.height // TILES)
        tile = bump(side).to(x)
        down, across = -(-self.height // side), -(-self.width // side)
        draws = streams.child("tiles").uniform(x.new_empty(len(x), self.channels, down, across))
        each = signs(draws, x.dtype).repeat_interleave(side, 2).repeat_interleave(side, 3)
        pattern = each * tile.repeat(down, across)
        pattern = pattern[:, :, : self.height, : self.width]
        return (x + self.threat.radius * pattern / _length(pattern)).clamp(0, 1)

    def changed(self, best: Tensor, x: Tensor, asked: Tensor, draw: Tensor) -> Tensor:
        side, change = self.sides[asked], best - x
        rows, cols, first = self.window(side, draw[:, 0], draw[:, 1])
        _, _, second = self.window(side, draw[:, 2], draw[:, 3])
        last = self.table.shape[1] - 1
        r, c = rows.clamp(0, last)[:, :, None], cols.clamp(0, last)[:, None, :]
        upright, turned = (self.table[side[:, None, None], *place].to(x) for place in ((r, c), (c, r)))
        shape = torch.where(columns(draw[:, 4] < 0.5, upright), upright, turned)[:, None] * first
        unused = (self.threat.radius**2 - change.pow(2).sum((1, 2, 3), keepdim=True)).clamp_min(0)
        both = (change * (first | second)).pow(2).sum((2, 3), keepdim=True)
        held = change * first
        direction = signs(draw[:, 5:], x.dtype)[:, :, None, None] * shape + held / _length(held, (2, 3))
        fresh = direction / _length(direction, (2, 3)) * (both + unused / self.channels).sqrt()
        kept = change * ~(first | second)
        return self.threat.project(x + kept + fresh, x)


def bump(side: int) -> Tensor:
    """Return equation (2) of the paper, of unit length, (side, side): a hill in the upper half, a pit in the lower."""
    upper = side // 2
    parts = [part for part in (_hill(upper, side), -_hill(side - upper, side)) if len(part)]
    whole = torch.cat(parts)
    length: Tensor = whole.norm()
    return whole / length


def _hill(height: int, width: int) -> Tensor:
    """Return η_{r,s} = Σ_{k=0}^{M} 1/(n + 1 − k)², n half of the longer side, M = n − the distance from the middle."""
    n = max(height, width) // 2
    r = (torch.arange(1, height + 1) - height // 2 - 1).abs()
    s = (torch.arange(1, width + 1) - width // 2 - 1).abs()
    reach = n - torch.maximum(r[:, None], s[None, :])
    terms = torch.tensor([1 / (n + 1 - k) ** 2 for k in range(n + 1)]).cumsum(0)
    return torch.where(reach >= 0, terms[reach.clamp_min(0)], 0.0)


def signs(draws: Tensor, dtype: torch.dtype) -> Tensor:
    """Return −1 or 1 for each draw from [0, 1)."""
    return torch.where(draws < 0.5, -1, 1).to(dtype)


def _place(draw: Tensor, last: Tensor) -> Tensor:
    """Return a position from 0 to ``last``, both possible."""
    return torch.minimum((draw * (last + 1)).long(), last)


def _length(change: Tensor, dims: tuple[int, ...] = (1, 2, 3)) -> Tensor:
    return change.pow(2).sum(dims, keepdim=True).sqrt().clamp_min(1e-12)
