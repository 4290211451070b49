"""Entries that were found sound before: a large board is checked and then built without reading every report twice."""

import json
from collections.abc import Collection
from contextlib import suppress
from dataclasses import fields
from importlib.metadata import version
from pathlib import Path
from typing import final

import pydantic

from cwbench.internal import code_digest, digest
from cwbench.internal.errors import CwbenchError
from cwbench.internal.files import cache_root, write_atomically
from cwbench.leaderboard.attack_suites import Suites
from cwbench.leaderboard.entry import Entry
from cwbench.leaderboard.layout import Place

FIELDS = [field.name for field in fields(Entry)]


@final
class Memo:
    """Files in the user's cache, keyed by the bytes of the entries and by everything that judges them.

    Like the journal of an evaluation it only saves time: what cannot be read is read from the board, and what cannot be
    written is not kept.
    """

    def __init__(self, place: Place, suites: Suites) -> None:
        self.folder = cache_root() / "leaderboard" / digest.of_bytes(str(place.root.resolve()).encode())[:32]
        code = code_digest.of_code("cwbench.leaderboard.entry", packages=("internal", "leaderboard", "report"))
        self.judge = [version("cwbench"), pydantic.VERSION, code, suites.model_dump(mode="json")]

    def key(self, contents: Collection[tuple[str, str]]) -> str:
        """Return the key of some entries, given their names and the sha256 of their files."""
        return digest.of_json([self.judge, sorted(contents)])

    def find(self, key: str) -> list[Entry] | None:
        """Return the entries that were kept under a key, or None."""
        try:
            return [Entry(**content) for content in json.loads((self.folder / key).read_bytes())]
        except (OSError, ValueError, TypeError):
            return None

    def keep(self, key: str, entries: Collection[Entry]) -> None:
        """Keep entries that were found sound."""
        content = json.dumps(
            [{name: getattr(entry, name) for name in FIELDS} for entry in entries], separators=(",", ":")
        )
        with suppress(OSError, CwbenchError):
            self.folder.mkdir(parents=True, exist_ok=True)
            write_atomically(self.folder / key, content.encode())

    def forget_others(self, keys: Collection[str]) -> None:
        """Remove what belongs to another state of the board."""
        with suppress(OSError):
            for path in self.folder.iterdir():
                if path.name not in keys:
                    path.unlink()


def sha256_of(path: Path) -> str:
    """Return the sha256 of a regular file, and of anything else a text that is none."""
    return digest.of_file(path) if path.is_file() and not path.is_symlink() else "no file"
