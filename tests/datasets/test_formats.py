"""The study's datasets, read by torchvision from small files in each real format."""

import gzip
import hashlib
import pickle
from pathlib import Path

import numpy as np
import pytest
import scipy.io
import torch
import torchvision.datasets as sources
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from PIL import Image

from cwbench.datasets.cifar10 import CIFAR10
from cwbench.datasets.cifar100 import CIFAR100
from cwbench.datasets.imagenet import ImageNet
from cwbench.datasets.mnist import MNIST
from cwbench.datasets.splits import open_split
from cwbench.datasets.stl10 import STL10
from cwbench.datasets.svhn import SVHN
from cwbench.internal.errors import CwbenchError

SMALL = settings(max_examples=8)
COUNTS = st.integers(2, 6)


def md5(path: Path) -> str:
    return hashlib.md5(path.read_bytes()).hexdigest()  # noqa: S324 - what torchvision checks


@st.composite
def content(draw, classes, *shape):
    """Images of bytes and their labels, both chosen by hypothesis."""
    n = draw(COUNTS)
    images = draw(arrays(np.uint8, (n, *shape)))
    return images, draw(arrays(np.int64, n, elements=st.integers(0, classes - 1)))


def compare(examples, images, labels):
    assert torch.equal(examples.labels, torch.from_numpy(labels).long())
    found = examples.images(torch.arange(len(labels)))
    assert torch.equal(found, torch.from_numpy(images).float() / 255)


@pytest.fixture
def patched():
    with pytest.MonkeyPatch.context() as patch:
        yield patch


def idx(array: np.ndarray) -> bytes:
    header = bytes([0, 0, 8, array.ndim]) + b"".join(n.to_bytes(4, "big") for n in array.shape)
    return header + array.astype(np.uint8).tobytes()


@SMALL
@given(given_content=content(10, 28, 28))
def test_mnist_from_idx(tmp_path, patched, given_content):
    images, labels = given_content
    raw = tmp_path / "MNIST" / "raw"
    raw.mkdir(parents=True, exist_ok=True)
    for prefix in ("train", "t10k"):
        (raw / f"{prefix}-images-idx3-ubyte").write_bytes(idx(images))
        (raw / f"{prefix}-labels-idx1-ubyte").write_bytes(idx(labels))
        (raw / f"{prefix}-labels-idx1-ubyte.gz").write_bytes(gzip.compress(idx(labels)))
    patched.setattr(MNIST, "sizes", {"train": len(labels), "test": len(labels)})
    for split in ("train", "test"):
        compare(open_split(MNIST(), split, tmp_path), images[:, None], labels)


@pytest.mark.parametrize(
    ("dataset", "source", "key"),
    [(CIFAR10, sources.CIFAR10, "labels"), (CIFAR100, sources.CIFAR100, "fine_labels")],
)
@SMALL
@given(data=st.data())
def test_cifar_from_pickled_batches(tmp_path, patched, dataset, source, key, data):
    images, labels = data.draw(content(len(dataset.classes), 3, 32, 32))
    folder = tmp_path / source.base_folder
    folder.mkdir(parents=True, exist_ok=True)

    def written(name):
        body = {"data": images.reshape(len(images), -1), key: labels.tolist()}
        (folder / name).write_bytes(pickle.dumps(body))
        return [name, md5(folder / name)]

    train, test = ([written(name) for name, _ in entries] for entries in (source.train_list, source.test_list))
    (folder / source.meta["filename"]).write_bytes(pickle.dumps({source.meta["key"]: list(dataset.classes)}))
    patched.setattr(source, "train_list", train)
    patched.setattr(source, "test_list", test)
    patched.setattr(source, "meta", source.meta | {"md5": md5(folder / source.meta["filename"])})
    patched.setattr(dataset, "sizes", {"train": len(labels) * len(train), "test": len(labels)})
    compare(open_split(dataset(), "test", tmp_path), images, labels)
    repeated = np.tile(images, (len(train), 1, 1, 1)), np.tile(labels, len(train))
    compare(open_split(dataset(), "train", tmp_path), *repeated)


@SMALL
@given(given_content=content(10, 32, 32, 3))
def test_svhn_from_mat(tmp_path, patched, given_content):
    images, labels = given_content
    folder = tmp_path / "svhn"
    folder.mkdir(exist_ok=True)
    stored = np.where(labels == 0, 10, labels)[:, None].astype(np.uint8)  # the files call the digit 0 ten
    lists = {}
    for split in ("train", "test", "extra"):
        path = folder / f"{split}_32x32.mat"
        scipy.io.savemat(path, {"X": images.transpose(1, 2, 3, 0), "y": stored})
        lists[split] = ["", path.name, md5(path)]
    patched.setattr(sources.SVHN, "split_list", lists)
    patched.setattr(SVHN, "sizes", {"train": len(labels), "test": len(labels)})
    for split in ("train", "test"):
        compare(open_split(SVHN(), split, tmp_path), images.transpose(0, 3, 1, 2), labels)
    pool = SVHN().unlabelled(tmp_path)
    compare(pool, images.transpose(0, 3, 1, 2), np.full_like(labels, -1))


@SMALL
@given(given_content=content(10, 3, 96, 96))
def test_stl10_from_bin(tmp_path, patched, given_content):
    images, labels = given_content
    folder = tmp_path / sources.STL10.base_folder
    folder.mkdir(exist_ok=True)
    # Columns first, and labels from 1.
    files = {
        "X": images.transpose(0, 1, 3, 2).tobytes(),
        "y": (labels + 1).astype(np.uint8).tobytes(),
    }
    (folder / "class_names.txt").write_text("\n".join(STL10.classes))
    (folder / "fold_indices.txt").write_text("0")
    lists = {}
    for kind, names in (("train_list", sources.STL10.train_list), ("test_list", sources.STL10.test_list)):
        lists[kind] = []
        for name, _ in names:
            letter = {"X": "X", "y": "y", "u": "X"}.get(Path(name).stem.split("_")[-1][0])
            if letter:
                (folder / name).write_bytes(files[letter])
            lists[kind].append([name, md5(folder / name)])
        patched.setattr(sources.STL10, kind, lists[kind])
    patched.setattr(STL10, "sizes", {"train": len(labels), "test": len(labels)})
    for split in ("train", "test"):
        compare(open_split(STL10(), split, tmp_path), images, labels)
    compare(STL10().unlabelled(tmp_path), images, np.full_like(labels, -1))


def test_imagenet_from_an_image_tree(tmp_path, patched):
    """A thousand folders by WordNet id, in their order, with images of any size."""
    for split in ("train", "val"):
        for index in range(1000):
            folder = tmp_path / "imagenet" / split / f"n{10_000_000 + 7 * index}"
            folder.mkdir(parents=True)
            shade = index % 256
            Image.new("RGB", (20 + index % 3, 22), (shade, 255 - shade, 0)).save(folder / "a.PNG")
    patched.setattr(ImageNet, "sizes", {"train": 1000, "test": 1000})
    patched.setattr(ImageNet, "shape", (3, 16))
    for split in ("train", "test"):
        examples = open_split(ImageNet(), split, tmp_path)
        assert torch.equal(examples.labels, torch.arange(1000))
        assert examples.streamed
        found = examples.images(torch.tensor([300, 5]))
        assert torch.allclose(found[:, :, 8, 8] * 255, torch.tensor([[44.0, 211.0, 0.0], [5.0, 250.0, 0.0]]))


def test_imagenet_with_a_class_missing_is_refused(tmp_path):
    for index in range(3):
        folder = tmp_path / "imagenet" / "val" / f"n{index}"
        folder.mkdir(parents=True)
        Image.new("RGB", (8, 8)).save(folder / "a.png")
    with pytest.raises(CwbenchError, match=r"val has 3 class folders instead of 1,000"):
        ImageNet().load("test", tmp_path)


@pytest.mark.parametrize(
    ("dataset", "place"),
    [
        (CIFAR10, "cifar-10-batches-py"),
        (CIFAR100, "cifar-100-python"),
        (SVHN, "svhn/test_32x32.mat"),
        (STL10, "stl10_binary"),
        (ImageNet, "imagenet"),
        (MNIST, "MNIST/raw"),
    ],
)
def test_missing_files_say_what_to_put_where(tmp_path, dataset, place):
    with pytest.raises(CwbenchError, match=f"{dataset.name} in .*not found.*{place}.*--data"):
        dataset().load("test", tmp_path)


def test_a_damaged_pickle_is_never_opened(tmp_path):
    """Its md5 is not that of the real file, so what it would do is not done."""
    folder = tmp_path / "cifar-10-batches-py"
    folder.mkdir()

    class Payload:
        def __reduce__(self):
            return Path.touch, (tmp_path / "ran",)

    for name, _ in (*sources.CIFAR10.train_list, *sources.CIFAR10.test_list, ["batches.meta", ""]):
        (folder / name).write_bytes(pickle.dumps(Payload()))
    with pytest.raises(CwbenchError, match="cifar10 in"):
        CIFAR10().load("test", tmp_path)
    assert not (tmp_path / "ran").exists()


def test_names_and_superclasses_are_those_of_the_files():
    from torchvision.models._meta import _IMAGENET_CATEGORIES

    assert list(ImageNet.classes) == _IMAGENET_CATEGORIES
    assert len(CIFAR100.classes) == 100
    assert [len(group) for group in CIFAR100.superclasses.values()] == [5] * 20
    fish = [CIFAR100.classes[index] for index in CIFAR100.superclasses["fish"]]
    assert fish == ["aquarium_fish", "flatfish", "ray", "shark", "trout"]
    animals = {CIFAR10.classes[index] for index in CIFAR10.superclasses["animals"]}
    assert animals == {"bird", "cat", "deer", "dog", "frog", "horse"}
    assert {STL10.classes[index] for index in STL10.superclasses["transportation"]} == {
        "airplane",
        "car",
        "ship",
        "truck",
    }


@pytest.mark.parametrize(
    ("dataset", "eps", "lr", "steps", "milestones", "judged"),
    [
        (MNIST, "0.3", 0.01, 40, (55, 75, 90), 75),
        (CIFAR10, "0.031", 0.1, 10, (75, 90), 75),
        (CIFAR100, "0.031", 0.1, 10, (75, 90), 75),
        (SVHN, "0.031", 0.01, 10, (75, 90), 75),
        (STL10, "0.031", 0.01, 10, (75, 90), 75),
    ],
)
def test_the_paper_recipe_is_section_3(dataset, eps, lr, steps, milestones, judged):
    recipe = dataset.recipes["paper"]
    assert dataset.eps == eps
    assert (recipe.epochs, recipe.lr, recipe.judge_epoch, recipe.batch_size) == (100, lr, judged, 128)
    assert (recipe.optimizer.momentum, recipe.optimizer.weight_decay) == (0.9, 2e-4)
    assert recipe.schedule.milestones == milestones
    assert recipe.inner[0].steps == steps
    assert recipe.learning_rate(judged - 1) == pytest.approx(lr * (0.01 if dataset is MNIST else 0.1))
    assert recipe.held_out is None
    assert recipe.average is None
    assert recipe.clip_norm is None


def test_the_released_models_recipes_are_their_authors():
    """RECIPES.md, section Defenses."""
    recipes = CIFAR10.recipes
    expected = {
        "trades": (76, 128, 0.1, 2e-4),
        "mart": (120, 128, 0.01, 3.5e-3),
        "mart-wrn": (90, 128, 0.1, 7e-4),
        "rst": (200, 256, 0.1, 5e-4),
    }
    found = {name: (r.epochs, r.batch_size, r.lr, r.optimizer.weight_decay) for name, r in recipes.items()}
    assert {name: found[name] for name in expected} == expected
    assert recipes["trades"].schedule.milestones == (75,)
    assert recipes["mart"].schedule.milestones == (75, 90, 100)
    assert recipes["rst"].optimizer.nesterov
    assert recipes["rst"].schedule.kind == "cosine"


def test_imagenet_is_trained_in_three_phases():
    recipe = ImageNet.recipes["paper"]
    rates = {done: recipe.learning_rate(done) for done in (0, 0.5, 1, 6, 9, 12, 15)}
    assert rates == pytest.approx({0: 0, 0.5: 0.2, 1: 0.4, 6: 0.04, 9: 0.022, 12: 0.004, 15: 0.0004})
    phases = [recipe.resolution_at(epoch) for epoch in (0, 5, 6, 11, 12, 14)]
    assert [phase.size for phase in phases] == [128, 128, 224, 224, 288, 288]
    assert recipe.judge_epoch == 14
    assert (ImageNet.attack.steps, ImageNet.attack.step_size, ImageNet.eps) == (50, 0.003, "0.007")
