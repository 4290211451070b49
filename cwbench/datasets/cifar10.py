"""CIFAR-10, in torchvision's layout."""

from pathlib import Path
from typing import final

from cwbench.api import CropFlip, Dataset, Examples, Split
from cwbench.datasets import paper_settings
from cwbench.datasets.torchvision_source import byte_examples, opened


@final
class CIFAR10(Dataset):
    """50,000 + 10,000 photographs of 32×32 pixels in ten classes, with the study's settings (section 3)."""

    name = "cifar10"
    reference = "Krizhevsky 2009, Learning Multiple Layers of Features from Tiny Images"
    classes = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
    superclasses = {"transportation": (0, 1, 8, 9), "animals": (2, 3, 4, 5, 6, 7)}
    shape = (3, 32)
    sizes = {"train": 50_000, "test": 10_000}
    eps = paper_settings.EPS
    attack = paper_settings.ATTACK
    suite = paper_settings.SUITE
    backbone = "resnet18"
    recipes = paper_settings.recipes(lr=0.1, augment=CropFlip()) | paper_settings.RELEASED

    def load(self, split: Split, root: Path | None) -> Examples:
        from torchvision.datasets import CIFAR10 as Source  # noqa: N811, PLC0415 - slow to import, needed here alone

        source = opened(
            self.name,
            root,
            Source.base_folder,
            lambda folder, download: Source(folder, train=split == "train", download=download),
        )
        return byte_examples(self.name, source.data.transpose(0, 3, 1, 2), source.targets)
