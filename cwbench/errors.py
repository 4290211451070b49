"""What a user can put right: the one exception that the command line prints without a traceback."""

import difflib
from collections.abc import Iterable

SHOWN = 40
"""How many known names a hint spells out."""


class CwbenchError(Exception):
    """Something the user can put right: one line that says what is wrong, and a hint that says what to do.

    The command line prints it and exits with code 2. Every other exception is a bug and keeps its traceback.
    """

    def __init__(self, message: str, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message} ({self.hint})" if self.hint else self.message


def did_you_mean(wrong: str, known: Iterable[str]) -> str:
    """Return the hint for a mistyped name: the closest known names, then all of them if they fit a message."""
    names = sorted(known)
    close = difflib.get_close_matches(wrong, names, n=3, cutoff=0.6)
    choices = f"known: {', '.join(names)}" if names else "none is known"
    if len(names) > SHOWN:
        choices = f"{len(names):,} names are known"
    return f"did you mean {' or '.join(close)}? {choices}" if close else choices
