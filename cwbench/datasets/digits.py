"""scikit-learn's digits: real scans that need no download."""

from pathlib import Path
from typing import final

import torch

from cwbench.api import SGD, Adam, Dataset, Examples, Inner, MultiStep, OneCycle, Recipe, Split, TensorExamples

TRAINING = 898  # scikit-learn's own example of a classifier on digits halves the set here, without shuffling


@final
class Digits(Dataset):
    """1,797 handwritten digits, 8×8 pixels of 17 grey levels: the first 898 for training, the other 899 for testing.

    The writers of the two halves differ, as in the original data. The study does not use this set: ``paper`` is its
    MNIST schedule, applied here.
    """

    name = "digits"
    reference = "Alpaydin & Kaynak 1998, Optical Recognition of Handwritten Digits, UCI; bundled with scikit-learn"
    classes = tuple(str(digit) for digit in range(10))
    shape = (1, 8)
    sizes = {"train": TRAINING, "test": 1797 - TRAINING}
    eps = "0.1"
    attack = Inner(steps=20, step_size=0.02)
    # 64 pixels: a thousand squares leave little that five thousand would still find.
    suite = ("fgsm", "pgd", "cw-pgd", "tpgd", "transfer", "square:queries=1000", "autoattack:queries=1000")
    backbone = "digits-cnn"
    recipes = {
        "quick": Recipe(
            epochs=40,
            batch_size=64,
            lr=3e-3,
            optimizer=Adam(),
            schedule=OneCycle(),
            inner=(Inner(steps=5, step_size=0.03),),
            eps_warmup=0.25,
        ),
        "paper": Recipe(
            epochs=100,
            lr=0.01,
            optimizer=SGD(weight_decay=2e-4),
            schedule=MultiStep(milestones=(55, 75, 90)),
            inner=(Inner(steps=20, step_size=0.02),),
            judge_epoch=75,
        ),
    }
    default_recipe = "quick"
    held_back = 0.5

    def load(self, split: Split, root: Path | None) -> Examples:
        del root  # the data are part of scikit-learn
        from sklearn.datasets import load_digits  # noqa: PLC0415 - a second that MNIST's users need not wait

        images, labels = load_digits(return_X_y=True)
        half = slice(None, TRAINING) if split == "train" else slice(TRAINING, None)
        x = torch.from_numpy(images[half]).float().reshape(-1, 1, 8, 8) / 16
        return TensorExamples(x, torch.from_numpy(labels[half]).long())
