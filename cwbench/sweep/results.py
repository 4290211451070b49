"""Where finished cells are."""

import json
from pathlib import Path

from cwbench.report.report import Report, parsed
from cwbench.sweep.outcome import Failed
from cwbench.sweep.storage import Place

REPORT, FAILURE = "report.json", "failure.json"


class Results:
    """Reports and failures of cells by their folder.

    The files of a cell are written one by one, its report last: a cell is finished when its report is there.
    """

    def __init__(self, place: Place) -> None:
        self.place = place

    def report(self, folder: str) -> Report | None:
        """Return the report of a finished cell, or None.

        Raises:
            UsageError: it is damaged.
        """
        content = self.place.read(f"{folder}/{REPORT}")
        return parsed(content, f"{self.place.url}/{folder}/{REPORT}") if content is not None else None

    def predictions(self, folder: str, name: str) -> bytes | None:
        """Return the bytes of a file beside a report, or None."""
        return self.place.read(f"{folder}/{name}")

    def put(self, folder: str, written: Path) -> None:
        """Keep everything that a run wrote into a folder of its own."""
        for path in sorted(written.iterdir(), key=lambda path: path.name == REPORT):
            self.place.put(f"{folder}/{path.name}", path)
        self.place.remove(f"{folder}/{FAILURE}")

    def put_failure(self, folder: str, failed: Failed) -> None:
        """Keep why a cell failed, until it is finished."""
        self.place.write(f"{folder}/{FAILURE}", json.dumps(vars(failed), indent=1).encode())

    def failure(self, folder: str) -> Failed | None:
        """Return why a cell failed when it was tried last, or None."""
        content = self.place.read(f"{folder}/{FAILURE}")
        try:
            return Failed(**json.loads(content)) if content is not None else None
        except (ValueError, TypeError):
            return Failed("it failed, and its failure.json is damaged")
