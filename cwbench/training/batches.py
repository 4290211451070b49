"""The batches of an epoch: in which order, from where, and on which device."""

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.data import DataLoader
from torch.utils.data import Dataset as Source

from cwbench.api import Batch, BatchStreams, Examples, Recipe, ResizedCrop, TrainingSet
from cwbench.datasets.image_files import ImageFiles
from cwbench.internal.distributed import Team
from cwbench.internal.errors import CwbenchError
from cwbench.training.augment import augmented
from cwbench.training.synchronise import share_of

READERS = min(os.cpu_count() or 1, 8)
"""Processes that read images ahead of the training."""


@dataclass(frozen=True)
class Batches:
    """Cuts a training set into batches, this process's share of each."""

    data: TrainingSet
    """On the device where it fits."""
    pseudo_labels: Tensor | None
    recipe: Recipe
    device: torch.device
    team: Team

    def count(self, epoch: int) -> int:
        """Return the number of batches of an epoch, counted from 0: as many as the labelled set gives."""
        full, rest = divmod(len(self.data.labelled), self._size(epoch))
        # A last batch with fewer than two examples for a process is left out: batch norm cannot learn from one.
        return full + (rest >= 2 * self.team.size)

    def of_epoch(self, epoch: int, streams: BatchStreams) -> Iterator[tuple[Batch, float]]:
        """Yield each batch, and its share of what all processes have of it, times their number."""
        orders = self._orders(epoch, streams.child("order"))
        columns = [
            self._images(examples, order, epoch, streams.child("images", position, self.team.rank))
            for position, (examples, order) in enumerate(zip(self._sources(), orders, strict=True))
        ]
        for number, parts in enumerate(zip(*columns, strict=True)):
            whole = sum(len(order[number]) for order in orders)
            x = torch.cat(parts)
            rows = [share_of(order[number], self.team) for order in orders]
            yield Batch(x, self._labels(rows)), len(x) * self.team.size / whole

    def _images(
        self, examples: Examples, order: Sequence[Tensor], epoch: int, streams: BatchStreams
    ) -> Iterator[Tensor]:
        """Yield this process's images of each batch on its device, changed at random and at the epoch's size."""
        augment, resolution = self.recipe.augment, self.recipe.resolution_at(epoch)
        rows = [share_of(part, self.team) for part in order]
        draws = [streams.child(number) for number in range(len(rows))]
        crop = None
        if isinstance(augment, ResizedCrop) and isinstance(examples, ImageFiles):
            # Made while a file is decoded, from all of its pixels.
            crop = _Crop(augment, resolution.size if resolution else examples.size)
        for number, found in enumerate(_read(_Reading(examples, rows, draws, crop))):
            x = found.to(self.device, non_blocking=True)
            if crop is None:
                x = augmented(x, augment, draws[number])
            if resolution and x.shape[-1] != resolution.size:
                x = F.interpolate(x, size=resolution.size, mode="bilinear", antialias=True).clamp(0, 1)
            yield x

    def _size(self, epoch: int) -> int:
        resolution = self.recipe.resolution_at(epoch)
        return resolution.batch_size if resolution else self.recipe.batch_size

    def _sources(self) -> list[Examples]:
        return [examples for examples in (self.data.labelled, self.data.unlabelled) if examples is not None]

    def _orders(self, epoch: int, streams: BatchStreams) -> list[list[Tensor]]:
        """Return the rows of each batch, for the labelled and the unlabelled examples."""
        count, size, pool = self.count(epoch), self._size(epoch), self.data.unlabelled
        labelled = streams.permutation(len(self.data.labelled))
        if pool is None:
            return [list(labelled.split(size))[:count]]
        half = size // 2
        rounds = range(-(-count * half // len(pool)))
        unlabelled = torch.cat([streams.child("pool", turn).permutation(len(pool)) for turn in rounds])
        return [
            list(labelled[: count * (size - half)].split(size - half)),
            list(unlabelled[: count * half].split(half)),
        ]

    def _labels(self, rows: Sequence[Tensor]) -> Tensor:
        found = [self.data.labelled.labels[rows[0].to(self.data.labelled.labels.device)]]
        if self.pseudo_labels is not None:
            found.append(self.pseudo_labels[rows[1]])
        return torch.cat([labels.to(self.device) for labels in found])


@dataclass(frozen=True)
class _Crop:
    crop: ResizedCrop
    size: int


def _read(reading: "_Reading") -> Iterator[Tensor]:
    """Yield the images of each batch; what streams is read ahead in processes of its own.

    Raises:
        CwbenchError: a file cannot be read.
    """
    if not reading.examples.streamed:
        yield from (reading.batch(number) for number in range(len(reading)))
        return
    for found in DataLoader(reading, batch_size=None, num_workers=READERS):
        if isinstance(found, CwbenchError):
            raise found
        yield found


@dataclass(frozen=True)
class _Reading(Source[Tensor | CwbenchError]):
    """Batches by number, for PyTorch's loader."""

    examples: Examples
    rows: Sequence[Tensor]
    draws: Sequence[BatchStreams]
    crop: _Crop | None

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, number: int) -> Tensor | CwbenchError:
        try:
            return self.batch(number)
        except CwbenchError as error:  # raised in a reader it would arrive with its traceback for a message
            return error

    def batch(self, number: int) -> Tensor:
        examples, rows = self.examples, self.rows[number]
        if self.crop and isinstance(examples, ImageFiles):
            draws = self.draws[number].uniform(torch.empty(len(rows), 5))
            return examples.cropped(rows, draws, size=self.crop.size, crop=self.crop.crop)
        return examples.images(rows.to(examples.labels.device))
