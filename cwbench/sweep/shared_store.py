"""A store of checkpoints that several machines share, beside each one's own."""

from cwbench.checkpoints.store import DESCRIPTION, WEIGHTS, Store
from cwbench.internal.errors import UsageError, reason_of
from cwbench.internal.files import new_folder
from cwbench.sweep.storage import Place


class Shared:
    """Checkpoints by digest, in the files of :class:`Store`.

    A machine fetches from it what it lacks and publishes what it has trained. Nothing is trusted because it lies there:
    the machine's own store checks the sha256 of weights and record when it reads them.
    """

    def __init__(self, place: Place) -> None:
        self.place = place

    def fetch(self, key: str, store: Store) -> bool:
        """Bring a checkpoint into a store, unless it is there; tell whether it is there now.

        Raises:
            UsageError: the store is not writable.
        """
        if store.holds(key):
            return True
        if not self.place.exists(f"{key}/{DESCRIPTION}"):
            return False
        try:
            with new_folder(store.root / key) as folder:
                for name in (WEIGHTS, DESCRIPTION):
                    (folder / name).write_bytes(self.place.read(f"{key}/{name}") or b"")
        except OSError as error:
            raise UsageError(f"cannot fetch checkpoint {key[:12]} from {self.place.url}: {reason_of(error)}") from None
        return True

    def publish(self, key: str, store: Store) -> None:
        """Give the others a checkpoint of a store: its description last, which is what they look for."""
        if self.place.exists(f"{key}/{DESCRIPTION}"):
            return
        for name in (WEIGHTS, DESCRIPTION):
            self.place.put(f"{key}/{name}", store.root / key / name)
