"""MNIST, in torchvision's layout."""

from pathlib import Path
from typing import final

from cwbench.api import (
    SGD,
    Adam,
    DataError,
    Dataset,
    Examples,
    Inner,
    MultiStep,
    OneCycle,
    Recipe,
    Split,
    TensorExamples,
)
from cwbench.datasets.torchvision_source import opened


@final
class MNIST(Dataset):
    """60,000 + 10,000 handwritten digits, 28×28 grey pixels, with the study's settings (section 3)."""

    name = "mnist"
    reference = "LeCun, Bottou, Bengio & Haffner 1998, Gradient-Based Learning Applied to Document Recognition"
    classes = tuple(str(digit) for digit in range(10))
    shape = (1, 28)
    sizes = {"train": 60_000, "test": 10_000}
    eps = "0.3"
    attack = Inner(steps=40, step_size=0.01)
    suite = ("fgsm", "pgd", "cw-pgd", "tpgd", "transfer", "square", "autoattack")
    backbone = "mnist-cnn"
    held_back = 0.5
    recipes = {
        "paper": Recipe(
            epochs=100,
            lr=0.01,
            optimizer=SGD(weight_decay=2e-4),
            schedule=MultiStep(milestones=(55, 75, 90)),
            inner=(Inner(steps=40, step_size=0.01),),
            judge_epoch=75,
        ),
        "quick": Recipe(
            epochs=6,
            lr=2e-3,
            optimizer=Adam(),
            schedule=OneCycle(),
            inner=(Inner(steps=1, step_size=0.375), Inner(steps=3, step_size=0.15, after=0.5)),
            eps_warmup=1 / 3,
        ),
    }

    def load(self, split: Split, root: Path | None) -> Examples:
        from torchvision.datasets import MNIST as Source  # noqa: N811, PLC0415 - slow to import, needed here alone

        source = opened(
            self.name,
            root,
            "MNIST/raw",
            lambda folder, download: Source(folder, train=split == "train", download=download),
        )
        if len(source.data) != len(source.targets):
            raise DataError(
                f"mnist is damaged: {len(source.data):,} images and {len(source.targets):,} labels",
                "remove it and fetch it again",
            )
        return TensorExamples(source.data.unsqueeze(1).float() / 255, source.targets.long())
