"""Where finished cells are: a folder of this machine, or any place that fsspec reaches."""

import json
import secrets
from pathlib import Path
from typing import Any

from fsspec.core import url_to_fs

from cwbench.errors import CwbenchError
from cwbench.report import Report, parsed
from cwbench.suite.outcome import Failed

REPORT, FAILURE = "report.json", "failure.json"


class Results:
    """Reports and failures of cells by their folder, below ``url``: a path, or ``s3://…`` and the like.

    The files of a cell are written one by one, its report last: a cell is finished when its report is there.
    """

    def __init__(self, url: str) -> None:
        self.url = url
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
            raise CwbenchError(f"cannot write into {self.url}: {reason}", "choose another place with --out") from None

    def place(self, folder: str) -> str:
        """Return where a cell's report is, or will be."""
        return str(self.fs.unstrip_protocol(f"{self.root}/{folder}/{REPORT}")).removeprefix("file://")

    def report(self, folder: str) -> Report | None:
        """Return the report of a finished cell, or None.

        Raises:
            CwbenchError: it is damaged.
        """
        content = self._read(folder, REPORT)
        return parsed(content, self.place(folder)) if content is not None else None

    def finished(self, folder: str) -> bool:
        return bool(self.fs.exists(f"{self.root}/{folder}/{REPORT}"))

    def predictions(self, folder: str, name: str) -> bytes | None:
        """Return the bytes of a file beside a report, or None."""
        return self._read(folder, name)

    def put(self, folder: str, written: Path) -> None:
        """Keep everything that a run wrote into a folder of its own."""
        files = sorted(written.iterdir(), key=lambda path: path.name == REPORT)
        self.fs.makedirs(f"{self.root}/{folder}", exist_ok=True)
        for path in files:
            self._write(f"{self.root}/{folder}/{path.name}", path)
        if self.fs.exists(f"{self.root}/{folder}/{FAILURE}"):
            self.fs.rm_file(f"{self.root}/{folder}/{FAILURE}")

    def put_failure(self, folder: str, failed: Failed) -> None:
        """Keep why a cell failed, until it is finished."""
        self.fs.makedirs(f"{self.root}/{folder}", exist_ok=True)
        self.fs.pipe_file(f"{self.root}/{folder}/{FAILURE}", json.dumps(vars(failed), indent=1).encode())

    def failure(self, folder: str) -> Failed | None:
        """Return why a cell failed when it was tried last, or None."""
        content = self._read(folder, FAILURE)
        fields: dict[str, Any] = json.loads(content) if content is not None else {}
        return Failed(**fields) if fields else None

    def _write(self, target: str, source: Path) -> None:
        """Upload under another name and rename: where renaming is atomic, nobody sees half a file."""
        draft = f"{target}.{secrets.token_hex(4)}"
        self.fs.put_file(str(source), draft)
        self.fs.mv(draft, target)

    def _read(self, folder: str, name: str) -> bytes | None:
        try:
            content: bytes = self.fs.cat_file(f"{self.root}/{folder}/{name}")
        except FileNotFoundError:
            return None
        return content
