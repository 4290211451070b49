"""What an attack is: it searches the ball around each image for one that is misclassified."""

from abc import abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum
from typing import ClassVar, Self

from torch import Tensor

from cwbench.api.classifier import Model
from cwbench.api.plugin import Plugin
from cwbench.api.recipe import Inner
from cwbench.api.streams import ExampleStreams
from cwbench.api.threat import Threat


class Access(StrEnum):
    """What an attacker may see."""

    WHITE_BOX = "white-box"
    """Weights and gradients."""
    TRANSFER = "transfer"
    """Nothing of the target; gradients of a substitute."""
    SCORE = "score"
    """The logits of chosen images."""
    DECISION = "decision"
    """The predicted class of chosen images."""


@dataclass(frozen=True)
class Budget:
    """What the harness allows an attack."""

    batch_size: int
    """The most examples that may be in one forward pass."""
    tick: Callable[[int], None] = field(default=lambda finished: None)
    """Tell the progress bar how many examples have just been finished; only pooled attacks need to."""
    judge: Callable[[Tensor], Tensor] | None = None
    """The full-precision verdict on candidates (n, C, H, W): classes (n,). ``model`` may search in lower precision, so
    an example that leaves early should have left by this. None where ``model`` itself is the judge."""
    substitute: Model | None = None
    """The network that a transfer attack may use instead of the target: see ``Attack.wants_substitute``."""


class Attack(Plugin):
    """Searches the ball around each image for one that is misclassified."""

    access: ClassVar[Access]
    pooled: ClassVar[bool] = False
    """True: ``perturb`` takes any number of examples at once and keeps at most ``budget.batch_size`` in flight."""
    needs_images: ClassVar[bool] = False
    """True: examples must be images (N, C, H, W), not vectors."""
    norms: ClassVar[tuple[str, ...]] = ("Linf", "L2")
    """The norms that it can be bounded by."""
    minimal: ClassVar[bool] = False
    """True: it looks for the smallest perturbation. Candidates may lie outside the ball; the harness measures how far
    each is from its image and reports accuracy as a function of eps."""
    wants_substitute: ClassVar[bool] = False
    """True: ``perturb`` needs ``budget.substitute``, a standard-trained network of the same dataset."""
    effort: ClassVar[tuple[str, ...]] = ()
    """The names of its fields of which more should never be weaker, such as ``steps``: a report warns where it is."""

    def with_defaults(self, default: Inner) -> Self:
        """Return the attack with what it leaves unset taken from the dataset: steps and step size, scaled with eps.

        The report holds the filled values. An attack without such fields is returned as it is.
        """
        del default
        return self

    def named_substitute(self) -> str | None:
        """Return the checkpoint that ``budget.substitute`` is to be; None for one that the run trains."""
        return None

    def plain_counterpart(self) -> "Attack | None":
        """Return the attack that this one refines, of the same effort, if that should never be the stronger of the two.

        A report warns where it is: then the loss that the plain one follows is not the one that matters.
        """
        return None

    def notes(self, classes: int) -> tuple[str, ...]:
        """Return what a reader must know about a run on so many classes, such as a fallback."""
        del classes
        return ()

    @abstractmethod
    def perturb(
        self, model: Model, x: Tensor, y: Tensor, *, threat: Threat, streams: ExampleStreams, budget: Budget
    ) -> Tensor:
        """Return a candidate for each image, shape as ``x``; the harness checks and judges them.

        Without white-box access no gradient of ``model`` may be asked for.

        ``x`` is (N, C, H, W) in [0, 1], ``y`` (N,) int64. The judged network classifies every example correctly;
        ``model``, which may be a rougher copy of it, is in eval mode, frozen and counts its passes.
        """
