"""Halving the batch where memory runs out."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

import torch

from cwbench.evaluation.journal import Journal
from cwbench.evaluation.verdict import Judge
from cwbench.internal.errors import CwbenchError, reason_of
from cwbench.internal.out_of_memory import out_of_memory

T = TypeVar("T")
DECISION = "batch_size"


@dataclass(frozen=True)
class MemoryGuard:
    """Does work again in smaller batches; a resumed evaluation begins with the batch that fitted."""

    judge: Judge
    """Its batch size is what is halved."""
    journal: Journal | None
    device: torch.device

    def begin(self) -> None:
        """Take over what memory allowed before the evaluation was killed."""
        spared = self.journal.decided(DECISION) if self.journal else None
        if spared and spared.isdigit():
            self.judge.batch_size = min(self.judge.batch_size, int(spared))

    def run(self, work: Callable[[], T]) -> T:
        """Do some work, and where memory runs out halve the batch and do it again.

        Raises:
            CwbenchError: memory runs out with a single image.
        """
        while True:
            try:
                return work()
            except (RuntimeError, MemoryError) as error:
                if not out_of_memory(error):
                    raise
                if self.judge.batch_size == 1:
                    raise CwbenchError(
                        f"memory ran out with one image at a time: {reason_of(error)}",
                        "use a machine with more of it, or --device cpu",
                    ) from None
            # Only here have the failed attempt's tensors gone, with the frames of its traceback.
            self.judge.batch_size //= 2
            if self.journal:
                self.journal.decide(DECISION, str(self.judge.batch_size))
            if self.device.type == "cuda":
                torch.cuda.empty_cache()
