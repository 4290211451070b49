"""Runs as TensorBoard logs: class-wise accuracy beside losses, under the run's folder or CWBENCH_TENSORBOARD."""

import os
from functools import cache
from pathlib import Path

from torch.utils.tensorboard import SummaryWriter

import cwbench
from cwbench import Report
from cwbench.api import AttackFinished, EpochFinished, RunStarted

cwbench_api_version = 1


def folder(run: RunStarted) -> Path | None:
    """Return where a run is logged: below CWBENCH_TENSORBOARD, else ``tensorboard`` below where reports go."""
    named = os.environ.get("CWBENCH_TENSORBOARD")
    if named:
        return Path(named) / run.id
    return run.out / "tensorboard" / run.id if run.out else None


class _Log:
    """The writer of one run, and what it has learned of the defense's state."""

    def __init__(self, place: Path) -> None:
        self.writer = SummaryWriter(str(place))
        self.histories: set[str] = set()
        """Names of lists in the state that get longer with each epoch, such as a schedule's temperatures."""

    def scalar(self, name: str, value: float, step: int) -> None:
        self.writer.add_scalar(name, value, step)

    def accuracies(self, kind, classes, n, correct, step) -> None:
        """Log the accuracy of each class that has examples, of all together, and of the worst."""
        shares = {name: right / count for name, count, right in zip(classes, n, correct, strict=True) if count}
        for name, share in shares.items():
            self.scalar(f"{kind}/class {name}", share, step)
        if shares:
            self.scalar(f"{kind}/overall", sum(correct) / sum(n), step)
            self.scalar(f"{kind}/worst class", min(shares.values()), step)

    def state(self, name: str, value: object, classes, epoch: int) -> None:
        """Log the numbers of a defense's state: single ones, the newest of a history, or one for each class."""
        values = value if isinstance(value, list) else [value]
        if not values or not all(isinstance(v, int | float) and not isinstance(v, bool) for v in values):
            return
        if len(values) == epoch and len(values) != len(classes):
            self.histories.add(name)
        if not isinstance(value, list) or name in self.histories:
            self.scalar(f"state/{name}", values[-1], epoch)
        elif len(values) == len(classes):
            for label, number in zip(classes, values, strict=True):
                self.scalar(f"state/{name} of class {label}", number, epoch)


@cache
def _opened(place: Path) -> _Log:
    return _Log(place)


def _log(run: RunStarted) -> _Log | None:
    """Return the log of a run; None where it writes nothing, as from Python without ``out``."""
    place = folder(run)
    return _opened(place) if place else None


@cwbench.hookimpl
def cwbench_run_started(run: RunStarted) -> None:
    log = _log(run)
    if log:
        log.writer.add_text("run", f"{run.subject} on {run.dataset}, seed {run.seed}: {', '.join(run.attacks)}")


@cwbench.hookimpl
def cwbench_epoch_finished(run: RunStarted, epoch: EpochFinished) -> None:
    log = _log(run)
    if log is None:
        return
    log.scalar("training/loss", epoch.loss, epoch.epoch)
    log.scalar("training/learning rate", epoch.learning_rate, epoch.epoch)
    for name, value in epoch.state.items():
        log.state(name, value, run.classes, epoch.epoch)
    if epoch.accuracy:
        for kind in ("clean", "robust"):
            log.accuracies(kind, run.classes, epoch.accuracy["n"], epoch.accuracy[kind], epoch.epoch)
    log.writer.flush()


@cwbench.hookimpl
def cwbench_attack_finished(run: RunStarted, attack: AttackFinished) -> None:
    log = _log(run)
    if log:
        log.accuracies(f"under {attack.label}", run.classes, attack.n, attack.correct, 0)
        log.writer.flush()


@cwbench.hookimpl
def cwbench_report_written(run: RunStarted, report: Report, path: Path | None) -> None:
    log = _log(run)
    if log is None:
        return
    log.writer.add_text("report", str(path or "not written"))
    worst = report.worst_case()
    if worst.worst_class:
        log.scalar("worst case/worst class", worst.worst_class.accuracy, 0)
    if worst.overall.accuracy is not None:
        log.scalar("worst case/overall", worst.overall.accuracy, 0)
    log.writer.close()
    _opened.cache_clear()
