"""STL-10, in torchvision's layout."""

from pathlib import Path
from typing import Literal, final

import numpy as np

from cwbench.api import ByteExamples, CropFlip, Dataset, Examples, Split
from cwbench.datasets import paper_settings
from cwbench.datasets.torchvision_source import byte_examples, opened
from cwbench.datasets.unlabelled_pool import UNKNOWN


@final
class STL10(Dataset):
    """5,000 + 8,000 photographs of 96×96 pixels in ten classes, and 100,000 unlabelled ones; the study's settings."""

    name = "stl10"
    reference = "Coates, Ng & Lee 2011, An Analysis of Single-Layer Networks in Unsupervised Feature Learning, AISTATS"
    classes = ("airplane", "bird", "car", "cat", "deer", "dog", "horse", "monkey", "ship", "truck")
    superclasses = {"transportation": (0, 2, 8, 9), "animals": (1, 3, 4, 5, 6, 7)}
    shape = (3, 96)
    sizes = {"train": 5_000, "test": 8_000}
    eps = paper_settings.EPS
    attack = paper_settings.ATTACK
    suite = paper_settings.SUITE
    backbone = "resnet18"
    recipes = paper_settings.recipes(lr=0.01, augment=CropFlip())

    def load(self, split: Split, root: Path | None) -> Examples:
        return self._read(split, root)

    def unlabelled(self, root: Path | None) -> Examples:
        return self._read("unlabeled", root)

    def _read(self, split: Literal["train", "test", "unlabeled"], root: Path | None) -> ByteExamples:
        from torchvision.datasets import STL10 as Source  # noqa: N811, PLC0415 - slow to import, needed here alone

        source = opened(
            self.name,
            root,
            Source.base_folder,
            lambda folder, download: Source(folder, split=split, download=download),
        )
        labels = np.full(len(source.data), UNKNOWN) if split == "unlabeled" else source.labels
        return byte_examples(self.name, source.data, labels)
