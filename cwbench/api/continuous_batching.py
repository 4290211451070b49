"""Continuous batching: a batch of slots, refilled from the waiting examples as soon as one is done.

It is the engine below every iterative attack. Each example carries a state of its own (iterate, step size, count of
steps), so that examples of any age share a batch, and their paths do not depend on each other.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from typing import Generic, Self, TypeVar

import torch
from torch import Tensor


@dataclass
class SlotState:
    """The state of the examples in flight: tensors with one row for each.

    A search subclasses it with tensors of its own, and changes them in place.
    """

    candidate: Tensor
    """What the search would answer for each example now, (n, C, H, W): what is confirmed where it claims to be
    broken."""

    def select(self, mask: Tensor) -> Self:
        """Return the state of some of the examples."""
        return type(self)(**{field.name: getattr(self, field.name)[mask] for field in fields(self)})

    @classmethod
    def joined(cls, parts: Sequence[Self]) -> Self:
        """Return the state of the examples of several parts together."""
        return cls(**{field.name: torch.cat([getattr(part, field.name) for part in parts]) for field in fields(cls)})


S = TypeVar("S", bound=SlotState)

Step = Callable[[S, Tensor], tuple[Tensor, Tensor]]
"""``step(state, rows)`` advances the state in place and returns two masks: the examples that the search holds for
broken at their ``state.candidate``, and those that have no step left."""

Finish = Callable[[S, Tensor, Tensor], None]
"""``finish(state, rows, broken)`` takes the answers, and a mask of the examples that ended broken."""

Confirm = Callable[[Tensor, Tensor], Tensor]
"""``confirm(candidates, rows)``: a mask of those that really are broken."""

WAITING_SHARE = 4
"""Claims are confirmed together once they fill this part of a batch, because a pass over a few images wastes it."""


@dataclass(frozen=True)
class _Group(Generic[S]):
    """Some examples in flight."""

    rows: Tensor
    """Which of the pool."""
    state: S
    spent: Tensor
    """Those that have no step left."""

    def __getitem__(self, mask: Tensor) -> "_Group[S]":
        return _Group(self.rows[mask], self.state.select(mask), self.spent[mask])

    def __len__(self) -> int:
        return len(self.rows)


def drive(
    pool: int,
    slots: int,
    *,
    device: torch.device,
    begin: Callable[[Tensor], S],
    step: Step[S],
    finish: Finish[S],
    confirm: Confirm | None = None,
) -> None:
    """Take every example of a pool through ``begin``, as many ``step`` as it needs, and ``finish``.

    Args:
        pool: how many examples there are; they are the rows 0 … pool − 1.
        slots: the most that may be in flight.
        device: where the tensors lie.
        begin: returns the state of new examples, given their rows.
        step: advances the examples in flight by one step; see :data:`Step`.
        finish: takes the answers of examples that are done; see :data:`Finish`.
        confirm: the verdict on candidates that the search holds for broken; without it each is believed. An example
            whose claim is refused goes on where it was.
    """

    def started(first: int, last: int) -> _Group[S]:
        rows = torch.arange(first, last, device=device)
        return _Group(rows, begin(rows), torch.zeros_like(rows, dtype=torch.bool))

    # Every row of the pool is in exactly one place at the top of the loop: not begun (``waiting`` and behind it),
    # ``flying``, claimed to be broken and waiting for the verdict (``claimants``), refused and waiting for a slot
    # (``refused``), or finished. Only ``flying`` is stepped, and it never holds more than ``slots`` rows.
    flying = started(0, min(slots, pool))
    waiting = len(flying)  # the first of the pool that has not begun
    claimants: list[_Group[S]] = []
    refused: list[_Group[S]] = []
    while len(flying) or claimants:
        if len(flying):
            claimed, spent = step(flying.state, flying.rows)
            if not (claimed | spent).any():
                continue  # nothing left a slot, so there is nothing to confirm or to refill
            flying = _Group(flying.rows, flying.state, spent)
            over = flying[spent & ~claimed]
            if len(over):
                finish(over.state, over.rows, torch.zeros_like(over.spent))
            if claimed.any():
                claimants.append(flying[claimed])  # also those that are spent: a refused one of them is finished then
            flying = flying[~(claimed | spent)]
        # Claims wait until they fill a part of a batch. Nothing else can fill a slot on the last call, so it must not
        # wait.
        last_call = not len(flying) and not refused and waiting == pool
        if claimants and (confirm is None or last_call or sum(map(len, claimants)) * WAITING_SHARE >= slots):
            refused.append(_settle(_joined(claimants), finish, confirm))
            claimants = []
        # The refused come before new examples: they are older, and ``last_call`` counts on them to be taken up first.
        while refused and len(flying) < slots:
            group = refused.pop()
            free = torch.arange(len(group), device=device) < slots - len(flying)
            flying = _joined([flying, group[free]])
            if not free.all():
                refused.append(group[~free])
        if len(flying) < slots and waiting < pool:
            fresh = started(waiting, min(waiting + slots - len(flying), pool))
            waiting += len(fresh)
            flying = _joined([flying, fresh])


def _settle(group: _Group[S], finish: Finish[S], confirm: Confirm | None) -> _Group[S]:
    """Finish the claims that hold, and return the examples that must go on."""
    broken = confirm(group.state.candidate, group.rows) if confirm else torch.ones_like(group.spent)
    out = broken | group.spent
    ended = group[out]
    finish(ended.state, ended.rows, broken[out])
    return group[~out]


def _joined(groups: list[_Group[S]]) -> _Group[S]:
    full = [group for group in groups if len(group)]
    if len(full) < 2:
        return (full or groups)[0]
    return _Group(
        torch.cat([group.rows for group in full]),
        type(full[0].state).joined([group.state for group in full]),
        torch.cat([group.spent for group in full]),
    )
