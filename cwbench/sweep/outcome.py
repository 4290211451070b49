"""What became of a task."""

import traceback
from collections.abc import Callable
from dataclasses import dataclass

from cwbench.internal.errors import CwbenchError, named_reason
from cwbench.internal.stdout import kept_for_results


@dataclass(frozen=True)
class Done:
    """It is done."""

    seconds: float
    accuracy: float | None = None
    """Of a judged cell: in the worst case over its attacks."""
    worst: float | None = None
    """Of its worst class."""


@dataclass(frozen=True)
class Failed:
    """It was not."""

    reason: str
    """One line."""
    bug: bool = False
    """Whether it is nothing that the user can put right."""
    trace: str | None = None
    """The traceback of a bug."""


Outcome = Done | Failed


def attempted(work: Callable[[], Done]) -> Outcome:
    """Do a piece of work; what goes wrong is told and not raised, so that the others go on."""
    try:
        with kept_for_results():
            return work()
    except CwbenchError as error:
        return Failed(str(error))
    except Exception as error:  # noqa: BLE001 - whatever a plugin raises in one cell must not stop the others
        return Failed(named_reason(error), bug=True, trace=traceback.format_exc())
