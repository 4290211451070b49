"""Training recipes: every number that a training depends on, apart from the defense and the threat."""

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Annotated, Literal

from pydantic import Field, model_validator

from cwbench.internal.exact_number import Number
from cwbench.internal.validation import Closed

Count = Annotated[int, Field(ge=1, le=1_000_000)]
Positive = Annotated[Number, Field(gt=0)]
Share = Annotated[Number, Field(gt=0, le=1)]


class SGD(Closed):
    """Stochastic gradient descent with momentum, as in torch.optim.SGD."""

    kind: Literal["sgd"] = "sgd"
    momentum: Annotated[Number, Field(ge=0, lt=1)] = 0.9
    weight_decay: Annotated[Number, Field(ge=0)] = 0.0
    nesterov: bool = False


class Adam(Closed):
    """Adam (Kingma & Ba 2015), as in torch.optim.Adam."""

    kind: Literal["adam"] = "adam"
    weight_decay: Annotated[Number, Field(ge=0)] = 0.0


class MultiStep(Closed):
    """The rate is multiplied by ``factor`` from the epoch of each milestone on, counted from 1.

    So epoch 75 itself is trained at the reduced rate, as in the code of TRADES, and the model of epoch 75 that the
    study judges has seen it.
    """

    kind: Literal["multi-step"] = "multi-step"
    milestones: tuple[Count, ...] = ()
    factor: Positive = 0.1

    def rate(self, done: float, epochs: int) -> float:
        del epochs
        return float(self.factor ** sum(done >= milestone - 1 for milestone in self.milestones))


class OneCycle(Closed):
    """Linear from 0 to the peak and back to 0, the peak at ``peak_at`` of the training (Smith & Topin 2018)."""

    kind: Literal["one-cycle"] = "one-cycle"
    peak_at: Annotated[Number, Field(gt=0, lt=1)] = 0.4

    def rate(self, done: float, epochs: int) -> float:
        progress = done / epochs
        return min(progress / self.peak_at, (1 - progress) / (1 - self.peak_at))


class Cosine(Closed):
    """Half a cosine from the peak to 0 (Loshchilov & Hutter 2017, without restarts)."""

    kind: Literal["cosine"] = "cosine"

    def rate(self, done: float, epochs: int) -> float:
        return 0.5 * (1 + math.cos(math.pi * done / epochs))


class ThreeStage(Closed):
    """Linear between knots (epochs done, share of the peak), as in the three phases of Wong et al. 2020 on ImageNet.

    Their rates there: 0 to 0.4 over the first epoch, then down to 0.04, 0.004 and 0.0004 at epochs 6, 12 and 15, where
    the phases end.
    """

    kind: Literal["three-stage"] = "three-stage"
    knots: tuple[tuple[Annotated[Number, Field(ge=0)], Annotated[Number, Field(ge=0)]], ...] = Field(
        default=((0, 0), (1, 1), (6, 0.1), (12, 0.01), (15, 0.001)), min_length=2
    )

    def rate(self, done: float, epochs: int) -> float:
        del epochs
        for (start, low), (end, high) in pairwise(self.knots):
            if done <= end:
                return low + (high - low) * (done - start) / (end - start)
        return self.knots[-1][1]


class CropFlip(Closed):
    """Pad with zeros, crop back to size at a random place, and mirror every other image."""

    kind: Literal["crop-flip"] = "crop-flip"
    pad: Annotated[int, Field(ge=0, le=64)] = 4
    flip: bool = True


class ResizedCrop(Closed):
    """Cut out a random part of a random shape, resize it, and mirror every other image (Szegedy et al. 2015)."""

    kind: Literal["resized-crop"] = "resized-crop"
    scale: tuple[Share, Share] = (0.08, 1.0)
    """The share of the area, uniform between these."""
    ratio: tuple[Positive, Positive] = (3 / 4, 4 / 3)
    """Width over height, log-uniform between these."""
    flip: bool = True


class EMA(Closed):
    """The judged weights are an exponential moving average over all steps."""

    kind: Literal["ema"] = "ema"
    decay: Annotated[Number, Field(ge=0, lt=1)] = 0.999


class Mean(Closed):
    """The judged weights are the mean over the ends of epochs (stochastic weight averaging, Izmailov et al. 2018)."""

    kind: Literal["mean"] = "mean"
    after: Annotated[Number, Field(ge=0, lt=1)] = 0.75
    """The share of the training after which the mean begins."""


class EpochEMA(Closed):
    """The judged weights are an exponential moving average over the ends of epochs."""

    kind: Literal["epoch-ema"] = "epoch-ema"
    decay: Annotated[Number, Field(ge=0, lt=1)] = 0.85
    after: Annotated[Number, Field(ge=0, lt=1)] = 0.25
    """The share of the training after which it begins."""


Averaging = EMA | Mean | EpochEMA


class Resolution(Closed):
    """The size of training images from one epoch on: small ones first are cheaper (Wong et al. 2020, section 5.3)."""

    size: Annotated[int, Field(ge=8, le=4096)]
    batch_size: Count
    after: Annotated[Number, Field(ge=0, lt=1)] = 0.0
    """The share of the training after which this stage begins."""


class Inner(Closed):
    """The inner maximisation from one epoch on.

    ``step_size`` is stated at the dataset's own eps and scales with the eps of the epoch: 1.25 eps stays 1.25 eps
    under ``--eps`` and while eps rises.
    """

    steps: Count
    step_size: Positive
    after: Annotated[Number, Field(ge=0, lt=1)] = 0.0
    """The share of the training after which this stage begins."""


class Recipe(Closed):
    """How a backbone is trained on a dataset."""

    epochs: Count
    batch_size: Count = 128
    lr: Positive
    """The peak learning rate; the schedule multiplies it."""
    optimizer: SGD | Adam = Field(discriminator="kind")
    schedule: MultiStep | OneCycle | Cosine | ThreeStage = Field(discriminator="kind")
    inner: tuple[Inner, ...] = Field(min_length=1)
    eps_warmup: Annotated[Number, Field(ge=0, lt=1)] = 0.0
    """The share of the training over which eps rises linearly from 0.

    Without it, training at eps 0.3 on MNIST sits at chance for long.
    """
    judge_epoch: Count | None = None
    """The epoch whose weights are judged, as the study does (epoch 75 of 100); the last one if null."""
    held_out: Annotated[Number, Field(gt=0, lt=1)] | None = None
    """The share of the training set that is not trained on, and chooses the epoch instead: the one with the highest
    robust accuracy there. Test data never choose."""
    augment: Annotated[CropFlip | ResizedCrop, Field(discriminator="kind")] | None = None
    average: Annotated[Averaging, Field(discriminator="kind")] | None = None
    clip_norm: Positive | None = None
    """Gradients longer than this (L2, all weights together) are shortened to it."""
    resolutions: tuple[Resolution, ...] = ()
    """Stages of another image and batch size; none: images as they are."""

    @model_validator(mode="after")
    def _consistent(self) -> "Recipe":
        if self.judge_epoch is not None and self.judge_epoch > self.epochs:
            raise ValueError(
                f"judge_epoch {self.judge_epoch} is past the last of {self.epochs} epochs: set it too, or to null"
            )
        if isinstance(self.schedule, MultiStep):
            late = [milestone for milestone in self.schedule.milestones if milestone > self.epochs]
            if late:
                raise ValueError(
                    f"milestones {late} are past the end of {self.epochs} epochs: set schedule.milestones too"
                )
        if isinstance(self.schedule, ThreeStage):
            ends = [end for end, _ in self.schedule.knots]
            if ends[0] != 0 or sorted(set(ends)) != ends or ends[-1] > self.epochs:
                raise ValueError(
                    f"knots at {ends} must ascend from 0 and not go past the end of {self.epochs} epochs: "
                    "set schedule.knots too"
                )
        if self.held_out is not None and self.judge_epoch is not None:
            raise ValueError("judge_epoch and held_out both choose the epoch: set one of them to null")
        last = self.judge_epoch or self.epochs
        if isinstance(self.average, Mean | EpochEMA) and last <= self.average.after * self.epochs:
            raise ValueError(
                f"average begins after epoch {self.average.after * self.epochs:g} and epoch {last} is judged: "
                "set average.after or judge_epoch"
            )
        if self.resolutions and self.batch_size != self.resolutions[0].batch_size:
            raise ValueError(
                f"batch_size {self.batch_size} is not that of the first of the resolutions, "
                f"{self.resolutions[0].batch_size}: set resolutions.0.batch_size, too"
            )
        _refuse_unordered("inner stages", self.inner)
        _refuse_unordered("resolutions", self.resolutions)
        return self

    def learning_rate(self, done: float) -> float:
        """Return the learning rate after ``done`` epochs, a fraction within an epoch."""
        return self.lr * self.schedule.rate(done, self.epochs)

    def inner_at(self, done: float) -> Inner:
        """Return the inner maximisation after ``done`` epochs."""
        return [stage for stage in self.inner if stage.after <= done / self.epochs][-1]

    def resolution_at(self, done: float) -> Resolution | None:
        """Return the size of images and batches after ``done`` epochs; None: as they are."""
        return ([None, *(stage for stage in self.resolutions if stage.after <= done / self.epochs)])[-1]

    def eps_share(self, done: float) -> float:
        """Return the share of eps in force after ``done`` epochs: above 0, at most 1."""
        share = done / self.epochs
        return 1.0 if share >= self.eps_warmup else max(share / self.eps_warmup, 1e-3)


def _refuse_unordered(what: str, stages: Sequence[Inner | Resolution]) -> None:
    starts = [stage.after for stage in stages]
    if starts and (starts[0] != 0 or sorted(set(starts)) != starts):
        raise ValueError(f"{what} must begin after 0 and ascend, not after {starts}")
