"""What an evaluation finds, and what it works with."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from torch import nn

from cwbench.api import Attack
from cwbench.evaluation.gradient_masking import Signs
from cwbench.evaluation.journal import Journal
from cwbench.evaluation.saved_examples import ExampleFolder
from cwbench.evaluation.search_copy import Precision

Ints = np.ndarray[Any, np.dtype[np.int64]]
Floats = np.ndarray[Any, np.dtype[np.float64]]


@dataclass(frozen=True)
class Substitute:
    """A network for transfer attacks, and the digest of the checkpoint that it came from."""

    digest: str
    model: nn.Module


@dataclass(frozen=True)
class Cost:
    """What an attack spent, summed over its examples."""

    examples: int
    """Examples that were attacked: those classified correctly until then."""
    forward: int
    """Images sent forward by the attack, through the model or a substitute, and to confirm what it found."""
    backward: int
    """Images for which the attack asked for a gradient."""
    queries: int
    """Images whose logits the attack asked of the model itself."""
    seconds: float


@dataclass(frozen=True)
class AttackOutcome:
    """What an attack achieved."""

    label: str
    attack: Attack
    predictions: Ints
    """Predicted class under attack, shape (n,); that from before where the example was wrong already."""
    distances: Floats | None
    """How far the nearest example that broke each one is, shape (n,): 0 for those wrong before, infinite where none was
    found. None for attacks that stay in the ball."""
    cost: Cost
    substitute: str | None = None
    """The digest of the checkpoint that a transfer attack used."""


@dataclass(frozen=True)
class Outcomes:
    """What a model predicted, clean and under each attack."""

    ids: Ints
    """Which examples of the split, shape (n,)."""
    labels: Ints
    clean: Ints
    attacks: tuple[AttackOutcome, ...]
    cascade: bool
    precision: Precision
    """What was searched in."""
    folded: int
    """Pairs of convolution and batch norm that the search folded."""
    batch_size: int
    """The one asked for, or what memory allowed."""
    signs: Signs | None


@dataclass(frozen=True)
class Tools:
    """What an evaluation works with besides its settings; none of it changes what it finds."""

    look_for_masking: bool = True
    """Look for signs of masked gradients."""
    journal: Journal | None = None
    """Where finished chunks are kept."""
    saved: ExampleFolder | None = None
    """Where the images that attacks return are kept; None keeps none."""
    substitutes: Mapping[str | None, Substitute] = field(default_factory=dict)
    """The networks that transfer attacks use, by :meth:`cwbench.api.Attack.named_substitute`."""
    watch: Callable[[AttackOutcome, Ints, Ints], None] | None = None
    """Is told of every attack that is done: its outcome, the labels and the clean predictions, each (n,)."""
    agree: Callable[[Precision], Precision] = lambda precision: precision
    """What several processes that share an evaluation search in, given what each of them would."""
