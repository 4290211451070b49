"""A classifier as features plus a last layer, and the modes it is put into."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Protocol, final

import torch
from torch import Tensor, nn

from cwbench.api.streams import global_random_state
from cwbench.internal.errors import UsageError


class Model(Protocol):
    """Anything that maps images (N, C, H, W) in [0, 1] to logits (N, K)."""

    def __call__(self, x: Tensor, /) -> Tensor: ...


class Features(nn.Module):
    """What a backbone builds: images (N, C, H, W) in [0, 1] to features (N, ``width``). Normalises inside."""

    width: int

    def own_name(self, name: str) -> str:
        """Return the name, in a ``Classifier`` with these features, of a tensor that other codes call ``name``.

        Features with well-known codes beside them override it, so that checkpoints of those can be loaded.
        """
        return name


@final
class Classifier(nn.Module):
    """Features and the last layer, kept apart because findings look at the weights of the last layer.

    ``forward`` maps images (N, C, H, W) in [0, 1] to logits (N, K).
    """

    def __init__(self, features: Features, head: nn.Module) -> None:
        super().__init__()
        self.features = features
        self.head = head

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.head(self.features(x))
        return logits


@contextmanager
def evaluating(model: object) -> Iterator[None]:
    """Put every module into eval mode, and afterwards each one back into the mode it had.

    Does nothing for a model that is no ``nn.Module``.
    """
    modes = [(module, module.training) for module in modules(model)]
    for module, _ in modes:
        module.training = False  # not eval(), which somebody may have overridden
    try:
        yield
    finally:
        for module, mode in modes:
            module.training = mode


def traced_pass(model: nn.Module, x: Tensor) -> tuple[Tensor, bool]:
    """Return the logits, and whether the pass left a trace: a changed buffer, as of batch norm, or drawn randomness.

    Without one the same pass would give the same logits again.
    """
    buffers = list(model.buffers())
    before = [buffer._version for buffer in buffers], global_random_state(x.device)
    logits: Tensor = model(x)
    return logits, before != ([buffer._version for buffer in buffers], global_random_state(x.device))


@contextmanager
def frozen(model: object) -> Iterator[None]:
    """Switch off the gradients of the parameters, so that an attack pays for those of the image alone."""
    flags = [(p, p.requires_grad) for module in modules(model) for p in module.parameters(recurse=False)]
    for parameter, _ in flags:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter, flag in flags:
            parameter.requires_grad_(flag)


@contextmanager
def placed(model: object, device: torch.device) -> Iterator[None]:
    """Move a module to a device, and afterwards back to where it was.

    Raises:
        UsageError: its tensors lie on several devices.
    """
    with ExitStack() as stack:
        if isinstance(model, nn.Module):
            tensors = [*model.parameters(), *model.buffers()]
            homes = {tensor.device for tensor in tensors}
            if len(homes) > 1:
                raise UsageError(f"the model lies on several devices: {', '.join(sorted(map(str, homes)))}")
            if homes and homes != {device}:
                stack.callback(model.to, homes.pop())
                model.to(device)
        yield


def modules(model: object) -> list[nn.Module]:
    """Return every module of a model; none for a plain function."""
    return list(model.modules()) if isinstance(model, nn.Module) else []
