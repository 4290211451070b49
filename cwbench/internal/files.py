"""Writing files so that a crash leaves the old one or the new one, never half of one."""

import os
import secrets
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import platformdirs

from cwbench.internal.errors import CwbenchError, UsageError, reason_of


def cache_root() -> Path:
    """Return the folder of what may be made again: CWBENCH_CACHE, or one in the user's cache."""
    named = os.environ.get("CWBENCH_CACHE")
    return Path(named) if named else platformdirs.user_cache_path("cwbench")


@contextmanager
def writing_into(place: object, hint: str | None = None) -> Iterator[None]:
    """Turn an error of the operating system within the block into one line about the place that was written to.

    Args:
        place: a folder or a file, for the message.
        hint: what the user can do about it, such as ``choose another with --out``.

    Raises:
        UsageError: the place is not writable or the disk is full.
    """
    try:
        yield
    except OSError as error:
        raise UsageError(f"cannot write into {place}: {reason_of(error)}", hint) from None


@contextmanager
def reading(place: object, kind: type[CwbenchError] = CwbenchError, hint: str | None = None) -> Iterator[None]:
    """Turn an error of the operating system within the block into one line about the place that was read from.

    Args:
        place: a folder or a file, for the message.
        kind: which error it is, such as ``ReportError``.
        hint: what the user can do about it.

    Raises:
        UsageError: of that kind: the place cannot be read.
    """
    try:
        yield
    except OSError as error:
        raise kind(f"cannot read {place}: {reason_of(error)}", hint) from None


def write_atomically(path: Path, content: bytes) -> None:
    """Write a file through a temporary one beside it; its folder must exist.

    Raises:
        UsageError: the folder is not writable or the disk is full; the file is as it was.
    """
    draft = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        with draft.open("xb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        draft.replace(path)
    except OSError as error:
        raise UsageError(f"cannot write {path}: {reason_of(error)}") from None
    finally:
        draft.unlink(missing_ok=True)


def write_new(path: Path, content: bytes) -> None:
    """Write a file that must not exist yet, and its folders: of several processes that write the same one, one does.

    Raises:
        FileExistsError: there is one; it stays as it is.
        UsageError: the folder is not writable or the disk is full; nothing is written.
    """
    draft = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(
            f"cannot write {path}: {reason_of(error)}", "something is in the place of its folder"
        ) from None
    try:
        with draft.open("xb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.link(draft, path)  # unlike a rename, refuses to replace
    except FileExistsError:
        raise
    except OSError as error:
        raise UsageError(f"cannot write {path}: {reason_of(error)}", "choose another folder") from None
    finally:
        with suppress(OSError):
            draft.unlink(missing_ok=True)


@contextmanager
def new_folder(path: Path) -> Iterator[Path]:
    """Yield a hidden folder beside ``path`` that takes its place when the block ends, whole or not at all.

    Where ``path`` exists by then it stays, and the new folder goes: two that make the same do not disturb each other.

    Raises:
        OSError: the place is not writable or the disk is full.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".new-{secrets.token_hex(4)}")
    draft.mkdir()
    try:
        yield draft
        try:
            draft.rename(path)
        except OSError:
            if not path.is_dir():
                raise
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def require_writable(folder: Path, room: int) -> None:
    """Check that ``room`` bytes can be written into a folder, or into one of that name where it is missing.

    The bytes are really written, since a quota or a read-only mount shows in no other way; nothing of them stays.

    Raises:
        UsageError: they cannot.
    """
    made: list[Path] = []
    try:
        with writing_into(folder, "choose another folder"):
            made = [parent for parent in (folder, *folder.parents) if not parent.exists()]
            folder.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=folder) as file:
                for _ in range(-(-room // (1 << 20))):
                    file.write(bytes(1 << 20))
                file.flush()
                os.fsync(file.fileno())
    finally:
        for parent in made:
            with suppress(OSError):  # it may never have been made
                parent.rmdir()
