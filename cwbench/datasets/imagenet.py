"""ImageNet (ILSVRC 2012), in torchvision's layout."""

from importlib import resources
from pathlib import Path
from typing import final

import torch

from cwbench.api import SGD, DataError, Dataset, Examples, Inner, Recipe, ResizedCrop, Resolution, Split, ThreeStage
from cwbench.datasets.class_folders import class_folders
from cwbench.datasets.image_files import ImageFiles
from cwbench.datasets.torchvision_source import opened

MARGIN = 256 / 224
"""The shorter side is brought to 256 before the middle 224 are cut out."""


@final
class ImageNet(Dataset):
    """1,281,167 photographs in 1,000 classes, judged on the 50,000 of the validation set; the study's settings.

    Training is that of Wong et al. 2020: three phases of small, middle and large images (128, 224 and 288 pixels; 6, 6
    and 3 epochs; batches of 512, 224 and 128), one step of 1.25 eps. The study judges epoch 14. Classes are in the
    order of their WordNet ids, as everywhere.
    """

    name = "imagenet"
    reference = "Deng et al. 2009, ImageNet: A Large-Scale Hierarchical Image Database, CVPR"
    classes = tuple(resources.files(__package__).joinpath("imagenet_classes.txt").read_text("utf-8").splitlines())
    shape = (3, 224)
    sizes = {"train": 1_281_167, "test": 50_000}
    eps = "0.007"
    attack = Inner(steps=50, step_size=0.003)
    suite = ("fgsm", "pgd", "cw-pgd", "tpgd", "square", "autoattack")
    backbone = "resnet50"
    recipes = {
        "paper": Recipe(
            epochs=15,
            batch_size=512,
            lr=0.4,
            optimizer=SGD(weight_decay=2e-4),
            schedule=ThreeStage(),
            inner=(Inner(steps=1, step_size=1.25 * 0.007),),
            judge_epoch=14,
            augment=ResizedCrop(),
            resolutions=(
                Resolution(size=128, batch_size=512),
                Resolution(size=224, batch_size=224, after=0.4),
                Resolution(size=288, batch_size=128, after=0.8),
            ),
        ),
    }

    def load(self, split: Split, root: Path | None) -> Examples:
        return opened(self.name, root, "imagenet", lambda folder, download: self._listed(folder / "imagenet", split))

    def _listed(self, folder: Path, split: Split) -> Examples:
        part = "train" if split == "train" else "val"
        if not (folder / part).is_dir():
            from torchvision.datasets import ImageNet as Source  # noqa: PLC0415 - slow to import, needed here alone

            Source(folder, split=part)  # unpacks the archives, if they are there
        found = class_folders(folder / part)
        if len(found) != len(self.classes):
            raise DataError(
                f"{folder / part} has {len(found):,} class folders instead of {len(self.classes):,}",
                "put ILSVRC 2012 there, a folder for each WordNet id",
            )
        labels = torch.cat([torch.full((len(files),), index) for index, files in enumerate(found.values())])
        files = [file for files in found.values() for file in files]
        return ImageFiles(folder / part, files, labels, shape=self.shape, resize=True, margin=MARGIN)
