"""The hypersphere classifier, and how its temperature goes with the epoch."""

import math

import pytest
import torch
from torch import nn

from cwbench.api import Classifier, Features, Progress
from cwbench.defenses.he import HE
from cwbench.defenses.he_cmp import HECMP, solved
from cwbench.defenses.he_lis import HELIS
from cwbench.defenses.hypersphere import HypersphereHead
from cwbench.evaluation.search_copy import HalfPrecision, fold
from cwbench.internal.errors import CwbenchError


class Flat(Features):
    width = 12

    def forward(self, x):
        return x.flatten(1)


@pytest.fixture
def model():
    with torch.random.fork_rng():
        torch.default_generator.manual_seed(3)
        return Classifier(Flat(), HypersphereHead(12, 5, 15.0))


def test_logits_are_scaled_cosines_whatever_the_lengths(model):
    x = torch.rand(6, 12, generator=torch.Generator().manual_seed(4))
    expected = 15 * nn.CosineSimilarity(dim=2)(x[:, None], model.head.weight[None])
    assert torch.allclose(model(x), expected, atol=1e-5)
    assert torch.allclose(model(7 * x), expected, atol=1e-5)
    assert not any("bias" in name for name in model.head.state_dict())


def test_the_temperature_is_part_of_the_checkpoint(model):
    model.head.inverse_temperature.fill_(42)
    other = Classifier(Flat(), HypersphereHead(12, 5, 1.0))
    other.load_state_dict(model.state_dict())
    x = torch.rand(3, 12)
    assert torch.equal(model(x), other(x))


@pytest.mark.parametrize("traced", [False, True])
def test_bfloat16_search_keeps_cosines_exact(model, traced):
    """At 1/T = 75 a cosine of eight bits would move a logit by tenths."""

    class Convolved(Features):
        width = 12

        def __init__(self):
            super().__init__()
            self.layers = nn.Sequential(nn.Conv2d(3, 12, 1), nn.BatchNorm2d(12), nn.AdaptiveAvgPool2d(1), nn.Flatten())

        def forward(self, x):
            return self.layers(x)

    model.features = Convolved()
    model.head.inverse_temperature.fill_(75)
    model.eval().requires_grad_(requires_grad=False)
    x = torch.rand(4, 3, 8, 8, generator=torch.Generator().manual_seed(9))
    search, folded = fold(model, x) if traced else (model, 0)
    assert folded == int(traced)
    seen = []
    head = search.head if isinstance(search, Classifier) else None
    half = HalfPrecision(search, x.device)
    if head is not None:
        head.register_forward_hook(lambda module, args, out: seen.append(out.dtype))
    logits = half(x.clone().requires_grad_())
    with torch.autocast("cpu", torch.bfloat16):
        features = model.features(x).float()
    cosines = nn.CosineSimilarity(dim=2)(features[:, None], model.head.weight[None])
    assert (logits - 75 * cosines).abs().max() < 0.3, "features may be rough; the product must not add to it"
    assert all(kind == torch.float32 for kind in seen)


def test_he_lis_interpolates_from_the_first_epoch_to_the_last(model):
    state, seen = {}, []
    for epoch in range(1, 101):
        state = HELIS().epoch_begin(state, Progress(model, epoch, 100))
        seen.append(float(model.head.inverse_temperature))
    assert seen[0] == pytest.approx(1 + 74 / 100)
    assert seen[74] == pytest.approx(1 + 0.75 * 74)
    assert seen[99] == pytest.approx(75)
    assert state["inverse_temperatures"] == pytest.approx(seen)


def test_he_keeps_one(model):
    state = HE(inverse_temperature=10).epoch_begin({}, Progress(model, 3, 9))
    assert state == {"inverse_temperatures": [10.0]}
    assert float(model.head.inverse_temperature) == 10


@pytest.mark.parametrize("wanted", [0.6, 0.9, 0.999, 1 - 1e-6])
@pytest.mark.parametrize("k", [2, 4, 10])
def test_he_cmp_solves_equation_3(wanted, k):
    """For classes at right angles P = e^s / (e^s + K − 1), and so s = log(P (K − 1) / (1 − P))."""
    assert solved(torch.eye(k).double(), wanted, most=75) == pytest.approx(math.log(wanted * (k - 1) / (1 - wanted)))


def test_he_cmp_reaches_the_probability_for_any_weights():
    weight = torch.randn(7, 20, generator=torch.Generator().manual_seed(5)).double()
    s = solved(weight, 0.8, most=75)
    unit = weight / weight.norm(dim=1, keepdim=True)
    largest = (s * unit @ unit.T).softmax(1).diagonal()
    assert float(largest.mean()) == pytest.approx(0.8)


def test_two_classes_that_coincide_leave_the_largest_temperature():
    assert solved(torch.tensor([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]]).double(), 0.99, most=60) == 60


def test_he_cmp_raises_the_probability_in_a_line_and_holds_its_end(model):
    model.head.weight = nn.Parameter(torch.eye(5, 12))
    defense, state = HECMP(), {}
    for epoch in range(1, 21):
        state = defense.epoch_begin(state, Progress(model, epoch, 20))
    reached = [math.exp(s) / (math.exp(s) + 4) for s in state["inverse_temperatures"]]
    lowest = math.e / (math.e + 4)
    expected = [lowest + min(epoch / 18, 1) * (1 - 1e-6 - lowest) for epoch in range(1, 21)]
    assert reached == pytest.approx(expected, abs=1e-6)
    assert state["inverse_temperatures"][-3:] == pytest.approx([math.log(4 * (1 - 1e-6) / 1e-6)] * 3, rel=1e-6)


def test_a_probability_that_cannot_be_solved_for_is_an_error(monkeypatch):
    with pytest.raises(CwbenchError, match=r"finds no 1/T for a maximum probability of 0.9"):
        solved(torch.full((3, 2), math.nan).double(), 0.9, most=75)
