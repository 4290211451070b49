"""What the four share: a part of the training set to look at, what it shows for each class, and TRADES per example."""

from abc import abstractmethod
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from cwbench.api import (
    Batch,
    Classifier,
    DataError,
    Dataset,
    Defense,
    Examples,
    Inner,
    Loss,
    Progress,
    State,
    Streams,
    Threat,
    TrainingSet,
    ascend,
    evaluating,
    frozen,
    hold_out,
    nearby_start,
    summed_kl,
)

BATCH = 256
Share = Annotated[float, Field(gt=0, lt=1)]


class HeldOutDefense(Defense):
    """A defense that keeps a share of each class of the training set to look at between epochs."""

    held_out: Share = 0.1
    """The share of each class that is looked at and not trained on."""

    def training_set(self, dataset: Dataset, labelled: Examples, root: Path | None) -> TrainingSet:
        kept, aside = hold_out(labelled, self.held_out)
        seen = torch.bincount(aside.labels.cpu(), minlength=len(dataset.classes))
        missing = [name for name, n in zip(dataset.classes, seen.tolist(), strict=True) if not n]
        if missing:
            raise DataError(
                f"{self.name}: {self.held_out:g} of class {missing[0]} of {dataset.name} is not one example",
                f"hold out more: {self.name}:held_out=...",
            )
        return TrainingSet(kept, held_out=aside)


class ClasswiseTRADES(Defense):
    """TRADES (Zhang et al. 2019) with a weight for each class and part of the loss, and a margin for each class.

    mean of a_y CE(z, y) + β b_y KL(p ‖ p′), the inner attack on KL(p ‖ p′) within m_y ε. As in TRADES's code the inner
    attack begins at x + 0.001 N(0, I), and p carries a gradient in the outer loss.
    """

    beta: Annotated[float, Field(ge=0)] = 6.0
    """β of TRADES."""

    @abstractmethod
    def weights(self, state: State) -> tuple[list[float] | None, list[float] | None, list[float] | None]:
        """Return a, b and m for each class; None for ones."""

    def loss(
        self, model: Classifier, batch: Batch, *, threat: Threat, inner: Inner, streams: Streams, state: State
    ) -> Loss:
        natural, boundary, margin = (of_examples(values, batch.y) for values in self.weights(state))
        adversarial = attacked(
            model, batch.x, threat=threat.each(margin), inner=inner, start=nearby_start(batch.x, streams), y=None
        )
        logits, adversarial_logits = model(batch.x), model(adversarial)
        clean = F.cross_entropy(logits, batch.y, reduction="none")
        moved = summed_kl(logits.log_softmax(1), adversarial_logits.log_softmax(1))
        total = (natural * clean + self.beta * boundary * moved).mean()
        return Loss(total, tally=self.tally(adversarial_logits.detach(), batch.y))

    def tally(self, adversarial_logits: Tensor, y: Tensor) -> dict[str, Tensor] | None:
        """Return what is added up over the epoch, from the logits (N, K) under attack."""
        return None


def of_examples(values: list[float] | None, y: Tensor) -> Tensor:
    """Return the value of each example's class, (N,); ones for None."""
    if values is None:
        return torch.ones(len(y), device=y.device)
    return torch.tensor(values, device=y.device)[y]


def attacked(model: Classifier, x: Tensor, *, threat: Threat, inner: Inner, start: Tensor, y: Tensor | None) -> Tensor:
    """Return the end of the inner attack: on cross-entropy with the labels ``y``, or on KL(p ‖ p′) without."""
    with evaluating(model), frozen(model):
        with torch.no_grad():
            log_p = model(x).log_softmax(1)

        def objective(logits: Tensor, rows: Tensor) -> Tensor:
            if y is not None:
                return F.cross_entropy(logits, y[rows], reduction="none")
            return summed_kl(log_p[rows], logits.log_softmax(1))

        return ascend(model, objective, x, start=start, threat=threat, steps=inner.steps, step_size=inner.step_size)


@dataclass(frozen=True)
class Measured:
    """What held-out examples show for each class, each (K,)."""

    natural_error: Tensor
    """R_nat: the share that is wrong when clean."""
    boundary_error: Tensor
    """R_bndy: the share that is right when clean and wrong under attack."""
    clean_loss: Tensor
    """Mean CE(z, y)."""
    moved: Tensor
    """Mean KL(p ‖ p′)."""

    @property
    def robust_accuracy(self) -> Tensor:
        return 1 - self.natural_error - self.boundary_error


def measured(progress: Progress, *, objective: str) -> Measured:
    """Attack the held-out part with the run's threat, in eval mode, and return what it shows for each class.

    ``objective`` is ``"ce"`` (PGD from a uniform start) or ``"kl"`` (TRADES's inner attack).
    """
    examples, threat, attack, streams = progress.held_out, progress.threat, progress.attack, progress.streams
    if examples is None or threat is None or attack is None or streams is None:
        raise DataError("there is nothing held out to look at", "the harness gives it to Defense.epoch_begin")
    model, columns = progress.model, []
    device = next(model.parameters()).device
    classes = 0
    for number, part in enumerate(torch.arange(len(examples)).split(BATCH)):
        rows = part.to(examples.labels.device)
        x, y = examples.images(rows).to(device), examples.labels[rows].to(device)
        own = streams.child("held out", number)
        start = threat.random_start(x, streams=own) if objective == "ce" else nearby_start(x, own)
        adversarial = attacked(model, x, threat=threat, inner=attack, start=start, y=y if objective == "ce" else None)
        with evaluating(model), torch.no_grad():
            logits, under = model(x), model(adversarial)
        classes = logits.shape[1]
        right, stands = logits.argmax(1) == y, under.argmax(1) == y
        kl = summed_kl(logits.log_softmax(1), under.log_softmax(1))
        values = [~right, right & ~stands, F.cross_entropy(logits, y, reduction="none"), kl]
        columns.append(torch.stack([y.double().cpu(), *(value.double().cpu() for value in values)]))
    y, *values = torch.cat(columns, 1)
    n = torch.bincount(y.long(), minlength=classes).clamp_min(1)
    return Measured(*(torch.bincount(y.long(), value, minlength=classes) / n for value in values))
