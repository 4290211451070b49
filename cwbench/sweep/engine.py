"""Running a sweep: what is finished stays, each checkpoint is trained once, and a failed cell stops no other."""

import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Literal

from cwbench.checkpoints.store import Store
from cwbench.internal.errors import CwbenchError, UsageError
from cwbench.internal.files import require_writable
from cwbench.pipeline.session import Session
from cwbench.plugins.registry import Registry
from cwbench.spec import RunSpec
from cwbench.sweep import worker
from cwbench.sweep.grid import Resources
from cwbench.sweep.identity import Identity, Training, identified
from cwbench.sweep.local_executor import LocalExecutor
from cwbench.sweep.outcome import Done, Failed, Outcome
from cwbench.sweep.ray_executor import RayExecutor
from cwbench.sweep.results import Results
from cwbench.sweep.schedule import Executor, Schedule, Task, do_all
from cwbench.sweep.storage import Place
from cwbench.sweep.worker import Places

CELLS, CHECKPOINTS = "cells", "checkpoints"
PROBE = 1 << 20
"""Bytes that must be free for checkpoints before anything is trained."""
ExecutorName = Literal["local", "ray"]


def known_executor(name: str) -> ExecutorName:
    """Return the executor of that name.

    Raises:
        UsageError: there is none.
    """
    if name == "local":
        return "local"
    if name == "ray":
        return "ray"
    raise UsageError(f"there is no executor {name!r}", "local or ray")


def room(resources: Resources) -> int:
    """Return how many processes of such a cell this machine has room for; one where they want its GPU."""
    if resources.gpus:
        return 1
    available = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, available // resources.cpus)


@dataclass(frozen=True)
class Engine:
    """How and where runs are done."""

    out: str
    """A folder, or an address that fsspec reaches: results lie below it."""
    executor: ExecutorName = "local"
    workers: int = 1
    """Processes of the local executor."""
    resources: Resources = field(default_factory=Resources)
    retries: int = 2
    shared: str | None = None
    """The checkpoint store of several machines; with Ray below ``out`` unless it is given."""

    @property
    def results(self) -> Results:
        return Results(Place(f"{self.out.rstrip('/')}/{CELLS}" if self.out.strip() else ""))

    def places(self) -> Places:
        """Return where workers find things."""
        shared = self.shared
        if shared is None and self.executor == "ray":
            shared = f"{self.out.rstrip('/')}/{CHECKPOINTS}"
        address = None if shared is None else Place(shared).address
        return Places(self.results.place.address, address, self.resources.cpus)


@dataclass(frozen=True)
class Item:
    """A run of a sweep and where it stands."""

    name: str
    spec: RunSpec
    identity: Identity | None = None
    """None where it could not be found out: ``outcome`` says why."""
    outcome: Outcome | None = None
    """None before it has been tried. What was finished before took no seconds."""
    damaged: bool = False
    """Whether its report is there and cannot be read: it is not run again over it."""

    @property
    def key(self) -> str:
        return f"judge {self.name}"


Watch = Callable[[Sequence[Item], Schedule], None]


def survey(named: Sequence[tuple[str, RunSpec]], engine: Engine, registry: Registry) -> list[Item]:
    """Return every run with what is known of it, without doing anything."""
    specs = [spec for _, spec in named]
    return _items(named, identified(specs, Session(registry, Store.default()), engine.resources.cpus), engine.results)


def run_all(
    named: Sequence[tuple[str, RunSpec]],
    engine: Engine,
    registry: Registry,
    *,
    extra: Sequence[Training] = (),
    watch: Watch = lambda items, schedule: None,
) -> list[Item]:
    """Do every run that is not finished, and train what else is wanted; return where each run stands.

    Of ``extra`` those come last that failed.

    ``named`` are runs with the names to tell them by, ``extra`` trainings that no run needs. Interrupted or killed,
    the same call goes on: finished cells are kept, and so are the epochs of unfinished trainings.

    Raises:
        UsageError: nothing can be written, or the executor cannot be had.
    """
    results, places = engine.results, engine.places()
    results.place.require_writable()
    if places.shared:
        Place(places.shared).require_writable()
    else:
        require_writable(Store.default().root, PROBE)
    specs = [spec for _, spec in named]
    if engine.executor == "ray":
        cluster = RayExecutor(engine.resources, engine.retries)
        try:
            found = cluster.call(partial(worker.identify, specs, places))
            return _done(_items(named, found, results), extra, cluster, places, watch)
        finally:
            cluster.close()
    items = survey(named, engine, registry)
    tasks = _tasks(items, extra, places)
    if not tasks:
        watch(items, Schedule({}))
        return items
    pool = LocalExecutor(min(engine.workers, len(tasks)), engine.retries, engine.resources.cpus)
    try:
        return _done(items, extra, pool, places, watch)
    finally:
        pool.close()


def _items(named: Sequence[tuple[str, RunSpec]], found: Sequence[Identity | str], results: Results) -> list[Item]:
    return [_item(name, spec, one, results) for (name, spec), one in zip(named, found, strict=True)]


def _item(name: str, spec: RunSpec, found: Identity | str, results: Results) -> Item:
    if isinstance(found, str):
        return Item(name, spec, outcome=Failed(found))
    try:
        report = results.report(found.folder)
    except CwbenchError as error:
        return Item(name, spec, found, Failed(f"{error.message} (remove its folder to run it again)"), damaged=True)
    if report is None:
        return Item(name, spec, found, results.failure(found.folder))
    figures = report.worst_case()
    worst = figures.worst_class.accuracy if figures.worst_class else None
    return Item(name, spec, found, Done(0.0, figures.overall.accuracy, worst))


def _tasks(items: Sequence[Item], extra: Iterable[Training], places: Places) -> list[Task]:
    """Return what is to be done: trainings by their digest, so that those of several cells are one."""
    store, tasks = Store.default(), {}
    open_items = [i for i in items if i.identity and not i.damaged and not isinstance(i.outcome, Done)]
    trainings = [training for item in open_items if item.identity for training in item.identity.trainings]
    for training in [*trainings, *extra]:
        if places.shared or not store.holds(training.key):
            tasks[training.key] = Task(
                training.key, training.name, partial(worker.train, training, places), training.after
            )
    for item in open_items:
        assert item.identity  # noqa: S101 - they were chosen by it
        needs = tuple(training.key for training in item.identity.trainings)
        tasks[item.key] = Task(item.key, item.name, partial(worker.judge, item.spec, item.identity, places), needs)
    return list(tasks.values())


def _done(items: list[Item], extra: Sequence[Training], executor: Executor, places: Places, watch: Watch) -> list[Item]:
    tasks = _tasks(items, extra, places)

    def shown(schedule: Schedule) -> None:
        watch(_updated(items, schedule.outcomes), schedule)

    outcomes = do_all(tasks, executor, shown)
    lost = [
        Item(training.name, training.spec, outcome=outcome)
        for training in extra
        if isinstance(outcome := outcomes.get(training.key), Failed)
    ]
    return [*_updated(items, outcomes), *lost]


def _updated(items: Sequence[Item], outcomes: dict[str, Outcome]) -> list[Item]:
    return [replace(item, outcome=outcomes.get(item.key, item.outcome)) for item in items]
