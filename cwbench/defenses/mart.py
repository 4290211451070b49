"""MART: misclassification-aware adversarial training."""

from collections.abc import Callable
from typing import Annotated, final

import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from cwbench.api import AdversarialDefense, Batch, Classifier, Loss, Number, Streams, Threat, mart_loss, nearby_start


@final
class MART(AdversarialDefense):
    """Wang et al. 2020, equation (11): mean BCE(p′, y) + β · mean KL(p ‖ p′)·(1 − p_y).

    The boosted cross-entropy is BCE = CE(z′, y) − log(1.0001 − max_{j≠y} p′_j + 1e-12). :func:`cwbench.api.mart_loss`
    has the authors' constants, and nothing is detached, as in their code.
    """

    name = "mart"
    reference = "Wang et al. 2020, Improving Adversarial Robustness Requires Revisiting Misclassified Examples, ICLR"

    beta: Annotated[Number, Field(ge=0)] = 5.0
    """Weight of the regulariser: 5 for ResNet-18, 6 for WRN-34-10."""

    def start(self, x: Tensor, *, threat: Threat, streams: Streams) -> Tensor:
        return nearby_start(x, streams)

    def inner_objective(self, model: Classifier, batch: Batch) -> Callable[[Tensor], Tensor]:
        return lambda logits: F.cross_entropy(logits, batch.y, reduction="none")

    def outer(self, model: Classifier, batch: Batch, adversarial: Tensor) -> Loss:
        return mart_loss(model, batch, adversarial, self.beta)
