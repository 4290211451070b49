"""Beside the tools of others, on networks trained here: per-class robust accuracy agrees, and ours is never weaker.

``pip install -e '.[dev,peers]'`` brings the peers; without them these tests are skipped by name. Per class the peer
must lie within our interval; overall ours may leave at most half a point more standing than the peer.
"""

import importlib.util
from collections.abc import Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace

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


SQUARE_SEEDS = range(3)
"""A random search differs between seeds by more than half a point on so few examples: they are averaged."""
PGD_SEEDS = range(8)
"""So does plain PGD from random starts, which does not converge in 20 steps as the others do in 40."""


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

    def compare(self, attack, theirs: Sequence[Tensor], seeds: Sequence[int] = (0,)):
        """Hold our attack against what stands of the peer's, under as many seeds each."""
        ours = [self.ours(attack, seed) for seed in seeds]
        self.agree(ours, theirs)
        self.not_weaker(ours, theirs)

    def agree(self, ours, theirs, stronger=False):
        """Compare class by class, within intervals that hold for all classes at once; ours may be ``stronger``."""
        peer = torch.stack(theirs).mean(0)
        for index, entry in enumerate(ours[0].classes):
            low, high = wilson(entry.correct, entry.n, comparisons=10)
            assert low <= float(peer[self.y == index].mean()) <= (1 if stronger else high), f"class {index}"

    def not_weaker(self, ours, theirs):
        peer = float(torch.stack(theirs).mean())
        assert 0.02 < peer < 0.98, "an attack that breaks all or nothing compares nothing"
        assert sum(figures.overall.accuracy for figures in ours) / len(ours) <= peer + 0.005


@contextmanager
def seeded(seed):
    """Give a peer that draws from PyTorch's global generator a seed, and put the generator back."""
    with torch.random.fork_rng():
        torch.default_generator.manual_seed(seed)
        yield


class FewMNIST(MNIST):
    """Enough of MNIST for a network that is worth attacking."""

    name = "few-mnist"
    sizes = {"train": 12_000, "test": 250}

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
    return subject("digits", Digits().load("test", None), 0.15, defense="madry", set={"recipe.epochs": 15})


@pytest.fixture(scope="module")
def mnist(mnist_root):
    one_epoch = {"recipe.epochs": 1, "recipe.batch_size": 32, "recipe.inner": [{"steps": 1, "step_size": 0.375}]}
    run = {"defense": "madry", "dataset": "few-mnist", "data": str(mnist_root), "recipe": "quick", "set": one_epoch}
    return subject("mnist", FewMNIST().load("test", mnist_root), 0.25, **run)


@pytest.fixture(params=["digits", "mnist"])
def network(request):
    return request.getfixturevalue(request.param)


@needs("torchattacks")
def test_pgd_beside_torchattacks(network):
    import torchattacks

    alpha = network.eps / 4
    attack = torchattacks.PGD(network.model, eps=network.eps, alpha=alpha, steps=20)
    theirs = []
    for seed in PGD_SEEDS:
        with frozen(network.model), seeded(seed):
            theirs.append(network.stands(attack(network.x, network.y)))
    network.compare(f"pgd:steps=20,step_size={alpha}", theirs, PGD_SEEDS)
    network.compare(f"pgd:steps=20,step_size={alpha},early_stop=false", theirs, PGD_SEEDS)


@needs("foolbox")
def test_pgd_beside_foolbox(network):
    import foolbox

    model = foolbox.PyTorchModel(network.model, bounds=(0, 1), device="cpu")
    alpha = network.eps / 4
    attack = foolbox.attacks.LinfPGD(abs_stepsize=alpha, steps=20)
    theirs = []
    for seed in PGD_SEEDS:
        with seeded(seed):
            theirs.append(network.stands(attack(model, network.x, network.y, epsilons=network.eps)[1]))
    network.compare(f"pgd:steps=20,step_size={alpha}", theirs, PGD_SEEDS)


def authors(network, name, seed=0):
    """Return what stands of one of the authors' four attacks, at 40 steps and 3 targets, or 300 queries."""
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
    return network.stands(found[0] if isinstance(found, tuple) else found)


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
    network.compare(ours, [authors(network, name)])


@needs("pyautoattack")
@pytest.mark.parametrize(
    ("name", "ours"),
    [("apgd-ce", "apgd-ce:steps=40"), ("apgd-t", "apgd-t:steps=40,targets=3"), ("fab-t", "fab-t:steps=40,targets=3")],
)
def test_the_members_of_autoattack_beside_their_authors_under_l2(digits, name, ours):
    network = replace(digits, norm="L2", eps=0.6)
    network.compare(ours, [authors(network, name)])


def square_is_not_weaker(network):
    """Ours also reaches the last row and column: some classes fall to it by more than an interval more often."""
    theirs = [authors(network, "square", seed) for seed in SQUARE_SEEDS]
    ours = [network.ours("square:queries=300,stretched=false", seed) for seed in SQUARE_SEEDS]
    network.agree(ours, theirs, stronger=True)
    network.not_weaker(ours, theirs)


@needs("pyautoattack")
def test_square_beside_its_authors(network):
    square_is_not_weaker(network)


@needs("pyautoattack")
def test_square_beside_its_authors_under_l2(digits):
    square_is_not_weaker(replace(digits, norm="L2", eps=0.9))
