"""Normalisation inside the network, so that eps is always in units of pixels."""

from typing import Annotated, final

import torch
from pydantic import Field
from torch import Tensor, nn

Channels = Annotated[tuple[float, ...], Field(min_length=1, max_length=16)]
"""A number for each channel, or one for all."""
Spread = Annotated[tuple[Annotated[float, Field(gt=0)], ...], Field(min_length=1, max_length=16)]


@final
class Normalize(nn.Module):
    """(x − mean) / std for images (N, C, H, W); one mean and one std per channel, or one for all."""

    mean: Tensor
    std: Tensor

    def __init__(self, mean: tuple[float, ...], std: tuple[float, ...]) -> None:
        super().__init__()
        self.register_buffer("mean", torch.tensor(mean).reshape(-1, 1, 1))
        self.register_buffer("std", torch.tensor(std).reshape(-1, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        return (x - self.mean) / self.std
