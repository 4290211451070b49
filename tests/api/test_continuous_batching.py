"""The engine: every example gets the same steps whoever shares its batch, and claims must be confirmed."""

from dataclasses import dataclass

import torch
from hypothesis import given
from hypothesis import strategies as st

from cwbench.api import SlotState, drive


@dataclass
class Aged(SlotState):
    """An example that only counts its steps."""

    age: torch.Tensor


LIFE = torch.tensor([3, 1, 4, 1, 5, 9, 2, 6])
"""After how many steps each example claims."""


def driven(slots, *, last=100, confirm=None):
    """Count the steps of each example; return the steps, who ended broken, and how many were in flight."""
    steps, broken, flights = [0] * 8, [None] * 8, []

    def begin(rows):
        return Aged(rows.double(), age=torch.zeros_like(rows))

    def step(state, rows):
        flights.append(len(rows))
        state.age = state.age + 1
        state.candidate = rows + state.age / 100
        for row in rows.tolist():
            steps[row] += 1
        return state.age >= LIFE[rows], state.age == last

    def finish(state, rows, hit):
        for row, age, flag in zip(rows.tolist(), state.age.tolist(), hit.tolist(), strict=True):
            assert broken[row] is None, "finished twice"
            broken[row] = (age, flag)

    drive(8, slots, device=torch.device("cpu"), begin=begin, step=step, finish=finish, confirm=confirm)
    return steps, broken, flights


@given(slots=st.integers(1, 12), last=st.integers(1, 12), patience=st.integers(0, 4))
def test_each_example_has_its_own_path(slots, last, patience):
    """A claim is refused ``patience`` times; the example ends where it is believed, or at its last step."""

    def confirm(claims, rows):
        return ((claims - rows) * 100).round().long() >= LIFE[rows] + patience

    steps, broken, flights = driven(slots, last=last, confirm=confirm)
    ends = [min(life + patience, last) for life in LIFE.tolist()]
    assert steps == ends
    assert broken == [(end, life + patience <= last) for end, life in zip(ends, LIFE.tolist(), strict=True)]
    assert max(flights) <= slots


def test_without_a_judge_claims_are_believed():
    steps, broken, _ = driven(3)
    assert steps == LIFE.tolist()
    assert all(flag for _, flag in broken)


def test_the_batch_stays_full_while_any_wait():
    _, _, flights = driven(4)
    assert flights[:5] == [4] * 5


def test_claims_are_confirmed_together():
    sizes = []

    def confirm(claims, rows):
        sizes.append(len(rows))
        return torch.ones_like(rows, dtype=torch.bool)

    driven(8, confirm=confirm)
    assert sum(sizes) == 8
    assert sizes[0] == 2, "a quarter of the batch"


def test_an_empty_pool_is_no_trouble():
    drive(0, 4, device=torch.device("cpu"), begin=SlotState, step=None, finish=None)
