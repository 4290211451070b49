"""APGD and FAB beside their authors' code, held to the same margins as PGD in ``test_pgd.py``."""

from dataclasses import replace

import pytest

from .subject import authors, needs

pytestmark = pytest.mark.filterwarnings("ignore")  # the peers', not ours


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
