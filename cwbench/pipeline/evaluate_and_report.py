"""The second half of every run: a classifier is evaluated, and what became of it is reported."""

from collections.abc import Mapping
from contextlib import nullcontext
from datetime import UTC, datetime
from pathlib import Path

from cwbench.api import AttackFinished, Examples
from cwbench.datasets import splits
from cwbench.evaluation.distributed import evaluate_together, require_enough
from cwbench.evaluation.journal import Journal
from cwbench.evaluation.outcomes import AttackOutcome, Ints, Substitute, Tools
from cwbench.evaluation.saved_examples import ExampleFolder
from cwbench.internal import digest
from cwbench.internal.errors import UsageError
from cwbench.internal.files import new_folder, require_writable, write_atomically, writing_into
from cwbench.pipeline.build_report import build_report, columns_of
from cwbench.pipeline.evaluation_digest import evaluation_digest
from cwbench.pipeline.session import Announcements, Session
from cwbench.pipeline.subject import Subject
from cwbench.plan import EvaluationPlan
from cwbench.report.counts import per_class, right_under
from cwbench.report.predictions import encode_predictions, write_predictions
from cwbench.report.report import Report

REPORT_ROOM = 16 << 20
"""Bytes that must be free for reports and predictions before training begins."""


def refuse_early(plan: EvaluationPlan, session: Session) -> None:
    """Refuse what cannot be reported before anything is done for it.

    Raises:
        UsageError: several processes would save examples.
        CwbenchError: the folder of reports is not writable.
    """
    if plan.save_examples and session.team.size > 1:
        raise UsageError(f"{session.team.size} processes cannot save examples together", "leave --save-examples out")
    if session.out and session.team.leads:
        require_writable(session.out, REPORT_ROOM)


def open_test_split(plan: EvaluationPlan, session: Session) -> Examples:
    """Return the split to evaluate on.

    Raises:
        DataError: it is missing or damaged.
        UsageError: there are fewer examples to evaluate than processes.
    """
    test = splits.open_split(plan.dataset, "test", plan.root)
    require_enough(splits.chosen_rows(test.labels, plan.settings.limit), session.team)
    return test


def evaluate_and_report(
    plan: EvaluationPlan,
    subject: Subject,
    test: Examples,
    substitutes: Mapping[str | None, Substitute],
    session: Session,
    announcements: Announcements,
) -> tuple[Report, Path | None]:
    """Evaluate a classifier; return its report, and the file that the team's leader wrote it to, if it did.

    Args:
        plan: what to evaluate on, under which attacks, and how.
        subject: the classifier.
        test: the split that the plan's dataset has.
        substitutes: the networks of transfer attacks, by what they name.
        session: where the report goes, and the other processes.
        announcements: what observers are told.

    Raises:
        CwbenchError: anything the user can put right; no report is written then.
    """
    team, out, classes = session.team, session.out, len(plan.dataset.classes)

    def watch(outcome: AttackOutcome, labels: Ints, clean: Ints) -> None:
        announcements.attack_finished(_finished(outcome, labels, clean, classes))

    place = _evaluation_folder(plan, subject, test, substitutes, session)
    journal = Journal(place) if place else None
    saved = ExampleFolder.beside(place, plan.attacks) if place and plan.save_examples and out else None
    with saved.held() if saved else nullcontext():
        outcomes = evaluate_together(
            subject.model,
            test,
            plan.attacks,
            ids=splits.chosen_rows(test.labels, plan.settings.limit),
            classes=classes,
            threat=plan.threat,
            settings=plan.settings,
            tools=Tools(journal=journal, saved=saved, substitutes=substitutes, watch=watch if team.size == 1 else None),
            team=team,
        )
        if team.size > 1:  # each process has seen a part: only now are an attack's counts whole
            for outcome in outcomes.attacks:
                watch(outcome, outcomes.labels, outcomes.clean)
        content, predictions = encode_predictions(columns_of(outcomes))
        report = build_report(
            outcomes,
            plan,
            subject,
            test,
            predictions=predictions if out else None,
            examples=saved.files() if saved else (),
        )
        path = write_run(report, content, out, saved) if out and team.leads else None
    if journal:
        journal.close()
    announcements.report_written(report, path)
    return report, path


def _evaluation_folder(
    plan: EvaluationPlan,
    subject: Subject,
    test: Examples,
    substitutes: Mapping[str | None, Substitute],
    session: Session,
) -> Path | None:
    """Return where the evaluation is kept until its report is written; None for a model that nobody can identify."""
    if subject.identity is None:
        return None
    used = {uri: substitute.digest for uri, substitute in substitutes.items()}
    name = evaluation_digest(plan, subject.identity, test, used, session.team)
    return session.store.root.parent / "evaluations" / name


def _finished(outcome: AttackOutcome, labels: Ints, clean: Ints, classes: int) -> AttackFinished:
    return AttackFinished(
        label=outcome.label,
        n=tuple(per_class(labels, classes)),
        clean=tuple(right_under(labels, [clean], classes)),
        correct=tuple(right_under(labels, [clean, outcome.predictions], classes)),
        seconds=outcome.cost.seconds,
    )


def write_run(report: Report, predictions: bytes, out: Path, saved: ExampleFolder | None = None) -> Path:
    """Write a report and what belongs to it into a new folder below ``out``, whole or not at all; return its path.

    Raises:
        CwbenchError: the folder is not writable or the disk is full.
    """
    stamp = datetime.now(UTC).strftime("%Y%m%d-%H%M%S")
    content = report.to_json().encode()
    folder = out / f"{stamp}-{report.dataset.name}-{digest.of_bytes(content)[:8]}"
    with writing_into(out, "choose another folder with --out"), new_folder(folder) as draft:
        write_predictions(draft, predictions)
        if saved:
            saved.move_to(draft)
        write_atomically(draft / "report.json", content)
    return folder / "report.json"
