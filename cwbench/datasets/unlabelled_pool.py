"""Unlabelled images that a user brings: a folder, or a file of tensors."""

from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor

from cwbench.api import ByteExamples, DataError, Dataset, Examples, TensorExamples, reason_of
from cwbench.datasets.class_folders import images_below
from cwbench.datasets.image_files import ImageFiles, image_size

UNKNOWN = -1
"""The label of an unlabelled image."""


def open_pool(path: Path, dataset: Dataset) -> Examples:
    """Return the unlabelled images at ``path``: a folder of image files, or a file with the tensor ``x`` (M, C, H, W).

    Tensors are bytes, or floats in [0, 1]. Labels that come with the images (class folders, a tensor ``y``) are not
    used, but must be those of the dataset: others would be a sign of the wrong images.

    Raises:
        DataError: no such file, images of another shape, or labels of another set.
    """
    if not path.exists():
        raise DataError(f"there is no folder or file {path}", "rst:unlabelled names a folder or a tensor file")
    if path.is_dir():
        return _folder(path, dataset)
    tensors = _tensors(path)
    if "x" not in tensors:
        raise DataError(f"{path} holds no tensor 'x'", "save the images under that name, (M, C, H, W)")
    x, y = tensors["x"], tensors.get("y")
    channels, size = dataset.shape
    if x.dim() != 4 or tuple(x.shape[1:]) != (channels, size, size) or not len(x):
        raise DataError(
            f"{path} holds images of shape {tuple(x.shape)}", f"{dataset.name} needs (M, {channels}, {size}, {size})"
        )
    if y is not None:
        _refuse_foreign_labels(path, y, len(x), dataset)
    labels = torch.full((len(x),), UNKNOWN)
    if x.dtype == torch.uint8:
        return ByteExamples(x, labels)
    if not x.is_floating_point() or not ((x >= 0) & (x <= 1)).all():
        raise DataError(f"{path} holds images that are neither bytes nor floats in [0, 1]", "divide them by 255")
    return TensorExamples(x.float(), labels)


def _folder(path: Path, dataset: Dataset) -> Examples:
    files = images_below(path)
    if not files:
        raise DataError(f"{path} holds no images", "rst:unlabelled names a folder of image files, or a tensor file")
    folders = {Path(file).parts[0] for file in files if len(Path(file).parts) > 1}
    foreign = sorted(folders - set(dataset.classes))
    if foreign and len(folders) > 1:
        raise DataError(
            f"{path} has class folders of another set: {', '.join(foreign[:5])} {'is' if len(foreign) == 1 else 'are'} "
            f"no class of {dataset.name}",
            "unlabelled images need no class folders: put them into one",
        )
    labels = torch.full((len(files),), UNKNOWN)
    resize = image_size(path / files[0]) != (dataset.shape[1], dataset.shape[1])
    pool = ImageFiles(path, files, labels, shape=dataset.shape, resize=resize)
    pool.check_sizes()
    return pool


def _tensors(path: Path) -> dict[str, Tensor]:
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        if path.suffix in (".pt", ".pth"):
            content = torch.load(path, map_location="cpu", weights_only=True)
            named = content if isinstance(content, dict) else {"x": content}
            return {name: value for name, value in named.items() if isinstance(value, Tensor)}
    except Exception as error:  # noqa: BLE001 - torch.load raises whatever a damaged file makes it
        raise DataError(
            f"{path} cannot be read: {reason_of(error)}", "it must be a file of tensors, safely loadable"
        ) from None
    raise DataError(
        f"{path} is neither a folder nor a tensor file", "rst:unlabelled takes a folder, .safetensors or .pt"
    )


def _refuse_foreign_labels(path: Path, y: Tensor, n: int, dataset: Dataset) -> None:
    known = y.dtype == torch.int64 and tuple(y.shape) == (n,)
    outside = y[(y < UNKNOWN) | (y >= len(dataset.classes))] if known else y
    if not known or len(outside):
        shown = f"label {int(outside[0])}" if known else f"labels of type {y.dtype} and shape {tuple(y.shape)}"
        raise DataError(
            f"{path} has labels of another set: {shown}, where {dataset.name} has {len(dataset.classes)} classes",
            "rst does not use them: save the images alone",
        )
