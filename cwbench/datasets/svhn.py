"""SVHN, in torchvision's layout."""

from pathlib import Path
from typing import Literal, final

import torch

from cwbench.api import ByteExamples, CropFlip, Dataset, Examples, Split
from cwbench.datasets import paper_settings
from cwbench.datasets.torchvision_source import byte_examples, opened
from cwbench.datasets.unlabelled_pool import UNKNOWN


@final
class SVHN(Dataset):
    """73,257 + 26,032 house numbers of 32×32 pixels, imbalanced, and 531,131 more whose labels are not used.

    The study's settings (section 3); images are cropped at random and not mirrored, since a mirrored 2 is none.
    """

    name = "svhn"
    reference = "Netzer et al. 2011, Reading Digits in Natural Images with Unsupervised Feature Learning"
    classes = tuple(str(digit) for digit in range(10))
    shape = (3, 32)
    sizes = {"train": 73_257, "test": 26_032}
    eps = paper_settings.EPS
    attack = paper_settings.ATTACK
    suite = paper_settings.SUITE
    backbone = "resnet18"
    recipes = paper_settings.recipes(lr=0.01, augment=CropFlip(flip=False))

    def load(self, split: Split, root: Path | None) -> Examples:
        return self._read(split, root)

    def unlabelled(self, root: Path | None) -> Examples:
        extra = self._read("extra", root)
        return ByteExamples(extra.x, torch.full_like(extra.labels, UNKNOWN))

    def _read(self, split: Literal["train", "test", "extra"], root: Path | None) -> ByteExamples:
        from torchvision.datasets import SVHN as Source  # noqa: N811, PLC0415 - slow to import, needed here alone

        source = opened(
            self.name,
            root,
            f"svhn/{split}_32x32.mat",
            lambda folder, download: Source(folder / "svhn", split=split, download=download),
        )
        return byte_examples(self.name, source.data, source.labels)
