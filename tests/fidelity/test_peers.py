"""Beside the tools of others, on networks trained here: per-class robust accuracy agrees, and ours is never weaker.

``pip install -e '.[dev,peers]'`` brings the peers; without them these tests are skipped by name. Per class the peer
must lie within our interval; overall ours may leave at most half a point more standing than the peer.
"""

import importlib.util
from dataclasses import dataclass, replace

import pytest
import torch
from torch import Tensor, nn

import cwbench
from cwbench.model import frozen
from cwbench.statistics import wilson

pytestmark = pytest.mark.filterwarnings("ignore")  # the peers', not ours


def needs(module):
    """Skip where a peer is not installed, before anything is trained for it."""
    missing = importlib.util.find_spec(module) is None
    return pytest.mark.skipif(missing, reason=f"{module} is not installed: pip install -e '.[peers]'")


SEEDS = (0, 1, 2)
"""A random search differs between seeds by more than half a point on so few examples: they are averaged."""


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

    def compare(self, attack, candidates):
        """Hold our attack against the peer's candidates."""
        self.agree([self.ours(attack)], [self.stands(candidates)])

    def agree(self, ours, theirs):
        """Compare class by class, within intervals that hold for all classes at once, and overall."""
        peer = torch.stack(theirs).mean(0)
        for index, entry in enumerate(ours[0].classes):
            low, high = wilson(entry.correct, entry.n, comparisons=10)
            assert low <= float(peer[self.y == index].mean()) <= high, f"class {index}"
        self.not_weaker(ours, theirs)

    def not_weaker(self, ours, theirs):
        peer = float(torch.stack(theirs).mean())
        assert 0.02 < peer < 0.98, "an attack that breaks all or nothing compares nothing"
        assert sum(figures.overall.accuracy for figures in ours) / len(ours) <= peer + 0.005


def subject(name, run, x, y, eps):
    from cwbench.checkpoints import Store
    from cwbench.plan import make_plan
    from cwbench.registry import installed
    from cwbench.spec import RunSpec
    from cwbench.training.fit import fit, load_classifier
    from cwbench.training.job import Job

    job = Job.of(make_plan(RunSpec.model_validate(run), installed()))
    model = load_classifier(job, fit(job, Store.default()))
    with torch.no_grad():
        right = model(x).argmax(1) == y
    return Subject(name, model, x[right], y[right], eps)


@pytest.fixture(scope="module")
def digits():
    from cwbench.datasets.digits import Digits

    split = Digits().load("test", None)
    run = {"defense": "madry", "dataset": "digits", "set": {"recipe.epochs": 15}}
    return subject(run["dataset"], run, split.x, split.labels, 0.15)


@pytest.fixture(scope="module")
def mnist(mnist_root):
    from cwbench.datasets.mnist import MNIST

    split = MNIST().load("test", mnist_root)
    one_epoch = {"recipe.epochs": 1, "recipe.inner": [{"steps": 1, "step_size": 0.375}]}
    run = {"defense": "madry", "dataset": "mnist", "data": str(mnist_root), "recipe": "quick", "set": one_epoch}
    return subject(run["dataset"], run, split.x[:250], split.labels[:250], 0.25)


@pytest.fixture(params=["digits", "mnist"])
def network(request):
    return request.getfixturevalue(request.param)


@needs("torchattacks")
def test_pgd_beside_torchattacks(network):
    import torchattacks

    alpha = network.eps / 4
    with frozen(network.model):
        found = torchattacks.PGD(network.model, eps=network.eps, alpha=alpha, steps=20)(network.x, network.y)
    network.compare(f"pgd:steps=20,step_size={alpha}", found)
    network.compare(f"pgd:steps=20,step_size={alpha},early_stop=false", found)


@needs("foolbox")
def test_pgd_beside_foolbox(network):
    import foolbox

    model = foolbox.PyTorchModel(network.model, bounds=(0, 1), device="cpu")
    alpha = network.eps / 4
    attack = foolbox.attacks.LinfPGD(abs_stepsize=alpha, steps=20)
    _, found, _ = attack(model, network.x, network.y, epsilons=network.eps)
    network.compare(f"pgd:steps=20,step_size={alpha}", found)


def authors(network, name, *, seed=0, queries=300):
    """Return the candidates of one of the authors' four attacks, at 40 steps and 3 targets."""
    from pyautoattack import AutoAttack

    attack = AutoAttack(
        network.model, norm=network.norm, eps=network.eps, version="custom", attacks=[name], seed=seed, device="cpu"
    )
    for member in (attack.apgd, attack.apgd_targeted, attack.fab):
        member.n_iter = 40
        member.n_restarts = 1
    attack.apgd_targeted.n_target_classes = attack.fab.n_target_classes = 3
    attack.square.n_queries = queries
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
    network.compare(ours, authors(network, name))


@needs("pyautoattack")
@pytest.mark.parametrize(
    ("name", "ours"),
    [("apgd-ce", "apgd-ce:steps=40"), ("apgd-t", "apgd-t:steps=40,targets=3"), ("fab-t", "fab-t:steps=40,targets=3")],
)
def test_the_members_of_autoattack_beside_their_authors_under_l2(digits, name, ours):
    network = replace(digits, norm="L2", eps=0.6)
    network.compare(ours, authors(network, name))


@needs("pyautoattack")
def test_square_beside_its_authors_under_l2(digits):
    network = replace(digits, norm="L2", eps=0.9)
    theirs = [network.stands(authors(network, "square", seed=seed)) for seed in SEEDS]
    network.not_weaker([network.ours("square:queries=300,stretched=false", seed) for seed in SEEDS], theirs)


@needs("pyautoattack")
def test_square_beside_its_authors(network):
    """On 8×8 pixels ours is stronger by more than an interval: it also reaches the last row and column."""
    theirs = [network.stands(authors(network, "square", seed=seed)) for seed in SEEDS]
    ours = [network.ours("square:queries=300,stretched=false", seed) for seed in SEEDS]
    if network.name == "digits":
        network.not_weaker(ours, theirs)
    else:
        network.agree(ours, theirs)
