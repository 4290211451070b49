"""Where a board's files lie."""

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from cwbench.internal import digest
from cwbench.internal.errors import ReportError, reason_of
from cwbench.report.report import Report

ID_LENGTH = 16
MARKDOWN, JSON, PAGE = RENDERED = ("LEADERBOARD.md", "leaderboard.json", "site/index.html")
"""What a build writes."""
NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,63}")
"""What a dataset must be called to have a folder on a board."""


@dataclass(frozen=True)
class Place:
    """A board's folder."""

    root: Path

    @classmethod
    def existing(cls, root: Path) -> "Place":
        """Return the place of a board that is there.

        Raises:
            ReportError: it is not.
        """
        if not (root / "entries").is_dir():
            raise ReportError(f"there is no board at {root}: it has no folder entries", "name one with --board DIR")
        return cls(root)

    @property
    def entries(self) -> Path:
        return self.root / "entries"

    @property
    def verifications(self) -> Path:
        return self.root / "verifications"

    @property
    def suites(self) -> Path:
        """Suites of datasets that cwbench does not know: as ``cwbench/leaderboard/suites.json``."""
        return self.root / "suites.json"

    def path(self, report: Report) -> Path:
        """Return where an entry lies: ``entries/<dataset>/<threat>/<id>.json``."""
        return self.entries / report.dataset.name / threat_folder(report) / f"{entry_id(report)}.json"

    def files(self) -> Iterator[Path]:
        """Yield everything that lies where entries do, in order; drafts of writers at work are hidden files."""
        found = []
        for folder, folders, files in os.walk(self.entries, onerror=_unreadable):
            links = [name for name in folders if (Path(folder) / name).is_symlink()]
            found += [Path(folder) / name for name in (*files, *links) if not name.startswith(".")]
        yield from sorted(found)


def _unreadable(error: OSError) -> NoReturn:
    raise ReportError(f"cannot read {error.filename}: {reason_of(error)}", "a board is read whole or not at all")


def threat_folder(report: Report) -> str:
    """Return the name of a threat's folder, such as ``Linf-0.0313725``: by value, however the radius was written."""
    return f"{report.threat.norm}-{report.threat.eps.value:.6g}"


def entry_id(report: Report) -> str:
    """Return the name of a report's entry: the digest of what was judged on what, and how.

    Two reports with the same checkpoint, data, threat, attacks and seed have the same id, also if they were made at
    another time and place: the second is a duplicate.
    """
    judged = report.predictions and report.predictions.sha256
    judged = report.source.sha256 if report.source else judged
    judged = report.training.checkpoint if report.training else judged
    content = {
        "judged": judged,
        "subject": None if report.training else report.subject,
        "data": report.dataset.digest,
        "threat": [report.threat.norm, report.threat.eps.value],
        "attacks": [
            [attack.label, attack.attack.fields, attack.substitute]
            for attack in sorted(report.attacks, key=lambda attack: attack.label)
        ],
        "seed": report.provenance.seed,
    }
    return digest.of_json(content)[:ID_LENGTH]
