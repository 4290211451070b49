"""TRADES: clean accuracy plus a bound on how far the output moves."""

from collections.abc import Callable
from typing import Annotated, final

from pydantic import Field
from torch import Tensor

from cwbench.api import (
    AdversarialDefense,
    Batch,
    Classifier,
    Loss,
    Number,
    Streams,
    Threat,
    divergence_from,
    nearby_start,
    trades_loss,
)


@final
class TRADES(AdversarialDefense):
    """Zhang et al. 2019, equation (5): mean CE(z, y) + β · mean KL(p ‖ p′), the inner attack on Σ KL(p ‖ p′).

    As in the authors' code the target p carries a gradient in the outer loss, three batches go through train mode one
    by one (clean, adversarial, and clean again for p), and the KL divergence is averaged over the batch, not over
    classes.
    """

    name = "trades"
    reference = "Zhang et al. 2019, Theoretically Principled Trade-off between Robustness and Accuracy, ICML"

    beta: Annotated[Number, Field(ge=0)] = 6.0
    """Weight of the regulariser, 1/λ in the paper."""

    def start(self, x: Tensor, *, threat: Threat, streams: Streams) -> Tensor:
        return nearby_start(x, streams)

    def inner_objective(self, model: Classifier, batch: Batch) -> Callable[[Tensor], Tensor]:
        return divergence_from(model, batch.x)

    def outer(self, model: Classifier, batch: Batch, adversarial: Tensor) -> Loss:
        return trades_loss(model, batch, adversarial, self.beta)
