"""The harness: the only place that calls an attack.

It owns eval mode, frozen parameters, device, precision, batching, the check of ball and box, and the verdict, which is
always a full-precision forward pass of the given model on the returned examples.
"""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
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
from cwbench.journal import Chunk, Journal
from cwbench.memory import out_of_memory
from cwbench.model import Model, evaluating, frozen, modules, placed
from cwbench.observed import Observed
from cwbench.plan import PlannedAttack
from cwbench.prepare import CALIBRATION, Precision, prepare
from cwbench.probe import EXAMPLES, Signs, probe
from cwbench.randomness import ExampleStreams, global_random_state
from cwbench.threat import Threat

POOL = 4
"""Batches' worth of examples that a pooled attack is given at once: its batch stays full until the last of them. It is
also what a killed evaluation has to do again."""
POOL_BYTES = 256 << 20
"""What the images of a pool may take, unless one batch takes more."""

Ints = np.ndarray[Any, np.dtype[np.int64]]
Floats = np.ndarray[Any, np.dtype[np.float64]]
T = TypeVar("T")


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
    substitutes: Mapping[str | None, nn.Module] = field(default_factory=dict)
    """The networks that transfer attacks use, by what their field ``substitute`` says."""


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
    with ExitStack() as stack:
        for context in (placed(model, settings.device), evaluating(model), frozen(model), _full_precision(settings)):
            stack.enter_context(context)
        for substitute in settings.substitutes.values():
            for context in (placed(substitute, settings.device), evaluating(substitute), frozen(substitute)):
                stack.enter_context(context)
        return _Harness(model, examples, ids, classes, threat, settings).evaluated(attacks)


@contextmanager
def _full_precision(settings: Settings) -> Iterator[None]:
    """Switch off what would round a verdict: the caller's autocast, and TF32 in CUDA's convolutions."""
    with ExitStack() as stack:
        stack.enter_context(torch.autocast(settings.device.type, enabled=False))
        if settings.device.type == "cuda":
            flags = torch.backends.cudnn.flags(enabled=True, deterministic=True, allow_tf32=False)
            stack.enter_context(flags)
        yield


def refuse_unfit(model: Model) -> None:
    """Refuse what cannot be judged in full precision.

    Raises:
        CwbenchError: no model, weights of another type than float32, or inference mode.
    """
    if isinstance(model, type) or not callable(model):
        raise CwbenchError(f"{model!r} is no model", "give an nn.Module or a function from images to logits")
    tensors = [*model.parameters(), *model.buffers()] if isinstance(model, nn.Module) else []
    if torch.is_inference_mode_enabled() or any(tensor.is_inference() for tensor in tensors):
        raise CwbenchError("attacks need gradients", "make and evaluate the model outside of torch.inference_mode()")
    other = {str(tensor.dtype) for tensor in tensors if tensor.is_floating_point() and tensor.dtype != torch.float32}
    if other:
        raise CwbenchError(f"the model's weights are {', '.join(sorted(other))}", "convert it with model.float()")


_STATE = ("modes", "requires_grad", "weights")


@dataclass
class _Harness:
    model: Model
    """The judge."""
    examples: Examples
    ids: Tensor
    classes: int
    threat: Threat
    settings: Settings
    batch_size: int = field(init=False)

    def __post_init__(self) -> None:
        self.batch_size = self.settings.batch_size
        self.labels = self.examples.labels[self.ids.to(self.examples.labels.device)].cpu()
        self.confirmed = 0

    def evaluated(self, attacks: Sequence[PlannedAttack]) -> Outcomes:
        """Predict, prepare, attack and probe."""
        clean = torch.empty_like(self.labels)
        for part in torch.arange(len(self.ids)).split(self.settings.batch_size):
            clean[part] = self._fitting(partial(self._clean, part))
        standing = (clean == self.labels).nonzero().squeeze(1)
        prepared = self._prepared(standing, attacks)
        outcomes: list[AttackOutcome] = []
        before = clean
        for planned in attacks:
            # The smallest perturbation ends at the boundary, where any rounding would decide: no copy will do.
            target = Observed(self.model if planned.attack.minimal else prepared.search)
            outcome = self._run(planned, before, target, self._substitute(planned.attack))
            outcomes.append(outcome)
            before = torch.from_numpy(outcome.predictions) if self.settings.cascade else clean
        return Outcomes(
            ids=self.ids.numpy(),
            labels=self.labels.numpy(),
            clean=clean.numpy(),
            attacks=tuple(outcomes),
            cascade=self.settings.cascade,
            precision=prepared.precision,
            folded=prepared.folded,
            batch_size=self.batch_size,
            signs=self._signs(standing) if attacks and self.settings.probing else None,
        )

    def _clean(self, part: Tensor) -> Tensor:
        return self.predict(self.images(part), self.ids[part])

    def _substitute(self, attack: Attack) -> Observed | None:
        if not attack.wants_substitute:
            return None
        uri = getattr(attack, "substitute", None)
        if uri not in self.settings.substitutes:
            raise CwbenchError(
                f"attack {attack.name} needs a substitute, and here is none",
                "a named dataset has one; for tensors name a checkpoint: transfer:substitute=DIGEST",
            )
        return Observed(self.settings.substitutes[uri])

    def images(self, positions: Tensor) -> Tensor:
        """Return the images of some of the judged examples on the device."""
        return self.examples.images(self.ids[positions]).to(self.settings.device, torch.float32)

    def _sample(self, standing: Tensor, most: int) -> Tensor:
        """Return positions of up to ``most`` standing examples, spread over the split."""
        return standing[torch.linspace(0, len(standing) - 1, min(most, len(standing))).long()]

    def _prepared(self, standing: Tensor, attacks: Sequence[PlannedAttack]) -> Any:
        journal, wanted = self.settings.journal, self.settings.precision
        if not any(planned.attack.access is Access.WHITE_BOX for planned in attacks) and wanted == "auto":
            wanted = "fp32"  # without gradients there is nothing to calibrate with
        if journal and wanted == "auto":
            wanted = {"fp32": "fp32", "bf16": "bf16"}.get(journal.decided("precision") or "", "auto")  # type: ignore[assignment]
        sample = self._sample(standing, CALIBRATION)
        x, y = self.images(sample), self.labels[sample].to(self.settings.device)
        prepared = self._fitting(lambda: prepare(self.model, x, y, threat=self.threat, precision=wanted))
        if journal:
            journal.decide("precision", prepared.precision)
        return prepared

    def _signs(self, standing: Tensor) -> Signs | None:
        sample = self._sample(standing, EXAMPLES)
        if not len(sample):
            return None
        x, y = self.images(sample), self.labels[sample].to(self.settings.device)
        streams = ExampleStreams.of(self.settings.seed, self.ids[sample]).child("probe")
        return self._fitting(lambda: probe(self.model, x, y, threat=self.threat, streams=streams))

    def _run(self, planned: PlannedAttack, before: Tensor, target: Observed, helper: Observed | None) -> AttackOutcome:
        """Attack every example that is classified correctly, and judge what comes back."""
        attack, journal = planned.attack, self.settings.journal
        predictions = before.clone()
        distances = (before == self.labels).double() * np.inf if attack.minimal else None
        if distances is not None:
            distances[before != self.labels] = 0
        standing = (before == self.labels).nonzero().squeeze(1)
        spent = np.zeros(3, dtype=np.int64)
        seconds = 0.0
        with progress.bar(f"attacking with {planned.label}", len(standing)) as advance:
            for number, part in enumerate(self._chunks(standing)):
                chunk = journal.find(planned.label, number) if journal else None
                if chunk is None:
                    ticked = _Ticks(advance)
                    chunk = self._fitting(partial(self._chunk, planned, part, target, helper, ticked))
                    ticked.round_up(len(part))
                    if journal:
                        journal.keep(planned.label, number, chunk)
                else:
                    advance(len(part))
                predictions[part] = torch.from_numpy(chunk["predictions"])
                if distances is not None:
                    distances[part] = torch.from_numpy(chunk["distances"])
                spent += chunk["passes"]
                seconds += float(chunk["seconds"][0])
        forward, backward, queries = spent.tolist()
        cost = Cost(len(standing), forward, backward, queries, seconds)
        under = None if distances is None else distances.numpy()
        return AttackOutcome(planned.label, attack, predictions.numpy(), under, cost)

    def _chunks(self, standing: Tensor) -> Sequence[Tensor]:
        """Split positions into pools. What was asked for decides, not what memory allowed: a resumed run must agree."""
        if not len(standing):
            return ()
        size = self.images(standing[:1]).nbytes
        pool = max(self.settings.batch_size, min(POOL * self.settings.batch_size, POOL_BYTES // size))
        pools: Sequence[Tensor] = standing.split(pool)
        return pools

    def _chunk(
        self, planned: PlannedAttack, part: Tensor, target: Observed, helper: Observed | None, tick: "_Ticks"
    ) -> Chunk:
        """Attack one pool, and return predictions, distances and cost."""
        tick.restart()
        attack, ids = planned.attack, self.ids[part]
        x, y = self.images(part), self.labels[part].to(self.settings.device)
        before, helped, confirmed = target.passes, helper.passes if helper else (0, 0), self.confirmed
        began = time.perf_counter()
        size = len(part) if attack.pooled else self.batch_size
        rows = torch.arange(len(part)).split(size)
        found = [self._perturb(planned, x[r], y[r], ids[r], target, helper, tick) for r in rows]
        seconds = time.perf_counter() - began
        candidates = torch.cat(found)
        verdicts = self.predict(candidates, ids)
        queries = target.forward_passes - before[0]
        used = (helper.forward_passes - helped[0], helper.backward_passes - helped[1]) if helper else (0, 0)
        chunk = {
            "passes": np.array(
                [queries + used[0] + self.confirmed - confirmed, target.backward_passes - before[1] + used[1], queries]
            ),
            "seconds": np.array([seconds]),
        }
        if attack.minimal:
            broken = verdicts != self.labels[part]
            away = self.threat.distance(candidates, x).cpu()
            distances = torch.where(broken, away, torch.inf)
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
        helper: Observed | None,
        tick: "_Ticks",
    ) -> Tensor:
        """Call the attack, and refuse what it returns or leaves behind that it must not."""
        attack = planned.attack
        budget = Budget(self.batch_size, tick if attack.pooled else _no_tick, self._judge, helper)
        streams = ExampleStreams.of(self.settings.seed, ids).child("attack", attack.name)
        before, randomness = self._state(target), global_random_state(self.settings.device)
        target.watch()
        candidates = attack.perturb(target, x.clone(), y.clone(), threat=self.threat, streams=streams, budget=budget)
        changed = [name for name, old, new in zip(_STATE, before, self._state(target), strict=True) if old != new]
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
            tick(len(x))
        return self._checked(planned, candidates, x, ids)

    def _judge(self, x: Tensor) -> Tensor:
        """Return the verdict on candidates of an attack under way, on their device."""
        self.confirmed += len(x)
        return self.predict(x, torch.full((len(x),), -1)).to(x.device)

    def _state(self, target: Observed) -> tuple[list[bool], list[bool], list[int]]:
        """Return what an attack must not change; weights by PyTorch's own counters of changes in place."""
        reached = [module for root in (self.model, target) for module in modules(root)]
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
                if self.batch_size == 1:
                    raise CwbenchError(
                        f"memory ran out with one image at a time: {str(error).splitlines()[0]}",
                        "use a machine with more of it, or --device cpu",
                    ) from None
            # Only here have the failed attempt's tensors gone, with the frames of its traceback.
            self.batch_size //= 2
            if self.settings.device.type == "cuda":
                torch.cuda.empty_cache()

    @torch.no_grad()
    def predict(self, x: Tensor, ids: Tensor) -> Tensor:
        """Return the predicted classes on the CPU, shape (n,)."""
        return torch.cat(
            [
                # A clone, because a model may work in place and these are the images that are judged or the caller's.
                self._logits(images.clone(), numbers).argmax(1).cpu()
                for images, numbers in zip(x.split(self.batch_size), ids.split(self.batch_size), strict=True)
            ]
        )

    def _logits(self, x: Tensor, ids: Tensor) -> Tensor:
        try:
            logits = self.model(x)
        except (RuntimeError, TypeError, ValueError, IndexError) as error:
            if out_of_memory(error):
                raise
            reason = " ".join(str(error).split())[:200]
            raise CwbenchError(f"the model failed on images of shape {tuple(x.shape)}: {reason}") from error
        expected = (len(x), self.classes)
        full = isinstance(logits, Tensor) and logits.dtype in (torch.float32, torch.float64)
        if not isinstance(logits, Tensor) or not full or tuple(logits.shape) != expected:
            shape = f"{logits.dtype} {tuple(logits.shape)}" if isinstance(logits, Tensor) else type(logits).__name__
            raise CwbenchError(
                f"the model returned {shape} for {len(x)} images instead of logits {expected}",
                "the model must map images (N, C, H, W) to one full-precision logit for each class",
            )
        bad = ~logits.isfinite().all(1)
        if bad.any():
            number = int(ids[int(bad.nonzero()[0])])
            which = f"example {number}" if number >= 0 else "an image on an attack's way"
            raise CwbenchError(
                f"the model returned logits that are not finite for {which}",
                "nothing can be said about a model whose output is NaN or infinite",
            )
        return logits

    def _checked(self, planned: PlannedAttack, candidates: Any, x: Tensor, ids: Tensor) -> Tensor:
        """Return the candidates with rounding clipped; refuse what lies outside ball or box by more."""
        label = planned.label
        if not isinstance(candidates, Tensor) or candidates.shape != x.shape or not candidates.is_floating_point():
            shape = tuple(candidates.shape) if isinstance(candidates, Tensor) else type(candidates).__name__
            raise CwbenchError(f"attack {label} returned {shape} instead of float images {tuple(x.shape)}")
        if candidates.device != x.device:
            raise CwbenchError(f"attack {label} returned images on {candidates.device} instead of {x.device}")
        candidates = candidates.detach().to(x.dtype)
        bad = ~candidates.flatten(1).isfinite().all(1)
        if bad.any():
            raise CwbenchError(f"attack {label} returned NaN or infinity for example {int(ids[bad.nonzero()[0]])}")
        ball = "" if planned.attack.minimal else f"the {self.threat.norm} ball of eps {self.threat.eps} or "
        excess = self.threat.excess(candidates, x) if ball else self.threat.outside(candidates)
        worst = int(excess.argmax())
        if excess[worst] > ROUNDING:
            raise CwbenchError(
                f"attack {label} left {ball}the box [0, 1]: example {int(ids[worst])} by {float(excess[worst]):.3g}",
                f"up to {ROUNDING:g} counts as rounding",
            )
        return self.threat.project(candidates, x) if ball else candidates.clamp(0, 1)


class _Ticks:
    """Advances a progress bar by what an attack says, and no further than the chunk has examples."""

    def __init__(self, advance: Callable[[int], None]) -> None:
        self.advance = advance
        self.told = self.now = 0

    def restart(self) -> None:
        """Begin the chunk again, because memory ran out: what was told stays told."""
        self.now = 0

    def __call__(self, finished: int) -> None:
        self.now += finished
        if self.now > self.told:
            self.advance(self.now - self.told)
            self.told = self.now

    def round_up(self, total: int) -> None:
        """Tell of the examples that the attack did not mention."""
        self.advance(total - self.told)


def _no_tick(finished: int) -> None:
    del finished
