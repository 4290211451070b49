"""A folder of this machine, or any place that fsspec reaches."""

import secrets
from pathlib import Path

from fsspec.core import url_to_fs

from cwbench.errors import CwbenchError


class Place:
    """Files below ``url``: a path, or ``s3://…`` and the like."""

    def __init__(self, url: str) -> None:
        self.url = url
        if not url.strip():
            raise CwbenchError("a place without a name was given", "name a folder")
        try:
            self.fs, self.root = url_to_fs(url)
        except (ImportError, ValueError) as error:
            raise CwbenchError(f"cannot use {url}: {error}", "give a folder, or an address that fsspec knows") from None

    @property
    def address(self) -> str:
        """The same place for a process that works in another folder."""
        return str(self.fs.unstrip_protocol(self.root))

    def require_writable(self) -> None:
        """Check that something can be written; nothing of it stays.

        Raises:
            CwbenchError: it cannot.
        """
        probe = f"{self.root}/.probe-{secrets.token_hex(4)}"
        try:
            self.fs.makedirs(self.root, exist_ok=True)
            self.fs.pipe_file(probe, b"cwbench")
            self.fs.rm_file(probe)
        except Exception as error:  # noqa: BLE001 - every kind of storage has errors of its own
            reason = getattr(error, "strerror", None) or " ".join(str(error).split())[:200] or type(error).__name__
            raise CwbenchError(f"cannot write into {self.url}: {reason}", "choose another place") from None

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
