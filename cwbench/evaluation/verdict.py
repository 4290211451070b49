"""The judge: what counts as logits, as a candidate, and as broken, always in full precision."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import Any

import torch
from torch import Tensor, nn

from cwbench.api import Model, Threat
from cwbench.internal.errors import CwbenchError, UsageError, reason_of
from cwbench.internal.exact_number import ROUNDING
from cwbench.internal.out_of_memory import out_of_memory
from cwbench.plan import PlannedAttack

UNDER_WAY = UNKNOWN = -1
"""The id of an image that an attack asks about before it answers, and the verdict on one that it did not ask about."""


@contextmanager
def full_precision(device: torch.device) -> Iterator[None]:
    """Switch off what would round a verdict: the caller's autocast, and TF32 or bfloat16 inside of float32 layers."""
    with ExitStack() as stack:
        stack.enter_context(torch.autocast(device.type, enabled=False))
        stack.callback(torch.set_float32_matmul_precision, torch.get_float32_matmul_precision())
        torch.set_float32_matmul_precision("highest")
        if device.type == "cuda":
            flags = torch.backends.cudnn.flags(enabled=True, deterministic=True, allow_tf32=False)
            stack.enter_context(flags)
        yield


def refuse_unfit(model: Model) -> None:
    """Refuse what cannot be judged in full precision.

    Raises:
        UsageError: no model, weights of another type than float32, or inference mode.
    """
    if isinstance(model, type) or not callable(model):
        raise UsageError(f"{model!r} is not a model", "give an nn.Module or a function from images to logits")
    tensors = [*model.parameters(), *model.buffers()] if isinstance(model, nn.Module) else []
    if torch.is_inference_mode_enabled() or any(tensor.is_inference() for tensor in tensors):
        raise UsageError("attacks need gradients", "make and evaluate the model outside of torch.inference_mode()")
    other = {str(tensor.dtype) for tensor in tensors if tensor.is_floating_point() and tensor.dtype != torch.float32}
    if other:
        raise UsageError(f"the model's weights are {', '.join(sorted(other))}", "convert it with model.float()")


@dataclass
class Judge:
    """Predicts with the given model, and refuses what it or an attack must not return."""

    model: Model
    classes: int
    threat: Threat
    batch_size: int
    """Halved by the harness where memory runs out."""
    known: dict[bytes, int] = field(default_factory=dict)
    """Verdicts on candidates of the attack under way, by the digest of the image: none is passed twice."""

    @torch.no_grad()
    def predict(self, x: Tensor, ids: Tensor) -> Tensor:
        """Return the predicted classes on the CPU, shape (n,).

        Raises:
            CwbenchError: the model returns something else than finite logits (n, classes).
        """
        return torch.cat(
            [
                # A clone, because a model may work in place and these are the images that are judged or the caller's.
                self._logits(images.clone(), numbers).argmax(1).cpu()
                for images, numbers in zip(x.split(self.batch_size), ids.split(self.batch_size), strict=True)
            ]
        )

    def confirm(self, x: Tensor) -> Tensor:
        """Return the verdict on candidates of an attack under way, on their device, and remember it."""
        verdicts = self.predict(x, torch.full((len(x),), UNDER_WAY))
        if _worth_remembering(x):
            self.known |= zip(_digests(x), verdicts.tolist(), strict=True)
        return verdicts.to(x.device)

    def final(self, x: Tensor, ids: Tensor) -> Tensor:
        """Return the predicted classes of what an attack returned, and forget what was known on the way."""
        verdicts = torch.full((len(x),), UNKNOWN)
        if self.known and _worth_remembering(x):
            verdicts = torch.tensor([self.known.get(digest, UNKNOWN) for digest in _digests(x)])
        self.known = {}
        new = verdicts == UNKNOWN
        if new.any():
            verdicts[new] = self.predict(x[new.to(x.device)], ids[new])
        return verdicts

    def _logits(self, x: Tensor, ids: Tensor) -> Tensor:
        try:
            logits = self.model(x)
        except (RuntimeError, TypeError, ValueError, IndexError) as error:
            if out_of_memory(error):
                raise
            raise UsageError(f"the model failed on images of shape {tuple(x.shape)}: {reason_of(error)}") from error
        expected = (len(x), self.classes)
        full = isinstance(logits, Tensor) and logits.dtype in (torch.float32, torch.float64)
        if not isinstance(logits, Tensor) or not full or tuple(logits.shape) != expected:
            shape = f"{logits.dtype} {tuple(logits.shape)}" if isinstance(logits, Tensor) else type(logits).__name__
            raise UsageError(
                f"the model returned {shape} for {len(x)} images instead of logits {expected}",
                "the model must map images (N, C, H, W) to one full-precision logit for each class",
            )
        bad = ~logits.isfinite().all(1)
        if bad.any():
            number = int(ids[int(bad.nonzero()[0])])
            which = "an image on an attack's way" if number == UNDER_WAY else f"example {number}"
            raise UsageError(
                f"the model returned logits that are not finite for {which}",
                "nothing can be said about a model whose output is NaN or infinite",
            )
        return logits

    def checked(self, planned: PlannedAttack, candidates: Any, x: Tensor, ids: Tensor) -> Tensor:
        """Return an attack's candidates with rounding clipped.

        Raises:
            CwbenchError: they are no images like ``x``, not finite, or lie outside box or ball by more than rounding.
        """
        label = planned.label
        if not isinstance(candidates, Tensor) or candidates.shape != x.shape or not candidates.is_floating_point():
            given = isinstance(candidates, Tensor)
            shape = f"{candidates.dtype} {tuple(candidates.shape)}" if given else type(candidates).__name__
            raise CwbenchError(f"attack {label} returned {shape} instead of float images {tuple(x.shape)}")
        if candidates.device != x.device:
            raise CwbenchError(f"attack {label} returned images on {candidates.device} instead of {x.device}")
        candidates = candidates.detach().to(x.dtype)
        bad = ~candidates.flatten(1).isfinite().all(1)
        if bad.any():
            raise CwbenchError(f"attack {label} returned NaN or infinity for example {int(ids[bad.nonzero()[0]])}")
        ball = "" if planned.attack.minimal else f"the {self.threat.norm} ball of eps {self.threat.eps} or "
        excess = self.threat.excess(candidates, x) if ball else self.threat.outside(candidates)
        worst = int(excess.argmax())
        if excess[worst] > ROUNDING:
            raise CwbenchError(
                f"attack {label} left {ball}the box [0, 1]: example {int(ids[worst])} by {float(excess[worst]):.3g}",
                f"up to {ROUNDING:g} counts as rounding",
            )
        return self.threat.project(candidates, x) if ball else candidates.clamp(0, 1)


def _worth_remembering(x: Tensor) -> bool:
    """Tell whether a digest costs less than a pass: on an accelerator it would bring every image back."""
    return x.device.type == "cpu"


def _digests(x: Tensor) -> list[bytes]:
    """Return a digest of each image on the CPU."""
    return [blake2b(image.contiguous().numpy().data, digest_size=16).digest() for image in x]
