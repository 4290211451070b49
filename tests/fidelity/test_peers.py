"""Beside the tools of others, on networks trained here: per-class robust accuracy agrees, and ours is never weaker.

``pip install -e '.[dev,peers]'`` brings the peers; without them these tests are skipped by name. Per class the peer
must lie within our interval; overall ours may leave at most half a point more standing than the peer, beside what two
seeds of one search differ by.
"""

import importlib.util
import math
from dataclasses import dataclass, replace
from functools import partial
from statistics import mean, variance

import pytest
import torch
from torch import Tensor, nn

import cwbench
from cwbench.api import TensorExamples
from cwbench.checkpoints import Store
from cwbench.datasets.digits import Digits
from cwbench.datasets.mnist import MNIST
from cwbench.model import frozen
from cwbench.plan import make_plan
from cwbench.registry import installed
from cwbench.spec import RunSpec
from cwbench.statistics import wilson
from cwbench.training.fit import fit
from cwbench.training.job import Job
from cwbench.training.rebuild import load_classifier

pytestmark = pytest.mark.filterwarnings("ignore")  # the peers', not ours


def needs(module):
    """Skip where a peer is not installed, before anything is trained for it."""
    missing = importlib.util.find_spec(module) is None
    return pytest.mark.skipif(missing, reason=f"{module} is not installed: pip install -e '.[peers]'")


SEEDS = (0, 1, 2)
"""A search from random starts differs between seeds by more than half a point on so few examples."""


@dataclass(frozen=True)
class Subject:
    """A trained network and examples that both tools attack, all of them classified correctly."""

    name: str
    model: nn.Module
    x: Tensor
    y: Tensor
    eps: float

    norm: str = "Linf"

    def ours(self, attack, seed=0):
        classes = [str(digit) for digit in range(10)]
        given = {"eps": self.eps, "norm": self.norm, "precision": "fp32", "classes": classes, "seed": seed}
        return cwbench.evaluate(self.model, attack, (self.x, self.y), **given).attacks[0].figures

    def stands(self, candidates):
        """Tell which of a peer's candidates, all of them inside the ball, are still classified correctly."""
        order = 2 if self.norm == "L2" else float("inf")
        assert (candidates - self.x).flatten(1).norm(order, dim=1).max() <= self.eps + 1e-5
        with torch.no_grad():
            return (self.model(candidates).argmax(1) == self.y).double()

    def compare(self, attack, search):
        """Hold our attack against the candidates of ``search(seed)``; what starts at the image itself has one seed."""
        seeds = SEEDS[:1] if attack.startswith("fab-t") else SEEDS
        ours = [self.ours(attack, seed) for seed in seeds]
        theirs = [self.stands(search(seed)) for seed in seeds]
        self.agree(ours, theirs)
        self.not_weaker(ours, theirs)

    def agree(self, ours, theirs):
        """Compare class by class, within intervals that hold for all classes at once."""
        peer = torch.stack(theirs).mean(0)
        for index, entry in enumerate(ours[0].classes):
            low, high = wilson(entry.correct, entry.n, comparisons=10)
            assert low <= float(peer[self.y == index].mean()) <= high, f"class {index}"

    def not_weaker(self, ours, theirs):
        peer = [float(stands.mean()) for stands in theirs]
        mine = [figures.overall.accuracy for figures in ours]
        assert 0.02 < mean(peer) < 0.98, "an attack that breaks all or nothing compares nothing"
        chance = 2 * math.sqrt((variance(peer) + variance(mine)) / len(SEEDS)) if len(mine) > 1 else 0
        assert mean(mine) <= mean(peer) + 0.005 + chance


class FewMNIST(MNIST):
    """Enough of MNIST for a network that is worth attacking."""

    name = "few-mnist"
    sizes = {"train": 12_000, "test": 120}

    def load(self, split, root):
        whole = super().load(split, root)
        return TensorExamples(whole.x[: self.sizes[split]], whole.labels[: self.sizes[split]])


def subject(name, examples, eps, **run):
    job = Job.of(make_plan(RunSpec.model_validate(run), installed().including(FewMNIST())))
    model = load_classifier(job, fit(job, Store.default()))
    x, y = examples.x, examples.labels
    with torch.no_grad():
        right = model(x).argmax(1) == y
    return Subject(name, model, x[right], y[right], eps)


@pytest.fixture(scope="module")
def digits():
    test = Digits().load("test", None)
    some = TensorExamples(test.x[:450], test.labels[:450])
    return subject("digits", some, 0.15, defense="madry", set={"recipe.epochs": 15})


@pytest.fixture(scope="module")
def mnist(mnist_root):
    one_epoch = {
        "recipe.epochs": 1,
        "recipe.batch_size": 32,
        "recipe.inner": [{"steps": 1, "step_size": 0.375}],
    }
    run = {"defense": "madry", "dataset": "few-mnist", "data": str(mnist_root), "recipe": "quick", "set": one_epoch}
    return subject("mnist", FewMNIST().load("test", mnist_root), 0.25, **run)


@pytest.fixture(params=["digits", "mnist"])
def network(request):
    return request.getfixturevalue(request.param)


@needs("torchattacks")
def test_pgd_beside_torchattacks(network):
    import torchattacks

    alpha = network.eps / 4

    def search(seed):
        torch.manual_seed(seed)
        with frozen(network.model):
            return torchattacks.PGD(network.model, eps=network.eps, alpha=alpha, steps=20)(network.x, network.y)

    network.compare(f"pgd:steps=20,step_size={alpha}", search)
    network.compare(f"pgd:steps=20,step_size={alpha},early_stop=false", search)


@needs("foolbox")
def test_pgd_beside_foolbox(network):
    import foolbox

    model = foolbox.PyTorchModel(network.model, bounds=(0, 1), device="cpu")
    alpha = network.eps / 4
    attack = foolbox.attacks.LinfPGD(abs_stepsize=alpha, steps=20)

    def search(seed):
        torch.manual_seed(seed)
        return attack(model, network.x, network.y, epsilons=network.eps)[1]

    network.compare(f"pgd:steps=20,step_size={alpha}", search)


def authors(network, name, seed):
    """Return the candidates of one of the authors' four attacks, at 40 steps and 3 targets."""
    from pyautoattack import AutoAttack

    attack = AutoAttack(
        network.model, norm=network.norm, eps=network.eps, version="custom", attacks=[name], seed=seed, device="cpu"
    )
    for member in (attack.apgd, attack.apgd_targeted, attack.fab):
        member.n_iter = 40
        member.n_restarts = 1
    attack.apgd_targeted.n_target_classes = attack.fab.n_target_classes = 3
    attack.square.n_queries = 300
    found = attack.run_standard_evaluation(network.x, network.y, batch_size=len(network.x))
    return found[0] if isinstance(found, tuple) else found


@needs("pyautoattack")
@pytest.mark.parametrize(
    ("name", "ours"),
    [
        ("apgd-ce", "apgd-ce:steps=40"),
        ("apgd-t", "apgd-t:steps=40,targets=3"),
        ("fab-t", "fab-t:steps=40,targets=3"),
    ],
)
def test_the_members_of_autoattack_beside_their_authors(network, name, ours):
    network.compare(ours, partial(authors, network, name))


@needs("pyautoattack")
@pytest.mark.parametrize(
    ("name", "ours"),
    [("apgd-ce", "apgd-ce:steps=40"), ("apgd-t", "apgd-t:steps=40,targets=3"), ("fab-t", "fab-t:steps=40,targets=3")],
)
def test_the_members_of_autoattack_beside_their_authors_under_l2(digits, name, ours):
    network = replace(digits, norm="L2", eps=0.6)
    network.compare(ours, partial(authors, network, name))


def square_is_not_weaker(network):
    """Ours also reaches the last row and column, with which some classes fall far more often: it may be stronger."""
    theirs = [network.stands(authors(network, "square", seed)) for seed in SEEDS]
    network.not_weaker([network.ours("square:queries=300,stretched=false", seed) for seed in SEEDS], theirs)


@needs("pyautoattack")
def test_square_beside_its_authors(network):
    square_is_not_weaker(network)


@needs("pyautoattack")
def test_square_beside_its_authors_under_l2(digits):
    square_is_not_weaker(replace(digits, norm="L2", eps=0.9))
