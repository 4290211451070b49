"""Where RST's unlabelled images come from, who labels them, and what is refused."""

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from cwbench.checkpoints.store import Store
from cwbench.internal.errors import CwbenchError
from cwbench.training.fit import fit
from cwbench.training.rebuild import load_classifier
from tests.training.jobs import job


def rst(**fields):
    return {"name": "rst", **fields}


def test_digits_hold_back_half_and_its_labels_come_from_a_standard_model(tmp_path):
    training = job(defense="rst")
    labelled, pool = training.data.labelled, training.data.unlabelled
    assert len(labelled) + len(pool) == 898
    assert abs(len(labelled) - len(pool)) <= 10
    store = Store(tmp_path)
    fit(training, store)
    teacher = store.find(training.standard().digest)
    assert teacher is not None, "trained in the same run, and kept"
    model = load_classifier(training.standard(), teacher)
    with torch.no_grad():
        expected = model(pool.images(torch.arange(len(pool)))).argmax(1)
    found = training.defense.pseudo_labels(pool, teacher=lambda uri: model, device=torch.device("cpu"))
    assert torch.equal(found, expected)
    assert fit(training, store).record["state"] == {"labelled": len(labelled), "unlabelled": len(pool)}


def test_the_labels_of_the_pool_are_not_looked_at(tmp_path):
    """Two pools that differ in their labels alone give the same weights."""
    x = torch.rand(40, 1, 8, 8, generator=torch.Generator().manual_seed(3))
    for name, y in (("a", torch.zeros(40, dtype=torch.int64)), ("b", torch.arange(40) % 10)):
        save_file({"x": x, "y": y}, tmp_path / f"{name}.safetensors")
    trained = [
        fit(job(defense=rst(unlabelled=str(tmp_path / f"{name}.safetensors"))), Store(tmp_path / name)) for name in "ab"
    ]
    assert all(torch.equal(trained[0].weights[key], trained[1].weights[key]) for key in trained[0].weights)


def test_a_given_teacher_labels_instead(tmp_path):
    store = Store(tmp_path)
    teacher = fit(job(defense="madry", set={"recipe.epochs": 1}), store)
    training = job(defense=rst(teacher=teacher.digest[:8]))
    fit(training, store)
    assert store.find(training.standard().digest) is None
    assert training.digest != job(defense="rst").digest


@pytest.mark.parametrize("kind", ["safetensors", "pt", "png"])
def test_pools_of_every_kind(tmp_path, kind):
    pixels = np.arange(6 * 64, dtype=np.int64).reshape(6, 1, 8, 8) % 256
    x = torch.from_numpy(pixels).byte()
    path = tmp_path / f"pool.{kind}"
    if kind == "safetensors":
        save_file({"x": x}, path)
    elif kind == "pt":
        torch.save(x, path)
    else:
        path = tmp_path / "pool"
        path.mkdir()
        for number in range(6):
            Image.fromarray(pixels[number, 0].astype(np.uint8)).save(path / f"{number}.png")
    pool = job(defense=rst(unlabelled=str(path))).data.unlabelled
    assert torch.equal(pool.images(torch.arange(6)), x.float() / 255)
    assert (pool.labels == -1).all()


def saved(content):
    def make(tmp_path):
        save_file(content, tmp_path / "pool.safetensors")
        return tmp_path / "pool.safetensors"

    return make


def folders(*names):
    def make(tmp_path):
        for name in names:
            (tmp_path / "pool" / name).mkdir(parents=True)
            Image.new("L", (8, 8)).save(tmp_path / "pool" / name / "x.png")
        return tmp_path / "pool"

    return make


def written(name, content):
    def make(tmp_path):
        (tmp_path / name).write_bytes(content)
        return tmp_path / name

    return make


X = torch.zeros(4, 1, 8, 8)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (saved({"x": X, "y": torch.tensor([0, 3, 57, 1])}), r"labels of another set: label 57.*10 classes"),
        (saved({"x": X, "y": torch.zeros(4)}), r"labels of another set: labels of type torch.float32"),
        (saved({"x": torch.zeros(4, 3, 32, 32)}), r"images of shape \(4, 3, 32, 32\).*\(M, 1, 8, 8\)"),
        (saved({"x": X + 2}), r"neither bytes nor floats in \[0, 1\]"),
        (saved({"images": X}), "holds no tensor 'x'"),
        (folders("cat", "dog"), "class folders of another set: cat, dog are no class of digits"),
        (folders("3", "dog"), "class folders of another set: dog is no class of digits"),
        (written("pool.safetensors", b"<html>"), "cannot be read"),
        (written("pool.pt", b"<html>"), "cannot be read"),
        (written("pool.txt", b"x"), "neither a folder nor a tensor file"),
        (lambda tmp_path: tmp_path / "nowhere.pt", "there is no folder or file"),
        (lambda tmp_path: tmp_path, "holds no images"),
        (lambda tmp_path: written("0.png", b"<html>")(tmp_path).parent, r"0\.png cannot be read as an image"),
    ],
)
def test_a_pool_that_cannot_be_meant_is_refused(tmp_path, make, message):
    with pytest.raises(CwbenchError, match=message):
        job(defense=rst(unlabelled=str(make(tmp_path))))


def test_a_pool_that_would_run_code_does_not(tmp_path):
    class Payload:
        def __reduce__(self):
            return (tmp_path / "ran").touch, ()

    torch.save({"x": Payload()}, tmp_path / "pool.pt")
    with pytest.raises(CwbenchError, match="cannot be read"):
        job(defense=rst(unlabelled=str(tmp_path / "pool.pt")))
    assert not (tmp_path / "ran").exists()


def test_a_dataset_without_a_pool_says_what_to_name(tmp_path):
    for split in ("train", "test"):
        for name in ("a", "b"):
            (tmp_path / split / name).mkdir(parents=True)
            Image.new("RGB", (8, 8)).save(tmp_path / split / name / "x.png")
    with pytest.raises(CwbenchError, match=r"folder has no unlabelled images.*rst:held_back=0\.5"):
        job(defense="rst", dataset=f"folder:{tmp_path}", backbone="digits-cnn")


def test_two_pools_are_one_too_many(tmp_path):
    with pytest.raises(CwbenchError, match="unlabelled and held_back both name a pool"):
        job(defense=rst(unlabelled=str(tmp_path), held_back=0.5))


def test_a_teacher_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(CwbenchError, match="no checkpoint is a folder or has a digest"):
        fit(job(defense=rst(teacher="0123456789")), Store(tmp_path))
    with pytest.raises(CwbenchError, match="no checkpoint is a folder or has a digest"):
        fit(job(defense=rst(teacher=str(tmp_path))), Store(tmp_path))


def test_a_teacher_of_other_classes_is_refused(tmp_path):
    for name in ("a", "b"):
        (tmp_path / "set" / name).mkdir(parents=True)
        for number in range(10):
            Image.new("RGB", (8, 8), (number, 0, 0)).save(tmp_path / "set" / name / f"{number}.png")
    store, settings = Store(tmp_path / "store"), {"recipe.epochs": 1, "recipe.batch_size": 4}
    other = job(defense="standard", dataset=f"folder:{tmp_path / 'set'}", backbone="digits-cnn", set=settings)
    digest = fit(other, store).digest
    message = f"teacher {digest} is for folder: 2 classes, 3×8×8 pixels.*classes and images of digits"
    with pytest.raises(CwbenchError, match=message):
        fit(job(defense=rst(teacher=digest)), store)


def test_a_share_that_leaves_no_pool_is_refused():
    with pytest.raises(CwbenchError, match=r"held_back 0\.001 of digits leaves one side empty"):
        job(defense=rst(held_back=0.001))


def test_the_teacher_is_not_chosen_by_a_robustness_that_it_lacks():
    training = job(defense="rst", set={"recipe.epochs": 3, "recipe.held_out": 0.2})
    assert training.held_out is not None
    assert training.standard().held_out is None
    assert len(training.standard().data.labelled) == len(training.data.labelled)
