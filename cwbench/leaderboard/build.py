"""``leaderboard check`` and ``leaderboard build``."""

from collections.abc import Sequence
from dataclasses import dataclass

from cwbench.internal.errors import CwbenchError, ReportError
from cwbench.leaderboard.atomic_publish import building, put, recover
from cwbench.leaderboard.board import Board, Table
from cwbench.leaderboard.entry import Entry
from cwbench.leaderboard.layout import JSON, MARKDOWN, PAGE, Place
from cwbench.leaderboard.markdown import markdown
from cwbench.leaderboard.page import page
from cwbench.leaderboard.rank import rank
from cwbench.leaderboard.read_entries import read_all, without_collector
from cwbench.leaderboard.verification import Verification, read_verifications


@dataclass(frozen=True)
class Sound:
    """A board without a problem."""

    entries: tuple[Entry, ...]
    verifications: dict[str, Verification]


class UnsoundError(CwbenchError):
    """Entries that may not stand on the board."""

    def __init__(self, problems: Sequence[CwbenchError], among: int) -> None:
        super().__init__(f"{len(problems):,} of {among:,} files may not stand on the board", "mend or remove them")
        self.problems = tuple(problems)


def check(place: Place) -> Sound:
    """Read, recount and admit every entry, and every verification.

    Raises:
        UnsoundError: with a complaint for each file that is wrong.
    """
    recover(place)
    reading = read_all(place)
    verifications, unfit = read_verifications(place)
    digests = {entry.id: entry.digest for entry in reading.entries}
    problems = [*reading.problems, *unfit]
    for name, found in verifications.items():
        if digests.get(name) != found.digest and not reading.problems:
            problems.append(ReportError(f"verifications/{name}.json: it is about a report that is no entry"))
    if problems:
        raise UnsoundError(problems, len(reading.entries) + len(reading.problems) + len(verifications) + len(unfit))
    return Sound(reading.entries, verifications)


def build(place: Place) -> tuple[Board, bool]:
    """Render the board as Markdown, JSON and a page; return it, and whether anything changed.

    Raises:
        UnsoundError: a file may not stand on the board; what was rendered before stays.
        ReportError: the folder is not writable.
    """
    with building(place), without_collector():
        sound = check(place)
        board = rank(sound.entries, sound.verifications)
        files = {
            MARKDOWN: markdown(board).encode(),
            JSON: to_json(board).encode(),
            PAGE: page(board, sound.entries).encode(),
        }
        return board, put(place, files)


def to_json(board: Board) -> str:
    """Return the board as JSON, a row to a line so that differences between two boards can be read."""
    head = board.model_dump_json(exclude={"tables"})[:-1]
    return f'{head},"tables":[\n' + ",\n".join(map(_lines, board.tables)) + "\n]}\n"


def _lines(table: Table) -> str:
    head = table.model_dump_json(exclude={"rows"})[:-1]
    return f'{head},"rows":[\n' + ",\n".join(row.model_dump_json() for row in table.rows) + "\n]}"
