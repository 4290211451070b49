"""The adversarial examples of an evaluation, kept chunk by chunk as they are made."""

import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

import numpy as np
from filelock import FileLock, Timeout
from safetensors import safe_open
from safetensors.numpy import save

from cwbench.internal import digest
from cwbench.internal.errors import UsageError
from cwbench.internal.files import write_atomically, writing_into
from cwbench.plan import PlannedAttack

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class SavedFile:
    """A file of saved examples."""

    file: str
    sha256: str
    attack: str
    n: int


@final
class ExampleFolder:
    """A folder of files that a report will name: one for each chunk of each attack, so that no memory must hold all.

    Like the journal it survives a kill: what an evaluation that goes on finds here need not be made again.
    """

    def __init__(self, folder: Path, labels: Sequence[str]) -> None:
        self.folder = folder
        self.labels = tuple(labels)

    @classmethod
    def beside(cls, evaluation: Path, attacks: Sequence[PlannedAttack]) -> "ExampleFolder":
        """Return the folder for the examples of an evaluation, beside its journal."""
        return cls(evaluation.with_name(f"{evaluation.name}-examples"), [planned.label for planned in attacks])

    def keep(self, label: str, number: int, ids: Array, x: Array) -> None:
        """Keep what an attack returned for a chunk: ids (n,) and images (n, C, H, W) in [0, 1].

        Raises:
            CwbenchError: the folder is not writable or the disk is full.
        """
        with writing_into(self.folder, "CWBENCH_CACHE names it"):
            self.folder.mkdir(parents=True, exist_ok=True)
        tensors: dict[str, Array] = {"ids": ids.astype(np.int64), "x": np.ascontiguousarray(x, dtype=np.float32)}
        write_atomically(self._path(label, number), save(tensors))

    @contextmanager
    def held(self) -> Iterator[None]:
        """Keep other processes that make the same evaluation away: the files are moved to the first report.

        Raises:
            CwbenchError: another one is making it, or the folder is not writable.
        """
        lock = FileLock(self.folder.with_name(f"{self.folder.name}.lock"), timeout=0)
        with writing_into(self.folder.parent, "CWBENCH_CACHE names it"):
            self.folder.parent.mkdir(parents=True, exist_ok=True)
            try:
                lock.acquire()
            except Timeout:
                raise UsageError(
                    "another process is saving the examples of the same run",
                    "wait for it, or leave --save-examples out",
                ) from None
        try:
            yield
        finally:
            lock.release()

    def holds(self, label: str, number: int) -> bool:
        """Tell whether a chunk was kept."""
        return self._path(label, number).is_file()

    def files(self) -> list[SavedFile]:
        """Return how a report refers to everything that was kept."""
        found = []
        for path in sorted(self.folder.glob("examples-*.safetensors")):
            with safe_open(path, framework="numpy") as tensors:
                n = tensors.get_slice("ids").get_shape()[0]
            label = self.labels[int(path.name.split("-")[1])]
            found.append(SavedFile(file=path.name, sha256=digest.of_file(path), attack=label, n=n))
        return found

    def move_to(self, folder: Path) -> None:
        """Move everything into the folder of the report."""
        for path in sorted(self.folder.glob("examples-*.safetensors")):
            shutil.move(path, folder / path.name)
        with suppress(OSError):
            self.folder.rmdir()

    def _path(self, label: str, number: int) -> Path:
        return self.folder / f"examples-{self.labels.index(label):02d}-{number:06d}.safetensors"
