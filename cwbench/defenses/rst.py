"""RST: robust self-training."""

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, final

import torch
from pydantic import Field
from torch import Tensor

from cwbench.api import (
    AdversarialDefense,
    Batch,
    Classifier,
    DataError,
    Dataset,
    Examples,
    Loss,
    Number,
    State,
    Streams,
    Task,
    Teacher,
    Threat,
    TrainingSet,
    UsageError,
    divergence_from,
    hold_out,
    nearby_start,
    trades_loss,
)
from cwbench.datasets.unlabelled_pool import open_pool

BATCH = 256


@final
class RST(AdversarialDefense):
    """Carmon et al. 2019, algorithm 1: a standard model labels the unlabelled images, and TRADES trains on both.

    Each batch is half labelled and half pseudo-labelled; an epoch has as many batches as the labelled set alone would
    give. The pool is, in this order: what ``unlabelled`` names, the share ``held_back`` of the training set, the
    dataset's own pool, or the share that the dataset holds back by default. Labels of a pool are never used.
    """

    name = "rst"
    reference = "Carmon et al. 2019, Unlabeled Data Improves Adversarial Robustness, NeurIPS"

    beta: Annotated[Number, Field(ge=0)] = 6.0
    """Weight of the regulariser, as in TRADES."""
    unlabelled: str | None = None
    """A folder of images, or a tensor file (.safetensors, .pt) that holds them as ``x``."""
    held_back: Annotated[Number, Field(gt=0, lt=1)] | None = None
    """The share of each class of the training set that serves as unlabelled images."""
    teacher: str | None = None
    """A stored checkpoint that labels the pool: its digest, or the first eight characters, or its folder. By default a
    standard model is trained on the labelled part in the same run."""

    def training_set(self, dataset: Dataset, labelled: Examples, root: Path | None) -> TrainingSet:
        if self.unlabelled and self.held_back:
            raise UsageError("rst: unlabelled and held_back both name a pool", "give one of them")
        if self.unlabelled:
            return TrainingSet(labelled, open_pool(Path(self.unlabelled), dataset))
        pool = None if self.held_back else dataset.unlabelled(root)
        if pool is not None:
            return TrainingSet(labelled, pool)
        share = self.held_back or dataset.held_back
        if share is None:
            raise DataError(
                f"{dataset.name} has no unlabelled images of its own",
                "name some with rst:unlabelled=DIR, or hold back a part of the training set with rst:held_back=0.5",
            )
        kept, aside = hold_out(labelled, share)
        if not len(aside) or not len(kept):
            raise DataError(f"rst: held_back {share:g} of {dataset.name} leaves one side empty", "change the share")
        return TrainingSet(kept, aside)

    def named_teacher(self) -> str | None:
        return self.teacher

    def pseudo_labels(self, unlabelled: Examples, *, teacher: Teacher, device: torch.device) -> Tensor:
        model = teacher(self.teacher)
        with torch.no_grad():
            parts = [
                model(unlabelled.images(rows).to(device)).argmax(1).cpu()
                for rows in torch.arange(len(unlabelled)).split(BATCH)
            ]
        return torch.cat(parts)

    def prepare(self, task: Task) -> State:
        return {"labelled": task.n, "unlabelled": task.unlabelled}

    def start(self, x: Tensor, *, threat: Threat, streams: Streams) -> Tensor:
        return nearby_start(x, streams)

    def inner_objective(self, model: Classifier, batch: Batch) -> Callable[[Tensor], Tensor]:
        return divergence_from(model, batch.x)

    def outer(self, model: Classifier, batch: Batch, adversarial: Tensor) -> Loss:
        return trades_loss(model, batch, adversarial, self.beta)
