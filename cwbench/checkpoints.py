"""The store of trained checkpoints, keyed by the digest of everything that determined them."""

import json
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load, load_file, save
from torch import Tensor

from cwbench import digest
from cwbench.errors import CwbenchError
from cwbench.files import cache_root, new_folder, write_atomically

WEIGHTS, DESCRIPTION = "weights.safetensors", "checkpoint.json"
CONTENT, DIGEST_LENGTH = "content", 64
UNFINISHED = ".unfinished"
SHORTEST = 8
"""Characters of a digest that are enough to name a checkpoint."""


@dataclass(frozen=True)
class Checkpoint:
    """A trained classifier."""

    identity: Mapping[str, Any]
    """What determined it; its digest is the key."""
    weights: Mapping[str, Tensor]
    """The state of the classifier."""
    record: Mapping[str, Any]
    """What happened in training: loss per epoch, curves, the defense's last state, versions."""
    cached: bool = False
    """Whether it came from the store."""

    @property
    def digest(self) -> str:
        return digest.of_json(self.identity)


@dataclass(frozen=True)
class Partial:
    """A training between two epochs."""

    identity: Mapping[str, Any]
    """What determines it, as that of the checkpoint that it will be."""
    tensors: Mapping[str, Tensor]
    content: Mapping[str, Any]


class Store:
    """Checkpoints and unfinished trainings below a folder."""

    def __init__(self, root: Path) -> None:
        self.root = root

    @classmethod
    def default(cls) -> "Store":
        """Return the store below CWBENCH_CACHE, or in the user's cache."""
        return cls(cache_root() / "checkpoints")

    def find(self, key: str) -> Checkpoint | None:
        """Return the checkpoint of that digest, or None.

        Raises:
            CwbenchError: there is one, but it is damaged or something else.
        """
        folder = self.root / key
        if not folder.exists():
            return None
        try:
            content = json.loads((folder / DESCRIPTION).read_text(encoding="utf-8"))
            found = digest.of_file(folder / WEIGHTS)
            if found != content["sha256"]:
                raise _DamagedError(f"its weights have sha256 {found[:12]}… instead of {content['sha256'][:12]}…")
            if digest.of_json(content["identity"]) != key:
                raise _DamagedError("it is the checkpoint of something else")
            if digest.of_json(content["record"]) != content["record_sha256"]:
                raise _DamagedError("its record was changed")
            weights = load_file(folder / WEIGHTS)
            return Checkpoint(content["identity"], weights, content["record"], cached=True)
        except (OSError, ValueError, KeyError, TypeError, SafetensorError, _DamagedError) as error:
            reason = f"{error} is missing in {DESCRIPTION}" if isinstance(error, KeyError) else str(error)
            raise CwbenchError(
                f"the cached checkpoint {folder} is damaged: {reason}", "remove that folder to train it again"
            ) from None

    def all(self) -> list[Checkpoint]:
        """Return every sound checkpoint in the store; damaged ones are passed over."""
        found = []
        for folder in sorted(self.root.glob("*/")):
            with suppress(CwbenchError):
                checkpoint = self.find(folder.name)
                if checkpoint:
                    found.append(checkpoint)
        return found

    def save(self, checkpoint: Checkpoint) -> None:
        """Keep a checkpoint. Of two processes that finish the same one, the first wins.

        Raises:
            CwbenchError: the store is not writable.
        """
        weights = save(dict(checkpoint.weights))
        content = {
            "identity": checkpoint.identity,
            "record": checkpoint.record,
            "record_sha256": digest.of_json(checkpoint.record),
            "sha256": digest.of_bytes(weights),
        }
        try:
            with new_folder(self.root / checkpoint.digest) as folder:
                write_atomically(folder / WEIGHTS, weights)
                write_atomically(folder / DESCRIPTION, json.dumps(content, indent=1).encode())
        except OSError as error:
            raise CwbenchError(f"cannot write into {self.root}: {error.strerror}", "CWBENCH_CACHE names it") from None
        self._partial_path(checkpoint.digest).unlink(missing_ok=True)

    def holds(self, key: str) -> bool:
        """Tell whether there is a checkpoint of that digest, sound or not."""
        return (self.root / key).exists()

    def save_partial(self, key: str, partial: Partial) -> None:
        """Keep the state of a training between two epochs: one file, so that its parts always belong together."""
        self.root.mkdir(parents=True, exist_ok=True)
        content = json.dumps({"identity": partial.identity, "content": partial.content}).encode()
        tensors = {name: tensor.contiguous() for name, tensor in partial.tensors.items()}
        body = save(tensors | {CONTENT: torch.frombuffer(bytearray(content), dtype=torch.uint8)})
        write_atomically(self._partial_path(key), digest.of_bytes(body).encode() + body)

    def find_partial(self, key: str) -> Partial | None:
        """Return the state that a killed training left, or None.

        Raises:
            CwbenchError: there is one, but it is damaged or of another training.
        """
        path = self._partial_path(key)
        if not path.exists():
            return None
        try:
            whole = path.read_bytes()
            if digest.of_bytes(whole[DIGEST_LENGTH:]).encode() != whole[:DIGEST_LENGTH]:
                raise _DamagedError("its content does not have the sha256 that it begins with")
            tensors = load(whole[DIGEST_LENGTH:])
            content = json.loads(tensors.pop(CONTENT).numpy().tobytes())
            if digest.of_json(content["identity"]) != key:
                raise _DamagedError("it is the training of something else")
            return Partial(content["identity"], tensors, content["content"])
        except (OSError, ValueError, KeyError, SafetensorError, _DamagedError) as error:
            raise CwbenchError(
                f"the unfinished training {path} is damaged: {error}", "remove it to train from the beginning"
            ) from None

    def unfinished(self) -> dict[str, Partial]:
        """Return every sound unfinished training by its digest."""
        found = {}
        for path in sorted(self.root.glob(f"*{UNFINISHED}")):
            with suppress(CwbenchError):
                partial = self.find_partial(path.name.removesuffix(UNFINISHED))
                if partial:
                    found[path.name.removesuffix(UNFINISHED)] = partial
        return found

    def opened(self, uri: str) -> Checkpoint:
        """Return a checkpoint by its folder, its digest or the first eight characters of that or more.

        Raises:
            CwbenchError: there is none, several, or it is damaged.
        """
        folder = Path(uri)
        if (folder / DESCRIPTION).is_file():
            found = Store(folder.resolve().parent).find(folder.resolve().name)
            if found:
                return found
        known = [entry.name for entry in self.root.glob("*/") if not entry.name.startswith(".")]
        matches = sorted(name for name in known if name.startswith(uri)) if len(uri) >= SHORTEST else []
        found = self.find(matches[0]) if len(matches) == 1 else None
        if found is None and matches:
            raise CwbenchError(f"{len(matches)} checkpoints begin with {uri!r}", "give more of the digest")
        if found is None:
            raise CwbenchError(
                f"no checkpoint is a folder or has a digest that begins with {uri!r}",
                "see cwbench list checkpoints; eight characters are enough",
            )
        return found

    def _partial_path(self, key: str) -> Path:
        return self.root / f"{key}{UNFINISHED}"


class _DamagedError(Exception):
    pass
