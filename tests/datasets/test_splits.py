import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from cwbench.api import TensorExamples
from cwbench.datasets import splits
from cwbench.internal.errors import CwbenchError


def examples(x, labels):
    return TensorExamples(x, torch.tensor(labels))


def check(x, labels, classes=3, shape=(1, 2, 2)):
    splits.check_examples(examples(x, labels), classes=classes, shape=shape, subject="mine")


def test_good_examples_pass():
    check(torch.rand(2, 1, 2, 2), [0, 2])


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (lambda x: x * 255, "example 0 has pixels from .* leave normalisation to the model"),
        (lambda x: x - 0.9, "example 0 has pixels from -"),
        (lambda x: (x * 255).to(torch.uint8), "images are torch.uint8.*/ 255"),
        (lambda x: x.index_put((torch.tensor(1), torch.tensor(0)), torch.tensor(torch.nan)), "example 1 has pixels"),
        (lambda x: x[:, :, :1], r"instead of 2 of shape \(1, 2, 2\)"),
        (lambda x: x.flatten(), "mine: images are"),
    ],
)
def test_bad_images_are_named(change, complaint):
    with pytest.raises(CwbenchError, match=complaint):
        check(change(torch.full((2, 1, 2, 2), 0.5)), [0, 1])


@pytest.mark.parametrize(
    ("labels", "complaint"), [([0, 3], "example 1 has label 3"), ([-1, 0], "example 0 has label -1")]
)
def test_labels_that_are_no_class_are_named(labels, complaint):
    with pytest.raises(CwbenchError, match=complaint):
        check(torch.rand(2, 1, 2, 2), labels)


@pytest.mark.parametrize("labels", [[0.0, 1.0], [[0], [1]], []])
def test_labels_must_be_a_vector_of_integers(labels):
    with pytest.raises(CwbenchError, match="non-empty vector of int64"):
        check(torch.rand(2, 1, 2, 2), labels)


@given(st.lists(st.integers(0, 4), min_size=1, max_size=60), st.integers(1, 70))
def test_a_limit_deals_evenly_and_larger_limits_contain_smaller(labels, limit):
    labels = torch.tensor(labels)
    rows = splits.chosen_rows(labels, limit)
    assert len(rows) == min(limit, len(labels))
    assert rows.unique().tolist() == rows.tolist(), "in order, each once"
    assert set(rows.tolist()) <= set(splits.chosen_rows(labels, limit + 1).tolist())
    taken, available = (torch.bincount(found, minlength=5) for found in (labels[rows], labels))
    exhausted = taken == available
    assert taken[~exhausted].numel() == 0 or taken.max() - taken[~exhausted].min() <= 1


def test_without_a_limit_all_are_judged():
    assert splits.chosen_rows(torch.tensor([1, 0, 1]), None).tolist() == [0, 1, 2]


def test_the_digest_sees_every_chunk(monkeypatch):
    x = torch.rand(10, 1, 2, 2)
    whole = splits.digest(examples(x, [0] * 10))
    monkeypatch.setattr(splits, "CHUNK", 3)
    assert splits.digest(examples(x, [0] * 10)) == whole
    changed = x.clone()
    changed[9, 0, 1, 1] += 0.1
    assert splits.digest(examples(changed, [0] * 10)) != splits.digest(examples(x, [0] * 10))
    assert splits.digest(examples(x, [0] * 9 + [1])) != splits.digest(examples(x, [0] * 10))
