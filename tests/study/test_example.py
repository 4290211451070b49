"""Which example figure 5 shows where none is asked for."""

from types import SimpleNamespace

import numpy as np
import pytest

from cwbench.study.figures import _example

LABELS = np.array([0, 1, 1, 1, 1])
ALL, NONE = np.ones(5, dtype=bool), np.zeros(5, dtype=bool)


@pytest.mark.parametrize(
    ("known", "first", "second", "chosen"),
    [
        (ALL, [0, 1, 0, 0, 1], [0, 1, 1, 0, 1], 13),  # the first of the worst class, 1, that PGD breaks in both
        (ALL, [0, 1, 0, 1, 1], [0, 1, 1, 1, 1], 12),  # or else in one
        (ALL, [0, 1, 1, 1, 1], [0, 1, 1, 1, 1], 11),  # or else the first that both know
        (NONE, [0, 0, 0, 0, 0], [0, 0, 0, 0, 0], 10),  # or else the first
    ],
)
def test_an_example_is_shown_that_the_attack_breaks(known, first, second, chosen):
    stands = {"madry": first, "mart": second}

    def judged(name, attack, seed):
        right = {"clean": known, "pgd": np.array(stands[name], dtype=bool)}
        return SimpleNamespace(
            report=SimpleNamespace(worst_class=lambda attack: SimpleNamespace(index=1)),
            columns={"labels": LABELS, "ids": np.arange(10, 15)},
            right=right.__getitem__,
        )

    assert _example(SimpleNamespace(judged=judged), ["madry", "mart"], 0) == chosen
