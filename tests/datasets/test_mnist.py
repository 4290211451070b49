"""The MNIST loader on small files in the real idx format, whole and damaged; and on the real data where it is."""

import struct
from pathlib import Path

import pytest
import torch

from cwbench.datasets import splits
from cwbench.datasets.mnist import MNIST
from cwbench.internal.errors import CwbenchError

N = {"train": 7, "test": 5}


@pytest.fixture
def small(monkeypatch):
    """MNIST, except that its splits are seven and five examples long."""
    monkeypatch.setattr(MNIST, "sizes", N)
    return MNIST()


@pytest.fixture
def root(tmp_path):
    raw = tmp_path / "MNIST" / "raw"
    raw.mkdir(parents=True)
    for split, prefix in (("train", "train"), ("test", "t10k")):
        n = N[split]
        pixels = bytes((index * 7 + row) % 256 for row in range(n) for index in range(784))
        (raw / f"{prefix}-images-idx3-ubyte").write_bytes(struct.pack(">IIII", 2051, n, 28, 28) + pixels)
        (raw / f"{prefix}-labels-idx1-ubyte").write_bytes(
            struct.pack(">II", 2049, n) + bytes(index % 10 for index in range(n))
        )
    return tmp_path


def test_pixels_and_labels_arrive_as_written(small, root):
    examples = splits.open_split(small, "test", root)
    assert examples.labels.tolist() == [0, 1, 2, 3, 4]
    image = examples.images(torch.tensor([3]))
    assert image.shape == (1, 1, 28, 28)
    assert (image.flatten()[:3] * 255).round().tolist() == [3, 10, 17]
    assert image.max() <= 1


def test_the_digest_is_of_the_content(small, root):
    first = splits.digest(splits.open_split(small, "test", root))
    assert first == splits.digest(splits.open_split(small, "test", root))
    path = root / "MNIST" / "raw" / "t10k-images-idx3-ubyte"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    assert splits.digest(splits.open_split(small, "test", root)) != first


def damaged(root: Path, name: str, change) -> None:
    path = root / "MNIST" / "raw" / name
    path.write_bytes(change(path.read_bytes()))


@pytest.mark.parametrize(
    "change",
    [
        lambda content: content[:-100],
        lambda content: content[:10],
        lambda content: b"",
        lambda content: b"<!DOCTYPE html><html>not found</html>",
        lambda content: struct.pack(">IIII", 2051, 9999, 28, 28) + content[16:],
    ],
    ids=["truncated", "header cut", "empty", "a web page", "count too large"],
)
def test_damaged_files_are_named(small, root, change):
    damaged(root, "t10k-images-idx3-ubyte", change)
    with pytest.raises(CwbenchError, match="mnist") as caught:
        splits.open_split(small, "test", root)
    assert str(root) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_label_that_is_no_class_is_named(small, root):
    damaged(root, "t10k-labels-idx1-ubyte", lambda content: content[:-1] + b"\x0a")
    with pytest.raises(CwbenchError, match="example 4 has label 10"):
        splits.open_split(small, "test", root)


def test_fewer_images_than_labels_are_refused(small, root):
    damaged(root, "t10k-labels-idx1-ubyte", lambda content: struct.pack(">II", 2049, 4) + content[8:-1])
    with pytest.raises(CwbenchError, match="mnist"):
        splits.open_split(small, "test", root)


def test_more_images_than_labels_are_refused(small, root):
    path = root / "MNIST" / "raw" / "t10k-images-idx3-ubyte"
    content = path.read_bytes()
    path.write_bytes(struct.pack(">IIII", 2051, 6, 28, 28) + content[16:] + bytes(784))
    with pytest.raises(CwbenchError, match="6 images and 5 labels"):
        splits.open_split(small, "test", root)


def test_a_consistent_but_short_copy_is_refused(root):
    with pytest.raises(CwbenchError, match="5 examples instead of 10,000"):
        splits.open_split(MNIST(), "test", root)


def test_missing_data_say_where_to_put_them(tmp_path):
    with pytest.raises(CwbenchError, match=r"mnist in .*not found.*MNIST/raw.*--data"):
        splits.open_split(MNIST(), "train", tmp_path)


def test_no_network_says_where_to_put_the_files(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr("torchvision.datasets.MNIST.mirrors", ["http://127.0.0.1:9/"])
    with pytest.raises(CwbenchError, match=r"mnist.*put torchvision's files into .*--data"):
        splits.open_split(MNIST(), "test", None)


def test_the_real_data_have_the_published_counts(mnist_root):
    """LeCun's test set holds 980, 1135, 1032, … examples of the digits."""
    examples = splits.open_split(MNIST(), "test", mnist_root)
    assert torch.bincount(examples.labels).tolist() == [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]
