"""Writing files so that a crash leaves the old one or the new one, never half of one."""

import os
import secrets
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import platformdirs

from cwbench.errors import CwbenchError


def cache_root() -> Path:
    """Return the folder of what may be made again: CWBENCH_CACHE, or one in the user's cache."""
    named = os.environ.get("CWBENCH_CACHE")
    return Path(named) if named else platformdirs.user_cache_path("cwbench")


def write_atomically(path: Path, content: bytes) -> None:
    """Write a file through a temporary one beside it; its folder must exist.

    Raises:
        CwbenchError: the folder is not writable or the disk is full; the file is as it was.
    """
    draft = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        with draft.open("xb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        draft.replace(path)
    except OSError as error:
        raise CwbenchError(f"cannot write {path}: {error.strerror or error}") from None
    finally:
        draft.unlink(missing_ok=True)


def write_new(path: Path, content: bytes) -> None:
    """Write a file that must not exist yet, and its folders: of several processes that write the same one, one does.

    Raises:
        FileExistsError: there is one; it stays as it is.
        CwbenchError: the folder is not writable or the disk is full; nothing is written.
    """
    draft = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        reason = error.strerror or error
        raise CwbenchError(f"cannot write {path}: {reason}", "something is in the place of its folder") from None
    try:
        with draft.open("xb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.link(draft, path)  # unlike a rename, refuses to replace
    except FileExistsError:
        raise
    except OSError as error:
        raise CwbenchError(f"cannot write {path}: {error.strerror or error}", "choose another folder") from None
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
        CwbenchError: they cannot.
    """
    made: list[Path] = []
    try:
        made = [parent for parent in (folder, *folder.parents) if not parent.exists()]
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder) as file:
            for _ in range(-(-room // (1 << 20))):
                file.write(bytes(1 << 20))
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        raise CwbenchError(f"cannot write into {folder}: {error.strerror or error}", "choose another folder") from None
    finally:
        for parent in made:
            with suppress(OSError):  # it may never have been made
                parent.rmdir()
