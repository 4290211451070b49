"""Reproducing a report: its saved adversarial examples are predicted and measured again, or its attacks run again."""

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from cwbench.api import Attack, Examples, evaluating, frozen, make_threat
from cwbench.checkpoints.hub.address import address
from cwbench.datasets import splits
from cwbench.evaluation.harness import evaluate
from cwbench.evaluation.outcomes import Ints, Substitute, Tools
from cwbench.evaluation.verdict import Judge, full_precision
from cwbench.internal.errors import CheckpointError, ReportError
from cwbench.internal.exact_number import ROUNDING
from cwbench.internal.validation import validated
from cwbench.pipeline.open_checkpoint import LocatedCheckpoint, StoredCheckpoint, locate_checkpoint
from cwbench.pipeline.session import Session
from cwbench.pipeline.subject import Subject
from cwbench.pipeline.verify_claims import check_attacks, check_split, check_training
from cwbench.plan import EvaluationPlan, PlannedAttack, choose_device
from cwbench.plugins.naming import PluginSpec
from cwbench.plugins.registry import Registry
from cwbench.report.predictions import Columns, column, distance_column, read_examples, read_predictions
from cwbench.report.records import AttackRecord
from cwbench.report.report import Report, read_report
from cwbench.spec import EvaluationSettings
from cwbench.training.rebuild import rebuilt

SAMPLE, SPOT_CHECK = 100, 25
"""How many examples are attacked again: without saved examples, and in addition to them."""
SLACK_EXAMPLES, SLACK_SAMPLE = 0.005, 0.02
"""The share of verdicts that may differ: another machine rounds differently, which decides between logits that are all
but equal, and over the steps of an attack that runs again also its way."""
DISTANCE_SLACK = 1e-5
"""How far a distance measured again may be from the recorded one."""


@dataclass(frozen=True)
class Verified:
    """A report that was reproduced."""

    report: Report
    means: Literal["examples", "sample"]
    examples: int
    """How many were predicted again, or without saved ones attacked again."""
    differing: int
    """How many verdicts of them differ."""
    attacked: int
    """How many were attacked again."""
    attacks: tuple[str, ...]
    left_out: tuple[str, ...] = ()
    """Attacks whose substitute is not in the store, and that could not run again."""


def verify(
    path: Path,
    session: Session,
    *,
    root: Path | None,
    device: str,
    checkpoint: str | None = None,
    sample: int | None = None,
) -> Verified:
    """Reproduce the report in a file with the checkpoint that it names.

    With saved examples beside the report all of them are predicted again and their distances measured. Then the attacks
    run again under the seeds of the report on some examples that nobody could foresee. These too need it: whoever saves
    the clean images as what an attack returned has predictions and distances that reproduce.

    Args:
        path: the report.json, in the folder that its run wrote.
        session: the plugins and the checkpoints of this machine.
        root: the folder with the data, or None for the user's cache.
        device: as :attr:`cwbench.spec.EvaluationSettings.device`; the other settings are the report's.
        checkpoint: a digest, folder, file or address to use instead of the one that the report names.
        sample: how many examples to attack again; 100 by default, or 25 where examples were saved.

    Raises:
        ReportError: the report does not reproduce.
        CwbenchError: there is nothing to reproduce it with.
    """
    report = read_report(path)
    columns = read_predictions(report, path.parent)
    if columns is None:
        raise ReportError(f"the predictions of {path} do not lie beside it", "give the report in its run's own folder")
    # Looked for before the data are read: most often it is the checkpoint that is not here.
    located = _located(report, session, checkpoint)
    check_attacks(report, session.registry)
    if isinstance(located, StoredCheckpoint) and report.training:
        check_training(report, located.checkpoint, session.registry)
    substitutes, left_out = _substitutes(report, session, device)
    plan = _plan(report, session.registry, root, device, left_out)
    test = splits.open_split(plan.dataset, "test", root)
    check_split(report, columns, plan.dataset, test)
    evidence = _Evidence(report, columns, _loaded(report, located, plan, test), plan, test, substitutes, left_out)
    if not report.examples:
        return _by_sample(evidence, sample or SAMPLE)
    saved = _by_examples(evidence, path.parent)
    again = _by_sample(evidence, sample or SPOT_CHECK)
    return replace(saved, attacked=again.attacked, left_out=again.left_out)


@dataclass(frozen=True)
class _Evidence:
    """A report, and what it is held against."""

    report: Report
    columns: Columns
    subject: Subject
    plan: EvaluationPlan
    test: Examples
    substitutes: dict[str | None, Substitute]
    left_out: tuple[str, ...]

    def positions(self, ids: Ints) -> Ints:
        """Return in which rows of the predictions some examples stand."""
        order = np.argsort(self.columns["ids"])
        rows: Ints = order[np.searchsorted(self.columns["ids"], ids, sorter=order)]
        return rows


def _located(report: Report, session: Session, named: str | None) -> LocatedCheckpoint:
    """Return the checkpoint that a report names, and refuse one of another training."""
    uri = named or _origin(report)
    if report.training is None:
        if report.source is None:
            raise ReportError("the report names no checkpoint: its model was handed in", "nobody can verify it")
        body = report.backbone
        backbone = PluginSpec(name=body.name, fields=body.fields) if body else None
        return locate_checkpoint(str(uri), backbone, session.store)
    key = report.training.checkpoint
    found = session.store.opened(uri) if uri else session.store.find(key)
    if found is None:
        raise CheckpointError(
            f"checkpoint {key[:12]} is not in {session.store.root}",
            "name its folder with --checkpoint, or train it: the same cwbench run command does",
        )
    if found.digest != key:
        raise CheckpointError(f"the report is about checkpoint {key[:12]}, and this is {found.digest[:12]}")
    if report.source and found.sha256 != report.source.sha256:
        raise CheckpointError(
            f"the report is about weights {report.source.sha256[:12]}, and this checkpoint has {str(found.sha256)[:12]}"
        )
    return StoredCheckpoint(uri or key, found)


def _origin(report: Report) -> str | None:
    """Return where the checkpoint of a report was opened, of a hub at the commit; None if its run trained it."""
    source = report.source
    if source is None:
        return None
    return str(replace(address(source.uri), revision=source.revision)) if source.kind == "hub" else source.uri


def _loaded(report: Report, located: LocatedCheckpoint, plan: EvaluationPlan, test: Examples) -> Subject:
    """Return the classifier of a report, and refuse other weights."""
    subject = located.load(plan, test)
    if report.training is None and report.source and subject.source and subject.source.sha256 != report.source.sha256:
        raise CheckpointError(
            f"the report is about weights {report.source.sha256[:12]}, and {located.uri} has "
            f"{subject.source.sha256[:12]}",
            "name the file that was evaluated with --checkpoint",
        )
    return subject


def _plan(
    report: Report, registry: Registry, root: Path | None, device: str, left_out: Sequence[str]
) -> EvaluationPlan:
    """Return the evaluation that a report tells of, without the attacks that cannot run again."""
    about, made = report.dataset, report.provenance
    planned = [
        PlannedAttack(record.label, _attack(record, registry))
        for record in report.attacks
        if record.label not in left_out
    ]
    return EvaluationPlan(
        dataset=validated(registry.dataset(about.name), about.fields, f"dataset {about.name}"),
        root=root,
        threat=make_threat(report.threat.norm, report.threat.eps),
        attacks=tuple(planned),
        settings=EvaluationSettings(
            seed=made.seed,
            limit=about.limit,
            device=str(choose_device(device)),
            batch_size=made.batch_size,
            precision=made.precision,
            cascade=report.cascade,
        ),
        save_examples=False,
        registry=registry,
    )


def _attack(record: AttackRecord, registry: Registry) -> Attack:
    attack: Attack = validated(registry.attack(record.attack.name), record.attack.fields, f"attack {record.label}")
    return attack


def _substitutes(report: Report, session: Session, device: str) -> tuple[dict[str | None, Substitute], tuple[str, ...]]:
    """Return the substitutes of transfer attacks, and the labels of those whose substitute is not stored."""
    substitutes: dict[str | None, Substitute] = {}
    left_out = []
    for record in report.attacks:
        attack = _attack(record, session.registry)
        if attack.wants_substitute:
            found = session.store.find(record.substitute) if record.substitute else None
            if found is None:
                left_out.append(record.label)
                continue
            model = rebuilt(found, session.registry, choose_device(device)).model
            substitutes[attack.named_substitute()] = Substitute(found.digest, model)
    return substitutes, tuple(left_out)


def _by_examples(evidence: _Evidence, folder: Path) -> Verified:
    report, columns = evidence.report, evidence.columns
    with ExitStack() as stack:
        stack.enter_context(full_precision(evidence.plan.device))
        stack.enter_context(evaluating(evidence.subject.model))
        stack.enter_context(frozen(evidence.subject.model))
        judge = Judge(
            evidence.subject.model, len(report.dataset.classes), evidence.plan.threat, report.provenance.batch_size
        )
        differing = _clean(evidence, judge, torch.from_numpy(columns["ids"]))
        examples = len(columns["ids"])
        before = columns["clean"]
        for attack in report.attacks:
            ids = []
            for saved in report.examples:
                if saved.attack == attack.label:
                    numbers, images = read_examples(folder, saved)
                    differing += _saved(evidence, judge, attack, numbers, torch.from_numpy(images))
                    ids.append(numbers)
            _refuse_other(attack.label, columns["ids"][before == columns["labels"]], ids)
            examples += attack.cost.examples
            before = columns[column(attack.label)] if report.cascade else before
    _refuse_difference("verdicts on saved examples", differing, examples, SLACK_EXAMPLES)
    return Verified(report, "examples", examples, differing, 0, tuple(report.labels()))


def _clean(evidence: _Evidence, judge: Judge, ids: Tensor) -> int:
    """Return on how many clean examples the model is right where the report says wrong, or the reverse."""
    differing = 0
    for part in ids.split(judge.batch_size):
        found = judge.predict(evidence.test.images(part).to(evidence.plan.device, torch.float32), part).numpy()
        differing += int((found != evidence.columns["clean"][evidence.positions(part.numpy())]).sum())
    return differing


def _saved(evidence: _Evidence, judge: Judge, attack: AttackRecord, ids: Ints, images: Tensor) -> int:
    """Measure and predict the examples of a file; return how many verdicts differ from the recorded ones."""
    known = np.isin(ids, evidence.columns["ids"])
    if not known.all():
        raise ReportError(f"{attack.label}: example {int(ids[~known][0])} is saved, but was not judged")
    rows, threat = evidence.positions(ids), evidence.plan.threat
    differing = 0
    for part in torch.arange(len(ids)).split(judge.batch_size):
        numbers = torch.from_numpy(ids)[part]
        x, clean = (
            images[part].to(evidence.plan.device),
            evidence.test.images(numbers).to(evidence.plan.device, torch.float32),
        )
        recorded = evidence.columns[column(attack.label)][rows[part]]
        if x.shape != clean.shape or not x.isfinite().all():
            raise ReportError(f"{attack.label}: saved examples are no finite images of shape {tuple(clean.shape[1:])}")
        minimal = attack.eps_curve is not None
        excess = (threat.outside(x) if minimal else threat.excess(x, clean)).cpu()
        if float(excess.max()) > ROUNDING:
            worst = int(excess.argmax())
            raise ReportError(
                f"{attack.label}: saved example {int(numbers[worst])} lies {float(excess[worst]):.3g} outside of "
                f"{'the box' if minimal else f'the {threat.norm} ball of eps {threat.eps} or the box'}"
            )
        found = judge.predict(x, numbers).numpy()
        if minimal:
            labels = evidence.columns["labels"][rows[part]]
            distances = threat.distance(x, clean).cpu().numpy()
            claimed = evidence.columns[distance_column(attack.label)][rows[part]]
            off = np.isfinite(claimed) & (np.abs(claimed - distances) > DISTANCE_SLACK)
            if off.any():
                raise ReportError(f"{attack.label}: example {int(numbers[off][0])} is not as far away as recorded")
            found = np.where((found != labels) & (distances <= threat.radius + ROUNDING), found, labels)
        differing += int((found != recorded).sum())
    return differing


def _refuse_other(label: str, attacked: Ints, saved: Sequence[Ints]) -> None:
    ids = np.concatenate(saved) if saved else np.array([], dtype=np.int64)
    if not np.array_equal(np.sort(ids), np.sort(attacked)):
        raise ReportError(f"{label}: the saved examples are not those that it attacked")


def _by_sample(evidence: _Evidence, size: int) -> Verified:
    report, columns, plan, left_out = evidence.report, evidence.columns, evidence.plan, evidence.left_out
    if report.cascade and left_out:
        raise ReportError(f"{left_out[0]} cannot run again, and a cascade needs all", "its substitute is not stored")
    rows = np.sort(np.random.default_rng().choice(len(columns["ids"]), min(size, len(columns["ids"])), replace=False))
    outcomes = evaluate(
        evidence.subject.model,
        evidence.test,
        plan.attacks,
        ids=torch.from_numpy(columns["ids"][rows]),
        classes=len(report.dataset.classes),
        threat=plan.threat,
        settings=plan.settings,
        tools=Tools(look_for_masking=False, substitutes=evidence.substitutes),
    )
    labels = columns["labels"][rows]
    pairs = [("clean", outcomes.clean), *((column(x.label), x.predictions) for x in outcomes.attacks)]
    # A run that finds another wrong class is as good: what is claimed is which examples stand.
    other = np.array([(columns[name][rows] == labels) != (found == labels) for name, found in pairs]).any(axis=0)
    _refuse_difference("examples of a random sample", int(other.sum()), len(rows), SLACK_SAMPLE)
    labels_run = tuple(attack.label for attack in plan.attacks)
    return Verified(report, "sample", len(rows), int(other.sum()), len(rows), labels_run, left_out)


def _refuse_difference(what: str, differing: int, among: int, slack: float) -> None:
    if differing > max(1, slack * among):
        raise ReportError(
            f"the report does not reproduce: {differing:,} of {among:,} {what} differ, and {slack:.1%} may by rounding"
        )
