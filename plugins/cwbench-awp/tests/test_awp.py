"""AWP against a derivation by hand: a linear model, whose gradient is written down without autograd."""

import pytest
import torch
from cwbench_awp import AWP, perturbation
from torch import nn

import cwbench
from cwbench.api import Batch, BatchStreams, Classifier, Features, Inner, make_threat
from cwbench.testing import check

THREAT, INNER = make_threat("Linf", "0.1"), Inner(steps=3, step_size=0.05)


class Flat(Features):
    width = 12

    def forward(self, x):
        return x.flatten(1)


def linear():
    torch.manual_seed(3)
    return Classifier(Flat(), nn.Linear(12, 4)).train()


def batch():
    torch.manual_seed(4)
    return Batch(torch.rand(8, 3, 2, 2), torch.arange(8) % 4)


@pytest.mark.parametrize("base", ["madry", "trades", "mart"])
def test_contract(base):
    check(AWP(base=base))


def test_the_perturbation_of_a_linear_model_is_the_one_derived_by_hand():
    model, given = linear(), batch()
    x, w, b = given.x.flatten(1).double(), model.head.weight.detach().double(), model.head.bias.detach().double()
    p = torch.softmax(x @ w.T + b, 1)
    onehot = torch.eye(4, dtype=torch.float64)[given.y]
    gradient = (p - onehot).T @ x / len(x)  # of mean cross-entropy with respect to w
    expected = 0.02 * w.norm() * gradient / gradient.norm()
    moves = perturbation(model, lambda copied: nn.functional.cross_entropy(copied(given.x), given.y), 0.02)
    assert list(moves) == ["head.weight"]
    torch.testing.assert_close(moves["head.weight"].double(), expected, rtol=1e-5, atol=1e-7)
    assert float(moves["head.weight"].norm() / model.head.weight.norm()) == pytest.approx(0.02, rel=1e-5)


def test_the_gradient_is_taken_at_the_moved_weights_and_the_weights_come_back():
    model, given = linear(), batch()
    before = model.head.weight.detach().clone()
    found = AWP(gamma=0.05).loss(
        model, given, threat=THREAT, inner=INNER, streams=BatchStreams.of(0, "t"), state={"epoch": 1}
    )
    assert float((model.head.weight - before).norm() / before.norm()) == pytest.approx(0.05, rel=1e-4)
    found.total.backward()
    found.before_step()
    assert torch.equal(model.head.weight, before)
    plain = linear()
    same = AWP(gamma=0.05, warmup=1).loss(
        plain, given, threat=THREAT, inner=INNER, streams=BatchStreams.of(0, "t"), state={"epoch": 1}
    )
    assert same.before_step is None
    assert found.total > same.total  # the loss is higher where the weights were moved to


def test_it_trains_and_is_judged(tmp_path, monkeypatch):
    monkeypatch.setenv("CWBENCH_CACHE", str(tmp_path))
    report = cwbench.run(defense="awp", attacks=["fgsm"], set={"recipe.epochs": 8}, limit=200)
    assert report.defense.distribution == "cwbench-awp"
    assert report.accuracy() > 0.5
