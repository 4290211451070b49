"""Any folder of images."""

from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import ClassVar, final

import torch
from pydantic import Field

from cwbench.api import (
    SGD,
    ByteExamples,
    CropFlip,
    DataError,
    Dataset,
    Examples,
    Inner,
    MultiStep,
    OneCycle,
    Recipe,
    Split,
)
from cwbench.datasets import paper_settings
from cwbench.datasets.class_folders import class_folders, refuse_other_classes
from cwbench.datasets.image_files import ImageFiles, image_size

TESTS = ("test", "val", "valid", "validation")
EVERY = 5
"""Without a test folder, every fifth image of a class is for testing."""
MEMORY = 2 << 30
"""Bytes of images that are kept in memory; larger sets are read as they are needed."""


@final
class Folder(Dataset):
    """Images in class folders: ``DIR/train/CLASS/*`` and ``DIR/test/CLASS/*`` (or ``val``), or ``DIR/CLASS/*``.

    Without a test folder every fifth image of each class, in the order of the names, is for testing. Images are read in
    colour; all must have one size unless ``size`` is given, to which the shorter side is then brought before the middle
    is cut out. The threat and the quick recipe are cwbench's own, the paper's recipe that of CIFAR-10.
    """

    name = "folder"
    reference = "The layout of torchvision.datasets.ImageFolder"
    main_field: ClassVar[str | None] = "path"
    classes_from_files: ClassVar[bool] = True
    eps = "8/255"
    attack = Inner(steps=20, step_size=2 / 255)
    suite = paper_settings.SUITE
    backbone = "resnet18"
    recipes = {
        "quick": Recipe(
            epochs=15,
            lr=0.1,
            optimizer=SGD(weight_decay=5e-4),
            schedule=OneCycle(),
            inner=(Inner(steps=1, step_size=10 / 255), Inner(steps=2, step_size=5 / 255, after=0.5)),
            augment=CropFlip(),
        ),
        "paper": Recipe(
            epochs=100,
            lr=0.1,
            optimizer=SGD(weight_decay=2e-4),
            schedule=MultiStep(milestones=(75, 90)),
            inner=(Inner(steps=10, step_size=2 / 255),),
            judge_epoch=75,
            augment=CropFlip(),
        ),
    }
    default_recipe = "quick"

    path: Path
    """The folder."""
    size: int | None = Field(default=None, ge=8, le=4096)
    """Height and width that all images are brought to."""

    @cached_property
    def classes(self) -> tuple[str, ...]:  # type: ignore[override]  # found in the folder, not known beforehand
        return tuple(self._splits["train"])

    @cached_property
    def shape(self) -> tuple[int, int]:  # type: ignore[override]
        return 3, self.size or self._first_size()

    @cached_property
    def sizes(self) -> Mapping[Split, int]:  # type: ignore[override]
        return {split: sum(map(len, files.values())) for split, files in self._splits.items()}

    def load(self, split: Split, root: Path | None) -> Examples:
        del root  # the path says it all
        found = self._splits[split]
        labels = torch.cat([torch.full((len(files),), index) for index, files in enumerate(found.values())])
        files = [file for files in found.values() for file in files]
        examples = ImageFiles(self.path, files, labels, shape=self.shape, resize=self.size is not None)
        if len(files) * self.shape[0] * self.shape[1] ** 2 <= MEMORY:
            return ByteExamples(examples.in_memory(), labels)
        examples.check_sizes()
        return examples

    @cached_property
    def _splits(self) -> dict[Split, dict[str, list[str]]]:
        """Return the files of each class, relative to ``path``."""
        if not self.path.is_dir():
            raise DataError(f"there is no folder {self.path}", "folder:path=DIR names it")
        test = next((name for name in TESTS if (self.path / name).is_dir()), None)
        if (self.path / "train").is_dir() != bool(test):
            there, lacking = ("train", "test") if not test else (test, "train")
            raise DataError(
                f"{self.path} has a folder {there!r} and no {lacking!r}",
                f"add {lacking}/CLASS/*, or name the folder that holds the classes",
            )
        if test:
            train, tested = _below(self.path, "train"), _below(self.path, test)
            refuse_other_classes(self.path / test, tested, train)
            return {"train": train, "test": tested}
        found = class_folders(self.path)
        few = [name for name, files in found.items() if len(files) < EVERY]
        if few:
            raise DataError(
                f"{self.path} has fewer than {EVERY} images of {few[0]!r}, and no test folder",
                f"every {EVERY}th image is for testing: add some, or make folders train and test",
            )
        return {
            "train": {name: [f for i, f in enumerate(files, 1) if i % EVERY] for name, files in found.items()},
            "test": {name: files[EVERY - 1 :: EVERY] for name, files in found.items()},
        }

    def _first_size(self) -> int:
        first = self.path / next(iter(self._splits["train"].values()))[0]
        width, height = image_size(first)
        if width != height:
            raise DataError(
                f"{first} has {width}×{height} pixels, and images must be square",
                "give a size, as in folder:path=DIR,size=64",
            )
        return width


def _below(path: Path, part: str) -> dict[str, list[str]]:
    return {name: [f"{part}/{file}" for file in files] for name, files in class_folders(path / part).items()}
