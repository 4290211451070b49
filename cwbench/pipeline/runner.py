"""A run from end to end: spec → plan → checkpoint → outcomes → report."""

from pathlib import Path

from cwbench.api import Examples
from cwbench.internal.distributed import ALONE, Team, own_device
from cwbench.internal.files import require_writable
from cwbench.pipeline.build_report import training_record
from cwbench.pipeline.clean_accuracy import require_sound_teacher
from cwbench.pipeline.epoch_curves import EpochCurves
from cwbench.pipeline.evaluate_and_report import evaluate_and_report, open_test_split, refuse_early
from cwbench.pipeline.open_checkpoint import locate_checkpoint
from cwbench.pipeline.session import Session
from cwbench.pipeline.subject import Subject
from cwbench.pipeline.substitutes import Substitutes
from cwbench.plan import Plan, make_plan, plan_evaluation
from cwbench.report.report import Report
from cwbench.spec import RunSpec
from cwbench.training.fit import fit
from cwbench.training.job import Job
from cwbench.training.rebuild import load_classifier
from cwbench.training.resume import require_same


def run(spec: RunSpec, session: Session) -> tuple[Report, Path | None]:
    """Do a run; return its report and, where the session has a folder, the file that the leader wrote it to.

    Raises:
        CwbenchError: anything the user can put right; nothing is written then.
    """
    return _evaluate_checkpoint(spec, session) if spec.checkpoint else _train_and_evaluate(spec, session)


def _train_and_evaluate(spec: RunSpec, session: Session) -> tuple[Report, Path | None]:
    """Train a defense, or take it from the store, and evaluate it."""
    team, store = session.team, session.store
    plan = make_plan(spec, session.registry)
    plan = plan.on(own_device(plan.device, team))
    refuse_early(plan, session)
    if team.size > 1:
        team.from_leader(lambda: _fetch(plan))
    test = open_test_split(plan, session)
    sources = Substitutes(plan, test, session)
    named = sources.named()
    job, curves = training_of(plan, test, team)
    if spec.resume:
        require_same(job, store, spec.resume)
    if not team.from_leader(lambda: store.holds(job.digest)):  # one asks, so that all go the same way
        require_sound_teacher(plan, test, team)
        if team.leads:
            require_writable(store.root, 8 * _weights_size(job))
    announcements = session.announce(plan, str(spec.defense))
    checkpoint = fit(job, store, curves.measure if curves else None, team, watch=announcements.epoch_finished)
    # The record of whoever trained these weights first is kept; the recipe's name is the one that this user gave it.
    training = training_record(checkpoint).model_copy(update={"recipe_name": plan.recipe_label})
    subject = Subject(
        load_classifier(job, checkpoint),
        str(spec.defense),
        checkpoint.digest,
        backbone=plan.backbone,
        defense=plan.defense,
        training=training,
    )
    return evaluate_and_report(plan, subject, test, named | sources.trained(), session, announcements)


def _evaluate_checkpoint(spec: RunSpec, session: Session) -> tuple[Report, Path | None]:
    """Evaluate a checkpoint that is there already."""
    team = session.team
    located = team.from_leader(lambda: locate_checkpoint(str(spec.checkpoint), spec.backbone, session.store))
    plan = plan_evaluation(spec, located.dataset_of(spec), session.registry)
    plan = plan.on(own_device(plan.device, team))
    refuse_early(plan, session)
    test = open_test_split(plan, session)
    subject = located.load(plan, test)
    sources = Substitutes(plan, test, session)
    substitutes = sources.named() | sources.trained()
    return evaluate_and_report(plan, subject, test, substitutes, session, session.announce(plan, subject.name))


def training_of(plan: Plan, test: Examples, team: Team = ALONE) -> tuple[Job, EpochCurves | None]:
    """Return the training that a plan asks for, and what measures curves on the way, if it wants any.

    Raises:
        CwbenchError: as :meth:`Job.of`.
    """
    curves = EpochCurves.of(plan, test, team) if plan.every else None
    return Job.of(plan, curves.identity if curves else None, team), curves


def _fetch(plan: Plan) -> None:
    """Load everything once: what is missing is downloaded or unpacked by one process and not by all of them."""
    plan.dataset.load("test", plan.root)
    plan.defense.training_set(plan.dataset, plan.dataset.load("train", plan.root), plan.root)


def _weights_size(job: Job) -> int:
    return sum(tensor.nbytes for tensor in job.fresh_classifier().state_dict().values())
