"""What a defense is: a way to train."""

from abc import abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from cwbench.api.classifier import Classifier, Model
from cwbench.api.dataset import Dataset, Examples
from cwbench.api.plugin import Plugin
from cwbench.api.recipe import Averaging, Inner
from cwbench.api.streams import Streams
from cwbench.api.threat import Threat

State = Mapping[str, Any]
"""What a defense remembers from epoch to epoch: JSON-able values. It is checkpointed, resumed and reported."""


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

    def training_set(self, dataset: Dataset, labelled: Examples, root: Path | None) -> TrainingSet:
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

    def named_teacher(self) -> str | None:
        """Return the checkpoint that :meth:`pseudo_labels` asks ``teacher`` for; None for one that the run trains."""
        return None

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
