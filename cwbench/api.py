"""What a plugin author subclasses: ``Attack``, ``Defense``, ``Dataset`` and ``Backbone``.

A plugin is a frozen pydantic model: its fields are its hyperparameters and its methods do the work, so that the
name, the command line (``--attack tpgd:inverse_temperature=10``), the JSON and the behaviour cannot drift apart.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any, ClassVar, Literal, final

import torch
from pydantic import BaseModel, ConfigDict
from torch import Tensor, nn

from cwbench.model import Classifier, Features, Model
from cwbench.randomness import ExampleStreams, Streams
from cwbench.recipe import Averaging, Inner, Recipe
from cwbench.records import ExternalFigure
from cwbench.threat import Threat

Split = Literal["train", "test"]
State = Mapping[str, Any]
"""What a defense remembers from epoch to epoch: JSON-able values. It is checkpointed, resumed and reported."""


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


class Plugin(BaseModel, ABC):
    """A named thing with hyperparameters."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, use_attribute_docstrings=True)

    name: ClassVar[str]
    """What users type: lower-case letters, digits, hyphens."""
    reference: ClassVar[str]
    """The citation of what this implements."""
    bare: ClassVar[str | None] = None
    """The field that may be given without its name: ``torchvision:resnet34`` is ``torchvision:model=resnet34``."""


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
    """Searches the ball around each image for one that is misclassified.

    A field declared ``steps: int | None = None`` or ``step_size: float | None = None`` and left unset is filled from
    the dataset's recipe before the run begins, and the report holds the filled value.
    """

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


@dataclass(frozen=True)
class Batch:
    """A batch of training data on the training device."""

    x: Tensor
    """Images, (N, C, H, W) in [0, 1]."""
    y: Tensor
    """Labels, (N,) int64."""


@dataclass(frozen=True)
class Loss:
    """What one training step minimises."""

    total: Tensor
    """A scalar with a gradient."""
    before_step: Callable[[], None] | None = None
    """Called when the gradient is there and before the optimiser's step: for a loss that is taken at other weights than
    those that are stepped from, and that puts those back here, such as adversarial weight perturbation."""
    tally: Mapping[str, Tensor] | None = None
    """Counts or sums over the batch, such as examples that are right per class. They are added up over an epoch, and
    the defense finds them in ``Progress.tally`` when the next one begins."""


class Examples(ABC):
    """A split of a dataset: labels at hand, images on request, so that large sets can stream."""

    labels: Tensor
    """Shape (N,), int64."""
    streamed: ClassVar[bool] = False
    """True: images are read from files one by one. Training then reads ahead in processes of their own, and images are
    checked as they are read instead of all at once."""

    @abstractmethod
    def images(self, rows: Tensor) -> Tensor:
        """Return the images of some rows, (len(rows), C, H, W) float32 in [0, 1]."""

    def digest(self) -> str | None:
        """Return a digest of labels and images if there is a cheaper one than that of every pixel."""
        return None

    def to(self, device: torch.device) -> "Examples":
        """Return the examples with their images on a device, if they are small enough to lie in memory at all."""
        del device
        return self

    def part(self, rows: Tensor) -> "Examples":
        """Return some of the examples."""
        return _Part(self, rows)

    @final
    def __len__(self) -> int:
        return len(self.labels)


@final
@dataclass(frozen=True)
class TensorExamples(Examples):
    """Examples that fit into memory, as floats in [0, 1]."""

    x: Tensor
    labels: Tensor

    def images(self, rows: Tensor) -> Tensor:
        return self.x[rows]

    def part(self, rows: Tensor) -> "TensorExamples":
        return TensorExamples(self.x[rows], self.labels[rows])

    def to(self, device: torch.device) -> "TensorExamples":
        return TensorExamples(self.x.to(device), self.labels.to(device))


@final
@dataclass(frozen=True)
class ByteExamples(Examples):
    """Examples that fit into memory, as bytes 0 … 255: a quarter of what floats take."""

    x: Tensor
    labels: Tensor

    def images(self, rows: Tensor) -> Tensor:
        return self.x[rows].float() / 255

    def part(self, rows: Tensor) -> "ByteExamples":
        return ByteExamples(self.x[rows], self.labels[rows])

    def to(self, device: torch.device) -> "ByteExamples":
        return ByteExamples(self.x.to(device), self.labels.to(device))


@final
class _Part(Examples):
    """Some rows of other examples."""

    def __init__(self, whole: Examples, rows: Tensor) -> None:
        self.whole, self.rows = whole, rows
        self.labels = whole.labels[rows]
        self.streamed = whole.streamed  # type: ignore[misc]  # a part streams if the whole does

    def images(self, rows: Tensor) -> Tensor:
        return self.whole.images(self.rows[rows])

    def to(self, device: torch.device) -> Examples:
        whole = self.whole.to(device)
        return _Part(whole, self.rows.to(whole.labels.device))


@dataclass(frozen=True)
class TrainingSet:
    """What a defense trains on."""

    labelled: Examples
    unlabelled: Examples | None = None
    """Images whose labels nobody looks at. Half of every batch comes from here, with ``Defense.pseudo_labels``."""
    held_out: Examples | None = None
    """A part of the training split that is not trained on, for the defense to look at between epochs."""


@dataclass(frozen=True)
class Task:
    """What a defense may look at before training begins."""

    classes: tuple[str, ...]
    n: int
    """The number of labelled training examples."""
    epochs: int
    unlabelled: int = 0
    """The number of unlabelled ones."""


Teacher = Callable[[str | None], Model]
"""``teacher(None)``: a network trained without a defense on the labelled examples, with this run's backbone, recipe and
seed. ``teacher(checkpoint)``: the one stored under that digest or in that folder. In eval mode, on the device."""


@dataclass(frozen=True)
class Progress:
    """Where training stands when an epoch begins."""

    model: Classifier
    epoch: int
    """The epoch that begins, counted from 1."""
    epochs: int
    held_out: Examples | None = None
    """What ``Defense.training_set`` held out."""
    threat: Threat | None = None
    """The threat of the run, at its full radius."""
    attack: Inner | None = None
    """Steps and step size of the attack that networks are to be judged by between epochs: the dataset's."""
    tally: Mapping[str, Tensor] = field(default_factory=dict)
    """What ``Loss.tally`` of the last epoch adds up to, float32 on the CPU; empty before the first."""
    streams: Streams | None = None
    """Random numbers of this moment: the same at each epoch, so that epochs are compared and not their luck."""


class Defense(Plugin):
    """A way to train. Hyperparameters of the optimiser belong to the recipe, the threat to the run."""

    @abstractmethod
    def loss(
        self,
        model: Classifier,
        batch: Batch,
        *,
        threat: Threat,
        inner: Inner,
        streams: Streams,
        state: State,
    ) -> Loss:
        """Return the loss of a batch. ``model`` arrives in train mode and must be left in it.

        ``threat`` and ``inner`` (steps, step size) are those of the epoch, already scaled.
        """

    def classifier(self, width: int, classes: int) -> nn.Module:
        """Return the last layer, (N, width) → logits (N, classes): linear unless the defense says otherwise."""
        return nn.Linear(width, classes)

    def training_set(self, dataset: "Dataset", labelled: Examples, root: Path | None) -> TrainingSet:
        """Return what to train on: all of the training split unless the defense says otherwise.

        ``root`` is the user's data folder, as in ``Dataset.load``.

        Raises:
            CwbenchError: the defense needs data that are not there.
        """
        del dataset, root
        return TrainingSet(labelled)

    def prepare(self, task: Task) -> State:
        """Return the state that training begins with."""
        del task
        return {}

    def pseudo_labels(self, unlabelled: Examples, *, teacher: Teacher, device: torch.device) -> Tensor:
        """Return the labels to train on for the unlabelled examples, shape (M,), int64, on the CPU.

        It is asked once for a training, and only if ``training_set`` gave unlabelled examples.
        """
        raise NotImplementedError(f"{self.name} must say how it labels unlabelled examples")

    def epoch_begin(self, state: State, progress: Progress) -> State:
        """Return the state of the epoch that begins, and bring the model into it, such as to its temperature.

        It may change buffers of the model, not weights. The judged model is the one that its epoch left behind.
        """
        del progress
        return state

    def averaging(self) -> Averaging | None:
        """Return how weights are averaged where the recipe does not say; None for not at all."""
        return None

    def averages(self, state: State, progress: Progress) -> bool:
        """Tell whether the epoch that has just ended, ``progress.epoch``, may enter an average over epochs."""
        del state, progress
        return True


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


class Dataset(Plugin):
    """Labelled images. What describes it is on the class, so that listing datasets downloads nothing."""

    found: ClassVar[bool] = False
    """True: classes, shape and sizes are found in the user's files. They are properties of the object then, and only
    the object has them."""
    classes: ClassVar[tuple[str, ...]]
    superclasses: ClassVar[Mapping[str, tuple[int, ...]]] = {}
    """Groups of class indices; empty, or a partition of the classes."""
    shape: ClassVar[tuple[int, int]]
    """Channels, and height (= width) in pixels."""
    sizes: ClassVar[Mapping[Split, int]]
    """How many examples each split has: a copy with fewer is refused as truncated."""
    norm: ClassVar[Literal["Linf", "L2"]] = "Linf"
    eps: ClassVar[str]
    """The default radius, exactly as written, for example ``8/255``."""
    attack: ClassVar[Inner]
    """Steps and step size of attacks that leave them unset, at the default eps."""
    suite: ClassVar[tuple[str, ...]] = ("fgsm", "pgd", "cw-pgd", "tpgd", "square", "autoattack")
    """The standard suite, white-box, black-box and reference: the attacks of a run that names none. Those that do not
    know the norm of the run are left out."""
    backbone: ClassVar[str]
    """The name of the default backbone."""
    recipes: ClassVar[Mapping[str, Recipe]]
    """``paper``: the study's settings. ``quick``: a good network in minutes."""
    default_recipe: ClassVar[str] = "paper"
    held_back: ClassVar[float | None] = None
    """For datasets without an unlabelled pool: the share of the training set whose labels semi-supervised defenses put
    aside. None: they must be told what to use."""

    @abstractmethod
    def load(self, split: Split, root: Path | None) -> Examples:
        """Return a split. ``root`` is the user's data folder, or None to use the cache and download into it.

        Raises:
            CwbenchError: the data are missing or damaged; the message says what to fetch and where to put it.
        """

    def unlabelled(self, root: Path | None) -> Examples | None:
        """Return the pool of unlabelled images that belongs to the dataset, if there is one; ``root`` as in ``load``.

        Raises:
            CwbenchError: the pool is missing or damaged.
        """
        del root
        return None


class Backbone(Plugin):
    """A network without its last layer. Normalisation of the images is part of it."""

    @abstractmethod
    def build(self, *, channels: int, size: int) -> Features:
        """Return the network with fresh weights, for images (N, channels, size, size) in [0, 1].

        Weights are drawn from PyTorch's global random numbers, which the harness seeds and restores around the call.

        Raises:
            CwbenchError: the network does not fit images of this size.
        """
