"""Going on with one particular unfinished training, and with no other."""

from collections.abc import Iterator, Mapping
from typing import Any

from cwbench.checkpoints.store import SHORTEST, Store
from cwbench.internal.errors import CheckpointError
from cwbench.training.job import Job


def require_same(job: Job, store: Store, uri: str) -> None:
    """Check that a job is the training that was left unfinished under a digest, or the beginning of one.

    Raises:
        CheckpointError: there is none, or this job differs from it; the message names each field that does.
    """
    unfinished = {key: partial.identity for key, partial in store.unfinished().items()}
    matches = [key for key in unfinished if key.startswith(uri)] if len(uri) >= SHORTEST else []
    if len(matches) != 1:
        known = ", ".join(key[:12] for key in unfinished) or "none"
        raise CheckpointError(
            f"{len(matches) or 'no'} unfinished trainings begin with {uri!r}",
            f"there are: {known}; eight characters are enough",
        )
    (key,) = matches
    if key != job.digest:
        changed = "; ".join(differences(unfinished[key], job.identity))
        raise CheckpointError(
            f"the unfinished training {key[:12]} is another one: {changed}",
            "give the same options to go on with it, or leave --resume out to train anew",
        )


def differences(old: Mapping[str, Any], new: Mapping[str, Any], prefix: str = "") -> Iterator[str]:
    """Yield each field in which two identities differ, such as ``recipe.lr was 0.1 and is 0.01``."""
    for name in dict.fromkeys([*old, *new]):
        before, after = old.get(name), new.get(name)
        if isinstance(before, Mapping) and isinstance(after, Mapping):
            yield from differences(before, after, f"{prefix}{name}.")
        elif before != after:
            yield f"{prefix}{name} was {_shown(before)} and is {_shown(after)}"


def _shown(value: Any) -> str:
    text = str(value)
    return text if len(text) <= 40 else f"{text[:12]}…"
