"""What a dataset is: labelled images, and the threat, recipes and network that belong to them."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal, final

import torch
from torch import Tensor

from cwbench.api.plugin import Plugin
from cwbench.api.recipe import Inner, Recipe

Split = Literal["train", "test"]


class Examples(ABC):
    """A split of a dataset: labels at hand, images on request, so that large sets can stream."""

    labels: Tensor
    """Shape (N,), int64."""
    streamed: ClassVar[bool] = False
    """True: images are read from files one by one. Training then reads ahead in processes of their own, and images are
    checked as they are read instead of all at once."""

    @abstractmethod
    def images(self, rows: Tensor) -> Tensor:
        """Return the images of some rows, (len(rows), C, H, W) float32 in [0, 1]."""

    def digest(self) -> str | None:
        """Return a digest of labels and images if there is a cheaper one than that of every pixel."""
        return None

    def to(self, device: torch.device) -> "Examples":
        """Return the examples with their images on a device, if they are small enough to lie in memory at all."""
        del device
        return self

    def part(self, rows: Tensor) -> "Examples":
        """Return some of the examples."""
        return _Part(self, rows)

    @final
    def __len__(self) -> int:
        return len(self.labels)


@final
@dataclass(frozen=True)
class TensorExamples(Examples):
    """Examples that fit into memory, as floats in [0, 1]."""

    x: Tensor
    labels: Tensor

    def images(self, rows: Tensor) -> Tensor:
        return self.x[rows]

    def part(self, rows: Tensor) -> "TensorExamples":
        return TensorExamples(self.x[rows], self.labels[rows])

    def to(self, device: torch.device) -> "TensorExamples":
        return TensorExamples(self.x.to(device), self.labels.to(device))


@final
@dataclass(frozen=True)
class ByteExamples(Examples):
    """Examples that fit into memory, as bytes 0 … 255: a quarter of what floats take."""

    x: Tensor
    labels: Tensor

    def images(self, rows: Tensor) -> Tensor:
        return self.x[rows].float() / 255

    def part(self, rows: Tensor) -> "ByteExamples":
        return ByteExamples(self.x[rows], self.labels[rows])

    def to(self, device: torch.device) -> "ByteExamples":
        return ByteExamples(self.x.to(device), self.labels.to(device))


@final
class _Part(Examples):
    """Some rows of other examples."""

    def __init__(self, whole: Examples, rows: Tensor) -> None:
        self.whole, self.rows = whole, rows
        self.labels = whole.labels[rows]
        self.streamed = whole.streamed  # type: ignore[misc]  # a part streams if the whole does

    def images(self, rows: Tensor) -> Tensor:
        return self.whole.images(self.rows[rows])

    def to(self, device: torch.device) -> Examples:
        whole = self.whole.to(device)
        return _Part(whole, self.rows.to(whole.labels.device))


class Dataset(Plugin):
    """Labelled images. What describes it is on the class, so that listing datasets downloads nothing."""

    classes_from_files: ClassVar[bool] = False
    """True: classes, shape and sizes are found in the user's files. They are properties of the object then, and only
    the object has them."""
    classes: ClassVar[tuple[str, ...]]
    superclasses: ClassVar[Mapping[str, tuple[int, ...]]] = {}
    """Groups of class indices; empty, or a partition of the classes."""
    shape: ClassVar[tuple[int, int]]
    """Channels, and height (= width) in pixels."""
    sizes: ClassVar[Mapping[Split, int]]
    """How many examples each split has: a copy with fewer is refused as truncated."""
    norm: ClassVar[Literal["Linf", "L2"]] = "Linf"
    eps: ClassVar[str]
    """The default radius, exactly as written, for example ``8/255``."""
    attack: ClassVar[Inner]
    """Steps and step size of attacks that leave them unset, at the default eps."""
    suite: ClassVar[tuple[str, ...]] = ("fgsm", "pgd", "cw-pgd", "tpgd", "square", "autoattack")
    """The standard suite, white-box, black-box and reference: the attacks of a run that names none. Those that do not
    know the norm of the run are left out."""
    backbone: ClassVar[str]
    """The name of the default backbone."""
    recipes: ClassVar[Mapping[str, Recipe]]
    """``paper``: the study's settings. ``quick``: a good network in minutes."""
    default_recipe: ClassVar[str] = "paper"
    held_back: ClassVar[float | None] = None
    """For datasets without an unlabelled pool: the share of the training set whose labels semi-supervised defenses put
    aside. None: they must be told what to use."""

    @abstractmethod
    def load(self, split: Split, root: Path | None) -> Examples:
        """Return a split. ``root`` is the user's data folder, or None to use the cache and download into it.

        Raises:
            CwbenchError: the data are missing or damaged; the message says what to fetch and where to put it.
        """

    def unlabelled(self, root: Path | None) -> Examples | None:
        """Return the pool of unlabelled images that belongs to the dataset, if there is one; ``root`` as in ``load``.

        Raises:
            CwbenchError: the pool is missing or damaged.
        """
        del root
        return None
