"""The contract of attacks."""

import torch
from torch import Tensor

from cwbench.api import Attack, Budget, ExampleStreams, Inner, Model, frozen, make_threat
from cwbench.internal.exact_number import ROUNDING
from cwbench.plugins.contract.contract import N, Problem, broken, problem, untouched

THREATS = {"Linf": make_threat("Linf", "8/255"), "L2": make_threat("L2", "0.5")}
STEPS = Inner(steps=5, step_size=2 / 255)


def check_attack(attack: Attack) -> None:
    """Check shape, ball and box, what must be left alone, and that neither batch nor order matters."""
    attack = attack.with_defaults(STEPS)
    if not attack.norms or not set(attack.norms) <= set(THREATS):
        broken(attack, f"norms are {attack.norms}; known: {', '.join(THREATS)}")
    given = problem()
    x, y = given.x.clone(), given.y.clone()
    with frozen(given.model), untouched(attack, model=given.model, x=x, y=y):
        result = _perturb(attack, given.model, x, y, torch.arange(N))
    if not isinstance(result, Tensor) or result.shape != given.x.shape or result.dtype != given.x.dtype:
        broken(attack, "perturb must return a tensor of the shape and type of x")
    if not result.isfinite().all():
        broken(attack, "perturb returned NaN or infinity")
    threat = THREATS[attack.norms[0]]
    excess = float((threat.outside(result) if attack.minimal else threat.excess(result, given.x)).amax())
    if excess > ROUNDING:
        broken(attack, f"perturb left the ball or the box by {excess:.3g}; call threat.project")
    if not torch.equal(result, _on_rows(attack, given, torch.arange(N))):
        broken(attack, "the same call gave another result; draw every random number from streams")
    for rows in (torch.arange(N).flip(0), torch.arange(3, 5), torch.tensor([7])):
        part = _on_rows(attack, given, rows)
        # A signed step turns a rounding error into two step sizes, so single pixels may differ.
        same = (part - result[rows]).abs() < 1e-4
        if same.double().mean() < 0.99:
            broken(attack, "an example's result depends on which others are in the batch, or on their order")


def _on_rows(attack: Attack, given: Problem, rows: Tensor) -> Tensor:
    with frozen(given.model):
        return _perturb(attack, given.model, given.x[rows], given.y[rows], rows)


def _perturb(attack: Attack, model: Model, x: Tensor, y: Tensor, ids: Tensor) -> Tensor:
    budget = Budget(batch_size=4, substitute=model if attack.wants_substitute else None)
    streams = ExampleStreams.of(0, ids)
    return attack.perturb(model, x, y, threat=THREATS[attack.norms[0]], streams=streams, budget=budget)
