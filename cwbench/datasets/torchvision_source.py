"""Opening a dataset of torchvision, and saying in one line what is wrong with it."""

import pickle
from pathlib import Path
from typing import Protocol, TypeVar
from urllib.error import URLError

import numpy as np
import platformdirs
import torch

from cwbench.api import ByteExamples, DataError, reason_of

T = TypeVar("T")
Opened_co = TypeVar("Opened_co", covariant=True)


class Opener(Protocol[Opened_co]):
    """Opens a dataset of torchvision below a folder: ``opener(folder, download)``."""

    def __call__(self, folder: Path, download: bool, /) -> Opened_co: ...


def opened(name: str, root: Path | None, files: str, opener: Opener[T]) -> T:
    """Open what is below ``root``, or with None what is in the user's cache, downloaded if need be.

    Args:
        name: the dataset's, for messages.
        root: the user's data folder, or None.
        files: where torchvision expects its files, relative to the folder.
        opener: constructs torchvision's dataset.

    Raises:
        DataError: missing or damaged files, or no network; the message says what to put where.
    """
    folder = root or platformdirs.user_cache_path("cwbench") / "data"
    place = (
        f"put torchvision's files into {folder / files}, or name the folder above {Path(files).parts[0]} with --data"
    )
    try:
        return opener(folder, root is None)
    except (URLError, ConnectionError, TimeoutError) as error:
        raise DataError(f"{name} could not be downloaded: {error}", place) from None
    except RuntimeError as error:
        missing = any(sign in str(error).lower() for sign in ("not found", "not present"))
        reason = "not found" if missing else reason_of(error)
        raise DataError(f"{name} in {folder}: {reason}", place) from None
    except (ValueError, AssertionError, EOFError, OSError, TypeError, KeyError, pickle.UnpicklingError) as error:
        raise DataError(f"{name} in {folder} is damaged: {reason_of(error)}", f"remove it and {place}") from None


def byte_examples(name: str, images: "np.ndarray[tuple[int, ...], np.dtype[np.uint8]]", labels: object) -> ByteExamples:
    """Return images (N, C, H, W) uint8 with their labels.

    Raises:
        DataError: there are more of one than of the other.
    """
    y = torch.as_tensor(np.asarray(labels)).long()
    if len(images) != len(y):
        raise DataError(f"{name} is damaged: {len(images):,} images and {len(y):,} labels", "fetch it again")
    return ByteExamples(torch.from_numpy(np.ascontiguousarray(images)), y)
