"""Transfer: PGD on a substitute, judged on the target."""

from typing import final

import torch.nn.functional as F
from torch import Tensor

from cwbench.api import Access, Budget, ExampleStreams, Model, SteppedAttack, Threat, ascend


@final
class Transfer(SteppedAttack):
    """The black-box attack of Papernot et al. 2017 without their queries, as the study runs it (section 3.3).

    PGD (Madry et al. 2018) on cross-entropy of a standard-trained network of the same dataset, which the run trains
    with another seed or takes from the cache. The target is never asked: every example takes all its steps.
    """

    name = "transfer"
    reference = "Papernot et al. 2017, Practical Black-Box Attacks against Machine Learning, ASIA CCS"
    access = Access.TRANSFER
    pooled = True
    wants_substitute = True
    effort = ("steps",)

    substitute: str | None = None
    """The digest or the folder of a checkpoint to use instead of a standard-trained one."""

    def named_substitute(self) -> str | None:
        return self.substitute

    def perturb(
        self, model: Model, x: Tensor, y: Tensor, *, threat: Threat, streams: ExampleStreams, budget: Budget
    ) -> Tensor:
        del model  # what makes it a black-box attack
        inner = self.resolved()
        if budget.substitute is None:
            raise ValueError(f"{self.name} needs a substitute: a run provides it")
        return ascend(
            budget.substitute,
            lambda logits, rows: F.cross_entropy(logits, y[rows], reduction="none"),
            x,
            start=threat.random_start(x, streams=streams),
            threat=threat,
            steps=inner.steps,
            step_size=inner.step_size,
            slots=budget.batch_size,
            tick=budget.tick,
        )
