"""Temperature-PGD: the study's own attack on defenses that smooth the output distribution."""

from typing import Annotated, final

import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from cwbench.api import Number, ProjectedAttack
from cwbench.attacks.pgd import PGD


@final
class TemperaturePGD(ProjectedAttack):
    """PGD on the cross-entropy of softmax(z / T), equations (1) and (2) of the study's section 4.

    A large 1/T sharpens a smooth output distribution, so that the gradient follows the strongest rival class instead
    of an average over all of them.
    """

    name = "tpgd"
    reference = "Intriguing Class-wise Properties of Adversarial Training, section 4 and appendix F"

    inverse_temperature: Annotated[Number, Field(gt=0)] = 5.0
    """1/T. The study uses 5 in table 3 and others in appendix F; 1 is plain PGD."""

    def plain_counterpart(self) -> PGD:
        return PGD(**{name: value for name, value in self if name != "inverse_temperature"})

    def objective(self, logits: Tensor, y: Tensor) -> Tensor:
        return F.cross_entropy(logits * self.inverse_temperature, y, reduction="none")
