"""A folder of this machine, or any place that fsspec reaches."""

import secrets
from pathlib import Path

from fsspec.core import url_to_fs

from cwbench.internal.errors import UsageError, reason_of
from cwbench.internal.files import writing_into


class Place:
    """Files below ``url``: a path, or ``s3://…`` and the like."""

    def __init__(self, url: str) -> None:
        self.url = url
        if not url.strip():
            raise UsageError("a place without a name was given", "name a folder")
        try:
            self.fs, self.root = url_to_fs(url)
        except (ImportError, ValueError) as error:
            raise UsageError(f"cannot use {url}: {error}", "give a folder, or an address that fsspec knows") from None

    @property
    def address(self) -> str:
        """The same place for a process that works in another folder."""
        return str(self.fs.unstrip_protocol(self.root))

    def require_writable(self) -> None:
        """Check that something can be written; nothing of it stays.

        Raises:
            UsageError: it cannot.
        """
        probe = f"{self.root}/.probe-{secrets.token_hex(4)}"
        with writing_into(self.url, "choose another place"):
            try:
                self.fs.makedirs(self.root, exist_ok=True)
                self.fs.pipe_file(probe, b"cwbench")
                self.fs.rm_file(probe)
            except OSError:
                raise
            except Exception as error:
                raise OSError(reason_of(error)) from error  # every kind of storage has errors of its own

    def exists(self, name: str) -> bool:
        return bool(self.fs.exists(f"{self.root}/{name}"))

    def read(self, name: str) -> bytes | None:
        """Return the content of a file, or None."""
        try:
            content: bytes = self.fs.cat_file(f"{self.root}/{name}")
        except FileNotFoundError:
            return None
        return content

    def put(self, name: str, source: Path) -> None:
        """Upload a file under another name and rename it: where renaming is atomic, nobody sees half of it."""
        target = f"{self.root}/{name}"
        draft = f"{target}.{secrets.token_hex(4)}"
        self.fs.makedirs(target.rpartition("/")[0], exist_ok=True)
        self.fs.put_file(str(source), draft)
        self.fs.mv(draft, target)

    def write(self, name: str, content: bytes) -> None:
        """Write a file, as :meth:`put` does."""
        target = f"{self.root}/{name}"
        draft = f"{target}.{secrets.token_hex(4)}"
        self.fs.makedirs(target.rpartition("/")[0], exist_ok=True)
        self.fs.pipe_file(draft, content)
        self.fs.mv(draft, target)

    def remove(self, name: str) -> None:
        """Remove a file if it is there."""
        if self.exists(name):
            self.fs.rm_file(f"{self.root}/{name}")
