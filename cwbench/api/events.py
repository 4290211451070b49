"""What observers are told: plain records of a run under way."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class RunStarted:
    """A run whose names are resolved and whose data are there; every later event comes with it."""

    id: str
    """Different for every run, and fit for the name of a folder."""
    subject: str
    """The defense as asked for, or the checkpoint that is judged."""
    dataset: str
    classes: tuple[str, ...]
    attacks: tuple[str, ...]
    """Their labels, in order."""
    seed: int
    out: Path | None
    """The folder below which the report will be written; None if it will not."""


@dataclass(frozen=True)
class EpochFinished:
    """The end of an epoch of training the defense. A checkpoint from the store has none."""

    epoch: int
    """Counted from 1."""
    epochs: int
    """After how many training stops."""
    loss: float
    """The mean over the epoch's batches."""
    learning_rate: float
    """At the beginning of the epoch."""
    state: Mapping[str, Any]
    """What the defense remembers, such as a temperature or the weights of classes."""
    accuracy: Mapping[str, Any] | None
    """With ``--every``, at its epochs: ``attack``, and counts for each class of ``n``, ``clean`` and ``robust``."""


@dataclass(frozen=True)
class AttackFinished:
    """An attack that is done with every example."""

    label: str
    n: tuple[int, ...]
    """Judged examples of each class."""
    clean: tuple[int, ...]
    """Those that are right when clean."""
    correct: tuple[int, ...]
    """Those that are right also under the attack."""
    seconds: float
