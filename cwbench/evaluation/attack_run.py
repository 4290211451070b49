"""One attack on every example that is still classified correctly, chunk by chunk."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from torch import Tensor

from cwbench.evaluation.attack_guard import AttackGuard, Networks
from cwbench.evaluation.examples import EvaluatedExamples
from cwbench.evaluation.journal import Chunk
from cwbench.evaluation.memory_guard import MemoryGuard
from cwbench.evaluation.outcomes import AttackOutcome, Cost, Tools
from cwbench.evaluation.search_copy import Precision
from cwbench.internal import progress
from cwbench.internal.exact_number import ROUNDING
from cwbench.plan import PlannedAttack

POOL = 4
"""Batches' worth of examples that a pooled attack is given at once: its batch stays full until the last of them. It is
also what a killed evaluation has to do again."""
POOL_BYTES = 256 << 20
"""What the images of a pool may take, unless one batch takes more."""


@dataclass(frozen=True)
class AttackRun:
    """Attacks examples under the eyes of the guard, and keeps what is finished in the journal."""

    examples: EvaluatedExamples
    guard: AttackGuard
    memory: MemoryGuard
    tools: Tools
    batch_size: int
    """The one that was asked for: it cuts the chunks, so that a resumed run finds them whatever memory allows."""

    def attacked(
        self, planned: PlannedAttack, before: Tensor, networks: Networks, precision: Precision
    ) -> AttackOutcome:
        """Attack every example that is classified correctly, and judge what comes back.

        Args:
            planned: the attack.
            before: the predicted classes until then, (n,) on the CPU.
            networks: what the attack may look at.
            precision: what it searches in.
        """
        attack, labels = planned.attack, self.examples.labels
        predictions = before.clone()
        right = before == labels
        distances = torch.where(right, torch.inf, 0.0).double() if attack.minimal else None
        positions = right.nonzero().squeeze(1)
        spent = np.zeros(3, dtype=np.int64)
        seconds = 0.0
        with progress.bar(f"attacking with {planned.label}", len(positions)) as advance:
            for number, part in enumerate(self._chunks(positions)):
                chunk = self._chunk(planned, number, part, networks, precision, progress.Ticks(advance))
                predictions[part] = torch.from_numpy(chunk["predictions"])
                if distances is not None:
                    distances[part] = torch.from_numpy(chunk["distances"])
                spent += chunk["passes"]
                seconds += float(chunk["seconds"][0])
        forward, backward, queries = spent.tolist()
        return AttackOutcome(
            planned.label,
            attack,
            predictions.numpy(),
            None if distances is None else distances.numpy(),
            Cost(len(positions), forward, backward, queries, seconds),
            networks.substitute_digest,
        )

    def _chunks(self, positions: Tensor) -> Sequence[Tensor]:
        """Split positions into pools."""
        if not len(positions):
            return ()
        size = self.examples.images(positions[:1]).nbytes
        pool = max(self.batch_size, min(POOL * self.batch_size, POOL_BYTES // size))
        pools: Sequence[Tensor] = positions.split(pool)
        return pools

    def _chunk(
        self,
        planned: PlannedAttack,
        number: int,
        part: Tensor,
        networks: Networks,
        precision: Precision,
        ticks: progress.Ticks,
    ) -> Chunk:
        """Take a chunk from the journal, or make it."""
        journal, saved = self.tools.journal, self.tools.saved
        key = f"{planned.label} in {precision}"
        whole = saved is None or saved.holds(planned.label, number)
        chunk = journal.find(key, number) if journal and whole else None
        if chunk is None:
            chunk = self.memory.run(partial(self._made, planned, number, part, networks, ticks))
            if journal:
                journal.keep(key, number, chunk)
        ticks.round_up(len(part))
        return chunk

    def _made(
        self, planned: PlannedAttack, number: int, part: Tensor, networks: Networks, ticks: progress.Ticks
    ) -> Chunk:
        """Attack one pool, and return predictions, distances and cost."""
        ticks.restart()
        attack, ids, judge = planned.attack, self.examples.ids[part], self.guard.judge
        x, y = self.examples.images(part), self.examples.labels_on_device(part)
        before, confirmed = [network.passes for network in networks.counted], self.guard.confirmed
        began = time.perf_counter()
        rows = torch.arange(len(part)).split(len(part) if attack.pooled else judge.batch_size)
        candidates = torch.cat([self.guard.perturb(planned, x[r], y[r], ids[r], networks, ticks) for r in rows])
        seconds = time.perf_counter() - began
        spent = np.array([network.passes for network in networks.counted]) - np.array(before)
        forward, backward = spent.sum(0)
        verdicts = judge.final(candidates, ids)
        if self.tools.saved:
            self.tools.saved.keep(planned.label, number, ids.numpy(), candidates.cpu().numpy())
        chunk = {
            "passes": np.array([forward + self.guard.confirmed - confirmed, backward, spent[0, 0]]),
            "seconds": np.array([seconds]),
        }
        if attack.minimal:
            verdicts, distances = self._measured(candidates, x, verdicts, self.examples.labels[part])
            chunk["distances"] = distances.numpy()
        return chunk | {"predictions": verdicts.numpy()}

    def _measured(self, candidates: Tensor, x: Tensor, verdicts: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Return the verdicts within the threat's eps of an attack for the smallest perturbation, and its distances."""
        threat = self.guard.threat
        # Even where a model that draws its logits errs on the image itself, it took an attack to see it.
        away = threat.distance(candidates, x).cpu().clamp_min(torch.finfo(torch.float64).tiny)
        distances = torch.where(verdicts != labels, away, torch.inf)
        return torch.where(distances <= threat.radius + ROUNDING, verdicts, labels), distances
