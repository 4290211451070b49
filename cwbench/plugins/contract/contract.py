"""What the checks share: the error, a small problem, and a watch over what a plugin must leave alone."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import NoReturn

import torch
from torch import Tensor, nn

from cwbench.api import Classifier, Features, Plugin, global_random_state, modules

CLASSES, CHANNELS, SIZE, N = 5, 3, 8, 12


class ContractError(AssertionError):
    """A plugin breaks a rule of ``cwbench.api``; the message names the plugin and the rule."""


def broken(plugin: Plugin, rule: str) -> NoReturn:
    """Raise the error for a plugin that breaks a rule."""
    raise ContractError(f"{plugin.name}: {rule}")


class _Pooled(Features):
    """A convolution with batch norm, so that a forgotten mode shows."""

    def __init__(self) -> None:
        super().__init__()
        self.width = 8 * 16
        self.layers = nn.Sequential(
            nn.Conv2d(CHANNELS, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.AvgPool2d(2), nn.Flatten()
        )

    def forward(self, x: Tensor) -> Tensor:
        features: Tensor = self.layers(x)
        return features


@dataclass(frozen=True)
class Problem:
    """A small classifier with images that it classifies correctly."""

    features: Features
    x: Tensor
    """(12, 3, 8, 8) in [0, 1]."""
    y: Tensor
    """(12,), the classes that a linear head on the features predicts."""
    model: Classifier


def problem() -> Problem:
    """Make the problem, the same every time, without touching the global random state."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(20)
        features = _Pooled()
        model = Classifier(features, nn.Linear(features.width, CLASSES)).eval()
        with torch.no_grad():
            model.head.weight.mul_(8)  # type: ignore[operator]  # far from ties, close enough to break
        x = torch.rand(N, CHANNELS, SIZE, SIZE)
    with torch.no_grad():
        y = model(x).argmax(1)
    return Problem(features, x, y, model)


@contextmanager
def untouched(plugin: Plugin, *, model: nn.Module, x: Tensor, y: Tensor) -> Iterator[None]:
    """Check that the block leaves images, labels, weights, modes and the global random state as they are."""
    before = _snapshot(model), x.clone(), y.clone(), global_random_state()
    yield
    if not torch.equal(x, before[1]) or not torch.equal(y, before[2]):
        broken(plugin, "it changes the images or labels that it is given; work on a copy")
    if global_random_state() != before[3]:
        broken(plugin, "it uses the global random state; draw from streams")
    after = _snapshot(model)
    for rule, old, new in zip(("weights", "modes", "requires_grad", "gradients"), before[0], after, strict=True):
        if old != new:
            broken(plugin, f"it changes the model's {rule}")


def _snapshot(model: nn.Module) -> tuple[list[object], list[bool], list[bool], list[object]]:
    parameters = list(model.parameters())
    return (
        [tensor.detach().cpu().numpy().tobytes() for tensor in model.state_dict().values()],
        [module.training for module in modules(model)],
        [parameter.requires_grad for parameter in parameters],
        [None if parameter.grad is None else parameter.grad.cpu().numpy().tobytes() for parameter in parameters],
    )
