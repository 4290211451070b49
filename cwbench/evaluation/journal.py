"""What an evaluation has finished, attack by attack and chunk by chunk, so that a killed one goes on."""

import json
import shutil
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, final

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load, save

from cwbench.internal import digest
from cwbench.internal.errors import CwbenchError
from cwbench.internal.files import write_atomically
from cwbench.internal.sealed import seal, unseal

Chunk = Mapping[str, np.ndarray[Any, Any]]


@final
class Journal:
    """A folder of finished chunks.

    It only saves time: what cannot be read is done again, and what cannot be written is not kept. Two processes that
    make the same evaluation share it.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def find(self, attack: str, number: int) -> Chunk | None:
        """Return what was kept of a chunk of an attack, or None."""
        try:
            chunk: Chunk = load(unseal(self._path(attack, number).read_bytes()))
        except (OSError, ValueError, SafetensorError):
            return None
        return chunk

    def keep(self, attack: str, number: int, chunk: Chunk) -> None:
        """Keep a chunk of an attack."""
        body = save({name: np.ascontiguousarray(column) for name, column in chunk.items()})
        self._write(self._path(attack, number), seal(body))

    def decided(self, name: str) -> str | None:
        """Return what was decided when the evaluation began, such as the precision, or None."""
        try:
            content = json.loads(self._decision(name).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return None
        return content if isinstance(content, str) else None

    def decide(self, name: str, value: str) -> None:
        """Keep a decision that a resumed evaluation must not take anew."""
        self._write(self._decision(name), json.dumps(value).encode())

    def close(self) -> None:
        """Forget everything: the report is written."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def _path(self, attack: str, number: int) -> Path:
        return self.folder / f"{digest.of_bytes(attack.encode())[:32]}-{number:06d}"

    def _decision(self, name: str) -> Path:
        return self.folder / f"{name}.json"

    def _write(self, path: Path, content: bytes) -> None:
        with suppress(OSError, CwbenchError):
            self.folder.mkdir(parents=True, exist_ok=True)
            write_atomically(path, content)
