"""What workers do: find out what runs are, train a checkpoint, judge a cell. Each is a function of plain values."""

import os
import tempfile
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import torch

from cwbench.checkpoints.store import Store
from cwbench.datasets import splits
from cwbench.internal import progress
from cwbench.internal.malloc import keep_freed_memory
from cwbench.pipeline.clean_accuracy import require_sound_teacher
from cwbench.pipeline.runner import run, training_of
from cwbench.pipeline.session import Session
from cwbench.pipeline.substitutes import Substitutes
from cwbench.plan import make_plan
from cwbench.plugins.registry import installed
from cwbench.spec import RunSpec
from cwbench.sweep.identity import Identity, Training, identified, without_class
from cwbench.sweep.outcome import Done, Outcome, attempted
from cwbench.sweep.results import Results
from cwbench.sweep.shared_store import Shared
from cwbench.sweep.storage import Place
from cwbench.training.fit import fit
from cwbench.training.job import Job


@dataclass(frozen=True)
class Places:
    """Where workers find things and leave them."""

    results: str
    """Of the cells."""
    shared: str | None = None
    """The checkpoint store that machines share; None on one machine, where the user's cache is all there is."""
    threads: int = 1
    """Of PyTorch, in each worker."""

    def settle(self) -> Store:
        """Make this process a worker, and return its own store of checkpoints."""
        torch.set_num_threads(self.threads)
        os.environ[progress.SWITCH] = "0"  # the sweep shows a table instead
        keep_freed_memory()
        return Store.default()


def identify(specs: Sequence[RunSpec], places: Places) -> list[Identity | str]:
    """Return what each run is, or why it cannot be."""
    return identified(specs, Session(installed(), places.settle()), places.threads)


def train(training: Training, places: Places) -> Outcome:
    """See to it that a checkpoint is there."""
    return attempted(lambda: _train(training, places))


def _train(training: Training, places: Places) -> Done:
    began, store = time.perf_counter(), places.settle()
    shared = Shared(Place(places.shared)) if places.shared else None
    if not (shared.fetch(training.key, store) if shared else store.holds(training.key)):
        if shared:
            for key in training.after:
                shared.fetch(key, store)
        with splits.remembering():
            _fit(training, store)
    if shared:
        shared.publish(training.key, store)
    return Done(time.perf_counter() - began)


def _fit(training: Training, store: Store) -> None:
    plan = make_plan(training.spec, installed())
    if training.role == "without":
        assert training.removed is not None  # noqa: S101 - the role says it
        fit(Job.of(without_class(plan, training.removed)), store)
    elif training.role == "substitute":
        test = splits.open_split(plan.dataset, "test", plan.root)
        Substitutes(plan, test, Session(installed(), store)).trained()
    else:
        test = splits.open_split(plan.dataset, "test", plan.root)
        job, curves = training_of(plan, test)
        if training.role == "teacher":
            fit(job.standard(), store)
        else:
            require_sound_teacher(plan, test)
            fit(job, store, curves.measure if curves else None)


def judge(spec: RunSpec, identity: Identity, places: Places) -> Outcome:
    """Do a run whose trainings are done, and keep its report among the results."""
    outcome = attempted(lambda: _judge(spec, identity, places))
    if not isinstance(outcome, Done):
        with suppress(Exception):  # the failure is told anyway; that it cannot be kept, too, must not hide it
            Results(Place(places.results)).put_failure(identity.folder, outcome)
    return outcome


def _judge(spec: RunSpec, identity: Identity, places: Places) -> Done:
    began, store = time.perf_counter(), places.settle()
    if places.shared:
        shared = Shared(Place(places.shared))
        for training in identity.trainings:
            shared.fetch(training.key, store)
    with tempfile.TemporaryDirectory(prefix="cwbench-") as place, splits.remembering():
        report, path = run(spec, Session(installed(), store, out=Path(place)))
        assert path  # noqa: S101 - a run with a folder writes into it
        Results(Place(places.results)).put(identity.folder, path.parent)
    worst = report.worst_case().worst_class
    return Done(time.perf_counter() - began, report.worst_case().overall.accuracy, worst.accuracy if worst else None)
