"""Random numbers that belong to an example, not to a moment.

A stream is a pure function of (seed, labels, example id): drawing twice gives the same numbers, and a batch of
seven or the second half of a killed run gives each example the numbers that it would have had alone. Nothing here
reads or writes the global random state of Python, NumPy or PyTorch.
"""

import hashlib
import random
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Protocol, Self, final

import numpy as np
import torch
from torch import Tensor


def key(*labels: int | str) -> int:
    """Return a 64-bit key for the labels: any difference in value, type or order gives another key."""
    text = "\x1f".join(f"{type(label).__name__}:{label}" for label in labels)
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little")


def global_random_state(device: torch.device | None = None) -> tuple[object, ...]:
    """Return the state of the generators of Python, NumPy and PyTorch that nobody may touch, in a form to compare."""
    name, keys, *rest = np.random.get_state(legacy=True)
    devices = [torch.cuda.get_rng_state(device)] if device is not None and device.type == "cuda" else []
    states = [state.numpy().tobytes() for state in (torch.get_rng_state(), *devices)]
    return random.getstate(), name, np.asarray(keys).tobytes(), tuple(rest), tuple(states)


class Streams(ABC):
    """Random numbers for the rows of a batch."""

    @abstractmethod
    def child(self, *labels: int | str) -> Self:
        """Return streams that are independent of these and of those under any other labels."""

    @abstractmethod
    def uniform(self, like: Tensor) -> Tensor:
        """Return numbers in [0, 1) with the shape (N, ...), type and device of ``like``; row i is from stream i."""

    @abstractmethod
    def normal(self, like: Tensor) -> Tensor:
        """Return standard normal numbers with the shape (N, ...), type and device of ``like``."""


@final
@dataclass(frozen=True)
class ExampleStreams(Streams):
    """One stream per example, keyed by (seed, labels, example id): what evaluation uses.

    The bits come from NumPy's Philox (Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3"), always on
    the CPU, so that an accelerator draws the same numbers.
    """

    root: int
    ids: Tensor
    """Example ids, shape (N,), int64 and not negative."""
    moments: Tensor
    """Where in its stream each example draws, shape (N,), int64 and not negative."""

    @classmethod
    def of(cls, seed: int, ids: Tensor) -> "ExampleStreams":
        return cls(key(seed), ids.cpu(), torch.zeros_like(ids, device="cpu"))

    def __getitem__(self, rows: Tensor) -> "ExampleStreams":
        """Return the streams of some rows of the batch."""
        return ExampleStreams(self.root, self.ids[rows.cpu()], self.moments[rows.cpu()])

    def child(self, *labels: int | str) -> "ExampleStreams":
        return ExampleStreams(key(self.root, *labels), self.ids, self.moments)

    def at(self, moments: Tensor) -> "ExampleStreams":
        """Return the same streams at another moment of each example, such as the step that it has reached; shape (N,).

        What is drawn at different moments is independent, up to 2⁶⁴ numbers a moment.
        """
        return ExampleStreams(self.root, self.ids, moments.cpu())

    def uniform(self, like: Tensor) -> Tensor:
        # float32 has 24 bits of mantissa: drawing them directly, not rounding a float64, keeps 1.0 out.
        return self._fill(like, lambda generator, row: generator.random(dtype=np.float32, out=row))

    def normal(self, like: Tensor) -> Tensor:
        return self._fill(like, lambda generator, row: generator.standard_normal(dtype=np.float32, out=row))

    def _fill(self, like: Tensor, draw: "_Draw") -> Tensor:
        if len(like) != len(self.ids):
            raise ValueError(f"{len(self.ids)} streams cannot fill a batch of {len(like)}")
        numbers = np.empty(tuple(like.shape), dtype=np.float32)
        for row, example, moment in zip(numbers, self.ids.tolist(), self.moments.tolist(), strict=True):
            # The generator counts in the first of the counter's four words; the second is ours.
            counter = np.array([0, moment, 0, 0], dtype=np.uint64)
            bits = np.random.Philox(key=np.array([self.root, example], dtype=np.uint64), counter=counter)
            draw(np.random.Generator(bits), row)
        return torch.from_numpy(numbers).to(like.device, like.dtype)


@final
@dataclass(frozen=True)
class BatchStreams(Streams):
    """One stream for a whole batch, drawn on the device: what training uses, where batches are part of the recipe.

    The labels are (seed, epoch, batch), so that a resumed training draws what an uninterrupted one would have drawn.
    """

    root: int

    @classmethod
    def of(cls, *labels: int | str) -> "BatchStreams":
        return cls(key(*labels))

    def child(self, *labels: int | str) -> "BatchStreams":
        return BatchStreams(key(self.root, *labels))

    def uniform(self, like: Tensor) -> Tensor:
        return torch.rand(like.shape, generator=self.generator(like.device), device=like.device, dtype=like.dtype)

    def normal(self, like: Tensor) -> Tensor:
        return torch.randn(like.shape, generator=self.generator(like.device), device=like.device, dtype=like.dtype)

    def permutation(self, n: int) -> Tensor:
        """Return a random order of 0 … n-1, drawn on the CPU so that every device trains in the same order."""
        return torch.randperm(n, generator=self.generator(torch.device("cpu")))

    def generator(self, device: torch.device) -> torch.Generator:
        """Return a fresh generator at the start of this stream."""
        return torch.Generator(device).manual_seed(self.root >> 1)  # seeds are signed 64-bit integers


class _Draw(Protocol):
    """The type of a function that fills one row: ``draw(generator, row)``."""

    def __call__(
        self, generator: np.random.Generator, row: np.ndarray[tuple[int, ...], np.dtype[np.float32]]
    ) -> object: ...
