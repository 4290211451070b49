"""Square against a transcription of algorithms 1 and 2 of Andriushchenko et al. 2020, one example at a time."""

import math

import pytest
import torch

from cwbench.api import L2, Budget, ExampleStreams, Linf, frozen
from cwbench.attacks.square import Square
from cwbench.attacks.square_proposals import Bumps, bump

EPS, QUERIES = 0.03, 200


def search(model, x, y, stripes, draws):
    """Return the first misclassified query, or the best image."""
    channels, height, width = x.shape

    def clipped(z):
        return torch.minimum(torch.maximum(z, x - EPS), x + EPS).clamp(0, 1)

    def margin(z):
        logits = model(z[None])[0]
        return max(v for j, v in enumerate(logits.tolist()) if j != y) - float(logits[y])

    best = clipped(x + EPS * torch.where(stripes < 0.5, -1.0, 1.0).double())
    value = margin(best)
    if value > 0:
        return best
    for query in range(1, QUERIES):
        at = query * 10_000 // QUERIES
        share = 0.8 / 2 ** sum(at > moment for moment in (10, 50, 200, 500, 1000, 2000, 4000, 6000, 8000))
        side = min(max(1, round(math.sqrt(share * height * width))), height, width)
        top, left = (int(draws[query, i] * (size - side + 1)) for i, size in ((0, height), (1, width)))
        proposal = best.clone()
        for channel in range(channels):
            sign = -1 if draws[query, 2 + channel] < 0.5 else 1
            proposal[channel, top : top + side, left : left + side] += 2 * EPS * sign
        proposal = clipped(proposal)
        found = margin(proposal)
        if found > 0:
            return proposal
        if found > value:
            best, value = proposal, found
    return best


def test_it_follows_the_algorithm(tiny, images):
    model, x = tiny.double(), images.double()
    with torch.no_grad(), frozen(model):
        y = model(x).argmax(1)
        streams, threat = ExampleStreams.of(3, torch.arange(len(x))), Linf(eps=EPS)
        found = Square(queries=QUERIES).perturb(model, x, y, threat=threat, streams=streams, budget=Budget(6))
        stripes = streams.child("stripes").uniform(torch.empty(len(x), 3, 1, 6))
        draws = streams.child("squares").uniform(torch.empty(len(x), QUERIES, 5))
        for row, label in enumerate(y.tolist()):
            expected = search(model, x[row], label, stripes[row], draws[row])
            assert torch.allclose(found[row], expected, atol=1e-12), f"example {row}"
        broken = model(found).argmax(1) != y
    assert 0 < broken.sum() < len(x)


def test_every_pixel_can_be_reached(images):
    """A model that looks at the last pixel alone is broken through it, which the first stripe cannot always do."""

    def corner(x):
        return torch.stack([x[:, 0, -1, -1], 1 - x[:, 0, -1, -1]], 1)

    x = images.clone()
    x[:, 0, -1, -1] = 0.52
    streams = ExampleStreams.of(0, torch.arange(len(x)))
    found = Square(queries=2000).perturb(
        corner, x, corner(x).argmax(1), threat=Linf(eps=EPS), streams=streams, budget=Budget(8)
    )
    assert (found[:, 0, -1, -1] < 0.5).all()


def test_a_bump_by_hand():
    """Equation (2) for a side of three: a hill of 1×3 with n = 1 over a pit of 2×3, whose middle is its second row."""
    low, high = 1 / 4, 1 / 4 + 1
    hill = [low, high, low]
    pit = [[-low, -low, -low], [-low, -high, -low]]
    expected = torch.tensor([hill, *pit])
    assert torch.allclose(bump(3), expected / expected.norm())


def test_under_l2_a_step_follows_algorithm_3():
    """One fresh square on a change inside the box, transcribed channel by channel."""
    generator = torch.Generator().manual_seed(0)
    x = 0.5 + 0.02 * torch.rand(30, 3, 9, 9, generator=generator, dtype=torch.float64)
    change = torch.randn(30, 3, 9, 9, generator=generator, dtype=torch.float64)
    change *= 0.3 / change.flatten(1).norm(dim=1)[:, None, None, None]
    threat = L2(eps=0.4)
    squares = Bumps(x.shape[1:], threat, torch.tensor([5, 3, 4]))
    asked = torch.arange(30) % 3
    draw = torch.rand(30, squares.draws, generator=generator)
    found = squares.changed(x + change, x, asked, draw)
    for row in range(30):
        nu, side = change[row].clone(), [5, 3, 4][asked[row]]
        top, left, top2, left2 = (int(value * (9 - side + 1)) for value in draw[row, :4])
        first, second = torch.zeros(9, 9, dtype=torch.bool), torch.zeros(9, 9, dtype=torch.bool)
        first[top : top + side, left : left + side] = True
        second[top2 : top2 + side, left2 : left2 + side] = True
        shape = torch.zeros(9, 9, dtype=torch.float64)
        template = bump(side).double()
        shape[first] = (template if draw[row, 4] < 0.5 else template.T).flatten()
        unused = 0.4**2 - float((nu**2).sum())
        for channel in range(3):
            sign = -1 if draw[row, 5 + channel] < 0.5 else 1
            held = torch.where(first, nu[channel], 0)
            direction = sign * shape + held / held.norm()
            room = (float((nu[channel][first | second] ** 2).sum()) + unused / 3) ** 0.5
            nu[channel][second] = 0
            nu[channel][first] = (direction / direction.norm() * room)[first]
        assert float(nu.norm()) == pytest.approx(0.4, abs=1e-6)
        assert torch.allclose(found[row], (x[row] + nu).clamp(0, 1), atol=1e-6), f"example {row}"


def test_under_l2_every_candidate_uses_the_whole_ball(tiny, images):
    model, x = tiny.double(), images.double()
    seen = []

    def watched(batch):
        seen.append(batch)
        return model(batch)

    y = model(x).argmax(1)
    threat, streams = L2(eps=0.2), ExampleStreams.of(0, torch.arange(len(x)))
    with torch.no_grad(), frozen(model):
        found = Square(queries=80).perturb(watched, x, y, threat=threat, streams=streams, budget=Budget(50))
        assert 0 < (model(found).argmax(1) != y).sum() < len(x)
    assert threat.contains(found, x).all()
    lengths = threat.distance(seen[0], x)
    assert (lengths > 0.15).all()
