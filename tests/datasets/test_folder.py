"""Any folder of images: what is taken for what, and what is refused."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from cwbench.api import ResizedCrop
from cwbench.datasets import folder as module
from cwbench.datasets import splits
from cwbench.datasets.folder import Folder
from cwbench.datasets.image_files import ImageFiles
from cwbench.internal.errors import CwbenchError


def picture(path, shade=0, size=(12, 12), mode="RGB"):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new(mode, size, (shade, 10, 20) if mode == "RGB" else shade).save(path)


@pytest.fixture
def tree(tmp_path):
    for split, n in (("train", 6), ("test", 3)):
        for index, name in enumerate(("ant", "bee", "cat")):
            for number in range(n):
                picture(tmp_path / split / name / f"{number}.png", 50 * index + number)
    return tmp_path


def test_a_tree_with_splits(tree):
    dataset = Folder(path=tree)
    assert dataset.classes == ("ant", "bee", "cat")
    assert dataset.shape == (3, 12)
    assert dataset.sizes == {"train": 18, "test": 9}
    examples = splits.open_split(dataset, "test", None)
    assert examples.labels.tolist() == [0] * 3 + [1] * 3 + [2] * 3
    shades = examples.images(torch.arange(9))[:, 0, 0, 0] * 255
    assert shades.tolist() == pytest.approx([0, 1, 2, 50, 51, 52, 100, 101, 102])


@settings(max_examples=10)
@given(
    contents=st.dictionaries(
        st.text("abcxyz", min_size=1, max_size=4),
        st.lists(st.integers(0, 255), min_size=5, max_size=12),
        min_size=2,
        max_size=4,
    )
)
def test_a_tree_without_splits_gives_every_fifth_image_to_testing(tmp_path_factory, contents):
    root = tmp_path_factory.mktemp("tree")
    for name, shades in contents.items():
        for number, shade in enumerate(shades):
            picture(root / name / f"{number:03}.png", shade)
    dataset = Folder(path=root)
    assert dataset.classes == tuple(sorted(contents))
    found = {split: splits.open_split(dataset, split, None) for split in ("train", "test")}
    for index, name in enumerate(dataset.classes):
        tested = found["test"].images((found["test"].labels == index).nonzero().squeeze(1))[:, 0, 0, 0] * 255
        assert tested.round().int().tolist() == contents[name][4::5]
        trained = int((found["train"].labels == index).sum())
        assert trained == len(contents[name]) - len(contents[name]) // 5


@settings(max_examples=10)
@given(pixels=st.binary(min_size=3 * 9 * 9, max_size=3 * 9 * 9), kind=st.sampled_from(["png", "ppm", "bmp"]))
def test_pixels_arrive_as_they_are(tmp_path_factory, pixels, kind):
    root = tmp_path_factory.mktemp("tree")
    image = np.frombuffer(pixels, np.uint8).reshape(9, 9, 3)
    for name in ("a", "b"):
        for split in ("train", "val"):
            (root / split / name).mkdir(parents=True)
            Image.fromarray(image).save(root / split / name / f"x.{kind.upper()}")
    x = Folder(path=root).load("test", None).images(torch.arange(2))
    assert torch.equal(x[0], torch.from_numpy(image.copy()).permute(2, 0, 1).float() / 255)


def test_large_sets_stay_on_disk_and_give_the_same_images(tree, monkeypatch):
    small = Folder(path=tree).load("train", None)
    monkeypatch.setattr(module, "MEMORY", 0)
    large = Folder(path=tree).load("train", None)
    assert isinstance(large, ImageFiles)
    rows = torch.tensor([3, 17, 0])
    assert torch.equal(small.images(rows), large.images(rows))
    assert splits.digest(large) == splits.digest(Folder(path=tree).load("train", None))
    before = splits.digest(large)
    picture(tree / "train" / "ant" / "0.png", 99)
    assert splits.digest(Folder(path=tree).load("train", None)) != before


def test_with_a_size_images_of_any_size_are_brought_to_it(tree):
    picture(tree / "test" / "ant" / "0.png", 7, (40, 20))
    examples = Folder(path=tree, size=16).load("test", None)
    assert examples.images(torch.arange(9)).shape == (9, 3, 16, 16)


def test_crops_while_reading_are_decided_by_their_draws(tree, monkeypatch):
    monkeypatch.setattr(module, "MEMORY", 0)
    files = Folder(path=tree).load("train", None)
    ramp = np.tile(np.arange(12, dtype=np.uint8) * 20, (12, 1))
    Image.fromarray(np.stack([ramp] * 3, 2)).save(tree / "train" / "ant" / "0.png")
    rows = torch.tensor([0, 0])
    crop = ResizedCrop(scale=(0.25, 0.25), ratio=(1, 1))
    left, right = files.cropped(rows, torch.tensor([[0, 0, 0, 0, 0.9], [0, 0, 1, 0, 0.1]]), size=6, crop=crop)
    assert torch.allclose(left[0, 0] * 255, torch.arange(6) * 20.0), "the left half, as it is"
    assert torch.allclose(right[0, 0] * 255, torch.arange(11, 5, -1) * 20.0), "the right half, mirrored"


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda tree: [f.unlink() for f in (tree / "test" / "bee").iterdir()], r"no images of 'bee'.*\.png"),
        (lambda tree: (tree / "train" / "ant" / "0.png").write_bytes(b"<html>"), r"ant/0\.png cannot be read"),
        (lambda tree: (tree / "train" / "cat" / "5.png").write_bytes(b""), r"cat/5\.png cannot be read"),
        (lambda tree: picture(tree / "train" / "bee" / "2.png", size=(12, 13)), r"bee/2\.png has 12×13 .*size=224"),
        (lambda tree: picture(tree / "train" / "ant" / "0.png", size=(9, 12)), r"ant/0\.png has 9×12 .*square"),
        (lambda tree: picture(tree / "test" / "dog" / "0.png"), r"the class 'dog' is only in .*test"),
        (lambda tree: picture(tree / "train" / "dog" / "0.png"), r"the class 'dog' is missing in .*test"),
        (lambda tree: (tree / "train").rename(tree / "other"), r"has a folder 'test' and no 'train'"),
        (lambda tree: (tree / "test").rename(tree / "other"), r"has a folder 'train' and no 'test'"),
    ],
)
@pytest.mark.parametrize("memory", [2 << 30, 0])
def test_what_is_wrong_is_named(tree, monkeypatch, spoil, message, memory):
    monkeypatch.setattr(module, "MEMORY", memory)
    spoil(tree)

    def read_all():
        for split in ("train", "test"):
            examples = splits.open_split(Folder(path=tree), split, None)
            examples.images(torch.arange(len(examples)))

    with pytest.raises(CwbenchError, match=message):
        read_all()


def test_pixels_of_sixteen_bits_are_refused_and_not_cut_off(tree):
    Image.fromarray(np.full((12, 12), 1000, dtype=np.uint16)).save(tree / "test" / "ant" / "0.png")
    with pytest.raises(CwbenchError, match=r"ant/0\.png cannot be read as an image: its pixels are of mode I;16"):
        Folder(path=tree).load("test", None)


def test_one_class_is_refused(tmp_path):
    picture(tmp_path / "train" / "ant" / "0.png")
    picture(tmp_path / "test" / "ant" / "0.png")
    with pytest.raises(CwbenchError, match=r"train has one class, 'ant'.*two classes"):
        _ = Folder(path=tmp_path).classes


def test_an_empty_or_missing_folder_is_refused(tmp_path):
    with pytest.raises(CwbenchError, match="no class folders"):
        _ = Folder(path=tmp_path).classes
    with pytest.raises(CwbenchError, match="there is no folder"):
        _ = Folder(path=tmp_path / "nowhere").classes


def test_where_a_folder_lies_does_not_change_what_is_trained(tree, tmp_path_factory):
    from tests.training.jobs import job

    moved = tmp_path_factory.mktemp("moved") / "set"
    first = job(dataset=f"folder:{tree}", backbone="digits-cnn", set={"recipe.batch_size": 4}).identity
    tree.rename(moved)
    second = job(dataset={"name": "folder", "path": str(moved)}, backbone="digits-cnn", set={"recipe.batch_size": 4})
    assert second.identity == first
