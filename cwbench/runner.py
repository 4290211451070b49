"""The way through the house: spec → plan → checkpoint → outcomes → report."""

from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

import torch
from torch import nn

from cwbench import data, digest, sidecar
from cwbench.api import Backbone, Defense, Examples
from cwbench.assemble import columns, dataset_record, report_of, training_record
from cwbench.checkpoints import Store
from cwbench.curves import Curves
from cwbench.errors import CwbenchError
from cwbench.evaluation import AttackOutcome, Settings, Substitute
from cwbench.events import AttackFinished, RunStarted
from cwbench.files import new_folder, require_writable, write_atomically
from cwbench.gallery import Gallery
from cwbench.journal import Journal
from cwbench.observers import Observers
from cwbench.opened import Located, locate, opened
from cwbench.parallel import ALONE, Team, own_device
from cwbench.plan import Judging, Plan, make_plan, plan_judging
from cwbench.records import SourceRecord, TrainingRecord
from cwbench.registry import Registry
from cwbench.report import Report
from cwbench.reproduced import require_sound_teacher
from cwbench.sharded import evaluate_together, require_enough
from cwbench.spec import PluginSpec, RunSpec
from cwbench.substitute import Substitutes
from cwbench.summarise import Ints, per_class, standing
from cwbench.training.fit import fit
from cwbench.training.job import NO_INFLUENCE, Job
from cwbench.training.rebuild import load_classifier
from cwbench.training.resume import require_same

REPORT_ROOM = 16 << 20
"""Bytes that must be free for reports and predictions before training begins."""


@dataclass(frozen=True)
class _Subject:
    """A classifier to judge, and what the report says of it."""

    model: nn.Module
    name: str
    identity: str
    """The digest of what determines its outputs."""
    backbone: Backbone | None
    defense: Defense | None
    training: TrainingRecord | None
    source: SourceRecord | None = None


def run(
    spec: RunSpec, *, registry: Registry, store: Store, out: Path | None, team: Team = ALONE
) -> tuple[Report, Path | None]:
    """Do a run and return its report and, with ``out``, the file that it was written to by the team's leader.

    Raises:
        CwbenchError: anything the user can put right; nothing is written then.
    """
    return _judged(spec, registry, store, out, team) if spec.checkpoint else _trained(spec, registry, store, out, team)


def _trained(
    spec: RunSpec, registry: Registry, store: Store, out: Path | None, team: Team
) -> tuple[Report, Path | None]:
    """Train a defense, or take it from the store, and judge it."""
    plan = make_plan(spec, registry)
    plan = replace(plan, device=own_device(plan.device, team))
    _refuse_early(plan, out, team)
    if team.size > 1:
        team.from_leader(lambda: _fetch(plan))
    test = data.open_split(plan.dataset, "test", plan.root)
    require_enough(data.chosen_rows(test.labels, plan.limit), team)
    sources = substitutes_of(plan, store, team)
    named = sources.named(plan.attacks)
    job, curves = training_of(plan, test, team)
    if spec.resume:
        require_same(job, store, spec.resume)
    if not team.from_leader(lambda: store.holds(job.digest)):  # one asks, so that all go the same way
        require_sound_teacher(plan, test, team)
        if team.leads:
            require_writable(store.root, 8 * _weights_size(job))
    observers, started = _started(plan, str(spec.defense), out, team)
    checkpoint = fit(
        job,
        store,
        curves.measure if curves else None,
        team,
        watch=lambda epoch: observers.tell("cwbench_epoch_finished", run=started, epoch=epoch),
    )
    substitutes = named | sources.trained(plan.attacks)
    model = load_classifier(job, checkpoint)
    # The record of whoever trained these weights first is kept; the recipe's name is the one that this user gave it.
    training = training_record(checkpoint).model_copy(update={"recipe_name": plan.recipe_name})
    subject = _Subject(model, str(spec.defense), checkpoint.digest, plan.backbone, plan.defense, training)
    return _reported(plan, subject, test, substitutes, store, out, team, observers, started)


def training_of(plan: Plan, test: Examples, team: Team = ALONE) -> tuple[Job, Curves | None]:
    """Return the training that a plan asks for, and what measures curves on the way, if it wants any.

    Raises:
        CwbenchError: as :meth:`Job.of`.
    """
    curves = Curves.of(plan, test, team) if plan.every else None
    return Job.of(plan, curves.identity if curves else None, team), curves


def _judged(
    spec: RunSpec, registry: Registry, store: Store, out: Path | None, team: Team
) -> tuple[Report, Path | None]:
    """Judge a checkpoint that is there already."""
    located = team.from_leader(lambda: locate(str(spec.checkpoint), spec.backbone, store))
    plan = plan_judging(spec, judged_on(spec, located), registry)
    plan = replace(plan, device=own_device(plan.device, team))
    _refuse_early(plan, out, team)
    test = data.open_split(plan.dataset, "test", plan.root)
    require_enough(data.chosen_rows(test.labels, plan.limit), team)
    found = opened(
        located, dataset=plan.dataset, test=test, backbone=spec.backbone, registry=registry, device=plan.device
    )
    sources = substitutes_of(plan, store, team)
    substitutes = sources.named(plan.attacks) | sources.trained(plan.attacks)
    observers, started = _started(plan, found.subject, out, team)
    subject = _Subject(
        found.model, found.subject, found.identity, found.backbone, found.defense, found.training, found.source
    )
    return _reported(plan, subject, test, substitutes, store, out, team, observers, started)


def judged_on(spec: RunSpec, located: Located) -> PluginSpec:
    """Return the dataset of a run that judges a checkpoint: its own, or the checkpoint's."""
    return spec.dataset if "dataset" in spec.model_fields_set else located.dataset or spec.dataset


def _refuse_early(plan: Judging, out: Path | None, team: Team) -> None:
    if plan.save_examples and team.size > 1:
        raise CwbenchError(f"{team.size} processes cannot save examples together", "leave --save-examples out")
    if out and team.leads:
        require_writable(out, REPORT_ROOM)


def _started(plan: Judging, subject: str, out: Path | None, team: Team) -> tuple[Observers, RunStarted]:
    """Tell observers that the run has begun; those of the team's leader alone."""
    stamp = datetime.now(UTC).strftime("%Y%m%d-%H%M%S-%f")
    started = RunStarted(
        id=f"{stamp}-{plan.dataset.name}-{digest.of_bytes(subject.encode())[:8]}",
        subject=subject,
        dataset=plan.dataset.name,
        classes=tuple(plan.dataset.classes),
        attacks=tuple(planned.label for planned in plan.attacks),
        seed=plan.seed,
        out=out,
    )
    observers = Observers(plan.registry.discovery.manager, silent=not team.leads)
    observers.tell("cwbench_run_started", run=started)
    return observers, started


def _reported(
    plan: Judging,
    subject: _Subject,
    test: Examples,
    substitutes: Mapping[str | None, Substitute],
    store: Store,
    out: Path | None,
    team: Team,
    observers: Observers,
    started: RunStarted,
) -> tuple[Report, Path | None]:
    """Attack a classifier, and report what became of it."""
    classes = len(plan.dataset.classes)

    def watch(outcome: AttackOutcome, labels: Ints, clean: Ints) -> None:
        observers.tell("cwbench_attack_finished", run=started, attack=_finished(outcome, labels, clean, classes))

    used = {uri: substitute.digest for uri, substitute in substitutes.items()}
    evaluation = store.root.parent / "evaluations" / evaluation_digest(plan, subject.identity, test, used, team)
    journal, gallery = Journal(evaluation), _gallery(plan, evaluation, out)
    with gallery.held() if gallery else nullcontext():
        outcomes = evaluate_together(
            subject.model,
            test,
            plan.attacks,
            ids=data.chosen_rows(test.labels, plan.limit),
            classes=classes,
            threat=plan.threat,
            settings=Settings(
                seed=plan.seed,
                device=plan.device,
                batch_size=plan.batch_size,
                precision=plan.precision,
                cascade=plan.cascade,
                journal=journal,
                gallery=gallery,
                substitutes=substitutes,
                watch=watch if team.size == 1 else None,
            ),
            team=team,
        )
        if team.size > 1:  # each process has seen a part: only now are an attack's counts whole
            for outcome in outcomes.attacks:
                watch(outcome, outcomes.labels, outcomes.clean)
        content, predictions = sidecar.encode(columns(outcomes))
        report = report_of(
            outcomes,
            subject=subject.name,
            dataset=dataset_record(plan.dataset, test, plan.registry, plan.limit),
            threat=plan.threat,
            registry=plan.registry,
            device=plan.device,
            seed=plan.seed,
            defense=subject.defense,
            backbone=subject.backbone,
            training=subject.training,
            source=subject.source,
            predictions=predictions if out else None,
            examples=gallery.files() if gallery else (),
        )
        path = write_run(report, content, out, gallery) if out and team.leads else None
    journal.close()
    observers.tell("cwbench_report_written", run=started, report=report, path=path)
    return report, path


def _finished(outcome: AttackOutcome, labels: Ints, clean: Ints, classes: int) -> AttackFinished:
    return AttackFinished(
        label=outcome.label,
        n=tuple(per_class(labels, classes)),
        clean=tuple(standing(labels, [clean], classes)),
        correct=tuple(standing(labels, [clean, outcome.predictions], classes)),
        seconds=outcome.cost.seconds,
    )


def _fetch(plan: Plan) -> None:
    """Load everything once: what is missing is downloaded or unpacked by one process and not by all of them."""
    plan.dataset.load("test", plan.root)
    plan.defense.training_set(plan.dataset, plan.dataset.load("train", plan.root), plan.root)


def _gallery(plan: Judging, evaluation: Path, out: Path | None) -> Gallery | None:
    """Return where examples are kept until their report is written, or None."""
    labels = [planned.label for planned in plan.attacks]
    return Gallery(evaluation.with_name(f"{evaluation.name}-examples"), labels) if plan.save_examples and out else None


def write_run(report: Report, predictions: bytes, out: Path, gallery: Gallery | None = None) -> Path:
    """Write a report and what belongs to it into a new folder below ``out``, whole or not at all; return its path.

    Raises:
        CwbenchError: the folder is not writable or the disk is full.
    """
    stamp = datetime.now(UTC).strftime("%Y%m%d-%H%M%S")
    content = report.to_json().encode()
    folder = out / f"{stamp}-{report.dataset.name}-{digest.of_bytes(content)[:8]}"
    try:
        with new_folder(folder) as draft:
            sidecar.write(draft, predictions)
            if gallery:
                gallery.move_to(draft)
            write_atomically(draft / "report.json", content)
    except OSError as error:
        raise CwbenchError(f"cannot write into {out}: {error.strerror}", "choose another folder with --out") from None
    return folder / "report.json"


def substitutes_of(plan: Judging, store: Store, team: Team = ALONE) -> Substitutes:
    """Return where a run's transfer attacks get their networks: trained by its recipe as the dataset has it."""
    recipe_name = plan.recipe_name.removesuffix("*") if isinstance(plan, Plan) else plan.dataset.default_recipe
    return Substitutes(
        dataset=plan.dataset,
        classes=len(plan.dataset.classes),
        shape=(plan.dataset.shape[0], plan.dataset.shape[1], plan.dataset.shape[1]),
        root=plan.root,
        recipe_name=recipe_name,
        seed=plan.seed,
        device=plan.device,
        registry=plan.registry,
        store=store,
        team=team,
    )


def evaluation_digest(
    plan: Judging,
    checkpoint: str,
    test: Examples,
    substitutes: Mapping[str | None, str],
    team: Team = ALONE,
    threads: int | None = None,
) -> str:
    """Return the digest of everything that determines what attacks achieve in this process, or in one of ``threads``.

    ``checkpoint`` and ``substitutes`` are digests: of what determines the judged network, and of those that transfer
    attacks use.
    """
    attacks = [(planned.label, planned.attack) for planned in plan.attacks]
    return digest.of_json(
        {
            "checkpoint": checkpoint,
            "test": data.digest(test),
            "limit": plan.limit,
            "threat": {"norm": plan.threat.norm, "eps": plan.threat.radius},
            "attacks": [[label, attack.name, attack.model_dump(mode="json")] for label, attack in attacks],
            "substitutes": {str(uri): used for uri, used in substitutes.items()},
            "cascade": plan.cascade,
            "precision": plan.precision,
            "seed": plan.seed,
            "batch_size": plan.batch_size,
            "device": plan.device.type,
            "threads": threads or torch.get_num_threads(),
            "process": [team.rank, team.size],
            "torch": torch.__version__,
            "code": digest.of_code(
                "cwbench.evaluation",
                *dict.fromkeys(type(attack).__module__ for _, attack in attacks),
                skip=NO_INFLUENCE,
            ),
        }
    )


def _weights_size(job: Job) -> int:
    return sum(tensor.nbytes for tensor in job.fresh_classifier().state_dict().values())
