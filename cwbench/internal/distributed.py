"""Several processes that do one run together, as ``torchrun`` starts them."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed as dist

from cwbench.internal.errors import CwbenchError, UsageError

T = TypeVar("T")
PATIENCE = timedelta(days=7)
"""How long a process waits for the others: one may be reading a large dataset."""


@dataclass(frozen=True)
class Team:
    """The processes of a run; alone, everything below does nothing."""

    rank: int = 0
    size: int = 1

    @property
    def leads(self) -> bool:
        """Whether this process is the one that reads and writes checkpoints and reports."""
        return self.rank == 0

    def from_leader(self, work: Callable[[], T]) -> T:
        """Let the leader do some work, and return its result, or raise its error, everywhere.

        Raises:
            UsageError: what the leader raised.
        """
        if self.size == 1:
            return work()
        shared: list[Any] = [None, None]
        if self.leads:
            try:
                shared = [work(), None]
            except CwbenchError as error:
                shared = [None, error]
        dist.broadcast_object_list(shared)
        result, refusal = shared
        if refusal is not None:
            raise refusal
        return result  # type: ignore[no-any-return]

    def gathered(self, value: T) -> list[T]:
        """Return everybody's value, in the order of their ranks."""
        if self.size == 1:
            return [value]
        values: list[Any] = [None] * self.size
        dist.all_gather_object(values, value)
        return values


ALONE = Team()


@contextmanager
def joined() -> Iterator[Team]:
    """Join the other processes that ``torchrun`` started, if it did, until the block ends."""
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        yield ALONE
        return
    dist.init_process_group("cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo", timeout=PATIENCE)
    try:
        yield Team(dist.get_rank(), dist.get_world_size())
    finally:
        dist.destroy_process_group()


def own_device(device: torch.device, team: Team) -> torch.device:
    """Return the device of this process: its own GPU where there are several processes."""
    if device.type != "cuda" or team.size == 1:
        return device
    index, there = int(os.environ.get("LOCAL_RANK", "0")), torch.cuda.device_count()
    if index >= there:
        raise UsageError(f"process {index + 1} has no GPU: there are {there}", "start one process for each")
    own = torch.device("cuda", index)
    torch.cuda.set_device(own)
    return own
