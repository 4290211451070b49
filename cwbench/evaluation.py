"""The harness: the only place that calls an attack.

It owns eval mode, frozen parameters, device, precision, batching, the check of ball and box, and the verdict, which is
always a full-precision forward pass of the given model on the returned examples.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Literal, TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from cwbench import progress
from cwbench.api import Access, Attack, Budget, Examples
from cwbench.errors import CwbenchError
from cwbench.exact import ROUNDING
from cwbench.gallery import Gallery
from cwbench.journal import Chunk, Journal
from cwbench.memory import out_of_memory
from cwbench.model import Model, evaluating, frozen, modules, placed
from cwbench.observed import Observed
from cwbench.plan import PlannedAttack
from cwbench.prepare import CALIBRATION, Precision, Prepared, prepare
from cwbench.probe import EXAMPLES, Signs, probe
from cwbench.randomness import ExampleStreams, global_random_state
from cwbench.threat import Threat
from cwbench.verdict import Judge, full_precision, refuse_unfit

POOL = 4
"""Batches' worth of examples that a pooled attack is given at once: its batch stays full until the last of them. It is
also what a killed evaluation has to do again."""
POOL_BYTES = 256 << 20
"""What the images of a pool may take, unless one batch takes more."""

Ints = np.ndarray[Any, np.dtype[np.int64]]
Floats = np.ndarray[Any, np.dtype[np.float64]]
T = TypeVar("T")


@dataclass(frozen=True)
class Substitute:
    """A network for transfer attacks, and the digest of the checkpoint that it came from."""

    digest: str
    model: nn.Module


@dataclass(frozen=True)
class Settings:
    """How an evaluation is done; none of it changes what is asked."""

    seed: int
    device: torch.device
    batch_size: int
    precision: Literal["auto", "fp32", "bf16"] = "fp32"
    """What attacks search in; the verdict is fp32."""
    cascade: bool = False
    """Each attack gets only what the ones before have left standing."""
    probing: bool = True
    """Look for signs of masked gradients."""
    journal: Journal | None = None
    """Where finished chunks are kept."""
    gallery: Gallery | None = None
    """Where what attacks return is kept; None keeps nothing."""
    substitutes: Mapping[str | None, Substitute] = field(default_factory=dict)
    """The networks that transfer attacks use, by what their field ``substitute`` says."""
    watch: Callable[["AttackOutcome", "Ints", "Ints"], None] | None = None
    """Is told of every attack that is done: its outcome, the labels and the clean predictions, each (n,)."""
    agree: Callable[[Precision], Precision] = lambda precision: precision
    """What several processes that share an evaluation search in, given what each of them would."""


@dataclass(frozen=True)
class Cost:
    """What an attack spent, summed over its examples."""

    examples: int
    """Examples that were attacked: those classified correctly until then."""
    forward: int
    """Images sent forward by the attack, through the model or a substitute, and to confirm what it found."""
    backward: int
    """Images for which the attack asked for a gradient."""
    queries: int
    """Images whose logits the attack asked of the model itself."""
    seconds: float


@dataclass(frozen=True)
class AttackOutcome:
    """What an attack achieved."""

    label: str
    attack: Attack
    predictions: Ints
    """Predicted class under attack, shape (n,); that from before where the example was wrong already."""
    distances: Floats | None
    """How far the nearest example that broke each one is, shape (n,): 0 for those wrong before, infinite where none was
    found. None for attacks that stay in the ball."""
    cost: Cost
    substitute: str | None = None
    """The digest of the checkpoint that a transfer attack used."""


@dataclass(frozen=True)
class Outcomes:
    """What a model predicted, clean and under each attack."""

    ids: Ints
    """Which examples of the split, shape (n,)."""
    labels: Ints
    clean: Ints
    attacks: tuple[AttackOutcome, ...]
    cascade: bool
    precision: Precision
    """What was searched in."""
    folded: int
    """Pairs of convolution and batch norm that the search folded."""
    batch_size: int
    """The one asked for, or what memory allowed."""
    signs: Signs | None


def evaluate(
    model: Model,
    examples: Examples,
    attacks: Sequence[PlannedAttack],
    *,
    ids: Tensor,
    classes: int,
    threat: Threat,
    settings: Settings,
) -> Outcomes:
    """Judge a model on the examples ``ids``, clean and under each attack.

    Examples that are misclassified when clean are never attacked, and count as not robust.

    Raises:
        CwbenchError: the model returns something else than finite logits (n, classes), or an attack returns something
            else than images of ball and box; the message names the first or worst example.
    """
    refuse_unfit(model)
    if classes < 2 and attacks:
        raise CwbenchError("there is one class, and nothing to mistake it for", "attacks need at least two classes")
    device = settings.device
    with ExitStack() as stack:
        stack.enter_context(full_precision(device))
        for network in (model, *(substitute.model for substitute in settings.substitutes.values())):
            for context in (placed(network, device), evaluating(network), frozen(network)):
                stack.enter_context(context)
        return _Harness(model, examples, ids, classes, threat, settings).evaluated(attacks)


_STATE = ("modes", "requires_grad", "weights")


@dataclass
class _Harness:
    model: Model
    examples: Examples
    ids: Tensor
    classes: int
    threat: Threat
    settings: Settings

    def __post_init__(self) -> None:
        self.judge = Judge(self.model, self.classes, self.threat, self.settings.batch_size)
        journal = self.settings.journal
        spared = journal.decided("batch_size") if journal else None
        if spared and spared.isdigit():
            self.judge.batch_size = min(self.judge.batch_size, int(spared))
        self.labels = self.examples.labels[self.ids.to(self.examples.labels.device)].cpu()
        self.confirmed = 0

    def evaluated(self, attacks: Sequence[PlannedAttack]) -> Outcomes:
        """Predict, prepare, attack and probe."""
        shape = tuple(self.examples.images(self.ids[:1]).shape)
        for planned in attacks:
            if planned.attack.needs_images and len(shape) != 4:
                raise CwbenchError(
                    f"attack {planned.label} needs images (N, C, H, W), not examples of shape {shape[1:]}",
                    "leave it out, or reshape them and let the model flatten them",
                )
        helpers = [self._helper(planned.attack) for planned in attacks]
        clean = torch.empty_like(self.labels)
        for part in torch.arange(len(self.ids)).split(self.settings.batch_size):
            clean[part] = self._fitting(partial(self._clean, part))
        standing = (clean == self.labels).nonzero().squeeze(1)
        prepared = self._prepared(standing, attacks)
        outcomes: list[AttackOutcome] = []
        before = clean
        for planned, helper in zip(attacks, helpers, strict=True):
            # The smallest perturbation ends at the boundary, where any rounding would decide: no copy will do.
            target = Observed(self.model if planned.attack.minimal else prepared.search)
            precision: Precision = "fp32" if planned.attack.minimal else prepared.precision
            outcome = self._run(planned, before, target, helper, precision)
            outcomes.append(outcome)
            if self.settings.watch:
                self.settings.watch(outcome, self.labels.numpy(), clean.numpy())
            before = torch.from_numpy(outcome.predictions) if self.settings.cascade else clean
        return Outcomes(
            ids=self.ids.numpy(),
            labels=self.labels.numpy(),
            clean=clean.numpy(),
            attacks=tuple(outcomes),
            cascade=self.settings.cascade,
            precision=prepared.precision,
            folded=prepared.folded,
            batch_size=self.judge.batch_size,
            signs=self._fitting(partial(self._signs, standing)) if attacks and self.settings.probing else None,
        )

    def _clean(self, part: Tensor) -> Tensor:
        return self.judge.predict(self.images(part), self.ids[part])

    def _helper(self, attack: Attack) -> "_Helper | None":
        if not attack.wants_substitute:
            return None
        uri = getattr(attack, "substitute", None)
        if uri not in self.settings.substitutes:
            raise CwbenchError(
                f"attack {attack.name} needs a substitute, and here is none",
                "a named dataset has one; for tensors name a checkpoint: transfer:substitute=DIGEST",
            )
        found = self.settings.substitutes[uri]
        return _Helper(Observed(found.model), found.digest)

    def images(self, positions: Tensor) -> Tensor:
        """Return the images of some of the judged examples on the device."""
        return self.examples.images(self.ids[positions]).to(self.settings.device, torch.float32)

    def _prepared(self, standing: Tensor, attacks: Sequence[PlannedAttack]) -> Prepared:
        journal, wanted = self.settings.journal, self.settings.precision
        if not any(planned.attack.access is Access.WHITE_BOX for planned in attacks) and wanted == "auto":
            wanted = "fp32"  # without gradients there is nothing to calibrate with
        decided = journal.decided("precision") if journal else None
        if wanted == "auto" and decided in ("fp32", "bf16"):
            wanted = "fp32" if decided == "fp32" else "bf16"
        prepared = self._fitting(partial(self._copy, standing, wanted))
        agreed = self.settings.agree(prepared.precision)
        if agreed != prepared.precision:
            prepared = self._fitting(partial(self._copy, standing, agreed))
        if journal:
            journal.decide("precision", prepared.precision)
        return prepared

    def _copy(self, standing: Tensor, precision: Literal["auto", "fp32", "bf16"]) -> Prepared:
        x, y = self._sample(standing, CALIBRATION)
        return prepare(self.model, x, y, self.threat, precision)

    def _sample(self, standing: Tensor, most: int) -> tuple[Tensor, Tensor]:
        """Return up to a batch of standing examples and their labels, spread over the split."""
        n = min(most, len(standing), self.judge.batch_size)
        positions = standing[torch.linspace(0, len(standing) - 1, n).long()]
        return self.images(positions), self.labels[positions].to(self.settings.device)

    def _signs(self, standing: Tensor) -> Signs | None:
        x, y = self._sample(standing, EXAMPLES)
        streams = ExampleStreams.of(self.settings.seed, torch.arange(len(x))).child("probe")
        return probe(self.model, x, y, threat=self.threat, streams=streams) if len(x) else None

    def _run(
        self, planned: PlannedAttack, before: Tensor, target: Observed, helper: "_Helper | None", precision: Precision
    ) -> AttackOutcome:
        """Attack every example that is classified correctly, and judge what comes back."""
        attack, journal = planned.attack, self.settings.journal
        predictions = before.clone()
        right = before == self.labels
        distances = torch.where(right, torch.inf, 0.0).double() if attack.minimal else None
        standing = right.nonzero().squeeze(1)
        spent = np.zeros(3, dtype=np.int64)
        seconds = 0.0
        with progress.bar(f"attacking with {planned.label}", len(standing)) as advance:
            for number, part in enumerate(self._chunks(standing)):
                key = f"{planned.label} in {precision}"
                chunk = journal.find(key, number) if journal and self._kept(planned.label, number) else None
                ticks = progress.Ticks(advance)
                if chunk is None:
                    chunk = self._fitting(partial(self._chunk, planned, number, part, target, helper, ticks))
                    if journal:
                        journal.keep(key, number, chunk)
                ticks.round_up(len(part))
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
            Cost(len(standing), forward, backward, queries, seconds),
            helper.digest if helper else None,
        )

    def _chunks(self, standing: Tensor) -> Sequence[Tensor]:
        """Split positions into pools. What was asked for decides, not what memory allowed: a resumed run must agree."""
        if not len(standing):
            return ()
        size = self.images(standing[:1]).nbytes
        pool = max(self.settings.batch_size, min(POOL * self.settings.batch_size, POOL_BYTES // size))
        pools: Sequence[Tensor] = standing.split(pool)
        return pools

    def _kept(self, label: str, number: int) -> bool:
        gallery = self.settings.gallery
        return gallery is None or gallery.holds(label, number)

    def _chunk(
        self,
        planned: PlannedAttack,
        number: int,
        part: Tensor,
        target: Observed,
        helper: "_Helper | None",
        ticks: progress.Ticks,
    ) -> Chunk:
        """Attack one pool, and return predictions, distances and cost."""
        ticks.restart()
        attack, ids = planned.attack, self.ids[part]
        x, y = self.images(part), self.labels[part].to(self.settings.device)
        networks = [target, *([helper.network] if helper else [])]
        before, confirmed = [network.passes for network in networks], self.confirmed
        began = time.perf_counter()
        size = len(part) if attack.pooled else self.judge.batch_size
        rows = torch.arange(len(part)).split(size)
        candidates = torch.cat([self._perturb(planned, x[r], y[r], ids[r], target, helper, ticks) for r in rows])
        seconds = time.perf_counter() - began
        spent = np.array([network.passes for network in networks]) - np.array(before)
        forward, backward = spent.sum(0)
        verdicts = self.judge.final(candidates, ids)
        if self.settings.gallery:
            self.settings.gallery.keep(planned.label, number, ids.numpy(), candidates.cpu().numpy())
        chunk = {
            "passes": np.array([forward + self.confirmed - confirmed, backward, spent[0, 0]]),
            "seconds": np.array([seconds]),
        }
        if attack.minimal:
            # Even where a model that draws its logits errs on the image itself, it took an attack to see it.
            away = self.threat.distance(candidates, x).cpu().clamp_min(torch.finfo(torch.float64).tiny)
            distances = torch.where(verdicts != self.labels[part], away, torch.inf)
            verdicts = torch.where(distances <= self.threat.radius + ROUNDING, verdicts, self.labels[part])
            chunk["distances"] = distances.numpy()
        return chunk | {"predictions": verdicts.numpy()}

    def _perturb(
        self,
        planned: PlannedAttack,
        x: Tensor,
        y: Tensor,
        ids: Tensor,
        target: Observed,
        helper: "_Helper | None",
        ticks: progress.Ticks,
    ) -> Tensor:
        """Call the attack, and refuse what it returns or leaves behind that it must not."""
        attack = planned.attack
        network = helper.network if helper else None
        budget = Budget(self.judge.batch_size, ticks if attack.pooled else _no_tick, self._confirm, network)
        streams = ExampleStreams.of(self.settings.seed, ids).child("attack", attack.name)
        before, randomness = self._state(target, network), global_random_state(self.settings.device)
        target.watch()
        candidates = attack.perturb(target, x.clone(), y.clone(), threat=self.threat, streams=streams, budget=budget)
        changed = [
            name for name, old, new in zip(_STATE, before, self._state(target, network), strict=True) if old != new
        ]
        if changed:
            raise CwbenchError(
                f"attack {attack.name} changed the model's {' and '.join(changed)}",
                "an attack may look at the model, and must leave it as it is",
            )
        if not target.draws_global_randomness and global_random_state(self.settings.device) != randomness:
            raise CwbenchError(
                f"attack {attack.name} changed the global random state", "an attack must draw from its streams"
            )
        if not attack.pooled:
            ticks(len(x))
        return self.judge.checked(planned, candidates, x, ids)

    def _confirm(self, x: Tensor) -> Tensor:
        """Return the verdict on candidates of an attack under way, on their device."""
        self.confirmed += len(x)
        return self.judge.confirm(x)

    def _state(self, *networks: Observed | None) -> tuple[list[bool], list[bool], list[int]]:
        """Return what an attack must not change; weights by PyTorch's own counters of changes in place."""
        reached = [module for root in (self.model, *networks) for module in modules(root)]
        parameters = [parameter for module in reached for parameter in module.parameters(recurse=False)]
        buffers = [buffer for module in reached for buffer in module.buffers(recurse=False)]
        return (
            [module.training for module in reached],
            [parameter.requires_grad for parameter in parameters],
            [tensor._version for tensor in (*parameters, *buffers)],
        )

    def _fitting(self, work: Callable[[], T]) -> T:
        """Do some work, and where memory runs out halve the batch and do it again."""
        while True:
            try:
                return work()
            except (RuntimeError, MemoryError) as error:
                if not out_of_memory(error):
                    raise
                if self.judge.batch_size == 1:
                    raise CwbenchError(
                        f"memory ran out with one image at a time: {str(error).splitlines()[0]}",
                        "use a machine with more of it, or --device cpu",
                    ) from None
            # Only here have the failed attempt's tensors gone, with the frames of its traceback.
            self.judge.batch_size //= 2
            if self.settings.journal:
                self.settings.journal.decide("batch_size", str(self.judge.batch_size))
            if self.settings.device.type == "cuda":
                torch.cuda.empty_cache()


@dataclass(frozen=True)
class _Helper:
    """A substitute in use."""

    network: Observed
    digest: str


def _no_tick(finished: int) -> None:
    del finished
