"""A store of checkpoints that several machines share, beside each one's own."""

import secrets
from pathlib import Path

from fsspec.core import url_to_fs

from cwbench.checkpoints import DESCRIPTION, WEIGHTS, Store
from cwbench.errors import CwbenchError
from cwbench.files import new_folder


class Shared:
    """Checkpoints below an address that fsspec reaches, by digest, in the files of :class:`Store`.

    A machine fetches from it what it lacks and publishes what it has trained. Nothing is trusted because it lies there:
    the machine's own store checks the sha256 of weights and record when it reads them.
    """

    def __init__(self, url: str) -> None:
        self.url = url
        try:
            self.fs, self.root = url_to_fs(url)
        except (ImportError, ValueError) as error:
            raise CwbenchError(f"cannot use {url}: {error}", "give a folder, or an address that fsspec knows") from None

    def fetch(self, key: str, store: Store) -> bool:
        """Bring a checkpoint into a store, unless it is there; tell whether it is there now.

        Raises:
            CwbenchError: the store is not writable.
        """
        if store.holds(key):
            return True
        if not self.fs.exists(f"{self.root}/{key}/{DESCRIPTION}"):
            return False
        try:
            with new_folder(store.root / key) as folder:
                for name in (WEIGHTS, DESCRIPTION):
                    self.fs.get_file(f"{self.root}/{key}/{name}", str(folder / name))
        except OSError as error:
            raise CwbenchError(f"cannot fetch checkpoint {key[:12]} from {self.url}: {error}") from None
        return True

    def publish(self, key: str, store: Store) -> None:
        """Give the others a checkpoint of a store: its description last, which is what they look for."""
        target = f"{self.root}/{key}"
        if self.fs.exists(f"{target}/{DESCRIPTION}"):
            return
        self.fs.makedirs(target, exist_ok=True)
        for name in (WEIGHTS, DESCRIPTION):
            self._write(f"{target}/{name}", store.root / key / name)

    def _write(self, target: str, source: Path) -> None:
        draft = f"{target}.{secrets.token_hex(4)}"
        self.fs.put_file(str(source), draft)
        self.fs.mv(draft, target)
