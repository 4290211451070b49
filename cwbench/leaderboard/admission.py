"""What may stand on a board."""

import json
import re
import unicodedata
from typing import Any

from cwbench.internal.errors import ReportError
from cwbench.leaderboard.attack_suites import Suites
from cwbench.leaderboard.layout import NAME
from cwbench.report.report import Report

LARGEST = 64 << 20
"""Bytes of an entry: ImageNet's confusion counts under seven attacks take a third of it."""
MOST_CLASSES = 2_000
LONGEST = 1_000
"""Characters of a text within an entry."""
HIDDEN = ("Cc", "Cf", "Cs", "Co", "Cn")
"""Unicode's categories of what cannot be seen: control characters, and those that turn the direction of writing."""
_LONG = re.compile(rb'"[^"]{%d,}"' % (LONGEST + 1))


def admit(report: Report, raw: bytes, suites: Suites) -> str:
    """Return the name of the suite of a report that may stand on a board; ``raw`` is the file it was read from.

    Raises:
        ReportError: names the field that keeps it from the board, and why.
    """
    if not NAME.fullmatch(report.dataset.name):
        raise ReportError(f"dataset.name: {report.dataset.name[:80]!r} is no name of a dataset")
    if report.dataset.split != "test":
        raise ReportError("dataset.split: tensors that were handed in", "a board ranks named datasets")
    if report.dataset.limit is not None:
        judged, n = sum(report.dataset.n_per_class), report.dataset.n_available
        raise ReportError(f"dataset.limit: {judged:,} of {n:,} examples were judged", "run it without --limit")
    if len(report.dataset.classes) > MOST_CLASSES:
        raise ReportError(f"dataset.classes: {len(report.dataset.classes):,} of at most {MOST_CLASSES:,}")
    if report.cascade:
        raise ReportError("cascade: each column counts the attacks before it, too", "run it without --cascade")
    if report.digest is None:
        raise ReportError("digest: there is none, as in reports from before cwbench sealed them", "run it again")
    if not sum(report.dataset.n_per_class):
        raise ReportError("dataset.n_per_class: nothing was judged")
    found = unfit_text(raw)
    if found:
        raise ReportError(found)
    return suites.name_of(report)


def unfit_text(raw: bytes) -> str | None:
    """Return which text of an entry is too long or holds characters that cannot be seen; None where all are fit."""
    if raw.isascii() and b"\\" not in raw and not _LONG.search(raw):
        return None  # nothing to look for
    return _unfit(json.loads(raw), "")


def _unfit(value: Any, path: str) -> str | None:
    if isinstance(value, dict):
        parts = [(str(key), f"{path}.{_shown(str(key))}" if path else _shown(str(key))) for key in value]
        unfit = next((found for key, where in parts if (found := _unfit(key, f"a key at {where}"))), None)
        return unfit or next(
            (found for x, (_, p) in zip(value.values(), parts, strict=True) if (found := _unfit(x, p))), None
        )
    if isinstance(value, list):
        return next((found for i, item in enumerate(value) if (found := _unfit(item, f"{path}[{i}]"))), None)
    if not isinstance(value, str):
        return None
    if len(value) > LONGEST:
        return f"{path}: a text of {len(value):,} characters, at most {LONGEST:,} are shown"
    hidden = next((letter for letter in value if unicodedata.category(letter) in HIDDEN), None)
    return f"{path}: the character U+{ord(hidden):04X}, which cannot be seen" if hidden else None


def _shown(text: str) -> str:
    return "".join(letter if letter.isprintable() else "\ufffd" for letter in text[:60])
