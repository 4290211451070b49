"""The harness: predict, prepare the copy to search on, attack, look for signs of masked gradients.

It owns eval mode, frozen parameters, device, precision and batching; :mod:`cwbench.evaluation.attack_guard` calls the
attacks. The verdict is always a full-precision forward pass of the given model on the returned examples.
"""

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from typing import Literal

import torch
from torch import Tensor

from cwbench.api import Access, Attack, Examples, ExampleStreams, Model, Threat, evaluating, frozen, placed
from cwbench.evaluation.attack_guard import AttackGuard, Networks
from cwbench.evaluation.attack_run import AttackRun
from cwbench.evaluation.counted_model import CountedModel
from cwbench.evaluation.examples import EvaluatedExamples
from cwbench.evaluation.gradient_masking import EXAMPLES, Signs, look_for_signs
from cwbench.evaluation.memory_guard import MemoryGuard
from cwbench.evaluation.outcomes import AttackOutcome, Outcomes, Tools
from cwbench.evaluation.search_copy import CALIBRATION, Precision, SearchCopy, make_search_copy
from cwbench.evaluation.verdict import Judge, full_precision, refuse_unfit
from cwbench.internal.errors import UsageError
from cwbench.plan import PlannedAttack, choose_device
from cwbench.spec import EvaluationSettings


def evaluate(
    model: Model,
    examples: Examples,
    attacks: Sequence[PlannedAttack],
    *,
    ids: Tensor,
    classes: int,
    threat: Threat,
    settings: EvaluationSettings,
    tools: Tools | None = None,
) -> Outcomes:
    """Evaluate a model on the examples ``ids``, clean and under each attack.

    Examples that are misclassified when clean are never attacked, and count as not robust.

    Args:
        model: maps images (N, C, H, W) in [0, 1] to logits (N, classes).
        examples: the split.
        attacks: with nothing left unset.
        ids: which examples of the split, (n,) int64; ``settings.limit`` has been applied to them.
        classes: how many there are.
        threat: norm and radius.
        settings: how to evaluate.
        tools: what to work with; nothing is kept without.

    Raises:
        UsageError: there is a single class, or an attack cannot have these examples.
        CwbenchError: the model returns something else than finite logits (n, classes), or an attack returns something
            else than images of ball and box; the message names the first or worst example.
    """
    refuse_unfit(model)
    if classes < 2 and attacks:
        raise UsageError("there is one class, and nothing to mistake it for", "attacks need at least two classes")
    tools, device = tools or Tools(), choose_device(settings.device)
    judge = Judge(model, classes, threat, settings.images_per_pass)
    memory = MemoryGuard(judge, tools.journal, device)
    with ExitStack() as stack:
        stack.enter_context(full_precision(device))
        for network in (model, *(substitute.model for substitute in tools.substitutes.values())):
            for context in (placed(network, device), evaluating(network), frozen(network)):
                stack.enter_context(context)
        memory.begin()
        return _Harness(EvaluatedExamples(examples, ids, device), judge, memory, settings, tools).outcomes(attacks)


@dataclass(frozen=True)
class _Harness:
    """The order of an evaluation; the model is in eval mode, frozen and on the device."""

    examples: EvaluatedExamples
    judge: Judge
    memory: MemoryGuard
    settings: EvaluationSettings
    tools: Tools

    def outcomes(self, attacks: Sequence[PlannedAttack]) -> Outcomes:
        """Predict, prepare, attack, and look for signs of masked gradients."""
        examples, settings, tools = self.examples, self.settings, self.tools
        self._refuse_vectors(attacks)
        substitutes = [self._substitute(planned.attack) for planned in attacks]
        clean = self._predict_clean()
        right = (clean == examples.labels).nonzero().squeeze(1)
        copy = self._search_copy(right, attacks)
        guard = AttackGuard(self.judge, self.judge.threat, settings.seed, examples.device)
        run = AttackRun(examples, guard, self.memory, tools, settings.images_per_pass)
        outcomes: list[AttackOutcome] = []
        before = clean
        for planned, (substitute, digest) in zip(attacks, substitutes, strict=True):
            # The smallest perturbation ends at the boundary, where any rounding would decide: no copy will do.
            target = CountedModel(self.judge.model if planned.attack.minimal else copy.model)
            precision: Precision = "fp32" if planned.attack.minimal else copy.precision
            outcome = run.attacked(planned, before, Networks(target, substitute, digest), precision)
            outcomes.append(outcome)
            if tools.watch:
                tools.watch(outcome, examples.labels.numpy(), clean.numpy())
            before = torch.from_numpy(outcome.predictions) if settings.cascade else clean
        return Outcomes(
            ids=examples.ids.numpy(),
            labels=examples.labels.numpy(),
            clean=clean.numpy(),
            attacks=tuple(outcomes),
            cascade=settings.cascade,
            precision=copy.precision,
            folded=copy.folded,
            batch_size=self.judge.batch_size,
            signs=self.memory.run(partial(self._signs, right)) if attacks and tools.look_for_masking else None,
        )

    def _refuse_vectors(self, attacks: Sequence[PlannedAttack]) -> None:
        shape = tuple(self.examples.split.images(self.examples.ids[:1]).shape)
        for planned in attacks:
            if planned.attack.needs_images and len(shape) != 4:
                raise UsageError(
                    f"attack {planned.label} needs images (N, C, H, W), not examples of shape {shape[1:]}",
                    "leave it out, or reshape them and let the model flatten them",
                )

    def _substitute(self, attack: Attack) -> tuple[CountedModel | None, str | None]:
        """Return the network that a transfer attack uses and its digest, counted anew for this attack."""
        if not attack.wants_substitute:
            return None, None
        uri = attack.named_substitute()
        if uri not in self.tools.substitutes:
            raise UsageError(
                f"attack {attack.name} needs a substitute, and here is none",
                "a named dataset has one; for tensors name a checkpoint: transfer:substitute=DIGEST",
            )
        found = self.tools.substitutes[uri]
        return CountedModel(found.model), found.digest

    def _predict_clean(self) -> Tensor:
        def predict(part: Tensor) -> Tensor:
            return self.judge.predict(self.examples.images(part), self.examples.ids[part])

        clean = torch.empty_like(self.examples.labels)
        for part in torch.arange(len(clean)).split(self.settings.images_per_pass):
            clean[part] = self.memory.run(partial(predict, part))
        return clean

    def _search_copy(self, right: Tensor, attacks: Sequence[PlannedAttack]) -> SearchCopy:
        """Return the copy to search on, in a precision that a resumed evaluation and other processes share."""
        journal, wanted = self.tools.journal, self.settings.precision
        if not any(planned.attack.access is Access.WHITE_BOX for planned in attacks) and wanted == "auto":
            wanted = "fp32"  # without gradients there is nothing to calibrate with
        decided = journal.decided("precision") if journal else None
        if wanted == "auto" and decided in ("fp32", "bf16"):
            wanted = "fp32" if decided == "fp32" else "bf16"
        copy = self.memory.run(partial(self._copy, right, wanted))
        agreed = self.tools.agree(copy.precision)
        if agreed != copy.precision:
            copy = self.memory.run(partial(self._copy, right, agreed))
        if journal:
            journal.decide("precision", copy.precision)
        return copy

    def _copy(self, right: Tensor, precision: Literal["auto", "fp32", "bf16"]) -> SearchCopy:
        x, y = self.examples.sample(right, min(CALIBRATION, self.judge.batch_size))
        return make_search_copy(self.judge.model, x, y, self.judge.threat, precision)

    def _signs(self, right: Tensor) -> Signs | None:
        x, y = self.examples.sample(right, min(EXAMPLES, self.judge.batch_size))
        streams = ExampleStreams.of(self.settings.seed, torch.arange(len(x))).child("probe")
        return look_for_signs(self.judge.model, x, y, threat=self.judge.threat, streams=streams) if len(x) else None
