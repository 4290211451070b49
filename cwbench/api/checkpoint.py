"""What a plugin returns that opens checkpoints of a scheme of its own."""

from dataclasses import dataclass

from torch import nn


@dataclass(frozen=True)
class ExternalFigure:
    """A figure that somebody else published for the same checkpoint: shown beside ours, ranked with nothing."""

    name: str
    """What was measured, such as ``AutoAttack robust accuracy``."""
    value: float
    """In [0, 1]."""
    source: str
    """Where it was published."""


@dataclass(frozen=True)
class OpenedCheckpoint:
    """A classifier that a plugin opened by a URI of its own scheme: a checkpoint whose training nobody recorded."""

    model: nn.Module
    """Maps images (N, C, H, W) in [0, 1] to logits (N, K), with the classes in the order of the dataset's."""
    subject: str
    """What to call it in the report."""
    sha256: str
    """Of its weights, 64 hexadecimal digits."""
    revision: str | None = None
    """The version of where it came from."""
    notes: tuple[str, ...] = ()
    """What a reader of the report must know."""
    external: tuple[ExternalFigure, ...] = ()
    """What others published of it."""
