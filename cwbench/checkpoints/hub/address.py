"""Addresses on the hub: ``hf://user/repo[@revision][/file]``."""

import re
from dataclasses import dataclass
from pathlib import PurePosixPath
from urllib.parse import unquote

from cwbench.internal.errors import HubError

SCHEME = "hf://"
_PART = r"[A-Za-z0-9](?:[A-Za-z0-9._-]{0,94}[A-Za-z0-9_])?"
_ADDRESS = re.compile(rf"(?P<repo>{_PART}/{_PART})(?:@(?P<revision>[^/@]+))?(?:/(?P<file>.+))?")
EXAMPLE = "an address is hf://user/repo, hf://user/repo@revision or hf://user/repo/file.safetensors"


@dataclass(frozen=True)
class Address:
    """A repository, perhaps at a revision, perhaps one file of it."""

    repo: str
    """``user/name``."""
    revision: str | None = None
    """A branch, a tag or a commit; None is the repository's main branch."""
    file: str | None = None
    """A path inside the repository."""

    def __str__(self) -> str:
        revision, file = (f"@{self.revision}" if self.revision else ""), (f"/{self.file}" if self.file else "")
        return f"{SCHEME}{self.repo}{revision}{file}"


def address(text: str) -> Address:
    """Return the address that ``text`` spells; the scheme may be left out. A slash in a revision is written ``%2F``.

    Raises:
        HubError: it is none, or names a file outside its repository.
    """
    found = _ADDRESS.fullmatch(text.removeprefix(SCHEME))
    if found is None or any(mark in found["repo"] for mark in ("--", "..")):
        raise HubError(f"{text!r} is no address on the Hugging Face hub", EXAMPLE)
    revision = unquote(found["revision"]) if found["revision"] else None
    if revision and not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._/-]*", revision):
        raise HubError(f"{revision!r} in {text!r} is no revision", "name a branch, a tag or a commit")
    if found["file"]:
        refuse_outside(found["file"], text)
    return Address(found["repo"], revision, found["file"])


def refuse_outside(file: str, subject: str) -> None:
    """Refuse the name of a file that would lie outside of its repository or its folder.

    Raises:
        HubError: it is absolute, climbs with ``..``, or hides one of these.
    """
    plain = unquote(file)
    parts = PurePosixPath(plain).parts
    unsafe = plain.startswith("/") or ".." in parts or "\\" in plain or ":" in plain or not plain.isprintable()
    if unsafe or plain.endswith("/"):
        raise HubError(f"{file!r} in {subject!r} is no name of a file in a repository", EXAMPLE)
