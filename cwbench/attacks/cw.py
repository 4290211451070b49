"""Carlini & Wagner's attack for L∞: the smallest perturbation, and with it accuracy at every eps."""

from typing import Annotated, final

from pydantic import Field
from torch import Tensor

from cwbench.api import MOST_STEPS, Access, Attack, Budget, ExampleStreams, Model, Number, Threat, drive
from cwbench.attacks.cw_search import Search


@final
class CW(Attack):
    """Carlini & Wagner 2017, section VI-C, in the form that the authors of RST ran (Carmon et al. 2019).

    With x′ = (tanh w + 1) / 2 and δ = x′ − x, Adam minimises Σ max(|δ| − τ, 0) + c · max(z_y − max_{j≠y} z_j, 0) from
    w = artanh(2x − 1). A misclassified iterate with ‖δ‖∞ ≤ τ lowers τ to 0.9 ‖δ‖∞, and the nearest one is the answer. A
    search ends after ``iterations``, or where a tenth of them has neither lowered the loss by a ten-thousandth nor τ.
    Then c is multiplied by ten, and once a search has succeeded it is bisected between the largest that failed and the
    smallest that succeeded. Candidates may lie outside the ball.
    """

    name = "cw"
    reference = "Carlini & Wagner 2017, Towards Evaluating the Robustness of Neural Networks, IEEE S&P"
    access = Access.WHITE_BOX
    pooled = True
    effort = ("iterations", "searches")
    minimal = True
    norms = ("Linf",)

    iterations: Annotated[int, Field(ge=1, le=MOST_STEPS)] = 1000
    """Of Adam, in each search."""
    searches: Annotated[int, Field(ge=1, le=1000)] = 5
    """How many values of c are tried."""
    learning_rate: Annotated[Number, Field(gt=0)] = 5e-3
    first_c: Annotated[Number, Field(gt=0)] = 0.01
    """The first weight of the margin."""

    def perturb(
        self, model: Model, x: Tensor, y: Tensor, *, threat: Threat, streams: ExampleStreams, budget: Budget
    ) -> Tensor:
        del streams  # nothing is random
        run = Search(
            self.iterations, self.searches, self.learning_rate, self.first_c, model, x, y, x.clone(), budget.tick
        )
        drive(len(x), budget.batch_size, device=x.device, begin=run.begin, step=run.step, finish=run.finish)
        return run.answer
