"""Continuous batching: a batch of slots, refilled from the waiting examples as soon as one is done.

It is the engine below every iterative attack. Each example carries a state of its own (iterate, step size, count of
steps), so that examples of any age share a batch, and their paths do not depend on each other.
"""

from collections.abc import Callable

import torch
from torch import Tensor

State = dict[str, Tensor]
"""Tensors with one row for each example in flight."""


def drive(
    pool: int,
    slots: int,
    *,
    device: torch.device,
    begin: Callable[[Tensor], State],
    step: Callable[[State, Tensor], Tensor],
    finish: Callable[[State, Tensor], None],
) -> None:
    """Take every example of a pool through ``begin``, as many ``step`` as it needs, and ``finish``.

    At most ``slots`` examples are in flight. ``begin(rows)`` returns the state of new examples, ``step(state, rows)``
    changes the state in place and returns a mask of those that are done, ``finish(state, rows)`` takes their answer.
    """
    rows = torch.arange(min(slots, pool), device=device)
    waiting = len(rows)  # the first of the pool that is not yet in a slot
    state = begin(rows)
    while len(rows):
        done = step(state, rows)
        if not done.any():
            continue
        finish({name: tensor[done] for name, tensor in state.items()}, rows[done])
        joining = torch.arange(waiting, min(waiting + int(done.sum()), pool), device=device)
        waiting += len(joining)
        fresh = begin(joining)
        state = {name: torch.cat([tensor[~done], fresh[name]]) for name, tensor in state.items()}
        rows = torch.cat([rows[~done], joining])
