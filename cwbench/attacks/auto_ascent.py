"""The ascent of Auto-PGD: momentum, and a step size that halves itself where progress stalls.

Croce & Hein 2020, "Reliable evaluation of adversarial robustness with an ensemble of diverse parameter-free attacks",
algorithm 1, for any objective and norm.
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor

from cwbench.ascent import Exit, Objective, columns, value_and_gradient
from cwbench.model import Model
from cwbench.slots import State, drive
from cwbench.threat import Threat

MOMENTUM = 0.75  # α of the paper
ENOUGH = 0.75  # ρ of the paper: the share of steps that must have increased the objective


def checkpoints(steps: int) -> list[int]:
    """Return the steps after which the step size is reconsidered.

    w_j = ⌈p_j · steps⌉ with p_0 = 0, p_1 = 0.22, p_{j+1} = p_j + max(p_j − p_{j−1} − 0.03, 0.06).
    """
    shares = [0.0, 0.22]
    while shares[-1] < 1:
        shares.append(shares[-1] + max(shares[-1] - shares[-2] - 0.03, 0.06))
    # A share such as 0.22 · 100 must not be rounded up for its last binary digit; with few steps some fall together.
    return sorted({math.ceil(share * steps - 1e-9) for share in shares if share <= 1})


def auto_ascend(
    model: Model,
    objective: Objective,
    x: Tensor,
    *,
    start: Tensor,
    threat: Threat,
    steps: int,
    slots: int,
    exit_rule: Exit | None = None,
    tick: Callable[[int], None] | None = None,
) -> Tensor:
    """Return for each example the iterate with the largest objective, or the one that ``exit_rule`` let go.

    Shapes, slots and leaving are as in :func:`cwbench.ascent.ascend`.
    """
    answer = start.clone()
    deadline = torch.tensor([*checkpoints(steps), steps + 1], device=x.device)

    def begin(rows: Tensor) -> State:
        here = start[rows]
        zero = x.new_zeros(len(rows))
        return {
            "origin": x[rows],
            "iterate": here,
            "claim": here,
            "previous": here,
            "gradient": torch.zeros_like(here),
            "value": zero - math.inf,
            "size": zero + 2 * threat.radius,
            "best": here,
            "best_gradient": torch.zeros_like(here),
            "best_value": zero - math.inf,
            "age": zero.long() - 1,  # steps taken; -1 before the start has been looked at
            "rises": zero,
            "mark": zero.long(),
            "size_at_mark": zero + 2 * threat.radius,
            "best_at_mark": zero - math.inf,
        }

    def step(state: State, rows: Tensor) -> tuple[Tensor, Tensor]:
        fresh = state["age"] < 0
        size = columns(state["size"], x)
        ahead = threat.project(state["iterate"] + size * threat.steepest(state["gradient"]), state["origin"])
        # The first step has no momentum, and the start is looked at where it is.
        inertia = columns((state["age"] == 0).to(x.dtype) * (1 - MOMENTUM) + MOMENTUM, x)
        moved = state["iterate"] + inertia * (ahead - state["iterate"])
        moved = moved + (1 - inertia) * (state["iterate"] - state["previous"])
        proposal = torch.where(columns(fresh, x), state["iterate"], threat.project(moved, state["origin"]))
        logits, value, gradient = value_and_gradient(model, objective, proposal, rows)
        claimed = exit_rule.claims(logits, rows) if exit_rule else torch.zeros_like(fresh)

        state["claim"] = proposal
        state["rises"] = state["rises"] + (~fresh & (value > state["value"]))
        state["previous"] = state["iterate"]
        state["iterate"], state["gradient"], state["value"] = proposal, gradient, value
        _keep(state, value > state["best_value"])
        state["age"] = state["age"] + 1
        state["best_at_mark"] = torch.where(state["age"] == 0, state["best_value"], state["best_at_mark"])
        reconsider(state)
        return claimed, state["age"] == steps

    def reconsider(state: State) -> None:
        """Halve the step size where too few steps rose, or where neither size nor best changed since the last mark."""
        at_mark = state["age"] == deadline[state["mark"] + 1]
        since = deadline[state["mark"] + 1] - deadline[state["mark"]]
        stalled = state["rises"] < ENOUGH * since
        stuck = (state["size"] == state["size_at_mark"]) & (state["best_value"] == state["best_at_mark"])
        halve = at_mark & (stalled | stuck)
        state["size_at_mark"] = torch.where(at_mark, state["size"], state["size_at_mark"])
        state["best_at_mark"] = torch.where(at_mark, state["best_value"], state["best_at_mark"])
        state["size"] = torch.where(halve, state["size"] / 2, state["size"])
        back = columns(halve, x)
        state["iterate"] = torch.where(back, state["best"], state["iterate"])
        state["gradient"] = torch.where(back, state["best_gradient"], state["gradient"])
        state["value"] = torch.where(halve, state["best_value"], state["value"])
        state["rises"] = torch.where(at_mark, torch.zeros_like(state["rises"]), state["rises"])
        state["mark"] = state["mark"] + at_mark.long()

    def finish(state: State, rows: Tensor, broken: Tensor) -> None:
        answer[rows] = torch.where(columns(broken, x), state["claim"], state["best"])
        if tick:
            tick(len(rows))

    confirm = exit_rule.confirm if exit_rule else None
    drive(len(x), slots, device=x.device, begin=begin, step=step, finish=finish, confirm=confirm)
    return answer


def _keep(state: State, better: Tensor) -> None:
    """Remember the iterates that are better than the best before, with what was measured there."""
    column = columns(better, state["best"])
    state["best"] = torch.where(column, state["iterate"], state["best"])
    state["best_gradient"] = torch.where(column, state["gradient"], state["best_gradient"])
    state["best_value"] = torch.where(better, state["value"], state["best_value"])
