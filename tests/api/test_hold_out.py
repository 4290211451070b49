"""Putting a part of a training set aside."""

import torch
from hypothesis import given
from hypothesis import strategies as st

from cwbench.api import TensorExamples, hold_out


@given(st.lists(st.integers(0, 3), min_size=1, max_size=60), st.floats(0.05, 0.95))
def test_every_class_gives_its_share_and_nothing_is_lost(labels, share):
    y = torch.tensor(labels)
    examples = TensorExamples(torch.arange(len(y), dtype=torch.float32)[:, None], y)
    kept, aside = hold_out(examples, share)
    values = torch.cat([part.images(torch.arange(len(part))) for part in (kept, aside)])
    assert sorted(values.flatten().tolist()) == list(range(len(y)))
    for label in y.unique():
        n = int((y == label).sum())
        assert int((aside.labels == label).sum()) == round(n * share)
    again = hold_out(examples, share)[1]
    assert torch.equal(aside.images(torch.arange(len(aside))), again.images(torch.arange(len(again))))


def test_what_is_put_aside_is_spread_over_the_order():
    y = torch.zeros(100, dtype=torch.int64)
    _, aside = hold_out(TensorExamples(torch.arange(100.0)[:, None], y), 0.1)
    assert (aside.images(torch.arange(10)).diff(dim=0) == 10).all()
