"""cwbench: how robust is an image classifier for each class?"""

from importlib import import_module
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cwbench.door import evaluate as evaluate
    from cwbench.door import run as run
    from cwbench.errors import CwbenchError as CwbenchError
    from cwbench.hookspecs import hookimpl as hookimpl
    from cwbench.report import Report as Report
    from cwbench.report import read_report as read_report

__all__ = ["CwbenchError", "Report", "evaluate", "hookimpl", "read_report", "run"]
__version__ = version("cwbench")

_HOMES = {
    "CwbenchError": "cwbench.errors",
    "Report": "cwbench.report",
    "evaluate": "cwbench.door",
    "hookimpl": "cwbench.hookspecs",
    "read_report": "cwbench.report",
    "run": "cwbench.door",
}


def __getattr__(name: str) -> Any:
    """Import what is asked for when it is asked for: `cwbench --help` must not wait for torch."""
    if name not in _HOMES:
        raise AttributeError(f"module 'cwbench' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)
