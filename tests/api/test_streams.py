import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from cwbench.api import BatchStreams, ExampleStreams, key


@given(st.permutations(range(12)), st.integers(1, 12))
def test_an_example_draws_the_same_numbers_in_any_batch_and_order(order, size):
    like = torch.empty(12, 2, 3)
    whole = ExampleStreams.of(7, torch.arange(12)).child("start").normal(like)
    rows = torch.tensor(order[:size])
    part = ExampleStreams.of(7, rows).child("start").normal(like[:size])
    assert torch.equal(part, whole[rows])
    assert torch.equal(ExampleStreams.of(7, torch.arange(12)).child("start")[rows].normal(like[:size]), whole[rows])


def test_seeds_labels_and_examples_are_independent():
    like = torch.empty(1, 20_000)
    ids = torch.tensor([3])
    draws = [
        ExampleStreams.of(0, ids).uniform(like),
        ExampleStreams.of(1, ids).uniform(like),
        ExampleStreams.of(0, ids + 1).uniform(like),
        ExampleStreams.of(0, ids).child("restart", 0).uniform(like),
        ExampleStreams.of(0, ids).child("restart", 1).uniform(like),
        BatchStreams.of(0).uniform(like),
        BatchStreams.of(0).child("a").uniform(like),
    ]
    correlation = np.corrcoef(torch.cat(draws).numpy())
    assert np.abs(correlation - np.eye(len(draws))).max() < 0.04


def test_distributions():
    streams = ExampleStreams.of(0, torch.arange(2))
    uniform, normal = streams.uniform(torch.empty(2, 50_000)), streams.normal(torch.empty(2, 50_000))
    assert 0 <= uniform.min() < 0.001
    assert 0.999 < uniform.max() < 1
    assert uniform.mean() == pytest.approx(0.5, abs=0.005)
    assert normal.mean() == pytest.approx(0, abs=0.01)
    assert normal.std() == pytest.approx(1, abs=0.01)


def test_labels_of_another_type_give_another_key():
    assert len({key(1), key("1"), key(1, 1), key(11), key("1", "1"), key("11")}) == 6


def test_nothing_touches_the_global_state():
    before = torch.get_rng_state(), np.random.get_state()[1].copy()
    ExampleStreams.of(0, torch.arange(3)).normal(torch.empty(3, 2))
    BatchStreams.of(0).permutation(5)
    assert torch.equal(torch.get_rng_state(), before[0])
    assert (np.random.get_state()[1] == before[1]).all()


def test_children_of_different_streams_differ():
    like = torch.empty(1, 8)
    draws = [
        made.child("a").uniform(like)
        for made in (BatchStreams.of(1), BatchStreams.of(2), ExampleStreams.of(1, torch.tensor([0])))
    ]
    assert len({tuple(draw.flatten().tolist()) for draw in draws}) == 3


def test_a_permutation_is_one():
    assert BatchStreams.of(1, "order").permutation(100).sort().values.tolist() == list(range(100))


def test_a_batch_of_another_size_is_refused():
    with pytest.raises(ValueError, match="3 streams cannot fill a batch of 2"):
        ExampleStreams.of(0, torch.arange(3)).uniform(torch.empty(2, 2))
