"""What makes a model faster to attack: convolution and batch norm folded, channels last, bfloat16.

All of it concerns the copy that attacks search on. The verdict is always the given model's, in full precision.
"""

import copy
import time
from dataclasses import dataclass
from itertools import product
from typing import Literal, final

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.fx.experimental.optimization import fuse

from cwbench.api import Model, Objective, Threat, ascend, evaluating, frozen, value_and_gradient
from cwbench.evaluation.counted_model import CountedModel
from cwbench.internal.errors import CwbenchError, UsageError
from cwbench.internal.out_of_memory import out_of_memory

Precision = Literal["fp32", "bf16"]
CALIBRATION = 64
"""Examples on which bfloat16 must prove itself."""
TRIAL = 8
"""Examples on which a copy must compute what the model computes: every weight takes part in each of them."""
SAME_LOGITS, SAME_GRADIENTS = 1e-4, 1e-2
"""How far those of a copy may be from the model's, as a share of their length: rounding, and in the gradients the few
rectifiers that rounding switches."""
FASTER = 1.2
"""What bfloat16 must gain to be taken: less is lost again in confirming what it found."""
WORTH = 0.004
"""Seconds that the calibration pass must take in float32: a faster one is overhead, which bfloat16 does not shorten,
and its timing would decide by chance."""
ROUNDS, STEPS = 5, 10


@dataclass(frozen=True)
class SearchCopy:
    """The model that attacks search on."""

    model: Model
    folded: int
    """Pairs of convolution and batch norm that became one layer."""
    precision: Precision


@final
class HalfPrecision(nn.Module):
    """Runs a model under bfloat16 autocast where a gradient is followed, and returns float32 logits.

    Without one it computes in float32: a search by queries compares logits, and bfloat16 would make ties of them.
    """

    def __init__(self, model: Model, device: torch.device) -> None:
        super().__init__()
        self.model = model
        self.device_type = device.type

    def forward(self, x: Tensor) -> Tensor:
        gradient = x.requires_grad and torch.is_grad_enabled()
        with torch.autocast(self.device_type, torch.bfloat16, enabled=gradient):
            return self.model(x).float()


def make_search_copy(
    model: Model, x: Tensor, y: Tensor, threat: Threat, precision: Literal["auto", "fp32", "bf16"]
) -> SearchCopy:
    """Return what to search on. ``model`` is in eval mode and frozen; ``x`` (n, C, H, W) and ``y`` are real examples.

    ``auto`` takes bfloat16 only where it is measured to be faster and breaks no fewer of these examples.

    Raises:
        UsageError: bf16 is asked for and cannot be.
    """
    x, y = x[:CALIBRATION], y[:CALIBRATION]
    search, folded = fold(model, x[:TRIAL]) if isinstance(model, nn.Module) and len(x) else (model, 0)
    if precision == "fp32" or not len(x):
        return SearchCopy(search, folded, "fp32")
    half = HalfPrecision(search, x.device)
    with evaluating(half), frozen(half):
        try:
            finite = _works(half, x[:TRIAL])
        except CwbenchError:  # its gradient is not finite there
            finite = False
        except (RuntimeError, NotImplementedError, TypeError, ValueError) as error:
            if out_of_memory(error):
                raise
            if precision == "bf16":
                raise UsageError(f"the model cannot run in bf16: {error}", "use --precision fp32") from None
            finite = False
        if precision == "bf16" and not finite:
            raise UsageError("the model's logits or gradients are not finite in bf16", "use --precision fp32")
        if precision == "bf16" or (
            finite and _faster(search, half, x, y) and _as_strong(model, search, half, x, y, threat)
        ):
            return SearchCopy(half, folded, "bf16")
    return SearchCopy(search, folded, "fp32")


def fold(model: nn.Module, x: Tensor) -> tuple[Model, int]:
    """Return a copy with convolutions folded and channels last where it computes the same, else the model itself.

    In eval mode batch norm is an affine map of each channel, and so is part of the convolution before it (Jacob et al.
    2018, section 3.2). torch.fx finds the pairs where it can trace the model; the copy's logits and input gradients
    must then agree on ``x``.
    """
    if not any(isinstance(module, nn.Conv2d) for module in model.modules()):
        return model, 0
    for attempt, layout in product((_fused, _copied), (torch.channels_last, torch.contiguous_format)):
        try:
            candidate = attempt(model).to(memory_format=layout)
            with evaluating(candidate), frozen(candidate):
                same = _agree(model, candidate, x)
        except Exception as error:  # a model may refuse to be traced or copied in any way
            if out_of_memory(error):
                raise
            continue
        if same:
            for module in candidate.modules():
                module.training = False
            candidate.requires_grad_(requires_grad=False)
            return candidate, _norms(model) - _norms(candidate)
    return model, 0


def _copied(model: nn.Module) -> nn.Module:
    return copy.deepcopy(model)


def _fused(model: nn.Module) -> nn.Module:
    fused: nn.Module = fuse(model)
    return fused


def _norms(model: nn.Module) -> int:
    return sum(isinstance(module, nn.modules.batchnorm._BatchNorm) for module in model.modules())


def _agree(model: Model, candidate: Model, x: Tensor) -> bool:
    """Compare logits and gradients, and logits on half of the batch: a trace may have kept its size as a number."""
    rows = torch.arange(len(x), device=x.device)
    (a, _, slope), (b, _, other) = (
        value_and_gradient(CountedModel(each), _spread, x, rows) for each in (model, candidate)
    )
    if a.shape != b.shape or not _close(a, b, SAME_LOGITS) or not _close(slope, other, SAME_GRADIENTS):
        return False
    half = (len(x) + 1) // 2
    with torch.no_grad():
        return _close(model(x[:half].clone()), candidate(x[:half].clone()), SAME_LOGITS)


def _spread(logits: Tensor, rows: Tensor) -> Tensor:
    """Return a scalar for each example that every logit takes part in."""
    del rows
    return (logits * torch.linspace(1, 2, logits.shape[1], device=logits.device)).sum(1)


def _close(a: Tensor, b: Tensor, share: float) -> bool:
    return bool((a - b).norm() <= share * a.norm())


def _works(half: Model, x: Tensor) -> bool:
    logits, _, gradient = value_and_gradient(CountedModel(half), _spread, x, torch.arange(len(x), device=x.device))
    return bool(logits.isfinite().all() and gradient.isfinite().all())


def _faster(full: Model, half: Model, x: Tensor, y: Tensor) -> bool:
    """Time forward and input gradient of both, in turn."""
    rows = torch.arange(len(x), device=x.device)
    seconds: tuple[list[float], list[float]] = ([], [])
    for _ in range(ROUNDS + 1):
        for model, found in zip((full, half), seconds, strict=True):
            _synchronise(x.device)
            began = time.perf_counter()
            value_and_gradient(CountedModel(model), _loss(y), x, rows)
            _synchronise(x.device)
            found.append(time.perf_counter() - began)
    first, second = (min(found[1:]) for found in seconds)  # the first round warms up; others may share the machine
    return first >= WORTH and first >= FASTER * second


def _loss(y: Tensor) -> Objective:
    return lambda logits, rows: F.cross_entropy(logits, y[rows], reduction="none")


def _synchronise(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def _as_strong(judge: Model, full: Model, half: Model, x: Tensor, y: Tensor, threat: Threat) -> bool:
    """Tell whether ten steps of ascent in bfloat16 break as many examples as in float32, in the judge's eyes."""

    def broken(search: Model) -> int:
        found = ascend(
            CountedModel(search),
            _loss(y),
            x,
            start=x,
            threat=threat,
            steps=STEPS,
            step_size=threat.radius / 4,
        )
        with torch.no_grad():
            return int((judge(found.clone()).argmax(1) != y).sum())

    return broken(half) >= broken(full)
