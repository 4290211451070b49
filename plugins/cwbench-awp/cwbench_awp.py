"""Adversarial weight perturbation: training at the weights near by at which the adversarial loss is highest."""

import copy
from collections.abc import Callable, Mapping
from typing import Annotated, Literal, final

import torch
import torch.nn.functional as F
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
    divergence_from,
    mart_loss,
    nearby_start,
    trades_loss,
)

cwbench_api_version = 1

TRADES_BETA, MART_BETA = 6.0, 5.0
"""The weights of the regularisers: the defaults of cwbench's own trades and mart."""


@final
class AWP(AdversarialDefense):
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

    def start(self, x: Tensor, *, threat: Threat, streams: Streams) -> Tensor:
        return threat.random_start(x, streams=streams) if self.base == "madry" else nearby_start(x, streams)

    def inner_objective(self, model: Classifier, batch: Batch) -> Callable[[Tensor], Tensor]:
        if self.base == "trades":
            return divergence_from(model, batch.x)
        return lambda logits: F.cross_entropy(logits, batch.y, reduction="none")

    def outer(self, model: Classifier, batch: Batch, adversarial: Tensor) -> Loss:
        if self.base == "trades":
            return trades_loss(model, batch, adversarial, TRADES_BETA)
        if self.base == "mart":
            return mart_loss(model, batch, adversarial, MART_BETA)
        return Loss(F.cross_entropy(model(adversarial), batch.y))

    def prepare(self, task: Task) -> State:
        return {"epoch": 0}

    def epoch_begin(self, state: State, progress: Progress) -> State:
        return {"epoch": progress.epoch}

    def loss(
        self, model: Classifier, batch: Batch, *, threat: Threat, inner: Inner, streams: Streams, state: State
    ) -> Loss:
        adversarial = self.attacked(model, batch, threat=threat, inner=inner, streams=streams)
        if state["epoch"] <= self.warmup:
            return self.outer(model, batch, adversarial)
        moves = perturbation(model, lambda copied: self.outer(copied, batch, adversarial).total, self.gamma)
        stood = {name: parameter.detach().clone() for name, parameter in model.named_parameters() if name in moves}

        def put_back() -> None:
            _set(model, stood)

        _set(model, {name: stood[name] + move for name, move in moves.items()})
        return Loss(self.outer(model, batch, adversarial).total, before_step=put_back)


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
