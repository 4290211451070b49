"""Warnings below a piece: those of its reports, and those that only several cells beside each other show."""

from types import SimpleNamespace

import numpy as np
import pytest

from cwbench.attacks.pgd import PGD
from cwbench.internal.errors import CwbenchError
from cwbench.report.records import WarningRecord
from cwbench.study.findings.hypothesis_tests import Judged
from cwbench.study.warnings import doubts

N = 100
TINY = WarningRecord(name="vanishing-gradients", message="27 of 48 are tiny", figures={"tiny": 27})


@pytest.fixture
def evidence():
    """Return a function that makes two seeds of madry from how many examples stand under PGD of so many steps."""

    def do(stands, warnings=()):
        def judged(defense, attack, seed):
            if attack not in stands:
                raise CwbenchError(f"{defense} × {attack} has failed")
            labels = np.zeros(N, dtype=np.int64)
            under = (np.arange(N) >= stands[attack]).astype(np.int64)
            report = SimpleNamespace(warnings=list(warnings), attack=lambda name: SimpleNamespace(label=name))
            return Judged(report, {"labels": labels, "clean": labels, f"under {attack}": under})

        def plan(defense, attack, seed):
            steps = int(attack.partition("=")[2])
            return SimpleNamespace(attacks=(SimpleNamespace(label=attack, attack=PGD(steps=steps, step_size=0.1)),))

        return SimpleNamespace(scale=SimpleNamespace(seeds=(0, 1)), judged=judged, plan=plan)

    return do


CELLS = [("madry", "pgd:steps=5"), ("madry", "pgd:steps=50"), ("madry", "pgd:steps=500")]


def test_attacks_of_several_cells_are_held_against_each_other_and_failed_cells_left_out(evidence):
    found = doubts(CELLS, evidence({"pgd:steps=5": 50, "pgd:steps=50": 52}))
    message = "more-steps-are-weaker: pgd:steps=50 leaves 52 examples standing, pgd:steps=5 only 50"
    assert found == [f"madry, seed {seed}: {message}" for seed in (0, 1)]
    assert doubts(CELLS, evidence({"pgd:steps=5": 50, "pgd:steps=50": 48})) == []
    assert doubts(CELLS, evidence({})) == []


def test_attacks_on_two_networks_are_not(evidence):
    cells = [("madry", "pgd:steps=5"), ("mart", "pgd:steps=50")]
    assert doubts(cells, evidence({"pgd:steps=5": 50, "pgd:steps=50": 52})) == []


def test_what_every_report_of_a_network_warns_of_is_told_once(evidence):
    found = doubts(CELLS, evidence({"pgd:steps=5": 50, "pgd:steps=50": 48}, [TINY]))
    assert found == [f"madry, seed {seed}: vanishing-gradients: 27 of 48 are tiny" for seed in (0, 1)]
