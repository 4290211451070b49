"""Doing tasks in an order that their needs allow, each checkpoint once, and going on after a failure."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Protocol

from cwbench.sweep.outcome import Done, Failed, Outcome

PATIENCE = 0.2
"""Seconds between two looks at what is going on."""


@dataclass(frozen=True)
class Task:
    """A piece of work for one worker."""

    key: str
    name: str
    work: Callable[[], Outcome]
    """A partial of a function of :mod:`cwbench.sweep.worker`: it travels to another process."""
    after: tuple[str, ...] = ()
    """Tasks that must be done before. Without one of them this one fails, too."""


class Executor(Protocol):
    """Something that runs tasks."""

    slots: int
    """How many tasks may be handed over at a time."""

    def submit(self, task: Task) -> None:
        """Run a task as soon as there is room for it."""

    def finished(self, timeout: float) -> Mapping[str, Outcome]:
        """Wait for tasks to finish, no longer than ``timeout`` seconds; return what became of them."""

    def cancel(self) -> None:
        """End what is running, and begin nothing more."""


@dataclass
class Schedule:
    """Where all tasks stand."""

    waiting: dict[str, Task]
    running: dict[str, Task] = field(default_factory=dict)
    outcomes: dict[str, Outcome] = field(default_factory=dict)

    def ready(self) -> Iterable[Task]:
        """Yield the waiting tasks that nothing holds back, those first that others wait for."""
        needed = {key for task in self.waiting.values() for key in task.after}
        open_ = [task for task in self.waiting.values() if all(self._is_over(key) for key in task.after)]
        return sorted(open_, key=lambda task: task.key not in needed)

    def _is_over(self, key: str) -> bool:
        return key in self.outcomes or (key not in self.waiting and key not in self.running)


def do_all(
    tasks: Iterable[Task], executor: Executor, watch: Callable[[Schedule], None] = lambda schedule: None
) -> dict[str, Outcome]:
    """Do all tasks and return what became of each; ``watch`` is shown the schedule whenever it changes or time passes.

    A need that is no task is taken to be there already. When the caller is interrupted, everything that runs is ended.
    """
    schedule = Schedule({task.key: task for task in tasks})
    try:
        while schedule.waiting or schedule.running:
            for task in schedule.ready():
                failed = [key for key in task.after if isinstance(schedule.outcomes.get(key), Failed)]
                if failed:
                    schedule.outcomes[task.key] = _held_back(schedule.outcomes[failed[0]])
                elif len(schedule.running) < executor.slots:
                    executor.submit(task)
                    schedule.running[task.key] = task
                else:
                    continue
                del schedule.waiting[task.key]
            watch(schedule)
            for key, outcome in executor.finished(PATIENCE if schedule.running else 0).items():
                schedule.outcomes[key] = outcome
                del schedule.running[key]
        watch(schedule)
    except BaseException:
        executor.cancel()
        raise
    return schedule.outcomes


def _held_back(cause: Outcome) -> Outcome:
    assert not isinstance(cause, Done)  # noqa: S101 - the caller looked
    return Failed(f"its training failed: {cause.reason}", bug=cause.bug, trace=cause.trace)
