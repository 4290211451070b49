"""The store of trained checkpoints, keyed by the digest of everything that determined them."""

import json
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any

import torch
from pydantic import BaseModel, ConfigDict, Field
from safetensors import SafetensorError
from safetensors.torch import load, load_file, save
from torch import Tensor

from cwbench.checkpoints.hub.address import SCHEME, Address, address
from cwbench.checkpoints.hub.fetch import fetch, holds
from cwbench.internal import digest
from cwbench.internal.errors import CheckpointError, CwbenchError, reason_of
from cwbench.internal.files import cache_root, new_folder, write_atomically, writing_into
from cwbench.internal.sealed import seal, unseal
from cwbench.internal.validation import Closed

WEIGHTS, DESCRIPTION = "weights.safetensors", "checkpoint.json"
PUBLISHED_WEIGHTS, PUBLISHED_DESCRIPTION = "model.safetensors", "config.json"
"""The same files in a repository of the Hugging Face hub, under the names that are customary there."""
CONTENT = "content"
FORMAT = 1
"""Of a published checkpoint."""
FOREIGN = (".safetensors", ".pt", ".pth", ".ckpt", ".bin", ".tar")
"""How files of weights end that others wrote."""
UNFINISHED = ".unfinished"
SHORTEST = 8
"""Characters of a digest that are enough to name a checkpoint."""


class _Open(BaseModel):
    """A part of a description, as far as it is read; more may stand there."""

    model_config = ConfigDict(extra="allow", strict=True)


class _Part(_Open):
    name: Annotated[str, Field(max_length=200)]
    fields: dict[str, Any]


class _Dataset(_Part):
    classes: Annotated[list[str], Field(min_length=1, max_length=100_000)]
    shape: Annotated[list[Annotated[int, Field(ge=1, le=10_000)]], Field(min_length=2, max_length=2)]


class _Identity(_Open):
    """What a checkpoint's identity must have for it to be built: whoever published it may have written anything."""

    dataset: _Dataset
    backbone: _Part
    defense: _Part


class _Clean(Closed):
    """The clean accuracy that is published with a checkpoint."""

    model_config = ConfigDict(strict=True)

    dataset: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    limit: Annotated[int, Field(ge=1)] | None
    n: list[Annotated[int, Field(ge=0)]]
    correct: list[Annotated[int, Field(ge=0)]]


@dataclass(frozen=True)
class Published:
    """Where a checkpoint was published, and what was said of it there."""

    uri: str
    commit: str
    clean: Mapping[str, Any]
    """Its clean accuracy: ``dataset`` (the digest of the test split), ``limit``, and for each class ``n`` and
    ``correct``. A load that does not reproduce it is refused."""


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
    sha256: str | None = None
    """Of the file of its weights, where it was read from one."""
    published: Published | None = None
    """None for one that was trained here."""

    @property
    def digest(self) -> str:
        """Of what determined it."""
        return digest.of_json(self.identity)

    @property
    def key(self) -> str:
        """What a store keeps it under: its digest, if it was trained here.

        A published one claims an identity that nobody here has trained. Under its own key it can never be served where
        a run asks for the training of that identity.
        """
        if self.published is None:
            return self.digest
        return digest.of_json({"identity": self.digest, "uri": self.published.uri, "commit": self.published.commit})

    def described(self, weights: bytes) -> dict[str, Any]:
        """Return the description that is kept beside the weights, as JSON; ``weights`` are the bytes of their file."""
        return {
            "identity": self.identity,
            "record": self.record,
            "record_sha256": digest.of_json(self.record),
            "sha256": digest.of_bytes(weights),
        }


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
            CheckpointError: there is one, but it is damaged or something else.
        """
        folder = self.root / key
        if not folder.exists():
            return None
        try:
            found, content = _read(folder / DESCRIPTION, folder / WEIGHTS)
            published = Published(**content["published"]) if content.get("published") else None
            found = replace(found, cached=True, published=published)
            if found.key != key:
                raise _DamagedError("it is the checkpoint of something else")
        except (ValueError, KeyError, TypeError, _DamagedError) as error:
            raise CheckpointError(
                f"the cached checkpoint {folder} is damaged: {error}", "remove that folder to train it again"
            ) from None
        return found

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
            UsageError: the store is not writable.
        """
        weights = save(dict(checkpoint.weights))
        content = checkpoint.described(weights)
        if checkpoint.published:
            content["published"] = vars(checkpoint.published)
        with writing_into(self.root, "CWBENCH_CACHE names it"), new_folder(self.root / checkpoint.key) as folder:
            write_atomically(folder / WEIGHTS, weights)
            write_atomically(folder / DESCRIPTION, json.dumps(content, indent=1).encode())
        self._partial_path(checkpoint.key).unlink(missing_ok=True)

    def holds(self, key: str) -> bool:
        """Tell whether there is a checkpoint of that digest, sound or not."""
        return (self.root / key).exists()

    def save_partial(self, key: str, partial: Partial) -> None:
        """Keep the state of a training between two epochs: one file, so that its parts always belong together."""
        self.root.mkdir(parents=True, exist_ok=True)
        content = json.dumps({"identity": partial.identity, "content": partial.content}).encode()
        tensors = {name: tensor.contiguous() for name, tensor in partial.tensors.items()}
        body = save(tensors | {CONTENT: torch.frombuffer(bytearray(content), dtype=torch.uint8)})
        write_atomically(self._partial_path(key), seal(body))

    def find_partial(self, key: str) -> Partial | None:
        """Return the state that a killed training left, or None.

        Raises:
            CheckpointError: there is one, but it is damaged or of another training.
        """
        path = self._partial_path(key)
        if not path.exists():
            return None
        try:
            tensors = load(unseal(path.read_bytes()))
            content = json.loads(tensors.pop(CONTENT).numpy().tobytes())
            if digest.of_json(content["identity"]) != key:
                raise _DamagedError("it is the training of something else")
            return Partial(content["identity"], tensors, content["content"])
        except (OSError, ValueError, KeyError, SafetensorError, _DamagedError) as error:
            raise CheckpointError(
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
        """Return a checkpoint by its folder, its digest, the first eight characters of that, or its ``hf://`` address.

        Raises:
            CheckpointError: there is none, several, or it is damaged.
        """
        if uri.startswith(SCHEME):
            return pulled(address(uri))
        folder = Path(uri)
        if (folder / DESCRIPTION).is_file():
            found = Store(folder.resolve().parent).find(folder.resolve().name)
            if found:
                return found
        known = [entry.name for entry in self.root.glob("*/") if not entry.name.startswith(".")]
        matches = sorted(name for name in known if name.startswith(uri)) if len(uri) >= SHORTEST else []
        found = self.find(matches[0]) if len(matches) == 1 else None
        if found is None and matches:
            raise CheckpointError(f"{len(matches)} checkpoints begin with {uri!r}", "give more of the digest")
        if found is None:
            raise CheckpointError(
                f"no checkpoint is a folder or has a digest that begins with {uri!r}",
                "see cwbench list checkpoints; eight characters are enough",
            )
        return found

    def _partial_path(self, key: str) -> Path:
        return self.root / f"{key}{UNFINISHED}"


def pulled(at: Address) -> Checkpoint:
    """Return the checkpoint that a repository of the hub holds, fetched and checked.

    Raises:
        CheckpointError: it cannot be fetched, it is damaged, or the repository holds none of cwbench's.
    """
    names = holds(at)
    if names is not None and not {PUBLISHED_DESCRIPTION, PUBLISHED_WEIGHTS} <= set(names):
        weights = next((name for name in names if name.endswith(FOREIGN)), "FILE")
        raise CheckpointError(
            f"{at.repo} holds no checkpoint that cwbench published",
            f"name a file of weights and its network: --checkpoint {at}/{weights} --backbone NAME",
        )
    found = fetch(at, [PUBLISHED_DESCRIPTION, PUBLISHED_WEIGHTS])
    try:
        checkpoint, content = _read(found.files[PUBLISHED_DESCRIPTION], found.files[PUBLISHED_WEIGHTS])
        if content.get("library_name") != "cwbench":
            raise _DamagedError("cwbench did not write its config.json")
        if content["format"] != FORMAT:
            raise _DamagedError(f"it has format {content['format']} and this cwbench reads {FORMAT}: update cwbench")
        _Identity.model_validate(content["identity"])
        clean = _Clean.model_validate(content["clean"])
        if {len(clean.n), len(clean.correct)} != {len(checkpoint.identity["dataset"]["classes"])}:
            raise _DamagedError("its clean accuracy is of another number of classes")
        return replace(checkpoint, published=Published(str(at), found.commit, clean.model_dump()))
    except (ValueError, KeyError, TypeError, _DamagedError) as error:
        reason = f"{error} is missing" if isinstance(error, KeyError) else reason_of(error)
        raise CheckpointError(f"the checkpoint {at} cannot be used: {reason}", "ask who published it") from None


def _read(description: Path, weights: Path) -> tuple[Checkpoint, dict[str, Any]]:
    """Return a checkpoint and the whole of its description.

    Raises:
        _DamagedError: a part is missing, or is not what the description says.
    """
    try:
        content = json.loads(description.read_text(encoding="utf-8"))
        found = digest.of_file(weights)
        if found != content["sha256"]:
            raise _DamagedError(f"its weights have sha256 {found[:12]}… instead of {content['sha256'][:12]}…")
        if digest.of_json(content["record"]) != content["record_sha256"]:
            raise _DamagedError("its record was changed")
        return Checkpoint(content["identity"], load_file(weights), content["record"], sha256=found), content
    except OSError as error:
        raise _DamagedError(f"{Path(error.filename or weights).name}: {reason_of(error)}") from None
    except KeyError as error:
        raise _DamagedError(f"{error} is missing in {description.name}") from None
    except (ValueError, TypeError, SafetensorError) as error:
        raise _DamagedError(reason_of(error)) from None
    except RecursionError:
        raise _DamagedError(f"{description.name} is nested too deeply") from None


class _DamagedError(Exception):
    pass
