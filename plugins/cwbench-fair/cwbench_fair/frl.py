"""FRL: fair robust learning."""

import math
from typing import Annotated, Literal, final

from pydantic import Field

from cwbench.api import Progress, State, Task
from cwbench_fair.classwise import ClasswiseTRADES, HeldOutDefense, measured


@final
class FRL(HeldOutDefense, ClasswiseTRADES):
    """Xu et al. 2021: robust error is natural plus boundary error, and no class may exceed the mean of either by τ.

    The constraints R_nat(f, i) − R_nat(f) ≤ τ₁ and R_bndy(f, i) − R_bndy(f) ≤ τ₂ enter a Lagrangian. Between epochs
    its multipliers rise by α times the violation on the held-out part, and never below 0:
    φ_nat^i ← [φ_nat^i + α₁ (R_nat(f, i) − R_nat(f) − τ₁)]⁺, and φ_bndy^i likewise. Training minimises
    mean (1 + φ_nat^y) CE(z, y) + β (1 + φ_bndy^y) KL(p ‖ p′): "reweight". "remargin" leaves φ_bndy at 0 and enlarges
    the margin of a class instead, ε_i ← ε_i exp(α₂ (R_bndy(f, i) − R_bndy(f) − τ₂)); the third strategy does both.

    The paper begins with a robust network; here the first ``warmup`` of the training is plain TRADES. A margin stays
    between ε and ``widest`` ε, which bounds what the paper leaves to the number of epochs.
    """

    name = "frl"
    reference = "Xu et al. 2021, To be Robust or to be Fair: Towards Fairness in Adversarial Training, ICML"

    strategy: Literal["reweight", "remargin", "reweight-remargin"] = "reweight-remargin"
    tau_natural: Annotated[float, Field(ge=0)] = 0.05
    """τ₁."""
    tau_boundary: Annotated[float, Field(ge=0)] = 0.05
    """τ₂."""
    alpha_natural: Annotated[float, Field(ge=0)] = 0.05
    """α₁."""
    alpha_boundary: Annotated[float, Field(ge=0)] = 0.05
    """α₂."""
    warmup: Annotated[float, Field(ge=0, lt=1)] = 0.5
    """The share of the training that is plain TRADES."""
    widest: Annotated[float, Field(ge=1)] = 2.0
    """The largest margin, in ε."""

    def prepare(self, task: Task) -> State:
        k = len(task.classes)
        return {"natural": [0.0] * k, "boundary": [0.0] * k, "margin": [1.0] * k}

    def epoch_begin(self, state: State, progress: Progress) -> State:
        if progress.epoch - 1 < max(self.warmup * progress.epochs, 1):
            return state
        found = measured(progress, objective="kl")
        natural = (found.natural_error - found.natural_error.mean() - self.tau_natural).tolist()
        boundary = (found.boundary_error - found.boundary_error.mean() - self.tau_boundary).tolist()
        new = dict(state)
        new["natural"] = _risen(state["natural"], natural, self.alpha_natural)
        if self.strategy != "remargin":
            new["boundary"] = _risen(state["boundary"], boundary, self.alpha_boundary)
        if self.strategy != "reweight":
            new["margin"] = [
                min(max(margin * math.exp(self.alpha_boundary * excess), 1.0), self.widest)
                for margin, excess in zip(state["margin"], boundary, strict=True)
            ]
        return new

    def weights(self, state: State) -> tuple[list[float] | None, list[float] | None, list[float] | None]:
        return [1 + phi for phi in state["natural"]], [1 + phi for phi in state["boundary"]], state["margin"]


def _risen(multipliers: list[float], violations: list[float], rate: float) -> list[float]:
    return [max(phi + rate * violation, 0.0) for phi, violation in zip(multipliers, violations, strict=True)]
