import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from cwbench.api import ExampleStreams, Linf, make_threat
from cwbench.internal.errors import CwbenchError
from cwbench.internal.exact_number import ROUNDING

NORMS = ["Linf", "L2"]
floats = st.floats(-3, 3, width=32)


@pytest.mark.parametrize("norm", NORMS)
@given(
    data=st.lists(st.tuples(st.floats(0, 1, width=32), floats), min_size=6, max_size=6),
    eps=st.floats(1e-3, 1.0),
)
def test_projection_lands_inside_and_moves_nothing_that_is_inside(norm, data, eps):
    x = torch.tensor([[a for a, _ in data]])
    candidate = torch.tensor([[b for _, b in data]])
    threat = make_threat(norm, eps)
    projected = threat.project(candidate, x)
    assert threat.contains(projected, x).all()
    assert torch.allclose(threat.project(projected, x), projected, atol=ROUNDING)


def test_linf_projection_is_the_nearest_point_pixel_by_pixel():
    x = torch.tensor([[0.1, 0.5, 0.95]])
    candidate = torch.tensor([[-1.0, 0.52, 2.0]])
    assert torch.allclose(Linf(eps="0.2").project(candidate, x), torch.tensor([[0.0, 0.52, 1.0]]))


@pytest.mark.parametrize("norm", NORMS)
def test_random_starts_fill_the_ball_uniformly(norm):
    x = torch.full((4000, 3), 0.5)
    threat = make_threat(norm, 0.4)
    start = threat.random_start(x, streams=ExampleStreams.of(0, torch.arange(len(x))))
    share = threat.distance(start, x) / 0.4
    # In d dimensions the share of the radius of a uniform point is distributed as u^(1/d): its mean is d / (d + 1).
    assert share.max() <= 1 + ROUNDING
    assert share.mean() == pytest.approx(3 / 4, abs=0.01)
    assert (start - x).mean(0).abs().max() < 0.02


def test_steepest_is_of_unit_norm_and_has_the_largest_inner_product():
    gradient = torch.randn(5, 7, generator=torch.Generator().manual_seed(0))
    assert torch.equal(make_threat("Linf", 0.1).steepest(gradient), gradient.sign())
    step = make_threat("L2", 0.1).steepest(gradient)
    assert torch.allclose(step.norm(dim=1), torch.ones(5))
    assert torch.allclose((step * gradient).sum(1), gradient.norm(dim=1))


@pytest.mark.parametrize("norm", NORMS)
def test_excess_names_how_far_outside(norm):
    x = torch.full((3, 4), 0.5)
    candidate = x.clone()
    candidate[1, 0] += 0.3
    candidate[2, 0] = 1.25
    excess = make_threat(norm, 0.1).excess(candidate, x)
    assert excess.tolist() == pytest.approx([-0.1, 0.2, 0.65], abs=1e-6)


@pytest.mark.parametrize(
    ("norm", "eps"),
    [("Linf", "0"), ("Linf", "-1/255"), ("Linf", "8"), ("Linf", "8/0"), ("Linf", "nan"), ("L2", "inf"), ("L2", "0")],
)
def test_bad_radii_are_refused(norm, eps):
    with pytest.raises(CwbenchError, match="bad eps"):
        make_threat(norm, eps)


def test_an_unknown_norm_is_refused_with_the_known_ones():
    with pytest.raises(CwbenchError, match="did you mean Linf"):
        make_threat("linf", 0.1)


def test_scaling_keeps_the_norm():
    assert make_threat("L2", "0.5").scaled(0.5).radius == 0.25
    assert make_threat("Linf", "8/255").scaled(1).eps.text == "8/255"
    assert math.isclose(make_threat("Linf", "8/255").scaled(0.5).radius, 4 / 255)
