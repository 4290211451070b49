"""Which examples each batch holds."""

from itertools import chain

import pytest
import torch
from PIL import Image

from cwbench.api import BatchStreams, TensorExamples, TrainingSet
from cwbench.datasets.image_files import ImageFiles
from cwbench.internal.distributed import ALONE, Team
from cwbench.internal.errors import CwbenchError
from cwbench.training.batches import Batches
from tests.training.jobs import job

CPU = torch.device("cpu")


def numbered(n, start=0):
    """Examples whose only pixel is their number."""
    x = torch.arange(start, start + n, dtype=torch.float32).reshape(n, 1, 1, 1)
    return TensorExamples(x, torch.arange(n) % 10)


def batches(data, team=ALONE, labels=None, **recipe):
    recipe = job(set={"recipe.epochs": 2} | {f"recipe.{name}": value for name, value in recipe.items()}).recipe
    return Batches(data, labels, recipe, CPU, team)


def numbers(found):
    return [batch.x.flatten().int().tolist() for batch, _ in found]


def test_every_example_once_an_epoch_in_an_order_of_its_own():
    made = batches(TrainingSet(numbered(23)), batch_size=5)
    epochs = [numbers(made.of_epoch(0, BatchStreams.of(seed))) for seed in (1, 2)]
    for epoch in epochs:
        assert [len(batch) for batch in epoch] == [5, 5, 5, 5, 3]
        assert sorted(chain.from_iterable(epoch)) == list(range(23))
    assert epochs[0] != epochs[1]
    assert made.count(0) == 5


def test_half_of_each_batch_is_unlabelled_with_the_labels_it_was_given():
    labels = torch.full((7,), 9)
    made = batches(TrainingSet(numbered(20), numbered(7, 100)), labels=labels, batch_size=6)
    found = [batch for batch, _ in made.of_epoch(0, BatchStreams.of(1))]
    assert len(found) == 4, "as many batches as the labelled examples alone would give"
    for batch in found:
        values = batch.x.flatten().int()
        assert (values < 100).tolist() == [True] * 3 + [False] * 3
        assert torch.equal(batch.y[:3], values[:3] % 10)
        assert (batch.y[3:] == 9).all()
    labelled = torch.cat([batch.x.flatten()[:3] for batch in found])
    assert len(labelled.unique()) == 12
    pool = torch.cat([batch.x.flatten()[3:] for batch in found])
    assert len(pool.unique()) == 7, "a small pool is gone through again, and evenly"


@pytest.mark.parametrize("pool", [None, 9])
def test_several_processes_share_what_one_would_have(pool):
    data = TrainingSet(numbered(23), numbered(pool, 100) if pool else None)
    labels = torch.zeros(pool, dtype=torch.int64) if pool else None
    whole = numbers(batches(data, labels=labels, batch_size=6).of_epoch(1, BatchStreams.of(4)))
    parts = [
        list(batches(data, Team(rank, 2), labels, batch_size=6).of_epoch(1, BatchStreams.of(4))) for rank in range(2)
    ]
    for expected, first, second in zip(whole, *map(numbers, parts), strict=True):
        assert sorted(first + second) == sorted(expected)
    for (first, weight), (second, other) in zip(*parts, strict=True):
        assert weight + other == pytest.approx(2)
        assert weight * len(second.x) == pytest.approx(other * len(first.x))


def test_a_last_batch_that_is_too_small_for_all_processes_is_left_out():
    made = [batches(TrainingSet(numbered(21)), Team(rank, 2), batch_size=5) for rank in range(2)]
    assert [each.count(0) for each in made] == [4, 4]
    assert [len(list(each.of_epoch(0, BatchStreams.of(1)))) for each in made] == [4, 4]


@pytest.fixture
def files(tmp_path):
    for number in range(12):
        Image.new("RGB", (8, 8), (number, 0, 0)).save(tmp_path / f"{number}.png")
    names = [f"{number}.png" for number in range(12)]
    return ImageFiles(tmp_path, names, torch.arange(12) % 10, shape=(3, 8), resize=False)


def test_what_streams_arrives_in_the_same_order_as_what_does_not(files):
    made = batches(TrainingSet(files), batch_size=5)
    streamed = [(batch.x[:, 0, 0, 0] * 255).round().int().tolist() for batch, _ in made.of_epoch(0, BatchStreams.of(3))]
    resident = numbers(batches(TrainingSet(numbered(12)), batch_size=5).of_epoch(0, BatchStreams.of(3)))
    assert streamed == resident


def test_crops_are_made_while_reading_and_repeat_themselves(files):
    made = batches(
        TrainingSet(files),
        batch_size=6,
        augment={"kind": "resized-crop"},
        resolutions=[{"size": 16, "batch_size": 6}],
    )
    first, second = ([batch.x for batch, _ in made.of_epoch(0, BatchStreams.of(seed))] for seed in (3, 3))
    assert [x.shape for x in first] == [(6, 3, 16, 16)] * 2
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


def test_a_file_that_cannot_be_read_is_named_although_another_process_read_it(files):
    (files.root / "7.png").write_bytes(b"<html>not found</html>")
    made = batches(TrainingSet(files), batch_size=5)
    with pytest.raises(CwbenchError, match=r"^[^\n]*7\.png cannot be read as an image[^\n]*$"):
        list(made.of_epoch(0, BatchStreams.of(3)))
