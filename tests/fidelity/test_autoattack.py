"""The members of AutoAttack beside their authors' code, held to the same margins as PGD in ``test_pgd.py``."""

from dataclasses import replace

import pytest

from .subject import needs

pytestmark = pytest.mark.filterwarnings("ignore")  # the peers', not ours

SQUARE_SEEDS = range(3)
"""A random search differs between seeds by more than half a point on so few examples: they are averaged."""


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
