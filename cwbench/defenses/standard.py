"""Standard training: no defense, the baseline of every figure."""

from typing import final

import torch.nn.functional as F

from cwbench.api import Batch, Classifier, Defense, Inner, Loss, State, Streams, Threat


@final
class Standard(Defense):
    """Mean cross-entropy on clean images."""

    name = "standard"
    reference = "Empirical risk minimisation; the standard training of the study's appendix C"

    def loss(
        self, model: Classifier, batch: Batch, *, threat: Threat, inner: Inner, streams: Streams, state: State
    ) -> Loss:
        del threat, inner, streams, state
        return Loss(F.cross_entropy(model(batch.x), batch.y))
