"""Images in files, decoded on request: what does not fit into memory."""

import hashlib
import math
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, final

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from cwbench.api import CwbenchError, DataError, Examples, ResizedCrop

SUFFIXES = (".jpg", ".jpeg", ".png", ".ppm", ".bmp", ".pgm", ".tif", ".tiff", ".webp")
READERS = 8
MODES = {1: "L", 3: "RGB"}

UNREADABLE = (OSError, SyntaxError, ValueError, Image.DecompressionBombError)
"""What Pillow raises for files that are no images, or hostile ones."""

Pixels = np.ndarray[Any, np.dtype[np.uint8]]
"""An image, (C, H, W)."""


@final
class ImageFiles(Examples):
    """Images of one size from files of any.

    With ``resize`` the shorter side of each image is brought to ``margin`` times ``size`` and the middle is cut out;
    without it a file of another size is refused.
    """

    streamed = True

    def __init__(
        self,
        root: Path,
        files: Sequence[str],
        labels: Tensor,
        *,
        shape: tuple[int, int],
        resize: bool,
        margin: float = 1.0,
    ) -> None:
        self.root, self.files, self.labels = root, files, labels
        self.channels, self.size = shape
        self.resize, self.margin = resize, margin

    def part(self, rows: Tensor) -> "ImageFiles":
        files = [self.files[row] for row in rows.tolist()]
        shape = (self.channels, self.size)
        return ImageFiles(self.root, files, self.labels[rows], shape=shape, resize=self.resize, margin=self.margin)

    def images(self, rows: Tensor) -> Tensor:
        with ThreadPoolExecutor(READERS) as readers:
            return _stacked(list(readers.map(self._whole, [self.files[row] for row in rows.tolist()])))

    def cropped(self, rows: Tensor, draws: Tensor, *, size: int, crop: ResizedCrop) -> Tensor:
        """Return random crops, (n, C, size, size) float32 in [0, 1].

        ``draws`` (n, 5), uniform in [0, 1), decide the area, the shape, the place and the mirroring of each.
        """
        pairs = zip(rows.tolist(), draws.tolist(), strict=True)
        return _stacked([self._crop(self.files[row], draw, size, crop) for row, draw in pairs])

    def in_memory(self) -> Tensor:
        """Return all images as bytes, (N, C, size, size) uint8."""
        with ThreadPoolExecutor(READERS) as readers:
            return torch.stack([torch.from_numpy(image) for image in readers.map(self._whole, self.files)])

    def digest(self) -> str:
        """Return the sha256 of labels, shape, and the bytes of every file: the pixels follow from them."""
        state = hashlib.sha256(
            self.labels.numpy().tobytes() + f"{self.channels} {self.size} {self.resize} {self.margin}".encode()
        )
        with ThreadPoolExecutor(READERS) as readers:
            for file in readers.map(self._file_digest, self.files):
                state.update(file)
        return state.hexdigest()

    def check_sizes(self) -> None:
        """Read the header of every file.

        Raises:
            DataError: one cannot be read, or without ``resize`` has another size than the others.
        """
        with ThreadPoolExecutor(READERS) as readers:
            for file, size in zip(self.files, readers.map(self._header, self.files), strict=True):
                if not self.resize:
                    self._refuse_other(file, size)

    def _whole(self, file: str) -> Pixels:
        image = self._opened(file)
        if self.resize and image.size != (self.size, self.size):
            share = round(self.size * self.margin) / min(image.size)
            image = image.resize(
                [max(self.size, round(side * share)) for side in image.size], Image.Resampling.BILINEAR
            )
            left, top = ((side - self.size) // 2 for side in image.size)
            image = image.crop((left, top, left + self.size, top + self.size))
        self._refuse_other(file, image.size)
        return self._pixels(image)

    def _crop(self, file: str, draws: Sequence[float], size: int, crop: ResizedCrop) -> Pixels:
        image = self._opened(file)
        box = random_box(image.size, draws, crop)
        image = image.resize((size, size), Image.Resampling.BILINEAR, box=box)
        if crop.flip and draws[4] < 0.5:
            image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        return self._pixels(image)

    def _opened(self, file: str) -> Image.Image:
        try:
            with Image.open(self.root / file) as image:
                if image.mode[0] in "IF":
                    raise ValueError(f"its pixels are of mode {image.mode}, not bytes")
                return image.convert(MODES[self.channels])
        except UNREADABLE as error:
            raise _unreadable(self.root / file, error) from None

    def _header(self, file: str) -> tuple[int, int]:
        return image_size(self.root / file)

    def _refuse_other(self, file: str, size: tuple[int, int]) -> None:
        if size != (self.size, self.size):
            raise DataError(
                f"{self.root / file} has {size[0]}×{size[1]} pixels, and others {self.size}×{self.size}",
                "give a size that all are brought to, as in folder:path=DIR,size=224",
            )

    def _pixels(self, image: Image.Image) -> Pixels:
        pixels = np.array(image, dtype=np.uint8)
        return pixels[None] if self.channels == 1 else pixels.transpose(2, 0, 1)

    def _file_digest(self, file: str) -> bytes:
        try:
            with (self.root / file).open("rb") as content:
                return hashlib.file_digest(content, "sha256").digest()
        except OSError as error:
            raise _unreadable(self.root / file, error) from None


def image_size(path: Path) -> tuple[int, int]:
    """Return width and height, from the header alone.

    Raises:
        DataError: it is no image.
    """
    try:
        with Image.open(path) as image:
            return image.size
    except UNREADABLE as error:
        raise _unreadable(path, error) from None


def _unreadable(path: Path, error: Exception) -> CwbenchError:
    reason = str(error).replace(repr(str(path)), "").strip() or type(error).__name__
    return DataError(f"{path} cannot be read as an image: {reason}", "remove or replace it")


def random_box(size: tuple[int, int], draws: Sequence[float], crop: ResizedCrop) -> tuple[float, float, float, float]:
    """Return the part of an image (width, height) that a random crop takes: left, top, right, bottom.

    The area is uniform, the shape log-uniform; a part that does not fit is cut at the image's sides.
    """
    width, height = size
    area = width * height * (crop.scale[0] + draws[0] * (crop.scale[1] - crop.scale[0]))
    low, high = map(math.log, crop.ratio)
    ratio = math.exp(low + draws[1] * (high - low))
    w, h = min(width, math.sqrt(area * ratio)), min(height, math.sqrt(area / ratio))
    left, top = draws[2] * (width - w), draws[3] * (height - h)
    return left, top, left + w, top + h


def _stacked(images: list[Pixels]) -> Tensor:
    return torch.from_numpy(np.stack(images)).float() / 255
