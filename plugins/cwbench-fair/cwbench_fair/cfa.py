"""CFA: class-wise calibrated fair adversarial training."""

from typing import Annotated, Literal, final

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from cwbench.api import (
    Averaging,
    Batch,
    Classifier,
    EpochEMA,
    Inner,
    Loss,
    Progress,
    State,
    Streams,
    Task,
    Threat,
    nearby_start,
    summed_kl,
)
from cwbench_fair.classwise import HeldOutDefense, Share, attacked, measured, of_examples


@final
class CFA(HeldOutDefense):
    """Wei et al. 2023: each class gets the margin and the regularisation that it can bear.

    t_k is the share of training examples of class k that stood in the last epoch. Calibrated margin, equation (6):
    ε_k = (λ₁ + t_k) ε. With ``base`` madry the loss is mean CE(z′, y) within ε_y; with trades, equations (7) and (8),
    β_k = (λ₂ + t_k) β and mean (CE(z, y) + β_y KL(p ‖ p′)) / (1 + β_y). The first epoch has ε and β themselves.

    Fairness-aware weight averaging: after ``begin`` of the training the end of an epoch enters an exponential average
    if the worst class of the held-out part is at least ``threshold`` robust there; the average is what is judged. A
    recipe that averages by itself is left to it. Where no epoch reaches the threshold the last weights are judged.
    """

    name = "cfa"
    reference = "Wei, Wang, Guo & Wang 2023, CFA: Class-Wise Calibrated Fair Adversarial Training, CVPR"

    held_out: Share = 0.02
    base: Literal["madry", "trades"] = "madry"
    lambda1: Annotated[float, Field(ge=0)] | None = None
    """λ₁: 0.5 with madry and 0.3 with trades if unset, as in the paper."""
    lambda2: Annotated[float, Field(ge=0)] = 0.5
    """λ₂."""
    beta: Annotated[float, Field(ge=0)] = 6.0
    """β of TRADES."""
    threshold: Annotated[float, Field(ge=0, le=1)] = 0.2
    """δ."""
    decay: Annotated[float, Field(ge=0, lt=1)] = 0.85
    """α of the average."""
    begin: Annotated[float, Field(ge=0, lt=1)] = 0.25
    """The share of the training after which averaging begins: epoch 50 of 200."""

    def prepare(self, task: Task) -> State:
        return {"stood": None}

    def epoch_begin(self, state: State, progress: Progress) -> State:
        if not progress.tally:
            return state
        return {"stood": (progress.tally["stood"] / progress.tally["seen"].clamp_min(1)).tolist()}

    def averaging(self) -> Averaging:
        return EpochEMA(decay=self.decay, after=self.begin)

    def averages(self, state: State, progress: Progress) -> bool:
        return bool(measured(progress, objective="ce").robust_accuracy.min() >= self.threshold)

    def loss(
        self, model: Classifier, batch: Batch, *, threat: Threat, inner: Inner, streams: Streams, state: State
    ) -> Loss:
        x, y, stood = batch.x, batch.y, state["stood"]
        lambda1 = self.lambda1 if self.lambda1 is not None else {"madry": 0.5, "trades": 0.3}[self.base]
        own = threat.each(of_examples(stood and [lambda1 + t for t in stood], y))
        if self.base == "madry":
            start = own.random_start(x, streams=streams)
            under = model(attacked(model, x, threat=own, inner=inner, start=start, y=y))
            return Loss(F.cross_entropy(under, y), tally=_tally(under, y))
        start = nearby_start(x, streams)
        adversarial = attacked(model, x, threat=own, inner=inner, start=start, y=None)
        beta = self.beta * of_examples(stood and [self.lambda2 + t for t in stood], y)
        logits, under = model(x), model(adversarial)
        moved = summed_kl(logits.log_softmax(1), under.log_softmax(1))
        clean = F.cross_entropy(logits, y, reduction="none")
        return Loss(((clean + beta * moved) / (1 + beta)).mean(), tally=_tally(under, y))


def _tally(under: Tensor, y: Tensor) -> dict[str, Tensor]:
    k = under.shape[1]
    stands = (under.argmax(1) == y).float()
    return {"seen": torch.bincount(y, minlength=k), "stood": torch.bincount(y, stands, minlength=k)}
