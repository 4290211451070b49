"""Continuous batching: a batch of slots, refilled from the waiting examples as soon as one is done.

It is the engine below every iterative attack. Each example carries a state of its own (iterate, step size, count of
steps), so that examples of any age share a batch, and their paths do not depend on each other.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

State = dict[str, Tensor]
"""Tensors with one row for each example in flight."""

Step = Callable[[State, Tensor], tuple[Tensor, Tensor]]
"""``step(state, rows)`` advances the state in place and returns two masks: the examples whose ``state["claim"]`` the
search holds for broken, and those that have no step left."""

Confirm = Callable[[Tensor, Tensor], Tensor]
"""``confirm(claims, rows)``: a mask of the claims that really are broken."""

WAITING_SHARE = 4
"""Claims are confirmed together once they fill this part of a batch, because a pass over a few images wastes it."""


@dataclass(frozen=True)
class _Group:
    """Some examples in flight."""

    rows: Tensor
    """Which of the pool."""
    state: State
    spent: Tensor
    """Those that have no step left."""

    def __getitem__(self, mask: Tensor) -> "_Group":
        return _Group(self.rows[mask], {name: value[mask] for name, value in self.state.items()}, self.spent[mask])

    def __len__(self) -> int:
        return len(self.rows)


def drive(
    pool: int,
    slots: int,
    *,
    device: torch.device,
    begin: Callable[[Tensor], State],
    step: Step,
    finish: Callable[[State, Tensor, Tensor], None],
    confirm: Confirm | None = None,
) -> None:
    """Take every example of a pool through ``begin``, as many ``step`` as it needs, and ``finish``.

    At most ``slots`` examples are in flight. ``begin(rows)`` returns the state of new examples, with a ``claim`` among
    it. An example whose claim ``confirm`` refuses goes on where it was; without ``confirm`` every claim is believed.
    ``finish(state, rows, broken)`` takes the answers and a mask of those that ended with a claim.
    """

    def started(first: int, last: int) -> _Group:
        rows = torch.arange(first, last, device=device)
        return _Group(rows, begin(rows), torch.zeros_like(rows, dtype=torch.bool))

    flying = started(0, min(slots, pool))
    waiting = len(flying)  # the first of the pool that has not begun
    claimants: list[_Group] = []
    refused: list[_Group] = []
    while len(flying) or claimants:
        if len(flying):
            claimed, spent = step(flying.state, flying.rows)
            if not (claimed | spent).any():
                continue
            flying = _Group(flying.rows, flying.state, spent)
            over = flying[spent & ~claimed]
            if len(over):
                finish(over.state, over.rows, torch.zeros_like(over.spent))
            if claimed.any():
                claimants.append(flying[claimed])
            flying = flying[~(claimed | spent)]
        last_call = not len(flying) and not refused and waiting == pool
        if claimants and (confirm is None or last_call or sum(map(len, claimants)) * WAITING_SHARE >= slots):
            refused.append(_settle(_joined(claimants), finish, confirm))
            claimants = []
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


def _settle(group: _Group, finish: Callable[[State, Tensor, Tensor], None], confirm: Confirm | None) -> _Group:
    """Finish the claims that hold, and return the examples that must go on."""
    broken = confirm(group.state["claim"], group.rows) if confirm else torch.ones_like(group.spent)
    out = broken | group.spent
    ended = group[out]
    finish(ended.state, ended.rows, broken[out])
    return group[~out]


def _joined(groups: list[_Group]) -> _Group:
    full = [group for group in groups if len(group)]
    if len(full) < 2:
        return (full or groups)[0]
    return _Group(
        torch.cat([group.rows for group in full]),
        {name: torch.cat([group.state[name] for group in full]) for name in full[0].state},
        torch.cat([group.spent for group in full]),
    )
