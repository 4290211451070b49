"""Every attack against a transcription of its equations: one example, one step, one class at a time, in float64."""

import math

import pytest
import torch
from torch import Tensor

from cwbench.api import Attack, Budget, ExampleStreams, Linf, frozen
from cwbench.attacks.cw_pgd import CWPGD
from cwbench.attacks.fgsm import FGSM
from cwbench.attacks.margin import margin
from cwbench.attacks.pgd import PGD
from cwbench.attacks.tpgd import TemperaturePGD

EPS, STEPS, SIZE = 0.06, 7, 0.02


def cross_entropy(z, y, sharpness=1.0):
    scaled = [sharpness * value for value in z]
    top = max(scaled, key=Tensor.item)
    return top + sum(torch.exp(value - top) for value in scaled).log() - scaled[y]


def hinge(z, y):
    return max((value for j, value in enumerate(z) if j != y), key=Tensor.item) - z[y]


OBJECTIVES = {
    "pgd": cross_entropy,
    "tpgd": lambda z, y: cross_entropy(z, y, sharpness=5.0),
    "cw-pgd": hinge,
}


def transcribed(model, x, y, start, objective, *, early_stop):
    """Projected sign ascent for one example, every pixel clipped in turn."""
    point = start.clone()
    for _ in range(STEPS):
        leaf = point.clone().requires_grad_()
        z = model(leaf[None])[0]
        if early_stop and int(z.argmax()) != y:
            return point
        (gradient,) = torch.autograd.grad(objective(list(z), y), leaf)
        for index in range(point.numel()):
            old, centre, g = point.view(-1)[index], x.view(-1)[index], gradient.reshape(-1)[index]
            moved = float(old) + SIZE * (math.copysign(1, float(g)) if float(g) else 0.0)
            moved = min(max(moved, float(centre) - EPS), float(centre) + EPS)
            point.view(-1)[index] = min(max(moved, 0.0), 1.0)
    return point


@pytest.mark.parametrize("early_stop", [True, False])
@pytest.mark.parametrize("cls", [PGD, TemperaturePGD, CWPGD])
def test_projected_attacks_follow_their_equations(cls, early_stop, tiny, images):
    model, x = tiny.double(), images.double()
    y = model(x).argmax(1)
    attack = cls(steps=STEPS, step_size=SIZE, early_stop=early_stop)
    streams = ExampleStreams.of(3, torch.arange(len(x)))
    threat = Linf(eps=EPS)
    with frozen(model):
        found = attack.perturb(model, x, y, threat=threat, streams=streams, budget=Budget(batch_size=6))
    start = threat.random_start(x, streams=streams.child("restart", 0))
    assert (start - x).abs().max() <= EPS
    for row in range(len(x)):
        expected = transcribed(model, x[row], int(y[row]), start[row], OBJECTIVES[attack.name], early_stop=early_stop)
        assert torch.allclose(found[row], expected, atol=1e-12), f"example {row}"
    broken = (model(found).argmax(1) != y).sum()
    assert 0 < broken < len(x), "the test must see both fates"


def test_fgsm_is_one_signed_step_of_eps_from_the_image(tiny, images):
    model, x = tiny.double(), images.double()
    y = model(x).argmax(1)
    streams = ExampleStreams.of(0, torch.arange(len(x)))
    found = FGSM().perturb(model, x, y, threat=Linf(eps=EPS), streams=streams, budget=Budget(batch_size=8))
    for row in range(len(x)):
        leaf = x[row].clone().requires_grad_()
        (gradient,) = torch.autograd.grad(cross_entropy(list(model(leaf[None])[0]), int(y[row])), leaf)
        assert torch.allclose(found[row], (x[row] + EPS * gradient.sign()).clamp(0, 1), atol=1e-12)


def test_temperature_1_is_pgd(tiny, images):
    y = tiny(images).argmax(1)
    call = {"threat": Linf(eps=EPS), "budget": Budget(8), "streams": ExampleStreams.of(0, torch.arange(len(images)))}
    sharp = TemperaturePGD(steps=5, step_size=0.01, inverse_temperature=1).perturb(tiny, images, y, **call)
    assert torch.equal(sharp, PGD(steps=5, step_size=0.01).perturb(tiny, images, y, **call))


def test_margin_by_hand():
    logits = torch.tensor([[2.0, 5.0, 1.0], [2.0, 5.0, 1.0]])
    assert margin(logits, torch.tensor([1, 0])).tolist() == [-3.0, 3.0]


def test_restarts_attack_only_what_stands_and_return_the_attempt_that_broke(tiny, images):
    y = tiny(images).argmax(1)
    forward = []

    def counted(batch):
        forward.append(len(batch))
        return tiny(batch)

    def attacked(attack: Attack):
        forward.clear()
        streams = ExampleStreams.of(0, torch.arange(len(images)))
        with frozen(tiny):
            found = attack.perturb(counted, images, y, threat=Linf(eps=0.03), streams=streams, budget=Budget(20))
        return (tiny(found).argmax(1) != y), sum(forward)

    once, cost_once = attacked(PGD(steps=3, step_size=0.01))
    thrice, cost_thrice = attacked(PGD(steps=3, step_size=0.01, restarts=3))
    assert (once <= thrice).all(), "a restart must not lose a success"
    stood = int((~once).sum())
    assert 0 < stood < len(images)
    assert cost_thrice < 3 * (cost_once + len(images)), "what is broken must not be attacked again"


def test_every_restart_has_a_start_of_its_own(tiny, images):
    starts = []

    def watched(batch):
        starts.append(batch.detach().clone())
        return tiny(batch) * 0 + torch.eye(4)[y] + 0 * batch.sum()

    y = tiny(images).argmax(1)
    streams = ExampleStreams.of(0, torch.arange(len(images)))
    PGD(steps=1, step_size=0.01, restarts=3).perturb(
        watched, images, y, threat=Linf(eps=EPS), streams=streams, budget=Budget(20)
    )
    first, _, second, _, third = starts  # the looks between restarts ask who still stands
    assert (first - second).abs().max() > EPS / 2
    assert (second - third).abs().max() > EPS / 2


def test_unset_steps_outside_a_run_are_named(tiny, images):
    with pytest.raises(ValueError, match="steps and step_size"):
        PGD().perturb(
            tiny,
            images,
            tiny(images).argmax(1),
            threat=Linf(eps=EPS),
            streams=ExampleStreams.of(0, torch.arange(len(images))),
            budget=Budget(8),
        )
