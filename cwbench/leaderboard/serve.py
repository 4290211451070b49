"""The page on 127.0.0.1, for those whose browser does not open files."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from cwbench.internal.errors import ReportError, reason_of
from cwbench.leaderboard.atomic_publish import recover
from cwbench.leaderboard.layout import PAGE, Place


class _Quiet(SimpleHTTPRequestHandler):
    def end_headers(self) -> None:
        self.send_header("Cache-Control", "no-store")
        self.send_header("X-Content-Type-Options", "nosniff")
        super().end_headers()

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the name of the base class
        pass


@contextmanager
def serving(place: Place, port: int) -> Iterator[ThreadingHTTPServer]:
    """Yield a server of a board's page that only this machine reaches.

    Raises:
        ReportError: the board is not built, or the port is taken.
    """
    recover(place)
    site = (place.root / PAGE).parent
    if not (place.root / PAGE).is_file():
        raise ReportError(f"{place.root} is not built yet", "cwbench leaderboard build")
    try:
        server = _Server(("127.0.0.1", port), partial(_Quiet, directory=str(site)))
    except OSError as error:
        raise ReportError(f"port {port} cannot be served: {reason_of(error)}", "choose another with --port") from None
    with server:
        yield server


class _Server(ThreadingHTTPServer):
    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing of a browser that leaves in the middle of the page."""
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)
