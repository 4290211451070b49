"""Writing files so that a crash leaves the old one or the new one, never half of one."""

import os
import tempfile
from contextlib import suppress
from pathlib import Path

from cwbench.errors import CwbenchError


def write_atomically(path: Path, content: bytes) -> None:
    """Write a file through a temporary one beside it; its folder must exist.

    Raises:
        CwbenchError: the folder is not writable or the disk is full; the file is as it was.
    """
    temporary: Path | None = None
    try:
        with tempfile.NamedTemporaryFile(dir=path.parent, prefix=f".{path.name}.", delete=False) as file:
            temporary = Path(file.name)
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        raise CwbenchError(f"cannot write {path}: {error.strerror or error}") from None
    finally:
        if temporary:
            temporary.unlink(missing_ok=True)


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
