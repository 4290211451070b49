"""The examples of an evaluation: which of the split, their labels, and their images on the device."""

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from cwbench.api import Examples


@dataclass(frozen=True)
class EvaluatedExamples:
    """Some examples of a split. Positions count among them, ids in the split."""

    split: Examples
    ids: Tensor
    """Shape (n,), int64."""
    device: torch.device

    @cached_property
    def labels(self) -> Tensor:
        """Shape (n,), on the CPU."""
        return self.split.labels[self.ids.to(self.split.labels.device)].cpu()

    def images(self, positions: Tensor) -> Tensor:
        """Return the images at some positions, (len(positions), C, H, W) float32 on the device."""
        return self.split.images(self.ids[positions]).to(self.device, torch.float32)

    def labels_on_device(self, positions: Tensor) -> Tensor:
        """Return the labels at some positions on the device."""
        return self.labels[positions].to(self.device)

    def sample(self, positions: Tensor, most: int) -> tuple[Tensor, Tensor]:
        """Return up to ``most`` images and labels from some positions, spread over the split."""
        chosen = positions[torch.linspace(0, len(positions) - 1, min(most, len(positions))).long()]
        return self.images(chosen), self.labels_on_device(chosen)
