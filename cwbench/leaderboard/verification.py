"""Who has reproduced an entry, and how: a file beside the entries that only maintainers may add."""

from datetime import datetime
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, ValidationError

from cwbench.internal.errors import CwbenchError, ReportError, first_complaint, reason_of
from cwbench.internal.files import write_atomically, writing_into
from cwbench.internal.validation import Closed
from cwbench.leaderboard.layout import Place, entry_id
from cwbench.report.records import Count, Sha256
from cwbench.report.report import Report, read_report

Means = Literal["examples", "sample"]


class Verification(Closed):
    """An entry that was reproduced."""

    schema_version: Literal[1] = 1
    entry: Annotated[str, Field(pattern=r"^[0-9a-f]{16}$")]
    digest: Sha256
    """Of the report that was reproduced."""
    means: Means
    """``examples``: the saved adversarial examples were predicted again and measured, and attacks ran again on a few
    random examples. ``sample``: attacks ran again on a random sample."""
    examples: Count
    """How many were predicted again, or without saved ones attacked again."""
    differing: Count
    """How many verdicts of them differ; more than a few refuse the report."""
    attacks: list[str]
    """The attacks that were reproduced."""
    created: datetime
    cwbench: str
    torch: str


def require_entry(report: Report, place: Place) -> None:
    """Check that a report is an entry of a board: this one, not another run of the same training and attacks.

    Raises:
        ReportError: it is none.
    """
    path = place.path(report)
    if report.digest is None or not path.is_file():
        raise ReportError(f"the report is no entry of {place.root}", "cwbench leaderboard submit makes it one")
    if read_report(path).digest != report.digest:
        raise ReportError(
            f"the entry {path.relative_to(place.root)} is another report of the same training and attacks",
            "verify the report that was submitted",
        )


def record(verification: Verification, report: Report, place: Place) -> Path:
    """Write a verification onto a board where its report is an entry; return its file.

    Raises:
        ReportError: the report is no entry of the board, or the folder is not writable.
    """
    require_entry(report, place)
    path = place.verifications / f"{entry_id(report)}.json"
    with writing_into(place.root):
        path.parent.mkdir(exist_ok=True)
    write_atomically(path, (verification.model_dump_json(indent=1) + "\n").encode())
    return path


def read_verifications(place: Place) -> tuple[dict[str, Verification], list[CwbenchError]]:
    """Return the verifications of a board by entry, and a complaint for each file that is none."""
    found: dict[str, Verification] = {}
    problems: list[CwbenchError] = []
    try:
        paths = sorted(place.verifications.iterdir()) if place.verifications.exists() else []
    except OSError as error:
        return {}, [ReportError(f"cannot read {place.verifications}: {reason_of(error)}")]
    for path in (path for path in paths if not path.name.startswith(".")):
        name = path.relative_to(place.root).as_posix()
        try:
            verification = Verification.model_validate_json(path.read_bytes(), strict=True)
            if path.name != f"{verification.entry}.json":
                raise ReportError(f"{name}: it is about the entry {verification.entry}")
            found[verification.entry] = verification
        except ValidationError as error:
            problems.append(ReportError(f"{name}: {first_complaint(error)}"))
        except OSError as error:
            problems.append(ReportError(f"{name}: cannot be read: {reason_of(error)}"))
        except CwbenchError as error:
            problems.append(error)
    return found, problems
