"""What is attacked beside the peers, and how two tools are compared on it."""

import importlib.util
from collections.abc import Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache

import pytest
import torch
from torch import Tensor, nn

import cwbench
from cwbench.report.intervals import wilson


def needs(module):
    """Skip where a peer is not installed, before anything is trained for it."""
    missing = importlib.util.find_spec(module) is None
    return pytest.mark.skipif(missing, reason=f"{module} is not installed: pip install -e '.[peers]'")


@dataclass(frozen=True, eq=False)
class Subject:
    """A trained network and examples that both tools attack, all of them classified correctly."""

    name: str
    model: nn.Module
    x: Tensor
    y: Tensor
    eps: float
    pgd_seeds: int
    """Plain PGD does not converge in 20 steps, and on few examples its random starts differ by more than half a point:
    it is averaged over so many."""
    norm: str = "Linf"

    @cache  # noqa: B019 - two peers are held against the same of ours, and subjects live as long as the tests
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

    def compare(self, attack, theirs: Sequence[Tensor]):
        """Hold our attack against what stands of the peer's, under as many seeds each."""
        ours = [self.ours(attack, seed) for seed in range(len(theirs))]
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
