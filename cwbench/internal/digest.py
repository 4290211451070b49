"""Digests: of JSON-able values, of bytes and of files."""

import hashlib
import json
from pathlib import Path
from typing import Any


def of_json(value: Any) -> str:
    """Return the sha256 of ``value`` as canonical JSON: sorted keys, no spaces, no NaN."""
    return of_bytes(json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False).encode())


def of_bytes(content: bytes) -> str:
    """Return the sha256 of bytes."""
    return hashlib.sha256(content).hexdigest()


def of_file(path: Path) -> str:
    """Return the sha256 of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
