"""Fetching files of a repository at one commit: checked against what the hub says, and offline from the cache."""

import hashlib
import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from huggingface_hub import HfApi, hf_hub_download

from cwbench.checkpoints.hub.address import Address
from cwbench.checkpoints.hub.client import UnreachableError, call
from cwbench.internal import digest
from cwbench.internal.errors import HubError

SHA256, SHA1 = 64, 40
"""Hexadecimal digits: the hub names large files by sha256 and small ones by git's sha1."""


@dataclass(frozen=True)
class Fetched:
    """Files of a repository on this machine."""

    commit: str
    """What the revision was resolved to."""
    files: dict[str, Path]
    online: bool
    """Whether the hub was asked; otherwise they are what the cache holds of the revision."""


@dataclass(frozen=True)
class _Listed:
    size: int | None
    name: str | None
    """The sha256 or git's sha1 of its content."""


def fetch(at: Address, files: Sequence[str]) -> Fetched:
    """Return files of a repository, from the hub or, where it cannot be asked, from the cache.

    Raises:
        HubError: no such repository, revision or file, no access, a file that is not what the hub says it is, or
            neither hub nor cache has it.
    """
    try:
        commit, listed = _listing(at)
        missing = [file for file in files if file not in listed]
        if missing:
            raise HubError(f"{at.repo} has no file {missing[0]!r}", f"it holds {_shown(listed)}")
        found = {file: _downloaded(at, file, commit, listed[file]) for file in files}
    except UnreachableError as error:
        return _from_cache(at, files, str(error))
    return Fetched(commit, found, online=True)


def holds(at: Address) -> list[str] | None:
    """Return the names of a repository's files; None if the hub cannot be asked.

    Raises:
        HubError: no such repository or revision, or no access.
    """
    try:
        return sorted(_listing(at)[1])
    except UnreachableError:
        return None


def _listing(at: Address) -> tuple[str, dict[str, _Listed]]:
    """Return the commit of a revision, and what the hub says of each of its files."""
    info = call(lambda: HfApi().model_info(at.repo, revision=at.revision, files_metadata=True), at, "read")
    if not info.sha or not re.fullmatch(r"[0-9a-f]{40}", info.sha):
        raise HubError(f"the hub does not say which commit {at} is")
    listed = {
        entry.rfilename: _Listed(
            entry.lfs.size if entry.lfs else entry.size, entry.lfs.sha256 if entry.lfs else entry.blob_id
        )
        for entry in info.siblings or []
    }
    return info.sha, listed


def _downloaded(at: Address, file: str, commit: str, listed: _Listed) -> Path:
    # By its revision, not by the commit: so the cache learns what the revision was, and serves it offline.
    path = Path(call(lambda: hf_hub_download(at.repo, file, revision=at.revision), at, "read"))
    if _commit(path, file) != commit:
        raise HubError(f"{at} was changed while it was fetched", "try again")
    size = path.stat().st_size
    if (listed.size is not None and listed.size != size) or (listed.name and listed.name != _name(path, listed.name)):
        begins = path.open("rb").read(15).lstrip().lower()
        forget(path)
        page = " (it is a web page)" if begins.startswith((b"<!doctype", b"<html")) else ""
        said = f"{listed.size:,} bytes with {listed.name}" if listed.size is not None else listed.name
        raise HubError(
            f"{at.repo}/{file} is not what the hub says it is: {size:,} bytes{page} instead of {said}",
            "try again; a proxy or a broken upload may have changed it",
        )
    return path


def _from_cache(at: Address, files: Sequence[str], reason: str) -> Fetched:
    found: dict[str, Path] = {}
    for file in files:
        try:
            found[file] = Path(hf_hub_download(at.repo, file, revision=at.revision, local_files_only=True))
        except OSError:
            raise HubError(
                f"the hub cannot be reached, and the cache does not hold {file} of {at}: {reason}",
                f"try again when it answers; `cwbench hub pull {at}` keeps it for later",
            ) from None
        name = found[file].resolve().name
        if len(name) in (SHA256, SHA1) and _name(found[file], name) != name:
            forget(found[file])
            raise HubError(f"the cached {file} of {at} is damaged", f"fetch it again: cwbench hub pull {at}")
    commits = {_commit(path, file) for file, path in found.items()}
    if len(commits) != 1:
        raise HubError(f"the cache holds the files of {at} at different commits", "fetch it again while online")
    commit = commits.pop()
    print(f"cwbench: the hub cannot be reached: {at} is taken from the cache, commit {commit[:12]}", file=sys.stderr)
    return Fetched(commit, found, online=False)


def _commit(path: Path, file: str) -> str:
    """Return the commit that a file of the cache is of: its folder there."""
    return path.parents[len(Path(file).parts) - 1].name


def _name(path: Path, like: str) -> str:
    """Return the name that the hub gives to a file's content: its sha256, or for small files git's sha1 of a blob."""
    if len(like) == SHA256:
        return digest.of_file(path)
    content = path.read_bytes()
    return hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest()


def forget(path: Path) -> None:
    """Remove a file from the hub's cache, its content with it."""
    content = path.resolve()
    path.unlink(missing_ok=True)
    content.unlink(missing_ok=True)


def _shown(names: object) -> str:
    known = sorted(names) if isinstance(names, dict) else []
    return ", ".join(known[:8]) + (f" and {len(known) - 8} more" if len(known) > 8 else "") or "nothing"
