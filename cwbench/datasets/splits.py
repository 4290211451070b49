"""Opening a split: loaded, checked and digested, so that what is judged is what was meant."""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor

from cwbench.api import DataError, Dataset, Examples, Split
from cwbench.datasets.given_tensors import GivenTensors

CHUNK = 4096


@dataclass
class _Memory:
    """What has been opened and digested."""

    splits: dict[tuple[object, ...], Examples] = field(default_factory=dict)
    """By class and fields of the dataset, split and folder."""
    digests: dict[int, tuple[Examples, str]] = field(default_factory=dict)
    """By the identity of the examples, which are kept with it so that no others can get the same."""


_memory: ContextVar[_Memory | None] = ContextVar("memory", default=None)


@contextmanager
def remembering() -> Iterator[None]:
    """Open and digest each split once within the block: for many runs in a row on data that nobody changes."""
    token = _memory.set(_Memory())
    try:
        yield
    finally:
        _memory.reset(token)


def open_split(dataset: Dataset, split: Split, root: Path | None) -> Examples:
    """Load a split and check it.

    Raises:
        DataError: missing or truncated data, a label that is no class, a pixel outside [0, 1].
    """
    if isinstance(dataset, GivenTensors):
        return dataset.load(split, root)  # checked when they were handed in, and of any shape
    memory = _memory.get()
    if memory is None:
        return _opened(dataset, split, root)
    key = (type(dataset), dataset.model_dump_json(), split, root)
    if key not in memory.splits:
        memory.splits[key] = _opened(dataset, split, root)
    return memory.splits[key]


def _opened(dataset: Dataset, split: Split, root: Path | None) -> Examples:
    examples = dataset.load(split, root)
    expected = dataset.sizes[split]
    subject = f"{dataset.name} ({split})"
    if len(examples) != expected:
        raise DataError(
            f"{subject} has {len(examples):,} examples instead of {expected:,}",
            "the copy is truncated: fetch it again",
        )
    channels, size = dataset.shape
    check_examples(examples, classes=len(dataset.classes), shape=(channels, size, size), subject=subject)
    return examples


def check_examples(examples: Examples, *, classes: int, shape: tuple[int, ...] | None, subject: str) -> None:
    """Check labels and pixels.

    Raises:
        DataError: names the first bad example.
    """
    check_labels(examples.labels, classes=classes, subject=subject)
    if examples.streamed:
        return  # what decodes images refuses those that it cannot
    for rows in torch.arange(len(examples)).split(CHUNK):
        _check_images(examples.images(rows), rows, shape, subject)


def check_labels(labels: Tensor, *, classes: int, subject: str) -> None:
    """Check that there are labels and that each is a class.

    Raises:
        DataError: names the first bad example.
    """
    if labels.dtype != torch.int64 or labels.dim() != 1 or not len(labels):
        raise DataError(f"{subject}: labels must be a non-empty vector of int64, not {_described(labels)}")
    bad = (labels < 0) | (labels >= classes)
    if bad.any():
        first = int(bad.nonzero()[0])
        raise DataError(
            f"{subject}: example {first} has label {int(labels[first])}, but there are {classes} classes from 0"
        )


def _check_images(x: Tensor, rows: Tensor, shape: tuple[int, ...] | None, subject: str) -> None:
    if not x.is_floating_point():
        raise DataError(f"{subject}: images are {x.dtype}", "convert them to floats in [0, 1], as x.float() / 255")
    if len(x) != len(rows) or x.dim() < 2 or (shape and tuple(x.shape[1:]) != shape):
        raise DataError(f"{subject}: images are {_described(x)} instead of {len(rows)} of shape {shape}")
    flat = x.flatten(1)
    bad = ~((flat >= 0) & (flat <= 1)).all(1)
    if bad.any():
        position = int(bad.nonzero()[0])
        low, high = flat[position].aminmax()
        raise DataError(
            f"{subject}: example {int(rows[position])} has pixels from {float(low):g} to {float(high):g}",
            "images must be finite and in [0, 1]: divide by 255, and leave normalisation to the model",
        )


def digest(examples: Examples) -> str:
    """Return the sha256 of all labels and images, read in chunks, or the examples' own."""
    memory = _memory.get()
    if memory is None:
        return _digest(examples)
    if id(examples) not in memory.digests:
        memory.digests[id(examples)] = examples, _digest(examples)
    return memory.digests[id(examples)][1]


def _digest(examples: Examples) -> str:
    own = examples.digest()
    if own:
        return own
    state = hashlib.sha256(examples.labels.cpu().numpy().tobytes())
    for rows in torch.arange(len(examples)).split(CHUNK):
        images = examples.images(rows).cpu().contiguous()
        state.update(images.numpy().data)
    state.update(f"{images.dtype}{tuple(images.shape[1:])}".encode())
    return state.hexdigest()


def chosen_rows(labels: Tensor, limit: int | None) -> Tensor:
    """Return which examples are judged: all, or ``limit`` of them dealt out evenly over the classes.

    Each class gives its first examples in the order of the dataset, so that the choice needs no random numbers and
    a larger limit contains the smaller one.
    """
    if limit is None or limit >= len(labels):
        return torch.arange(len(labels))
    order = torch.argsort(labels, stable=True)
    _, counts = torch.unique_consecutive(labels[order], return_counts=True)
    turn = torch.cat([torch.arange(int(count)) for count in counts])  # 0 for the first of each class, and so on
    dealt = order[torch.argsort(turn, stable=True)]
    return dealt[:limit].sort().values


def _described(tensor: Tensor) -> str:
    return f"{tensor.dtype} of shape {tuple(tensor.shape)}"
