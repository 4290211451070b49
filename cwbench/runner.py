"""The way through the house: spec → plan → checkpoint → outcomes → report."""

from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import torch

from cwbench import data, digest, sidecar
from cwbench.api import Examples
from cwbench.assemble import columns, dataset_record, report_of, training_record
from cwbench.checkpoints import Store
from cwbench.curves import Curves
from cwbench.errors import CwbenchError
from cwbench.evaluation import Settings, Substitute
from cwbench.files import new_folder, require_writable, write_atomically
from cwbench.gallery import Gallery
from cwbench.journal import Journal
from cwbench.parallel import ALONE, Team, own_device
from cwbench.plan import Plan, make_plan
from cwbench.registry import Registry
from cwbench.report import Report
from cwbench.sharded import evaluate_together, require_enough
from cwbench.spec import RunSpec
from cwbench.substitute import Substitutes
from cwbench.training.fit import fit
from cwbench.training.job import NO_INFLUENCE, Job
from cwbench.training.rebuild import load_classifier
from cwbench.training.resume import require_same

REPORT_ROOM = 16 << 20
"""Bytes that must be free for reports and predictions before training begins."""


def run(
    spec: RunSpec, *, registry: Registry, store: Store, out: Path | None, team: Team = ALONE
) -> tuple[Report, Path | None]:
    """Do a run and return its report and, with ``out``, the file that it was written to by the team's leader.

    Raises:
        CwbenchError: anything the user can put right; nothing is written then.
    """
    plan = make_plan(spec, registry)
    plan = replace(plan, device=own_device(plan.device, team))
    if plan.save_examples and team.size > 1:
        raise CwbenchError(f"{team.size} processes cannot save examples together", "leave --save-examples out")
    if out and team.leads:
        require_writable(out, REPORT_ROOM)
    if team.size > 1:
        team.from_leader(lambda: _fetch(plan))
    test = data.open_split(plan.dataset, "test", plan.root)
    require_enough(data.chosen_rows(test.labels, plan.limit), team)
    sources = _substitutes(plan, store, team)
    named = sources.named(plan.attacks)
    curves = Curves.of(plan, test, team) if plan.every else None
    job = Job.of(plan, curves.identity if curves else None, team)
    if spec.resume:
        require_same(job, store, spec.resume)
    if not store.holds(job.digest) and team.leads:
        require_writable(store.root, 8 * _weights_size(job))
    checkpoint = fit(job, store, curves.measure if curves else None, team)
    substitutes = named | sources.trained(plan.attacks)
    evaluation = store.root.parent / "evaluations" / _evaluation_digest(plan, job, test, substitutes, team)
    journal, gallery = Journal(evaluation), _gallery(plan, evaluation, out)
    outcomes = evaluate_together(
        load_classifier(job, checkpoint),
        test,
        plan.attacks,
        ids=data.chosen_rows(test.labels, plan.limit),
        classes=len(plan.dataset.classes),
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
        ),
        team=team,
    )
    content, predictions = sidecar.encode(columns(outcomes))
    report = report_of(
        outcomes,
        subject=str(spec.defense),
        dataset=dataset_record(plan.dataset, test, registry, plan.limit),
        threat=plan.threat,
        registry=registry,
        device=plan.device,
        seed=plan.seed,
        defense=plan.defense,
        backbone=plan.backbone,
        training=training_record(plan, job, checkpoint),
        predictions=predictions if out else None,
        examples=gallery.files() if gallery else (),
    )
    path = write_run(report, content, out, gallery) if out and team.leads else None
    journal.close()
    return report, path


def _fetch(plan: Plan) -> None:
    """Load everything once: what is missing is downloaded or unpacked by one process and not by all of them."""
    plan.dataset.load("test", plan.root)
    plan.defense.training_set(plan.dataset, plan.dataset.load("train", plan.root), plan.root)


def _gallery(plan: Plan, evaluation: Path, out: Path | None) -> Gallery | None:
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


def _substitutes(plan: Plan, store: Store, team: Team) -> Substitutes:
    return Substitutes(
        dataset=plan.dataset,
        classes=len(plan.dataset.classes),
        shape=(plan.dataset.shape[0], plan.dataset.shape[1], plan.dataset.shape[1]),
        root=plan.root,
        recipe_name=plan.recipe_name.removesuffix("*"),
        seed=plan.seed,
        device=plan.device,
        registry=plan.registry,
        store=store,
        team=team,
    )


def _evaluation_digest(
    plan: Plan, job: Job, test: Examples, substitutes: Mapping[str | None, Substitute], team: Team
) -> str:
    """Return the digest of everything that determines what attacks achieve in this process."""
    attacks = [(planned.label, planned.attack) for planned in plan.attacks]
    return digest.of_json(
        {
            "checkpoint": job.digest,
            "test": data.digest(test),
            "limit": plan.limit,
            "threat": {"norm": plan.threat.norm, "eps": plan.threat.radius},
            "attacks": [[label, attack.name, attack.model_dump(mode="json")] for label, attack in attacks],
            "substitutes": {str(uri): substitute.digest for uri, substitute in substitutes.items()},
            "cascade": plan.cascade,
            "precision": plan.precision,
            "seed": plan.seed,
            "batch_size": plan.batch_size,
            "device": plan.device.type,
            "threads": torch.get_num_threads(),
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
