"""The hypersphere classifier that HE and its schedules share."""

from abc import abstractmethod
from collections.abc import Callable
from typing import Annotated, final

import torch
import torch.fx
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from cwbench.api import (
    AdversarialDefense,
    Batch,
    Classifier,
    Loss,
    Number,
    Progress,
    State,
    Streams,
    Threat,
    nearby_start,
)


def cosines(features: Tensor, weight: Tensor) -> Tensor:
    """Return the cosine of each row of ``features`` (N, D) with each of ``weight`` (K, D), shape (N, K).

    In the precision of the weights even under autocast: 1/T = 75 would make whole numbers of bfloat16's rounding.
    """
    with torch.autocast(features.device.type, enabled=False):
        return F.linear(F.normalize(features.to(weight.dtype)), F.normalize(weight))


torch.fx.wrap("cosines")  # traced as one call: the search's copy must not lose its precision


@final
class HypersphereHead(nn.Module):
    """Logits s·cos(w_j, f), without bias: features and weights lie on the unit sphere.

    ``inverse_temperature`` is s, the study's 1/T. It is part of the checkpoint: cosines alone would be another model.
    """

    inverse_temperature: Tensor

    def __init__(self, width: int, classes: int, inverse_temperature: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(nn.Linear(width, classes, bias=False).weight.detach())
        self.register_buffer("inverse_temperature", torch.tensor(float(inverse_temperature)))

    def forward(self, features: Tensor) -> Tensor:
        return self.inverse_temperature * cosines(features, self.weight)


class HypersphereDefense(AdversarialDefense):
    """Adversarial training with the hypersphere classifier; a subclass says how 1/T goes with the epoch.

    Pang et al. 2020, equations (4) and (6): cross-entropy of s·(cos θ_y − m) against s·cos θ_j. The margin m belongs to
    the outer loss alone; the inner maximisation and the judged logits are without it.
    """

    margin: Annotated[Number, Field(ge=0, lt=2)] = 0.0
    """The angular margin m; the study uses none, the authors' code 0.2."""

    @abstractmethod
    def inverse_temperature_at(self, progress: Progress) -> float:
        """Return 1/T of the epoch that begins."""

    @abstractmethod
    def initial_inverse_temperature(self) -> float:
        """Return 1/T of a network that has not been trained."""

    @final
    def classifier(self, width: int, classes: int) -> nn.Module:
        return HypersphereHead(width, classes, self.initial_inverse_temperature())

    @final
    def epoch_begin(self, state: State, progress: Progress) -> State:
        scale = self.inverse_temperature_at(progress)
        head(progress.model).inverse_temperature.fill_(scale)
        return {**state, "inverse_temperatures": [*state.get("inverse_temperatures", []), scale]}

    @final
    def start(self, x: Tensor, *, threat: Threat, streams: Streams) -> Tensor:
        return nearby_start(x, streams)

    @final
    def inner_objective(self, model: Classifier, batch: Batch) -> Callable[[Tensor], Tensor]:
        return lambda logits: F.cross_entropy(logits, batch.y, reduction="none")

    @final
    def outer(self, model: Classifier, batch: Batch, adversarial: Tensor) -> Loss:
        logits = model(adversarial)
        if self.margin:
            own = F.one_hot(batch.y, logits.shape[1])
            logits = logits - self.margin * head(model).inverse_temperature * own
        return Loss(F.cross_entropy(logits, batch.y))


def head(model: Classifier) -> HypersphereHead:
    """Return the last layer of a classifier that such a defense built."""
    assert isinstance(model.head, HypersphereHead)  # noqa: S101 - its type, for readers and mypy
    return model.head
