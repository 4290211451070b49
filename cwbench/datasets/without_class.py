"""A dataset without one of its classes, as the homing experiment needs it (the study, definition 3)."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, Literal, final

import torch
from pydantic import Field
from torch import Tensor

from cwbench.api import DataError, Dataset, Examples, Inner, Recipe, Split
from cwbench.datasets import splits

FEWEST = 3
"""Classes that must be left: of two, an error can only be the other one."""


def without(dataset: Dataset, removed: int, root: Path | None) -> "Without":
    """Return a dataset with the class of index ``removed`` left out of both splits; ``root`` as in ``Dataset.load``.

    Raises:
        DataError: there is no such class, fewer than three would be left, or the data are missing.
    """
    k = len(dataset.classes)
    if not 0 <= removed < k:
        raise DataError(f"{dataset.name} has no class {removed}", f"its classes are 0 to {k - 1}")
    if k - 1 < FEWEST:
        raise DataError(
            f"{dataset.name} without {dataset.classes[removed]} has {k - 1} classes",
            f"the homing experiment needs {FEWEST} or more to be left: it is for datasets of {FEWEST + 1} or more",
        )
    left = {split: int((splits.open_split(dataset, split, root).labels != removed).sum()) for split in dataset.sizes}
    whole = {"name": dataset.name, "fields": dataset.model_dump(mode="json")}
    return Without(base=dataset, whole=whole, removed=removed, left=left)


@final
class Without(Dataset):
    """Another dataset, of which one class is left out; the classes behind it move up by one.

    It is made by :func:`without` for an experiment and not offered by name; threat and recipes are the other's.
    """

    name = "without"
    reference = "The study, definition 3 (homing property): re-training with the confound class removed"
    classes_from_files: ClassVar[bool] = True

    base: Dataset = Field(exclude=True)
    """The whole dataset."""
    whole: dict[str, Any]
    """Its name and fields, which stand for it in a checkpoint's identity."""
    removed: int
    """The index of the class that is left out."""
    left: dict[Split, int]
    """How many examples each split still has."""

    @property
    def classes(self) -> tuple[str, ...]:  # type: ignore[override]  # known of the object, as the base class allows
        return tuple(name for index, name in enumerate(self.base.classes) if index != self.removed)

    @property
    def shape(self) -> tuple[int, int]:  # type: ignore[override]
        return self.base.shape

    @property
    def sizes(self) -> Mapping[Split, int]:  # type: ignore[override]
        return self.left

    @property
    def norm(self) -> Literal["Linf", "L2"]:  # type: ignore[override]
        return self.base.norm

    @property
    def eps(self) -> str:  # type: ignore[override]
        return self.base.eps

    @property
    def attack(self) -> Inner:  # type: ignore[override]
        return self.base.attack

    @property
    def backbone(self) -> str:  # type: ignore[override]
        return self.base.backbone

    @property
    def recipes(self) -> Mapping[str, Recipe]:  # type: ignore[override]
        return self.base.recipes

    @property
    def held_back(self) -> float | None:  # type: ignore[override]
        return self.base.held_back

    def unlabelled(self, root: Path | None) -> Examples | None:
        return self.base.unlabelled(root)

    def load(self, split: Split, root: Path | None) -> Examples:
        whole = splits.open_split(self.base, split, root)
        kept = (whole.labels != self.removed).nonzero().squeeze(1)
        return Relabelled(whole.part(kept), self.removed)


@final
class Relabelled(Examples):
    """Examples without a class, their labels counted as if it had never been there."""

    def __init__(self, kept: Examples, removed: int) -> None:
        self.kept, self.removed = kept, removed
        self.labels = moved_up(kept.labels, removed)
        self.streamed = kept.streamed  # type: ignore[misc]  # they stream if the others do

    def images(self, rows: Tensor) -> Tensor:
        return self.kept.images(rows)

    def to(self, device: torch.device) -> Examples:
        return Relabelled(self.kept.to(device), self.removed)


def moved_up(labels: Tensor, removed: int) -> Tensor:
    """Return labels (N,) as they are without a class: those behind it move up by one."""
    return labels - (labels > removed).long()
