"""Looking at a model for signs that attacks cannot be trusted on it (Athalye et al. 2018; Carlini et al. 2019).

A few examples are enough: a model whose gradients are masked shows it on most of them.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from cwbench.api import Attack, Budget, ExampleStreams, Model, Threat, value_and_gradient
from cwbench.attacks.pgd import PGD
from cwbench.attacks.tpgd import TemperaturePGD
from cwbench.evaluation.counted_model import CountedModel
from cwbench.internal.errors import CwbenchError

EXAMPLES = 48
"""How many examples are looked at."""
ALONE = 16
"""How many of them are also sent through the model one at a time."""
STEPS, MORE_STEPS = 10, 40
INVERSE_TEMPERATURES = (0.1, 1.0, 10.0)
TINY = 1e-12
"""A gradient of this size is what float32 leaves of a saturated softmax."""


@dataclass(frozen=True)
class Signs:
    """What was seen on a few correctly classified examples."""

    examples: int
    changed_when_repeated: int
    """Examples whose logits differ between two identical passes by more than a thousandth of the largest."""
    alone: int
    changed_when_alone: int
    """Examples whose logits differ by that much between a batch and a pass of their own."""
    gradients: "GradientSigns | None"
    """None where the logits have no finite gradient with respect to the image."""


@dataclass(frozen=True)
class GradientSigns:
    """What was seen with gradients of cross-entropy."""

    zero: int
    """Examples whose gradient is exactly zero."""
    tiny: int
    """Examples whose gradient is nowhere larger than 1e-12, zero included."""
    not_risen: int
    """Examples whose loss after the textbook PGD of ten steps is not above that of the clean image."""
    robust: int
    """Examples that stand at the end of these ten steps."""
    robust_longer: int
    """Examples that stand at the end of forty."""
    robust_at: dict[float, int]
    """Examples that no iterate of ten steps broke, for each inverse temperature."""


def look_for_signs(model: Model, x: Tensor, y: Tensor, *, threat: Threat, streams: ExampleStreams) -> Signs:
    """Look at a model in eval mode and frozen; ``x`` (n, C, H, W) are examples that it classifies as ``y``."""
    model = CountedModel(model)
    with torch.no_grad():
        logits = model(x.clone())
        repeated = model(x.clone())
        alone = torch.cat([model(image.clone()) for image in x[:ALONE].split(1)])
    scale = logits.abs().amax()
    return Signs(
        examples=len(x),
        changed_when_repeated=_changed(logits, repeated, scale),
        alone=len(alone),
        changed_when_alone=_changed(logits[: len(alone)], alone, scale),
        gradients=_gradient_signs(model, x, y, threat, streams),
    )


def _changed(a: Tensor, b: Tensor, scale: Tensor) -> int:
    return int(((a - b).abs().amax(1) > 1e-3 * scale).sum())


def _gradient_signs(
    model: Model, x: Tensor, y: Tensor, threat: Threat, streams: ExampleStreams
) -> GradientSigns | None:
    def loss(logits: Tensor, rows: Tensor) -> Tensor:
        return F.cross_entropy(logits, y[rows], reduction="none")

    def attacked(attack: Attack) -> Tensor:
        with torch.no_grad():
            return model(attack.perturb(model, x, y, threat=threat, streams=streams, budget=Budget(len(x))))

    every = torch.arange(len(x), device=x.device)
    try:
        _, clean, gradient = value_and_gradient(model, loss, x, every)
    except CwbenchError:  # there is none, or it is NaN
        return None
    largest = gradient.flatten(1).abs().amax(1)
    step = threat.radius / 4
    short = attacked(PGD(steps=STEPS, step_size=step, early_stop=False))
    longer = attacked(PGD(steps=MORE_STEPS, step_size=step, early_stop=False))
    sharpened = {
        value: attacked(TemperaturePGD(inverse_temperature=value, steps=STEPS, step_size=step))
        for value in INVERSE_TEMPERATURES
    }
    return GradientSigns(
        zero=int((largest == 0).sum()),
        tiny=int((largest <= TINY).sum()),
        not_risen=int((loss(short, every) <= clean).sum()),
        robust=_right(short, y),
        robust_longer=_right(longer, y),
        robust_at={value: _right(logits, y) for value, logits in sharpened.items()},
    )


def _right(logits: Tensor, y: Tensor) -> int:
    return int((logits.argmax(1) == y).sum())
