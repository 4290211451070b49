"""FAB: its projection against a linear program, its steps against the paper's algorithm one example at a time."""

import pytest
import torch
from scipy.optimize import linprog, minimize

from cwbench.api import Budget, ExampleStreams, frozen, make_threat
from cwbench.attacks.fab_t import FABT, to_hyperplane


def shortest(point, normal, value, norm):
    """Return the length of the shortest move to the hyperplane inside the box, or None, by a general solver."""
    d = len(point)
    if norm == "Linf":  # minimise t with −t ≤ move ≤ t
        found = linprog(
            [0.0] * d + [1.0],
            A_ub=[[s * float(i == j) for j in range(d)] + [-1.0] for s in (1, -1) for i in range(d)],
            b_ub=[0.0] * 2 * d,
            A_eq=[[*normal, 0.0]],
            b_eq=[-value],
            bounds=[(-p, 1 - p) for p in point] + [(0, None)],
        )
        return found.x[-1] if found.success else None
    feasible = linprog([0.0] * d, A_eq=[normal], b_eq=[-value], bounds=[(-p, 1 - p) for p in point])
    if not feasible.success:
        return None
    found = minimize(
        lambda move: (move**2).sum(),
        feasible.x,
        jac=lambda move: 2 * move,
        bounds=[(-p, 1 - p) for p in point],
        constraints={"type": "eq", "fun": lambda move: move @ normal + value, "jac": lambda move: normal},
        method="SLSQP",
        options={"ftol": 1e-14, "maxiter": 500},
    )
    return found.fun**0.5


@pytest.mark.parametrize("norm", ["Linf", "L2"])
def test_the_move_to_the_hyperplane_is_the_shortest_in_the_box(norm):
    generator = torch.Generator().manual_seed(0)
    points = torch.rand(60, 6, generator=generator, dtype=torch.float64)
    points[::5, 0] = 1.0
    normals = torch.randn(60, 6, generator=generator, dtype=torch.float64)
    normals[::7, 2] = 0.0
    values = 2 * torch.randn(60, generator=generator, dtype=torch.float64)
    moves = to_hyperplane(points, normals, values, norm)
    assert ((points + moves >= -1e-12) & (points + moves <= 1 + 1e-12)).all()
    reachable = 0
    for point, normal, value, move in zip(points.numpy(), normals.numpy(), values.tolist(), moves.numpy(), strict=True):
        length = shortest(point, normal, value, norm)
        left = value + move @ normal
        if length is None:
            assert left * value > 0, "it went as far as the box allows, and not beyond"
            continue
        reachable += 1
        assert abs(left) < 1e-9
        found = abs(move).max() if norm == "Linf" else (move**2).sum() ** 0.5
        assert found == pytest.approx(length, abs=1e-5)
    assert 20 < reachable < 60


def test_it_follows_the_algorithm(tiny, images):
    """Algorithm 1, targeted, transcribed for one example; the projection was checked above."""
    model, x = tiny.double(), images.double()
    clean = model(x).detach()
    y = clean.argmax(1)
    threat = make_threat("Linf", "0.04")
    streams = ExampleStreams.of(0, torch.arange(len(x)))
    with frozen(model):
        found = FABT(steps=12).perturb(model, x, y, threat=threat, streams=streams, budget=Budget(7))

    def algorithm(x0, label, target):
        here = x0.clone()
        for _ in range(12):
            leaf = here.clone().requires_grad_()
            z = model(leaf[None])[0]
            f = z[label] - z[target]
            (w,) = torch.autograd.grad(f, leaf)
            f = f.detach()
            near = to_hyperplane(here[None], w[None], f[None], "Linf")[0]
            far = to_hyperplane(x0[None], w[None], (f + (w * (x0 - here)).sum())[None], "Linf")[0]
            a, b = near.abs().max(), far.abs().max()
            alpha = min(a / (a + b), 0.1)
            here = ((1 - alpha) * (here + 1.05 * near) + alpha * (x0 + 1.05 * far)).clamp(0, 1)
            if model(here[None]).argmax() != label:
                if (here - x0).abs().max() <= 0.04:
                    return here, True
                here = 0.1 * x0 + 0.9 * here
        return x0, False

    successes = 0
    for row, label in enumerate(y.tolist()):
        order = [c for c in clean[row].argsort(descending=True).tolist() if c != label]
        for target in order:
            expected, success = algorithm(x[row], label, target)
            if success:
                break
        successes += success
        assert torch.allclose(found[row], expected, atol=1e-9), f"example {row}"
    assert 0 < successes < len(x)
