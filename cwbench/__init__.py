"""cwbench: how robust is an image classifier for each class?"""

from importlib import import_module
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cwbench.api.hooks import hookimpl as hookimpl
    from cwbench.internal.errors import CheckpointError as CheckpointError
    from cwbench.internal.errors import CwbenchError as CwbenchError
    from cwbench.internal.errors import DataError as DataError
    from cwbench.internal.errors import HubError as HubError
    from cwbench.internal.errors import ReportError as ReportError
    from cwbench.internal.errors import UsageError as UsageError
    from cwbench.pipeline.python_api import evaluate as evaluate
    from cwbench.pipeline.python_api import run as run
    from cwbench.report.report import Report as Report
    from cwbench.report.report import read_report as read_report

_HOMES = {
    "CheckpointError": "cwbench.internal.errors",
    "CwbenchError": "cwbench.internal.errors",
    "DataError": "cwbench.internal.errors",
    "HubError": "cwbench.internal.errors",
    "Report": "cwbench.report.report",
    "ReportError": "cwbench.internal.errors",
    "UsageError": "cwbench.internal.errors",
    "evaluate": "cwbench.pipeline.python_api",
    "hookimpl": "cwbench.api.hooks",
    "read_report": "cwbench.report.report",
    "run": "cwbench.pipeline.python_api",
}

__all__ = [
    "CheckpointError",
    "CwbenchError",
    "DataError",
    "HubError",
    "Report",
    "ReportError",
    "UsageError",
    "evaluate",
    "hookimpl",
    "read_report",
    "run",
]
__version__ = version("cwbench")


def __getattr__(name: str) -> Any:
    """Import what is asked for when it is asked for: `cwbench --help` must not wait for torch."""
    if name not in _HOMES:
        raise AttributeError(f"module 'cwbench' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)
