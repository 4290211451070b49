"""Folders of images: one folder for each class."""

import os
from collections.abc import Mapping
from pathlib import Path

from cwbench.api import DataError
from cwbench.datasets.image_files import SUFFIXES
from cwbench.internal.files import reading


def class_folders(folder: Path) -> dict[str, list[str]]:
    """Return the images of each class below ``folder``, as sorted paths relative to it; classes by name.

    Files with other endings and hidden ones are passed over; folders within a class belong to it.

    Raises:
        DataError: fewer than two classes, or a class without an image.
    """
    names = sorted(entry.name for entry in _entries(folder) if entry.is_dir() and not entry.name.startswith("."))
    found = {name: images_below(folder, name) for name in names}
    if len(found) < 2:
        only = f"one class, {names[0]!r}" if names else "no class folders"
        raise DataError(f"{folder} has {only}", "it must hold a folder of images for each of two classes or more")
    empty = [name for name, files in found.items() if not files]
    if empty:
        raise DataError(
            f"{folder} has no images of {', '.join(map(repr, empty[:5]))}{' …' * (len(empty) > 5)}",
            f"put some there ({' '.join(SUFFIXES)}) or remove the folder",
        )
    return found


def images_below(folder: Path, name: str = ".") -> list[str]:
    """Return the images below a folder, whatever the folders in between, as sorted paths relative to ``folder``."""
    found = []
    for place, folders, files in os.walk(folder / name):
        folders[:] = [entry for entry in folders if not entry.startswith(".")]
        found += [
            (Path(place) / file).relative_to(folder).as_posix()
            for file in files
            if not file.startswith(".") and Path(file).suffix.lower() in SUFFIXES
        ]
    return sorted(found)


def refuse_other_classes(folder: Path, found: Mapping[str, object], expected: Mapping[str, object]) -> None:
    """Check that two splits have the same classes.

    Raises:
        DataError: names the first difference.
    """
    odd = sorted(set(found) ^ set(expected))
    if odd:
        place = "only in" if odd[0] in found else "missing in"
        raise DataError(f"the class {odd[0]!r} is {place} {folder}", "every split must have the same classes")


def _entries(folder: Path) -> list[Path]:
    with reading(folder, DataError, "name an existing folder"):
        return list(folder.iterdir())
