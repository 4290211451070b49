"""HE: adversarial training on the hypersphere, at one temperature."""

from typing import Annotated, final

from pydantic import Field

from cwbench.api import Number, Progress
from cwbench.defenses.hypersphere import HypersphereDefense


@final
class HE(HypersphereDefense):
    """Pang et al. 2020 as the study uses it: Madry's training with s·cos logits and, by default, no angular margin."""

    name = "he"
    reference = "Pang et al. 2020, Boosting Adversarial Training with Hypersphere Embedding, NeurIPS"

    inverse_temperature: Annotated[Number, Field(gt=0)] = 15.0
    """1/T, the authors' s: 15 in their code."""

    def initial_inverse_temperature(self) -> float:
        return self.inverse_temperature

    def inverse_temperature_at(self, progress: Progress) -> float:
        del progress
        return self.inverse_temperature
