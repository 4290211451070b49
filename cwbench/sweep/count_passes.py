"""How many passes a training or an attack takes, counted on a network that costs next to nothing."""

from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor, nn

from cwbench.api import (
    Attack,
    Batch,
    BatchStreams,
    Budget,
    Classifier,
    Defense,
    ExampleStreams,
    Features,
    Inner,
    Task,
    Threat,
)
from cwbench.plan import Plan

EXAMPLES = 2
WIDTH = 8
MARGIN = 8.0
"""Of the true class's logit over the others, at first."""
KEPT = 0.9998
"""The share of it that is left after each pass: more than a tenth of a search of ``cw`` asks for."""
LEAST = 1e-3
"""Below this it does not fall, after some 45,000 passes: an attack that wants more gives up there."""


@dataclass(frozen=True)
class Passes:
    """Images sent through a network."""

    forward: float = 0.0
    inputs: float = 0.0
    """Of those, for how many the gradient of the image was asked, as in an attack."""
    weights: float = 0.0
    """Of those, for how many the gradient of the weights was asked, as in a step of training."""

    def __add__(self, other: "Passes") -> "Passes":
        return Passes(self.forward + other.forward, self.inputs + other.inputs, self.weights + other.weights)

    def __mul__(self, times: float) -> "Passes":
        return Passes(self.forward * times, self.inputs * times, self.weights * times)


@final
class _Counting(Features):
    """One linear layer that counts what goes through it."""

    width = WIDTH

    def __init__(self, inputs: int) -> None:
        super().__init__()
        self.layer = nn.Linear(inputs, WIDTH)
        self.forward_images = self.backward_images = 0

    def forward(self, x: Tensor) -> Tensor:
        self.forward_images += len(x)
        features: Tensor = self.layer(x.flatten(1))
        if features.requires_grad:
            features.register_hook(self._told)
        return features

    def _told(self, gradient: Tensor) -> None:
        self.backward_images += len(gradient)


@final
class _Yielding(nn.Linear):
    """A head from which every pass takes a little, so that attacks do not give up, and under which none succeeds."""

    def __init__(self, classes: int) -> None:
        super().__init__(WIDTH, classes)
        self.margin = MARGIN
        with torch.no_grad():
            self.weight.mul_(1e-6)  # no change of the image reaches over the margin
            self.bias.zero_()

    def forward(self, features: Tensor) -> Tensor:
        self.margin = max(LEAST, KEPT * self.margin)
        true = torch.zeros_like(self.bias)
        true[0] = self.margin
        return super().forward(features) + true


def training_passes(plan: Plan) -> Passes:
    """Return what a training takes, without curves and without what a defense does between epochs."""
    recipe = plan.recipe
    epochs = recipe.epochs if plan.every or not recipe.judge_epoch else recipe.judge_epoch
    # Half of every batch is unlabelled where a defense labels images itself.
    images = plan.dataset.sizes["train"] * (2 if type(plan.defense).pseudo_labels is not Defense.pseudo_labels else 1)
    total = Passes()
    for epoch in range(epochs):
        total += (
            _step(plan.defense, plan.threat, recipe.inner_at(epoch), plan.dataset.shape, len(plan.dataset.classes))
            * images
        )
    return total


def _step(defense: Defense, threat: Threat, inner: Inner, shape: tuple[int, int], classes: int) -> Passes:
    """Return the passes of one step of training, for each image of the batch."""
    channels, size = shape
    with torch.random.fork_rng(devices=[]):
        features = _Counting(channels * size * size)
        model = Classifier(features, defense.classifier(WIDTH, classes)).train()
        x = torch.rand(EXAMPLES, channels, size, size)
    batch = Batch(x, torch.arange(EXAMPLES) % classes)
    state = defense.prepare(Task(tuple(map(str, range(classes))), EXAMPLES, 1))
    loss = defense.loss(model, batch, threat=threat, inner=inner, streams=BatchStreams.of(0, "count"), state=state)
    inside = features.backward_images
    loss.total.backward()
    outside = features.backward_images - inside
    return Passes(features.forward_images / EXAMPLES, inside / EXAMPLES, outside / EXAMPLES)


def attack_passes(attack: Attack, threat: Threat, shape: tuple[int, int], classes: int) -> Passes:
    """Return what an attack takes for an example that it never breaks: the most that any example costs."""
    channels, size = shape
    with torch.random.fork_rng(devices=[]):
        features = _Counting(channels * size * size)
        head = _Yielding(classes)
        x = torch.rand(EXAMPLES, channels, size, size)
    model = Classifier(features, head).eval().requires_grad_(False)
    attack.perturb(
        model,
        x,
        torch.zeros(EXAMPLES, dtype=torch.int64),
        threat=threat,
        streams=ExampleStreams.of(0, torch.arange(EXAMPLES)),
        budget=Budget(batch_size=256, substitute=model),
    )
    return Passes(features.forward_images / EXAMPLES, features.backward_images / EXAMPLES)
