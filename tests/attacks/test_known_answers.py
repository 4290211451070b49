"""Models whose robust examples are known: a linear one exactly, a tiny network by looking at the whole ball."""

import pytest
import torch
from torch import nn

from cwbench.api import Budget, ExampleStreams, frozen, make_threat
from cwbench.attacks.apgd_ce import APGDCE
from cwbench.attacks.apgd_t import APGDT
from cwbench.attacks.autoattack import AutoAttack
from cwbench.attacks.cw import CW
from cwbench.attacks.cw_pgd import CWPGD
from cwbench.attacks.fab_t import FABT
from cwbench.attacks.fgsm import FGSM
from cwbench.attacks.nattack import NAttack
from cwbench.attacks.pgd import PGD
from cwbench.attacks.square import Square
from cwbench.attacks.tpgd import TemperaturePGD

N, CLASSES, RADIUS = 40, 3, {"Linf": 0.03, "L2": 0.07}
STEPS = {"steps": 40, "step_size": 0.02}

EXACT = [
    FGSM(),
    PGD(**STEPS),
    PGD(early_stop=False, restarts=2, **STEPS),
    TemperaturePGD(**STEPS),
    CWPGD(**STEPS),
    APGDCE(),
    APGDT(),
    FABT(),
    AutoAttack(queries=300),
    Square(queries=3000),
    NAttack(population=60, iterations=60),
    CW(iterations=300, searches=6),
]


def linear_problem(norm):
    """Two classes: the margin 2 w·(x − ½) shrinks by at most 2 eps ‖w‖ in the dual norm, while the box is far."""
    generator = torch.Generator().manual_seed(3)
    w = torch.randn(1, 2, 4, generator=generator, dtype=torch.float64)
    x = 0.5 + 0.3 * (torch.rand(N, 1, 2, 4, generator=generator, dtype=torch.float64) - 0.5)

    def model(images):
        score = ((images - 0.5) * w).flatten(1).sum(1)
        return torch.stack([score, -score], 1)

    dual = w.abs().sum() if norm == "Linf" else w.norm()
    reach = (x - 0.5).mul(w).flatten(1).sum(1).abs() / dual  # the distance of the boundary
    return model, x, reach


def attacked(attack, model, x, y, norm, eps):
    streams = ExampleStreams.of(1, torch.arange(len(x)))
    threat = make_threat(norm, eps)
    return attack.perturb(model, x, y, threat=threat, streams=streams, budget=Budget(16)), threat


@pytest.mark.parametrize("norm", ["Linf", "L2"])
@pytest.mark.parametrize("attack", EXACT, ids=lambda attack: attack.name)
def test_on_a_linear_model_the_worst_case_is_found(attack, norm):
    if norm not in attack.norms:
        pytest.skip(f"{attack.name} does not know {norm}")
    model, x, reach = linear_problem(norm)
    eps = RADIUS[norm]
    y = model(x).argmax(1)
    found, threat = attacked(attack, model, x, y, norm, eps)
    broken = model(found).argmax(1) != y
    if attack.minimal:
        broken &= threat.distance(found, x) <= eps
    assert not broken[reach > eps].any(), "nothing outside the ball breaks an example"
    # A random search comes near; on 2×4 pixels a bump under L2 has hardly a choice.
    share = {"nattack": 0.9, "cw": 0.9, "square": 0.9 if norm == "Linf" else 0.5}.get(attack.name, 0.999)
    sure = reach < share * eps
    assert broken[sure].all(), f"{int((~broken[sure]).sum())} of {int(sure.sum())} were missed"
    assert 5 < int(sure.sum()) < N - 5


def test_cw_finds_the_distance_of_a_linear_boundary():
    model, x, reach = linear_problem("Linf")
    found, threat = attacked(CW(), model, x, model(x).argmax(1), "Linf", 0.1)
    distance = threat.distance(found, x)
    assert (distance >= reach).all()
    assert (distance <= 1.15 * reach + 1e-3).all(), "τ shrinks by a tenth at a time"


class Plane(nn.Module):
    """A network on images of two pixels, so that its whole ball can be looked at."""

    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(nn.Flatten(), nn.Linear(2, 12), nn.ReLU(), nn.Linear(12, 4)).double()

    def forward(self, x):
        return self.layers(x)


@pytest.fixture(scope="module")
def exhausted():
    """The network, its examples, and which of them no point of a fine grid over the ball breaks."""
    with torch.random.fork_rng():
        torch.manual_seed(11)
        model = Plane().eval()
        with torch.no_grad():
            model.layers[1].weight.mul_(6)
            model.layers[1].bias.uniform_(-4, 2)
            model.layers[3].weight.mul_(4)
    x = torch.rand(60, 1, 1, 2, generator=torch.Generator().manual_seed(5), dtype=torch.float64)
    with torch.no_grad():
        y = model(x).argmax(1)
        side = torch.linspace(-1, 1, 121, dtype=torch.float64)
        grid = 0.08 * torch.cartesian_prod(side, side).reshape(-1, 1, 1, 2)
        margins = []
        for image, label in zip(x, y, strict=True):
            z = model((image + grid).clamp(0, 1))
            others = z.scatter(1, torch.full((len(z), 1), int(label)), -torch.inf).amax(1)
            margins.append((z[:, label] - others).min())
    return model, x, y, torch.stack(margins)


@pytest.mark.parametrize("attack", EXACT[1:], ids=lambda attack: attack.name)
def test_on_a_tiny_network_no_attack_breaks_what_is_robust_and_strong_ones_break_the_rest(attack, exhausted):
    model, x, y, margin = exhausted
    with frozen(model):
        found, threat = attacked(attack, model, x, y, "Linf", 0.08)
        broken = model(found).argmax(1) != y
    if attack.minimal:
        broken &= threat.distance(found, x) <= 0.08
    assert not broken[margin > 0.05].any(), "the grid's step is a sixtieth of the ball"
    weak = margin < -0.05
    assert 10 < int(weak.sum()) < 50
    share = 1.0 if attack.name in {"autoattack", "apgd-t", "square"} else 0.85
    assert broken[weak].double().mean() >= share
