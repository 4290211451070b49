"""Adversarial weight perturbation: training at the weights near by at which the adversarial loss is highest."""

import copy
from collections.abc import Mapping
from typing import Annotated, Literal, final

import torch
from pydantic import Field
from torch import Tensor

import cwbench
from cwbench.api import (
    AdversarialDefense,
    Batch,
    Classifier,
    Defense,
    Inner,
    Loss,
    Progress,
    State,
    Streams,
    Task,
    Threat,
)
from cwbench.defenses.madry import Madry
from cwbench.defenses.mart import MART
from cwbench.defenses.trades import TRADES

cwbench_api_version = 1

BASES: Mapping[str, type[AdversarialDefense]] = {"madry": Madry, "trades": TRADES, "mart": MART}


@final
class AWP(Defense):
    """Wu, Xia & Wang 2020, equation (7): min_w max_{v ∈ V} L(f_{w+v}), with L the adversarial loss of ``base``.

    V bounds each layer's part of v by its weights, ‖v_l‖ ≤ γ‖w_l‖ (equation 8). As in the paper one ascent step is
    taken for each batch, on the adversarial examples that were found at w (equation 9): v_l = γ ‖w_l‖ g_l / ‖g_l‖ with
    g the gradient of L. The optimiser steps from w, with the gradient at w + v (equation 11).

    As in the authors' code v moves weights of two or more dimensions, not biases or batch norm; and the gradient g is
    that of a copy in train mode, so that batch norm's statistics see each batch once.
    """

    name = "awp"
    reference = "Wu, Xia & Wang 2020, Adversarial Weight Perturbation Helps Robust Generalization, NeurIPS"

    base: Literal["madry", "trades", "mart"] = "madry"
    """Whose loss it is, with the defaults of that defense."""
    gamma: Annotated[float, Field(gt=0, le=1)] = 0.01
    """γ: 0.01 with madry, 0.005 with trades in the paper's experiments."""
    warmup: Annotated[int, Field(ge=0)] = 0
    """Epochs before weights are perturbed: 10 with trades in the authors' code."""

    def prepare(self, task: Task) -> State:
        return {"epoch": 0}

    def epoch_begin(self, state: State, progress: Progress) -> State:
        return {"epoch": progress.epoch}

    def loss(
        self, model: Classifier, batch: Batch, *, threat: Threat, inner: Inner, streams: Streams, state: State
    ) -> Loss:
        base = BASES[self.base]()
        adversarial = base.attacked(model, batch, threat=threat, inner=inner, streams=streams)
        if state["epoch"] <= self.warmup:
            return base.outer(model, batch, adversarial)
        moves = perturbation(model, lambda copied: base.outer(copied, batch, adversarial).total, self.gamma)
        stood = {name: parameter.detach().clone() for name, parameter in model.named_parameters() if name in moves}

        def put_back() -> None:
            _set(model, stood)

        _set(model, {name: stood[name] + move for name, move in moves.items()})
        return Loss(base.outer(model, batch, adversarial).total, before_step=put_back)


def perturbation(model: Classifier, loss, gamma: float) -> dict[str, Tensor]:
    """Return v: for each weight of two or more dimensions, γ ‖w‖ times the unit gradient of ``loss`` at it."""
    copied = copy.deepcopy(model)
    named = {name: parameter for name, parameter in copied.named_parameters() if parameter.dim() > 1}
    gradients = torch.autograd.grad(loss(copied), list(named.values()), allow_unused=True)
    return {
        name: gamma * weight.detach().norm() * gradient / gradient.norm().clamp_min(1e-12)
        for (name, weight), gradient in zip(named.items(), gradients, strict=True)
        if gradient is not None
    }


@torch.no_grad()
def _set(model: Classifier, weights: Mapping[str, Tensor]) -> None:
    parameters = dict(model.named_parameters())
    for name, weight in weights.items():
        parameters[name].copy_(weight)


@cwbench.hookimpl
def cwbench_defenses() -> list[type[Defense]]:
    return [AWP]
