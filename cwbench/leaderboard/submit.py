"""Reports that join a board."""

import json
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from cwbench.internal.errors import CwbenchError, ReportError
from cwbench.internal.files import write_new
from cwbench.leaderboard.admission import admit
from cwbench.leaderboard.attack_suites import Suites, read_suites
from cwbench.leaderboard.entry import read_limited
from cwbench.leaderboard.layout import Place
from cwbench.report.predictions import read_predictions
from cwbench.report.report import first_against_schema, parsed


def submit(reports: Sequence[Path], place: Place) -> list[Path]:
    """Check reports and copy them onto a board, all of them or none; return their entries.

    Any number of processes may do so at once: an entry is a file of its own that appears whole, and a name that is
    taken is refused by the file system itself.

    Raises:
        ReportError: names the report, the field and what keeps it from the board, or the entry that is there already.
    """
    suites = read_suites(place.suites)
    planned: dict[Path, bytes] = {}
    for path in reports:
        target, raw = _checked(path, place, suites)
        if target in planned:
            raise ReportError(f"{path}: the same checkpoint, attacks and seed are given twice", "leave one out")
        if target.exists():
            raise _duplicate(path, target)
        planned[target] = raw
    written: list[Path] = []
    try:
        for path, (target, raw) in zip(reports, planned.items(), strict=True):
            try:
                write_new(target, raw)
            except FileExistsError:
                raise _duplicate(path, target) from None
            written.append(target)
    except BaseException:
        for target in written:
            with suppress(OSError):
                target.unlink()
        raise
    return written


def _checked(path: Path, place: Place, suites: Suites) -> tuple[Path, bytes]:
    raw = read_limited(path, str(path))
    report = parsed(raw, str(path))
    try:
        admit(report, raw, suites)
    except CwbenchError as error:
        raise ReportError(f"{path}: {error.message}", error.hint) from None
    against = first_against_schema(json.loads(raw))
    if against:
        raise ReportError(f"{path}: {against}", "the file does not obey the schema")
    if read_predictions(report, path.parent) is None:
        raise ReportError(
            f"{path}: the predictions it was written with do not lie beside it, and cannot be recounted",
            "submit it from the run's own folder",
        )
    return place.path(report), raw


def _duplicate(path: Path, target: Path) -> CwbenchError:
    return ReportError(
        f"{path} is a duplicate: {target} has the same checkpoint, data, threat, attacks and seed",
        "remove that entry first if this one is to take its place",
    )
