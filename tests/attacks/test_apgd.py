"""Auto-PGD against a transcription of algorithm 1 of Croce & Hein 2020, one example at a time, in float64."""

import math

import pytest
import torch
from torch import Tensor

from cwbench.api import Budget, ExampleStreams, Linf, frozen
from cwbench.attacks.apgd_ce import APGDCE
from cwbench.attacks.apgd_t import APGDT, targeted_dlr
from cwbench.attacks.auto_pgd import checkpoints

EPS, STEPS = 0.05, 24


def test_checkpoints_of_a_hundred_steps():
    """p = 0, 0.22, 0.41, 0.57, 0.70, 0.80, 0.87, 0.93, 0.99, by hand from the recursion."""
    assert checkpoints(100) == [0, 22, 41, 57, 70, 80, 87, 93, 99]


@pytest.mark.parametrize("steps", [1, 2, 5, 7, 16, 1000])
def test_checkpoints_ascend_however_few_the_steps(steps):
    """Two at the same step would never both be reached, and the step size would stay as it is from there on."""
    found = checkpoints(steps)
    assert found == sorted(set(found))
    assert found[0] == 0
    assert found[-1] <= steps


def algorithm_1(model, objective, x, start, y):
    """Return x_max, or the first misclassified iterate."""

    def evaluated(point):
        leaf = point.clone().requires_grad_()
        z = model(leaf[None])[0]
        value = objective(z)
        (gradient,) = torch.autograd.grad(value, leaf)
        return value.item(), gradient, int(z.argmax()) != y

    def projected(point):
        return point.clamp(x - EPS, x + EPS).clamp(0, 1)

    marks = checkpoints(STEPS)
    eta, points, values = 2 * EPS, [start], []
    value, gradient, broken = evaluated(start)
    if broken:
        return start
    values.append(value)
    best, best_value, best_gradient = start, value, gradient
    previous, here = start, start
    etas_at, best_at = [eta], [best_value]
    for k in range(STEPS):
        ahead = projected(here + eta * gradient.sign())
        alpha = 1 if k == 0 else 0.75
        new = projected(here + alpha * (ahead - here) + (1 - alpha) * (here - previous))
        value, gradient, broken = evaluated(new)
        if broken:
            return new
        points.append(new)
        values.append(value)
        previous, here = here, new
        if value > best_value:
            best, best_value, best_gradient = new, value, gradient
        if k + 1 in marks[1:]:
            j = marks.index(k + 1)
            rises = sum(values[i + 1] > values[i] for i in range(marks[j - 1], marks[j]))
            stalled = rises < 0.75 * (marks[j] - marks[j - 1])
            stuck = etas_at[-1] == eta and best_at[-1] == best_value
            etas_at.append(eta)
            best_at.append(best_value)
            if stalled or stuck:
                eta /= 2
                here, gradient = best, best_gradient
                values[-1] = best_value
    return best


def cross_entropy(y):
    return lambda z: z.exp().sum().log() - z[y]


def ratio(y, t):
    def value(z):
        ordered = sorted(z, key=Tensor.item, reverse=True)
        return (z[t] - z[y]) / (ordered[0] - (ordered[2] + ordered[3]) / 2 + 1e-12)

    return value


def test_apgd_ce_follows_the_algorithm(tiny, images):
    model, x = tiny.double(), images.double()
    y = model(x).argmax(1)
    streams, threat = ExampleStreams.of(4, torch.arange(len(x))), Linf(eps=EPS)
    with frozen(model):
        found = APGDCE(steps=STEPS).perturb(model, x, y, threat=threat, streams=streams, budget=Budget(7))
    start = threat.random_start(x, streams=streams.child("restart", 0))
    for row, label in enumerate(y.tolist()):
        expected = algorithm_1(model, cross_entropy(label), x[row], start[row], label)
        assert torch.allclose(found[row], expected, atol=1e-10), f"example {row}"
    assert 0 < (model(found).argmax(1) != y).sum() < len(x)


def test_apgd_t_takes_the_likeliest_targets_in_turn_on_what_stands(tiny, images):
    model, x = tiny.double(), images.double()
    clean = model(x).detach()
    y = clean.argmax(1)
    streams, threat = ExampleStreams.of(5, torch.arange(len(x))), Linf(eps=EPS)
    with frozen(model):
        found = APGDT(steps=STEPS).perturb(model, x, y, threat=threat, streams=streams, budget=Budget(7))
    for row, label in enumerate(y.tolist()):
        for position, target in enumerate(clean[row].argsort(descending=True).tolist()[1:]):
            start = threat.random_start(x, streams=streams.child("target", position))[row]
            expected = algorithm_1(model, ratio(label, target), x[row], start, label)
            if int(model(expected[None]).argmax()) != label:
                break
        assert torch.allclose(found[row], expected, atol=1e-10), f"example {row}"


def test_the_ratio_by_hand_and_its_fallback():
    logits = torch.tensor([[4.0, 1.0, 3.0, 0.0]])
    value = targeted_dlr(logits, torch.tensor([0]), torch.tensor([2]))
    assert value.item() == pytest.approx((3 - 4) / (4 - (1 + 0) / 2))
    assert targeted_dlr(logits[:, :3], torch.tensor([0]), torch.tensor([1])).item() == -3
    assert math.isfinite(targeted_dlr(torch.ones(1, 4), torch.tensor([0]), torch.tensor([1])).item())


@pytest.mark.parametrize("classes", [2, 3])
def test_few_classes_have_fewer_targets(images, classes):
    weights = torch.randn(108, classes, generator=torch.Generator().manual_seed(0))

    def model(batch):
        return batch.flatten(1) @ weights

    y = model(images).argmax(1)
    streams = ExampleStreams.of(0, torch.arange(len(images)))
    found = APGDT(steps=10).perturb(model, images, y, threat=Linf(eps=0.5), streams=streams, budget=Budget(8))
    assert (model(found).argmax(1) != y).all(), "a linear model has no robust example at this eps"


def test_batch_size_changes_nothing(tiny, images):
    model, x = tiny.double(), images.double()
    y = model(x).argmax(1)
    results = []
    for size in (1, 6, 64):
        streams = ExampleStreams.of(0, torch.arange(len(x)))
        with frozen(model):
            results.append(
                APGDCE(steps=12, restarts=2).perturb(
                    model, x, y, threat=Linf(eps=0.03), streams=streams, budget=Budget(size)
                )
            )
    assert torch.allclose(results[0], results[1], atol=1e-10)
    assert torch.allclose(results[0], results[2], atol=1e-10)
