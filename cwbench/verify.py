"""Reproducing a report: its saved adversarial examples are predicted and measured again, or its attacks run again."""

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from cwbench import data, sidecar
from cwbench.api import Attack, Dataset, Examples
from cwbench.checkpoints import Checkpoint, Store
from cwbench.claims import check_attacks, check_split, check_training
from cwbench.errors import CwbenchError
from cwbench.evaluation import Settings, Substitute, evaluate
from cwbench.exact import ROUNDING
from cwbench.hub.address import address
from cwbench.model import Model, evaluating, frozen
from cwbench.opened import locate, opened
from cwbench.plan import PlannedAttack
from cwbench.records import AttackRecord
from cwbench.registry import Registry
from cwbench.report import Report, read_report
from cwbench.spec import PluginSpec, validated
from cwbench.summarise import Ints
from cwbench.threat import Threat, make_threat
from cwbench.training.rebuild import rebuilt
from cwbench.verdict import Judge, full_precision

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
    *,
    registry: Registry,
    store: Store,
    root: Path | None,
    device: torch.device,
    checkpoint: str | None = None,
    sample: int | None = None,
) -> Verified:
    """Reproduce the report in a file with the checkpoint that it names.

    With saved examples beside the report all of them are predicted again and their distances measured. Then the attacks
    run again under the seeds of the report on some examples that nobody could foresee: ``sample`` of them, by default
    100, or 25 where examples were saved. These too need it: whoever saves the clean images as what an attack returned
    has predictions and distances that reproduce.

    Raises:
        CwbenchError: the report does not reproduce, or there is nothing to reproduce it with.
    """
    report = read_report(path)
    columns = sidecar.read(report, path.parent)
    if columns is None:
        raise CwbenchError(f"the predictions of {path} do not lie beside it", "give the report in its run's own folder")
    # Looked for before the data are read: most often it is the checkpoint that is not here.
    found = _checkpoint(report, store, checkpoint) if report.training else None
    check_attacks(report, registry)
    if found:
        check_training(report, found, registry)
    dataset, test = _test_split(report, registry, root)
    check_split(report, columns, dataset, test)
    if found:
        model: Model = rebuilt(found, registry, device).model
    else:
        model = _foreign(report, dataset, test, registry, store, device, checkpoint)
    subject = _Subject(report, columns, model, test, make_threat(report.threat.norm, report.threat.eps), device)
    if not report.examples:
        return _by_sample(subject, sample or SAMPLE, registry, store)
    saved = _by_examples(subject, path.parent)
    again = _by_sample(subject, sample or SPOT_CHECK, registry, store)
    return replace(saved, attacked=again.attacked, left_out=again.left_out)


@dataclass(frozen=True)
class _Subject:
    report: Report
    columns: sidecar.Columns
    model: Model
    test: Examples
    threat: Threat
    device: torch.device

    def positions(self, ids: Ints) -> Ints:
        """Return in which rows of the predictions some examples stand."""
        order = np.argsort(self.columns["ids"])
        rows: Ints = order[np.searchsorted(self.columns["ids"], ids, sorter=order)]
        return rows


def _checkpoint(report: Report, store: Store, named: str | None) -> Checkpoint:
    """Return the checkpoint that a report names, and refuse another."""
    assert report.training  # noqa: S101 - the caller looked
    key = report.training.checkpoint
    uri = named or _origin(report)
    found = store.opened(uri) if uri else store.find(key)
    if found is None:
        raise CwbenchError(
            f"checkpoint {key[:12]} is not in {store.root}",
            "name its folder with --checkpoint, or train it: the same cwbench run command does",
        )
    if found.digest != key:
        raise CwbenchError(f"the report is about checkpoint {key[:12]}, and this is {found.digest[:12]}")
    if report.source and found.sha256 != report.source.sha256:
        raise CwbenchError(
            f"the report is about weights {report.source.sha256[:12]}, and this checkpoint has {str(found.sha256)[:12]}"
        )
    return found


def _origin(report: Report) -> str | None:
    """Return where the checkpoint of a report was opened, of a hub at the commit; None if its run trained it."""
    source = report.source
    if source is None:
        return None
    return str(replace(address(source.uri), revision=source.revision)) if source.kind == "hub" else source.uri


def _foreign(
    report: Report,
    dataset: Dataset,
    test: Examples,
    registry: Registry,
    store: Store,
    device: torch.device,
    named: str | None,
) -> Model:
    """Return the classifier of a checkpoint whose training nobody recorded, and refuse other weights."""
    source, body = report.source, report.backbone
    if source is None:
        raise CwbenchError("the report names no checkpoint: its model was handed in", "nobody can verify it")
    uri = str(named or _origin(report))
    backbone = PluginSpec(name=body.name, fields=body.fields) if body else None
    located = locate(uri, backbone, store)
    found = opened(located, dataset=dataset, test=test, backbone=backbone, registry=registry, device=device)
    if found.source.sha256 != source.sha256:
        raise CwbenchError(
            f"the report is about weights {source.sha256[:12]}, and {uri} has {found.source.sha256[:12]}",
            "name the file that was judged with --checkpoint",
        )
    return found.model


def _test_split(report: Report, registry: Registry, root: Path | None) -> tuple[Dataset, Examples]:
    name = report.dataset.name
    dataset = validated(registry.dataset(name), report.dataset.fields, f"dataset {name}")
    return dataset, data.open_split(dataset, "test", root)


def _by_examples(subject: _Subject, folder: Path) -> Verified:
    report, columns = subject.report, subject.columns
    with ExitStack() as stack:
        stack.enter_context(full_precision(subject.device))
        stack.enter_context(evaluating(subject.model))
        stack.enter_context(frozen(subject.model))
        judge = Judge(subject.model, len(report.dataset.classes), subject.threat, report.provenance.batch_size)
        differing = _clean(subject, judge, torch.from_numpy(columns["ids"]))
        examples = len(columns["ids"])
        before = columns["clean"]
        for attack in report.attacks:
            ids = []
            for saved in report.examples:
                if saved.attack == attack.label:
                    numbers, images = sidecar.read_examples(folder, saved)
                    differing += _saved(subject, judge, attack, numbers, torch.from_numpy(images))
                    ids.append(numbers)
            _refuse_other(attack.label, columns["ids"][before == columns["labels"]], ids)
            examples += attack.cost.examples
            before = columns[sidecar.column(attack.label)] if report.cascade else before
    _refuse_difference("verdicts on saved examples", differing, examples, SLACK_EXAMPLES)
    return Verified(report, "examples", examples, differing, 0, tuple(report.labels()))


def _clean(subject: _Subject, judge: Judge, ids: Tensor) -> int:
    """Return on how many clean examples the model is right where the report says wrong, or the reverse."""
    differing = 0
    for part in ids.split(judge.batch_size):
        found = judge.predict(subject.test.images(part).to(subject.device, torch.float32), part).numpy()
        differing += int((found != subject.columns["clean"][subject.positions(part.numpy())]).sum())
    return differing


def _saved(subject: _Subject, judge: Judge, attack: AttackRecord, ids: Ints, images: Tensor) -> int:
    """Measure and predict the examples of a file; return how many verdicts differ from the recorded ones."""
    known = np.isin(ids, subject.columns["ids"])
    if not known.all():
        raise CwbenchError(f"{attack.label}: example {int(ids[~known][0])} is saved, but was not judged")
    rows, threat = subject.positions(ids), subject.threat
    differing = 0
    for part in torch.arange(len(ids)).split(judge.batch_size):
        numbers = torch.from_numpy(ids)[part]
        x, clean = images[part].to(subject.device), subject.test.images(numbers).to(subject.device, torch.float32)
        recorded = subject.columns[sidecar.column(attack.label)][rows[part]]
        if x.shape != clean.shape or not x.isfinite().all():
            raise CwbenchError(f"{attack.label}: saved examples are no finite images of shape {tuple(clean.shape[1:])}")
        minimal = attack.eps_curve is not None
        excess = (threat.outside(x) if minimal else threat.excess(x, clean)).cpu()
        if float(excess.max()) > ROUNDING:
            worst = int(excess.argmax())
            raise CwbenchError(
                f"{attack.label}: saved example {int(numbers[worst])} lies {float(excess[worst]):.3g} outside of "
                f"{'the box' if minimal else f'the {threat.norm} ball of eps {threat.eps} or the box'}"
            )
        found = judge.predict(x, numbers).numpy()
        if minimal:
            labels = subject.columns["labels"][rows[part]]
            distances = threat.distance(x, clean).cpu().numpy()
            claimed = subject.columns[sidecar.distance_column(attack.label)][rows[part]]
            off = np.isfinite(claimed) & (np.abs(claimed - distances) > DISTANCE_SLACK)
            if off.any():
                raise CwbenchError(f"{attack.label}: example {int(numbers[off][0])} is not as far away as recorded")
            found = np.where((found != labels) & (distances <= threat.radius + ROUNDING), found, labels)
        differing += int((found != recorded).sum())
    return differing


def _refuse_other(label: str, attacked: Ints, saved: Sequence[Ints]) -> None:
    ids = np.concatenate(saved) if saved else np.array([], dtype=np.int64)
    if not np.array_equal(np.sort(ids), np.sort(attacked)):
        raise CwbenchError(f"{label}: the saved examples are not those that it attacked")


def _by_sample(subject: _Subject, size: int, registry: Registry, store: Store) -> Verified:
    report, columns = subject.report, subject.columns
    planned, substitutes, left_out = _planned(report, registry, store, subject.device)
    if report.cascade and left_out:
        raise CwbenchError(f"{left_out[0]} cannot run again, and a cascade needs all", "its substitute is not stored")
    rows = np.sort(np.random.default_rng().choice(len(columns["ids"]), min(size, len(columns["ids"])), replace=False))
    outcomes = evaluate(
        subject.model,
        subject.test,
        planned,
        ids=torch.from_numpy(columns["ids"][rows]),
        classes=len(report.dataset.classes),
        threat=subject.threat,
        settings=Settings(
            seed=report.provenance.seed,
            device=subject.device,
            batch_size=report.provenance.batch_size,
            precision=report.provenance.precision,
            cascade=report.cascade,
            probing=False,
            substitutes=substitutes,
        ),
    )
    labels = columns["labels"][rows]
    pairs = [("clean", outcomes.clean), *((sidecar.column(x.label), x.predictions) for x in outcomes.attacks)]
    # A run that finds another wrong class is as good: what is claimed is which examples stand.
    other = np.array([(columns[name][rows] == labels) != (found == labels) for name, found in pairs]).any(axis=0)
    _refuse_difference("examples of a random sample", int(other.sum()), len(rows), SLACK_SAMPLE)
    labels_run = tuple(attack.label for attack in planned)
    return Verified(report, "sample", len(rows), int(other.sum()), len(rows), labels_run, tuple(left_out))


def _planned(
    report: Report, registry: Registry, store: Store, device: torch.device
) -> tuple[list[PlannedAttack], dict[str | None, Substitute], list[str]]:
    """Return the attacks of a report, their substitutes, and the labels of those whose substitute is not stored."""
    planned, left_out = [], []
    substitutes: dict[str | None, Substitute] = {}
    for record in report.attacks:
        cls: type[Attack] = registry.attack(record.attack.name)
        attack = validated(cls, record.attack.fields, f"attack {record.label}")
        if attack.wants_substitute:
            found = store.find(record.substitute) if record.substitute else None
            if found is None:
                left_out.append(record.label)
                continue
            model = rebuilt(found, registry, device).model
            substitutes[getattr(attack, "substitute", None)] = Substitute(found.digest, model)
        planned.append(PlannedAttack(record.label, attack))
    return planned, substitutes, left_out


def _refuse_difference(what: str, differing: int, among: int, slack: float) -> None:
    if differing > max(1, slack * among):
        raise CwbenchError(
            f"the report does not reproduce: {differing:,} of {among:,} {what} differ, and {slack:.1%} may by rounding"
        )
