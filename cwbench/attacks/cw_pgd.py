"""PGD on the margin: what most papers print as CW-infinity."""

from typing import final

from torch import Tensor

from cwbench.api import ProjectedAttack
from cwbench.attacks.margin import margin


@final
class CWPGD(ProjectedAttack):
    """Projected ascent on max_{j≠y} z_j − z_y, the f₆ of Carlini & Wagner without its clipping at −κ.

    It departs from Carlini & Wagner in everything but the objective: no tanh space, no search for the smallest
    perturbation. Early stopping takes the place of the clipping.
    """

    name = "cw-pgd"
    reference = "Carlini & Wagner 2017, Towards Evaluating the Robustness of Neural Networks, IEEE S&P; loss only"

    def objective(self, logits: Tensor, y: Tensor) -> Tensor:
        return margin(logits, y)
