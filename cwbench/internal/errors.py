"""What a user can put right: a small tree of exceptions that the command line prints without a traceback."""

import difflib
from collections.abc import Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # the command line tells errors of its own without loading pydantic
    from pydantic import ValidationError

SHOWN = 40
"""How many known names a hint spells out."""
LONGEST = 300
"""How many characters of somebody else's error are shown."""


class CwbenchError(Exception):
    """Something the user can put right: one line that says what is wrong, and a hint that says what to do.

    The command line prints it and exits with code 2. Every other exception is a bug and keeps its traceback.

    Args:
        message: one line that says what is wrong, with the value that was given.
        hint: what to do next.
    """

    def __init__(self, message: str, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message} ({self.hint})" if self.hint else self.message


class UsageError(CwbenchError):
    """What was asked for does not exist, is out of range, or does not fit together."""


class DataError(CwbenchError):
    """Images or labels are missing, damaged, or not those of the dataset."""


class CheckpointError(CwbenchError):
    """A checkpoint is missing, damaged, for another network or dataset, or does not reproduce what was published."""


class HubError(CwbenchError):
    """The Hugging Face hub cannot be reached, refuses, or sends something else than it promised."""


class ReportError(CwbenchError):
    """A report or a leaderboard's entry is damaged, does not add up, or does not reproduce."""


def did_you_mean(wrong: str, known: Iterable[str]) -> str:
    """Return the hint for a mistyped name: the closest known names, then all of them if they fit a message."""
    names = sorted(known)
    close = difflib.get_close_matches(wrong, names, n=3, cutoff=0.6)
    choices = f"known: {', '.join(names)}" if names else "none is known"
    if len(names) > SHOWN:
        choices = f"{len(names):,} names are known"
    return f"did you mean {' or '.join(close)}? {choices}" if close else choices


def reason_of(error: BaseException) -> str:
    """Return what an error of somebody else's code says, on one line of at most 300 characters.

    An error of the operating system is told without its number and file, pydantic's complaints by the first of them,
    and an error that says nothing by its type.
    """
    if type(error).__module__.startswith("pydantic"):
        from pydantic import ValidationError  # noqa: PLC0415 - it is loaded already, and only then

        if isinstance(error, ValidationError):
            return first_complaint(error)
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    try:
        text = " ".join(str(error).split())
    except Exception:  # noqa: BLE001 - an exception whose own text fails
        text = ""
    return text[:LONGEST] or type(error).__name__


def named_reason(error: BaseException) -> str:
    """Return the type of an error and what it says, on one line: for bugs in somebody else's code."""
    reason, name = reason_of(error), type(error).__name__
    return name if reason == name else f"{name}: {reason}"


def first_complaint(error: "ValidationError") -> str:
    """Return pydantic's first complaint with the place that it is about, as ``recipe.epochs: Input should be ...``."""
    first = error.errors()[0]
    where = ".".join(map(str, first["loc"]))
    return f"{where + ': ' if where else ''}{first['msg'].removeprefix('Value error, ')}"
