"""The harness: the only place that calls an attack.

It owns eval mode, frozen parameters, device, batching, the check of ball and box, and the verdict, which is always a
full-precision forward pass on the returned examples.
"""

import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from cwbench import progress
from cwbench.api import Attack, Budget, Examples
from cwbench.errors import CwbenchError
from cwbench.model import Model, evaluating, frozen, placed
from cwbench.plan import PlannedAttack
from cwbench.randomness import ExampleStreams
from cwbench.threat import ROUNDING, Threat

POOL = 16
"""Batches' worth of examples that a pooled attack is given at once: its batch stays full until the last of them."""


@dataclass(frozen=True)
class Cost:
    """What an attack spent, summed over its examples."""

    examples: int
    """Examples that were attacked: those classified correctly when clean."""
    forward: int
    """Images sent through the model by the attack; the harness's own verdict is not counted."""
    backward: int
    """Images for which the attack asked for a gradient."""
    seconds: float


@dataclass(frozen=True)
class AttackOutcome:
    """What an attack achieved."""

    label: str
    attack: Attack
    predictions: np.ndarray[Any, np.dtype[np.int64]]
    """Predicted class under attack, shape (n,); the clean one where it was wrong already."""
    cost: Cost


@dataclass(frozen=True)
class Outcomes:
    """What a model predicted, clean and under each attack."""

    ids: np.ndarray[Any, np.dtype[np.int64]]
    """Which examples of the split, shape (n,)."""
    labels: np.ndarray[Any, np.dtype[np.int64]]
    clean: np.ndarray[Any, np.dtype[np.int64]]
    attacks: tuple[AttackOutcome, ...]


def evaluate(
    model: Model,
    examples: Examples,
    attacks: Sequence[PlannedAttack],
    *,
    ids: Tensor,
    classes: int,
    threat: Threat,
    seed: int,
    device: torch.device,
    batch_size: int,
) -> Outcomes:
    """Judge a model on the examples ``ids``, clean and under each attack.

    Examples that are misclassified when clean are never attacked, and count as not robust.

    Raises:
        CwbenchError: the model returns something else than finite logits (n, classes), or an attack returns something
            else than images of ball and box; the message names the first or worst example.
    """
    refuse_unfit(model)
    with placed(model, device), evaluating(model), frozen(model), _full_precision(device):
        harness = _Harness(_Observed(model), classes, threat, seed, device, batch_size)
        labels = examples.labels[ids.to(examples.labels.device)].cpu()
        clean = torch.empty_like(labels)
        for part in torch.arange(len(ids)).split(batch_size):
            clean[part] = harness.predict(examples.images(ids[part]).to(device, torch.float32), ids[part])
        outcomes = [harness.run(planned, examples, ids, labels, clean) for planned in attacks]
    return Outcomes(ids.numpy(), labels.numpy(), clean.numpy(), tuple(outcomes))


@contextmanager
def _full_precision(device: torch.device) -> Iterator[None]:
    """Switch off what would round a verdict: the caller's autocast, and TF32 in CUDA's convolutions."""
    with ExitStack() as stack:
        stack.enter_context(torch.autocast(device.type, enabled=False))
        if device.type == "cuda":
            flags = torch.backends.cudnn.flags(enabled=True, deterministic=True, allow_tf32=False)
            stack.enter_context(flags)
        yield


def refuse_unfit(model: Model) -> None:
    """Refuse what cannot be judged in full precision.

    Raises:
        CwbenchError: no model, weights of another type than float32, or inference mode.
    """
    if isinstance(model, type) or not callable(model):
        raise CwbenchError(f"{model!r} is no model", "give an nn.Module or a function from images to logits")
    tensors = [*model.parameters(), *model.buffers()] if isinstance(model, nn.Module) else []
    if torch.is_inference_mode_enabled() or any(tensor.is_inference() for tensor in tensors):
        raise CwbenchError("attacks need gradients", "make and evaluate the model outside of torch.inference_mode()")
    other = {str(tensor.dtype) for tensor in tensors if tensor.is_floating_point() and tensor.dtype != torch.float32}
    if other:
        raise CwbenchError(f"the model's weights are {', '.join(sorted(other))}", "convert it with model.float()")


class _Observed(nn.Module):
    """The model as attacks see it: images in, logits out, and every pass counted."""

    def __init__(self, model: Model) -> None:
        super().__init__()
        self.model = model
        self.forward_passes = 0
        self.backward_passes = 0
        self.training = False

    def forward(self, x: Tensor) -> Tensor:
        self.forward_passes += len(x)
        # A clone, because a model may work in place, and these are the attack's iterates or the caller's images.
        logits = self.model(x.clone())
        if x.requires_grad and torch.is_grad_enabled() and isinstance(logits, Tensor):
            if not logits.requires_grad:
                raise CwbenchError(
                    "the model's logits have no gradient with respect to the image",
                    "attacks with white-box access need one: does the model detach, round or run under no_grad?",
                )
            logits.register_hook(self._count_backward)
            x.register_hook(_refuse_bad_gradient)
        return logits

    def _count_backward(self, gradient: Tensor) -> None:
        self.backward_passes += len(gradient)


def _refuse_bad_gradient(gradient: Tensor) -> None:
    # The sign of NaN is 0: a signed attack would stand still, and its failure would pass for robustness.
    bad = ~gradient.flatten(1).isfinite().all(1)
    if bad.any():
        raise CwbenchError(
            f"the model's gradient is not finite for {int(bad.sum())} of {len(bad)} images in a batch",
            "a gradient of NaN or infinity makes an attack fail and looks like robustness",
        )


_STATE = ("modes", "requires_grad", "weights")


@dataclass
class _Harness:
    model: _Observed
    classes: int
    threat: Threat
    seed: int
    device: torch.device
    batch_size: int

    def run(
        self, planned: PlannedAttack, examples: Examples, ids: Tensor, labels: Tensor, clean: Tensor
    ) -> AttackOutcome:
        """Attack every example that is classified correctly, and judge what comes back."""
        attack = planned.attack
        predictions = clean.clone()
        standing = (clean == labels).nonzero().squeeze(1)
        before = (self.model.forward_passes, self.model.backward_passes)
        seconds = 0.0
        judged = 0
        with progress.bar(f"attacking with {planned.label}", len(standing)) as advance:
            for part in standing.split(self.batch_size * (POOL if attack.pooled else 1)) if len(standing) else ():
                x = examples.images(ids[part]).to(self.device, torch.float32)
                y = labels[part].to(self.device)
                began = time.perf_counter()
                candidates = self._perturb(attack, x, y, ids[part], advance if attack.pooled else _no_tick)
                seconds += time.perf_counter() - began
                candidates = self._checked(planned.label, candidates, x, ids[part])
                predictions[part] = self.predict(candidates, ids[part])
                judged += len(part)
                if not attack.pooled:
                    advance(len(part))
        cost = Cost(
            examples=len(standing),
            forward=self.model.forward_passes - before[0] - judged,
            backward=self.model.backward_passes - before[1],
            seconds=seconds,
        )
        return AttackOutcome(planned.label, attack, predictions.numpy(), cost)

    def _perturb(self, attack: Attack, x: Tensor, y: Tensor, ids: Tensor, tick: Any) -> Any:
        streams = ExampleStreams.of(self.seed, ids).child("attack", attack.name)
        budget = Budget(self.batch_size, tick)
        before = self._state()
        candidates = attack.perturb(
            self.model, x.clone(), y.clone(), threat=self.threat, streams=streams, budget=budget
        )
        changed = [name for name, old, new in zip(_STATE, before, self._state(), strict=True) if old != new]
        if changed:
            raise CwbenchError(
                f"attack {attack.name} changed the model's {' and '.join(changed)}",
                "an attack may look at the model, and must leave it as it is",
            )
        return candidates

    def _state(self) -> tuple[list[bool], list[bool], list[int]]:
        """Return what an attack must not change; weights by PyTorch's own counters of changes in place."""
        parameters = list(self.model.parameters())
        tensors = [*parameters, *self.model.buffers()]
        return (
            [module.training for module in self.model.modules()],
            [parameter.requires_grad for parameter in parameters],
            [tensor._version for tensor in tensors],
        )

    @torch.no_grad()
    def predict(self, x: Tensor, ids: Tensor) -> Tensor:
        """Return the predicted classes on the CPU, shape (n,)."""
        return torch.cat(
            [
                # A clone, because a model may work in place and these are the images that are judged or the caller's.
                self._logits(images.clone(), numbers).argmax(1).cpu()
                for images, numbers in zip(x.split(self.batch_size), ids.split(self.batch_size), strict=True)
            ]
        )

    def _logits(self, x: Tensor, ids: Tensor) -> Tensor:
        try:
            logits = self.model(x)
        except (RuntimeError, TypeError, ValueError, IndexError) as error:
            reason = " ".join(str(error).split())[:200]
            raise CwbenchError(f"the model failed on images of shape {tuple(x.shape)}: {reason}") from error
        expected = (len(x), self.classes)
        full = isinstance(logits, Tensor) and logits.dtype in (torch.float32, torch.float64)
        if not isinstance(logits, Tensor) or not full or tuple(logits.shape) != expected:
            shape = f"{logits.dtype} {tuple(logits.shape)}" if isinstance(logits, Tensor) else type(logits).__name__
            raise CwbenchError(
                f"the model returned {shape} for {len(x)} images instead of logits {expected}",
                "the model must map images (N, C, H, W) to one full-precision logit for each class",
            )
        bad = ~logits.isfinite().all(1)
        if bad.any():
            position = int(bad.nonzero()[0])
            raise CwbenchError(
                f"the model returned logits that are not finite for example {int(ids[position])}",
                "nothing can be said about a model whose output is NaN or infinite",
            )
        return logits

    def _checked(self, label: str, candidates: Any, x: Tensor, ids: Tensor) -> Tensor:
        """Return the candidates with rounding clipped; refuse what lies outside ball or box by more."""
        if not isinstance(candidates, Tensor) or candidates.shape != x.shape or not candidates.is_floating_point():
            shape = tuple(candidates.shape) if isinstance(candidates, Tensor) else type(candidates).__name__
            raise CwbenchError(f"attack {label} returned {shape} instead of float images {tuple(x.shape)}")
        if candidates.device != x.device:
            raise CwbenchError(f"attack {label} returned images on {candidates.device} instead of {x.device}")
        candidates = candidates.detach().to(x.dtype)
        bad = ~candidates.flatten(1).isfinite().all(1)
        if bad.any():
            raise CwbenchError(f"attack {label} returned NaN or infinity for example {int(ids[bad.nonzero()[0]])}")
        excess = self.threat.excess(candidates, x)
        worst = int(excess.argmax())
        if excess[worst] > ROUNDING:
            raise CwbenchError(
                f"attack {label} left the {self.threat.norm} ball of eps {self.threat.eps} or the box [0, 1]: "
                f"example {int(ids[worst])} by {float(excess[worst]):.3g}",
                f"up to {ROUNDING:g} counts as rounding",
            )
        return self.threat.project(candidates, x)


def _no_tick(finished: int) -> None:
    del finished
