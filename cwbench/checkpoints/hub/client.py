"""Calls of the hub's client: patient where the hub asks for patience, and explained in one line where they fail."""

import errno
import os
import re
import sys
import time
from collections.abc import Callable
from json import JSONDecodeError
from logging import CRITICAL
from typing import TypeVar

from huggingface_hub.errors import (
    EntryNotFoundError,
    GatedRepoError,
    HfHubHTTPError,
    HFValidationError,
    LocalEntryNotFoundError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from huggingface_hub.utils import logging
from huggingface_hub.utils.tqdm import disable_progress_bars

from cwbench.checkpoints.hub.address import Address
from cwbench.internal.errors import CwbenchError, HubError, reason_of

T = TypeVar("T")
TRIES, LONGEST_WAIT = 3, 60
TOO_MANY, DENIED = 429, (401, 403)
LOGIN = "log in with `hf auth login`, or set HF_TOKEN to a token that may"


class UnreachableError(Exception):
    """The hub could not be asked: no network, offline mode, or a server that does not answer as one."""


def call(work: Callable[[], T], at: Address, doing: str) -> T:
    """Return what a call of the client returns; a 429 is waited for as long as its Retry-After says, up to a minute.

    Raises:
        UnreachableError: the hub could not be asked.
        HubError: it answered, and the answer is no.
    """
    if not sys.stderr.isatty():
        disable_progress_bars()
    if "HF_HUB_VERBOSITY" not in os.environ:  # it tells of each attempt, and of the last one we do
        logging.set_verbosity(CRITICAL)
    for attempt in range(1, TRIES + 1):
        try:
            return work()
        except HfHubHTTPError as error:
            wait = _retry_after(error)
            if wait is None or attempt == TRIES:
                raise explained(error, at, doing) from None
            time.sleep(wait)
        except CwbenchError:
            raise
        except Exception as error:  # noqa: BLE001 - the client raises the errors of whichever HTTP library it uses
            raise explained(error, at, doing) from None
    raise AssertionError("the last attempt returns or raises")


def explained(error: Exception, at: Address, doing: str) -> Exception:
    """Return what a user is told of an error of the client; never with a token in it."""
    answers: list[tuple[type[Exception], Callable[[], Exception]]] = [
        (GatedRepoError, lambda: HubError(f"{at.repo} is gated", f"ask for access on its page, then {LOGIN}")),
        (
            RevisionNotFoundError,
            lambda: HubError(f"{at.repo} has no revision {at.revision!r}", "name a branch, a tag or a commit"),
        ),
        (
            RepositoryNotFoundError,
            lambda: HubError(
                f"the hub has no repository {at.repo}, or it is private", f"check the name; if private, {LOGIN}"
            ),
        ),
        (LocalEntryNotFoundError, lambda: UnreachableError(_line(error))),
        (OfflineModeIsEnabled, lambda: UnreachableError("HF_HUB_OFFLINE is set")),
        (EntryNotFoundError, lambda: HubError(f"{at.repo} has no file {at.file or ''}", "see its page")),
        (HFValidationError, lambda: HubError(f"{at}: {_line(error)}")),
        (HfHubHTTPError, lambda: _refused(error, at, doing)),
        (
            JSONDecodeError,
            lambda: UnreachableError("what answers in its place, a proxy or a login page, sends no JSON"),
        ),
        (OSError, lambda: _of_the_system(error, at)),
    ]
    return next((answer() for kind, answer in answers if isinstance(error, kind)), UnreachableError(_line(error)))


def _of_the_system(error: Exception, at: Address) -> Exception:
    sizes = re.search(r"should be of size (\d+) but has size (\d+)", str(error))
    if sizes:
        said, came = (f"{int(size):,}" for size in sizes.groups())
        return HubError(
            f"a file of {at.repo} is not what the hub says it is: {came} bytes instead of {said}",
            "try again; a web page of a proxy or of a login may have come in its place",
        )
    number = getattr(error, "errno", None)
    if number not in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EACCES, errno.EROFS):
        return UnreachableError(_line(error))
    return HubError(f"cannot keep {at}: {os.strerror(number)}", "HF_HOME names another folder for the hub's cache")


def _refused(error: Exception, at: Address, doing: str) -> Exception:
    status = getattr(getattr(error, "response", None), "status_code", None)
    if status in DENIED:
        return HubError(f"the hub does not let you {doing} {at.repo}", LOGIN)
    if status == TOO_MANY:
        return HubError(f"the hub asks to wait: too many requests ({doing} {at.repo})", "try again later")
    if status is not None and status < 500:
        return HubError(f"the hub refused to {doing} {at.repo}: {_line(error)}")
    return UnreachableError(f"the hub answered {status}" if status else _line(error))


def _retry_after(error: HfHubHTTPError) -> float | None:
    """Return how many seconds the hub asks to wait; None if it does not, or for longer than a command should."""
    response = error.response
    if response is None or response.status_code != TOO_MANY:
        return None
    text = response.headers.get("Retry-After", "1")
    seconds = float(text) if re.fullmatch(r"\d+(\.\d+)?", text) else 1.0
    return seconds if seconds <= LONGEST_WAIT else None


def _line(error: Exception) -> str:
    return re.sub(r"hf_[A-Za-z0-9]{6,}", "hf_…", reason_of(error))
