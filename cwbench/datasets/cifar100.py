"""CIFAR-100, in torchvision's layout."""

from pathlib import Path
from typing import final

from cwbench.api import CropFlip, Dataset, Examples, Split
from cwbench.datasets import paper_settings
from cwbench.datasets.torchvision_source import byte_examples, opened

SUPERCLASSES = {
    "aquatic mammals": "beaver dolphin otter seal whale",
    "fish": "aquarium_fish flatfish ray shark trout",
    "flowers": "orchid poppy rose sunflower tulip",
    "food containers": "bottle bowl can cup plate",
    "fruit and vegetables": "apple mushroom orange pear sweet_pepper",
    "household electrical devices": "clock keyboard lamp telephone television",
    "household furniture": "bed chair couch table wardrobe",
    "insects": "bee beetle butterfly caterpillar cockroach",
    "large carnivores": "bear leopard lion tiger wolf",
    "large man-made outdoor things": "bridge castle house road skyscraper",
    "large natural outdoor scenes": "cloud forest mountain plain sea",
    "large omnivores and herbivores": "camel cattle chimpanzee elephant kangaroo",
    "medium-sized mammals": "fox porcupine possum raccoon skunk",
    "non-insect invertebrates": "crab lobster snail spider worm",
    "people": "baby boy girl man woman",
    "reptiles": "crocodile dinosaur lizard snake turtle",
    "small mammals": "hamster mouse rabbit shrew squirrel",
    "trees": "maple_tree oak_tree palm_tree pine_tree willow_tree",
    "vehicles 1": "bicycle bus motorcycle pickup_truck train",
    "vehicles 2": "lawn_mower rocket streetcar tank tractor",
}
CLASSES = tuple(sorted(name for names in SUPERCLASSES.values() for name in names.split()))


@final
class CIFAR100(Dataset):
    """50,000 + 10,000 photographs of 32×32 pixels in 100 classes, the classes in the order of the alphabet."""

    name = "cifar100"
    reference = "Krizhevsky 2009, Learning Multiple Layers of Features from Tiny Images"
    classes = CLASSES
    superclasses = {group: tuple(sorted(map(CLASSES.index, names.split()))) for group, names in SUPERCLASSES.items()}
    shape = (3, 32)
    sizes = {"train": 50_000, "test": 10_000}
    eps = paper_settings.EPS
    attack = paper_settings.ATTACK
    suite = paper_settings.SUITE
    backbone = "resnet18"
    recipes = paper_settings.recipes(lr=0.1, augment=CropFlip())

    def load(self, split: Split, root: Path | None) -> Examples:
        from torchvision.datasets import CIFAR100 as Source  # noqa: N811, PLC0415 - slow to import, needed here alone

        source = opened(
            self.name,
            root,
            Source.base_folder,
            lambda folder, download: Source(folder, train=split == "train", download=download),
        )
        return byte_examples(self.name, source.data.transpose(0, 3, 1, 2), source.targets)
