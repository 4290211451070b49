"""What a run travels with: the plugins, the store of checkpoints, where reports go, the other processes, the
observers.
"""

from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from cwbench.api import AttackFinished, EpochFinished, RunStarted
from cwbench.checkpoints.store import Store
from cwbench.internal import digest
from cwbench.internal.distributed import ALONE, Team
from cwbench.plan import EvaluationPlan
from cwbench.plugins.observers import Observers
from cwbench.plugins.registry import Registry
from cwbench.report.report import Report
from cwbench.training.fit import Training


@dataclass(frozen=True)
class Session:
    """Where and with what runs are done."""

    registry: Registry
    store: Store
    out: Path | None = None
    """The folder below which reports are written; None writes none."""
    team: Team = ALONE
    observed: bool = True
    """Whether observers are told."""

    def announce(self, plan: EvaluationPlan, subject: str) -> "Announcements":
        """Tell observers that a run has begun, those of the team's leader alone; return what they are told next."""
        stamp = datetime.now(UTC).strftime("%Y%m%d-%H%M%S-%f")
        run = RunStarted(
            id=f"{stamp}-{plan.dataset.name}-{digest.of_bytes(subject.encode())[:8]}",
            subject=subject,
            dataset=plan.dataset.name,
            classes=tuple(plan.dataset.classes),
            attacks=tuple(planned.label for planned in plan.attacks),
            seed=plan.settings.seed,
            out=self.out,
        )
        silent = not self.observed or not self.team.leads
        announcements = Announcements(Observers(plan.registry.discovery.manager, silent=silent), run)
        announcements.observers.tell("cwbench_run_started", run=run)
        return announcements


@dataclass(frozen=True)
class Announcements:
    """What observers are told of one run."""

    observers: Observers
    run: RunStarted

    def epoch_finished(self, training: Training) -> None:
        """Describe the epoch that has just ended."""
        measured = [curve for curve in training.curves if curve["epoch"] == training.epoch]
        epoch = EpochFinished(
            epoch=training.epoch,
            epochs=training.last_epoch,
            loss=training.losses[-1],
            learning_rate=training.job.recipe.learning_rate(training.epoch - 1),
            state=training.state,
            accuracy=measured[0] if measured else None,
        )
        self.observers.tell("cwbench_epoch_finished", run=self.run, epoch=epoch)

    def attack_finished(self, attack: AttackFinished) -> None:
        self.observers.tell("cwbench_attack_finished", run=self.run, attack=attack)

    def report_written(self, report: Report, path: Path | None) -> None:
        self.observers.tell("cwbench_report_written", run=self.run, report=report, path=path)
