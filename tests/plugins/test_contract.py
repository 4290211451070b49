"""The contract checks: every registered plugin passes, and each rule catches its offender."""

import random

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from cwbench.api import Access, Attack, Backbone, Dataset, Defense, Features, Loss
from cwbench.backbones.digits_cnn import DigitsCNN
from cwbench.datasets.digits import Digits
from cwbench.internal.errors import CwbenchError
from cwbench.plugins.discovery import discover
from cwbench.testing import ContractError, check

CHEAPER = {
    "cw": {"iterations": 40, "searches": 3},
    "nattack": {"population": 10, "iterations": 8},
    "square": {"queries": 60},
    "apgd-t": {"steps": 10},
    "fab-t": {"steps": 10},
    "autoattack": {"steps": 10, "queries": 60},
    "torchvision": {"model": "mobilenet_v2"},
    "timm": {"model": "resnet10t"},
}
BUNDLED = ("digits",)  # the other datasets are read in tests/datasets, from small files in their formats
BUILTINS = [offer.cls for offer in discover("").offers]


@pytest.mark.parametrize("cls", BUILTINS, ids=lambda cls: f"{cls.__mro__[1].__name__}-{cls.name}")
def test_every_builtin_keeps_the_contract(cls, tmp_path):
    fields = dict(CHEAPER.get(cls.name, {}))
    if cls.name == "folder":
        for name in ("a", "b"):
            for number in range(5):
                (tmp_path / name).mkdir(exist_ok=True)
                Image.new("RGB", (16, 16), (number, 0, 0)).save(tmp_path / name / f"{number}.png")
        fields["path"] = tmp_path
    check(cls(**fields), load=cls.name in (*BUNDLED, "folder"))


def test_mnist_keeps_the_contract_on_the_real_data(mnist_root):
    from cwbench.datasets.mnist import MNIST

    check(MNIST(), root=mnist_root)


class Bad(Attack):
    name = "bad"
    reference = "this test"
    access = Access.WHITE_BOX

    def perturb(self, model, x, y, *, threat, streams, budget):
        return ATTACKS[self.kind](model, x, y, threat, streams)

    kind: str


def descend(model, x):
    """What makes an honest step depend on the model."""
    leaf = x.clone().requires_grad_()
    return torch.autograd.grad(model(leaf).sum(), leaf)[0].sign()


ATTACKS = {
    "tensor of the shape": lambda m, x, y, t, s: x[:2],
    "NaN": lambda m, x, y, t, s: x * torch.nan,
    "left the ball": lambda m, x, y, t, s: x + 1.5 * t.radius,
    "images or labels": lambda m, x, y, t, s: x.add_(0.01).clamp_(0, 1),
    "global random": lambda m, x, y, t, s: t.project(x + torch.rand(x.shape) * 0.01, x),
    "numpy": lambda m, x, y, t, s: (np.random.rand(3), x)[1],
    "python": lambda m, x, y, t, s: (random.random(), x)[1],
    "weights": lambda m, x, y, t, s: ([p.data.add_(1e-3) for p in m.parameters()], x)[1],
    "modes": lambda m, x, y, t, s: (m.train(), x)[1],
    "requires_grad": lambda m, x, y, t, s: ([p.requires_grad_(True) for p in m.parameters()], x)[1],
    "another result": lambda m, x, y, t, s: t.project(
        x + t.radius * torch.randn(x.shape, generator=GENERATOR).sign(), x
    ),
    "which others are in the batch": lambda m, x, y, t, s: t.project(
        x + t.radius * (x.mean(0, keepdim=True) - x).sign(), x
    ),
}
GENERATOR = torch.Generator().manual_seed(0)
MESSAGES = {"numpy": "global random", "python": "global random"}


@pytest.mark.parametrize("kind", ATTACKS)
def test_each_rule_of_attacks_catches_its_offender(kind):
    with pytest.raises(ContractError, match=f"bad: .*{MESSAGES.get(kind, kind)}"):
        check(Bad(kind=kind))


class BadDefense(Defense):
    name = "bad-defense"
    reference = "this test"
    kind: str

    def classifier(self, width, classes):
        return nn.Linear(width, classes + (self.kind == "logits"))

    def prepare(self, task):
        return {"JSON": torch.zeros(1)} if self.kind == "JSON" else {}

    def loss(self, model, batch, *, threat, inner, streams, state):
        total = nn.functional.cross_entropy(model(batch.x), batch.y)
        if self.kind == "one finite number":
            total = total * torch.nan
        if self.kind == "no gradient":
            total = model.head.weight.sum()
        if self.kind == "modes":
            model.eval()
        if self.kind == "global random":
            torch.rand(1)
        if self.kind == "another loss":
            total = total + torch.rand(1, generator=GENERATOR).squeeze()
        return Loss(total)


@pytest.mark.parametrize(
    "kind", ["logits", "JSON", "one finite number", "no gradient", "modes", "global random", "another loss"]
)
def test_each_rule_of_defenses_catches_its_offender(kind):
    with pytest.raises(ContractError, match=f"bad-defense: .*{kind}"):
        check(BadDefense(kind=kind))


class BadFeatures(Features):
    def __init__(self, kind):
        super().__init__()
        self.kind, self.width = kind, 64 + (kind == "features must be")
        self.weight = nn.Parameter(
            torch.randn(64) if kind != "two builds" else torch.empty(64).uniform_(generator=GENERATOR)
        )

    def forward(self, x):
        flat = x.flatten(1) * self.weight
        if self.kind == "gradient":
            flat = flat.round()
        if self.kind == "rest of the batch":
            flat = flat - flat.mean(0) / 2
        return flat


class BadBackbone(Backbone):
    name = "bad-backbone"
    reference = "this test"
    kind: str

    def build(self, *, channels, size):
        if self.kind == "refuses":
            raise CwbenchError("too small")
        return nn.Linear(1, 1) if self.kind == "must return" else BadFeatures(self.kind)


@pytest.mark.parametrize(
    "kind", ["refuses", "must return", "features must be", "gradient", "rest of the batch", "two builds"]
)
def test_each_rule_of_backbones_catches_its_offender(kind):
    with pytest.raises(ContractError, match=f"bad-backbone: .*{kind}"):
        check(BadBackbone(kind=kind))


def dataset(**changes):
    base = {
        "reference": "this test",
        "load": lambda self, split, root: Digits().load(split, root),
        **{
            name: getattr(Digits, name)
            for name in ("classes", "shape", "sizes", "eps", "attack", "backbone", "recipes")
        },
        "default_recipe": "quick",
        "name": "bad-dataset",
        "__module__": __name__,
    }
    return type("BadDataset", (Dataset,), base | changes)()


@pytest.mark.parametrize(
    ("changes", "rule"),
    [
        ({"eps": "8"}, "above 1"),
        ({"backbone": "nothing"}, "no backbone is named"),
        ({"suite": ("pdg",)}, "no attack is named"),
        ({"classes": ("a",) * 10}, "different names"),
        ({"sizes": {"train": 1, "test": 2}}, "instead of 2"),
        ({"default_recipe": "paperr"}, "not among its recipes"),
        ({"superclasses": {"a": (0, 1)}}, "every class exactly once"),
    ],
)
def test_each_rule_of_datasets_catches_its_offender(changes, rule):
    check(dataset())
    with pytest.raises(ContractError, match=f"bad-dataset: .*{rule}"):
        check(dataset(**changes))


def test_odd_sizes_are_refused_by_name():
    with pytest.raises(CwbenchError, match="even size, not 9×9"):
        DigitsCNN().build(channels=1, size=9)
