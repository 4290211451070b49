"""The contract of attacks."""

import torch
from torch import Tensor

from cwbench.api import Attack, Budget
from cwbench.model import frozen
from cwbench.plan import filled
from cwbench.randomness import ExampleStreams
from cwbench.recipe import Inner
from cwbench.testing.contract import N, Problem, broken, problem, untouched
from cwbench.threat import make_threat

THREAT = make_threat("Linf", "8/255")
STEPS = Inner(steps=5, step_size=2 / 255)


def check_attack(attack: Attack) -> None:
    """Check shape, ball and box, what must be left alone, and that neither batch nor order matters."""
    attack = filled(attack, STEPS)
    given = problem()
    with untouched(attack, model=given.model, x=given.x, y=given.y):
        result = _perturb(attack, given, torch.arange(N))
    if not isinstance(result, Tensor) or result.shape != given.x.shape or result.dtype != given.x.dtype:
        broken(attack, "perturb must return a tensor of the shape and type of x")
    if not result.isfinite().all():
        broken(attack, "perturb returned NaN or infinity")
    if not THREAT.contains(result, given.x).all():
        excess = float(THREAT.excess(result, given.x).amax())
        broken(attack, f"perturb left the ball or the box by {excess:.3g}; call threat.project")
    if not torch.equal(result, _perturb(attack, given, torch.arange(N))):
        broken(attack, "the same call gave another result; draw every random number from streams")
    for rows in (torch.arange(N).flip(0), torch.arange(3, 5), torch.tensor([7])):
        part = _perturb(attack, given, rows)
        # A signed step turns a rounding error into two step sizes, so single pixels may differ.
        same = (part - result[rows]).abs() < 1e-4
        if same.double().mean() < 0.99:
            broken(attack, "an example's result depends on which others are in the batch, or on their order")


def _perturb(attack: Attack, given: Problem, rows: Tensor) -> Tensor:
    streams = ExampleStreams.of(0, rows)
    with frozen(given.model):
        return attack.perturb(
            given.model, given.x[rows], given.y[rows], threat=THREAT, streams=streams, budget=Budget(batch_size=4)
        )
