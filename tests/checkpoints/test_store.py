import hashlib
import json
import os
from dataclasses import replace

import pytest
import torch

from cwbench.checkpoints.store import DESCRIPTION, WEIGHTS, Checkpoint, Partial, Published, Store
from cwbench.internal.errors import CwbenchError


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path / "store")


CHECKPOINT = Checkpoint({"defense": "madry", "seed": 3}, {"w": torch.arange(6.0).reshape(2, 3)}, {"losses": [0.5]})


def test_what_is_saved_is_found_and_nothing_else(store):
    assert store.find(CHECKPOINT.digest) is None
    store.save(CHECKPOINT)
    found = store.find(CHECKPOINT.digest)
    assert found.cached
    assert torch.equal(found.weights["w"], CHECKPOINT.weights["w"])
    assert (found.identity, found.record) == (CHECKPOINT.identity, CHECKPOINT.record)
    assert [entry.name for entry in store.root.iterdir()] == [CHECKPOINT.digest]
    assert store.find("0" * 64) is None


def test_a_published_checkpoint_never_takes_the_place_of_a_training(store):
    foreign = replace(CHECKPOINT, weights={"w": torch.zeros(1)}, published=Published("hf://somebody/net", "c" * 40, {}))
    store.save(foreign)
    assert store.find(CHECKPOINT.digest) is None
    store.save(CHECKPOINT)
    assert store.find(CHECKPOINT.digest).weights["w"].shape == (2, 3)
    assert store.find(foreign.key).weights["w"].shape == (1,)
    (store.root / foreign.key).rename(store.root / ("0" * 64))
    with pytest.raises(CwbenchError, match="the checkpoint of something else"):
        store.find("0" * 64)


def test_any_difference_gives_another_digest():
    assert Checkpoint({"defense": "madry", "seed": 4}, {}, {}).digest != CHECKPOINT.digest


def test_of_two_that_finish_the_same_the_first_wins(store):
    store.save(CHECKPOINT)
    store.save(Checkpoint(CHECKPOINT.identity, {"w": torch.zeros(1)}, {}))
    assert store.find(CHECKPOINT.digest).weights["w"].shape == (2, 3)


def spoil_weights(folder):
    content = bytearray((folder / WEIGHTS).read_bytes())
    content[-1] ^= 1
    (folder / WEIGHTS).write_bytes(content)


def spoil_identity(folder):
    content = json.loads((folder / DESCRIPTION).read_text())
    content["identity"]["seed"] = 4
    (folder / DESCRIPTION).write_text(json.dumps(content))


def spoil_record(folder):
    content = json.loads((folder / DESCRIPTION).read_text())
    content["record"]["losses"] = [0.0]
    (folder / DESCRIPTION).write_text(json.dumps(content))


@pytest.mark.parametrize(
    ("spoil", "complaint"),
    [
        (spoil_weights, "its weights have sha256"),
        (spoil_identity, "checkpoint of something else"),
        (lambda folder: (folder / WEIGHTS).unlink(), WEIGHTS),
        (lambda folder: (folder / DESCRIPTION).unlink(), DESCRIPTION),
        (lambda folder: (folder / DESCRIPTION).write_text("<html>"), "damaged"),
        (lambda folder: (folder / DESCRIPTION).write_text("{}"), "'sha256' is missing"),
        (lambda folder: (folder / DESCRIPTION).write_text("[]"), "damaged"),
        (spoil_record, "its record was changed"),
    ],
)
def test_a_damaged_checkpoint_is_named_and_kept(store, spoil, complaint):
    store.save(CHECKPOINT)
    folder = store.root / CHECKPOINT.digest
    spoil(folder)
    with pytest.raises(CwbenchError, match=complaint) as caught:
        store.find(CHECKPOINT.digest)
    assert str(folder) in str(caught.value)
    assert "remove that folder" in str(caught.value)
    assert folder.exists()
    assert store.all() == []


def test_partial_trainings_come_back_and_go_when_the_checkpoint_is_there(store):
    store.save_partial(CHECKPOINT.digest, Partial(CHECKPOINT.identity, {"model.w": torch.ones(2)}, {"epoch": 3}))
    found = store.find_partial(CHECKPOINT.digest)
    assert found.identity == CHECKPOINT.identity
    assert list(store.unfinished()) == [CHECKPOINT.digest]
    assert (found.content, found.tensors["model.w"].tolist()) == ({"epoch": 3}, [1, 1])
    store.save(CHECKPOINT)
    assert store.find_partial(CHECKPOINT.digest) is None
    assert store.unfinished() == {}
    assert [entry.digest for entry in store.all()] == [CHECKPOINT.digest]


@pytest.mark.parametrize(
    "spoil",
    [
        lambda whole: b"",
        lambda whole: b"<html>",
        lambda whole: b"\xff" * 100,
        lambda whole: whole[:-1],
        lambda whole: whole[:-1] + bytes([whole[-1] ^ 1]),
        lambda whole: hashlib.sha256(b"{}").hexdigest().encode() + b"{}",
    ],
    ids=["empty", "a web page", "noise", "cut", "a bit flipped", "no safetensors"],
)
def test_a_damaged_partial_training_is_named(store, spoil):
    store.save_partial("abc", Partial({"seed": 5}, {"model.w": torch.ones(2)}, {}))
    path = store.root / "abc.unfinished"
    path.write_bytes(spoil(path.read_bytes()))
    with pytest.raises(CwbenchError, match=r"unfinished training .*abc.* is damaged.*remove it"):
        store.find_partial("abc")


def test_the_unfinished_training_of_something_else_is_refused(store):
    store.save_partial("abc", Partial({"seed": 5}, {"model.w": torch.ones(2)}, {}))
    (store.root / "abc.unfinished").rename(store.root / "xyz.unfinished")
    with pytest.raises(CwbenchError, match="it is the training of something else"):
        store.find_partial("xyz")


def test_files_are_readable_as_the_umask_allows(store):
    store.save(CHECKPOINT)
    folder = store.root / CHECKPOINT.digest
    umask = os.umask(0)
    os.umask(umask)
    assert {path.stat().st_mode & 0o777 for path in folder.iterdir()} == {0o666 & ~umask}
    assert folder.stat().st_mode & 0o777 == 0o777 & ~umask


def test_an_unwritable_store_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(CwbenchError, match="CWBENCH_CACHE"):
        Store(tmp_path / "file" / "store").save(CHECKPOINT)
