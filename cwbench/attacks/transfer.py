"""Transfer: PGD on a substitute, judged on the target."""

from typing import Annotated, final

import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from cwbench.api import Access, Attack, Budget
from cwbench.ascent import MOST_STEPS, ascend
from cwbench.exact import Number
from cwbench.model import Model
from cwbench.randomness import ExampleStreams
from cwbench.threat import Threat


@final
class Transfer(Attack):
    """The black-box attack of Papernot et al. 2017 without their queries, as the study runs it (section 3.3).

    PGD (Madry et al. 2018) on cross-entropy of a standard-trained network of the same dataset, which the run trains
    with another seed or takes from the cache. The target is never asked: every example takes all its steps.
    """

    name = "transfer"
    reference = "Papernot et al. 2017, Practical Black-Box Attacks against Machine Learning, ASIA CCS"
    access = Access.TRANSFER
    pooled = True
    wants_substitute = True

    steps: Annotated[int, Field(ge=1, le=MOST_STEPS)] | None = None
    """Ascent steps; the dataset's if unset."""
    step_size: Annotated[Number, Field(gt=0)] | None = None
    """In units of pixels; the dataset's, scaled with eps, if unset."""
    substitute: str | None = None
    """The digest or the folder of a checkpoint to use instead of a standard-trained one."""

    def perturb(
        self, model: Model, x: Tensor, y: Tensor, *, threat: Threat, streams: ExampleStreams, budget: Budget
    ) -> Tensor:
        del model  # what makes it a black-box attack
        if self.steps is None or self.step_size is None or budget.substitute is None:
            raise ValueError(f"{self.name} needs steps, step_size and a substitute: a run provides them")
        return ascend(
            budget.substitute,
            lambda logits, rows: F.cross_entropy(logits, y[rows], reduction="none"),
            x,
            start=threat.random_start(x, streams=streams),
            threat=threat,
            steps=self.steps,
            step_size=self.step_size,
            slots=budget.batch_size,
            tick=budget.tick,
        )
