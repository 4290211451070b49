"""Workers on this machine: processes that end without taking the sweep with them."""

import multiprocessing
import os
import queue
import threading
import time
from collections.abc import Mapping
from concurrent.futures import Future
from typing import Any

from pebble import ProcessExpired, ProcessPool

from cwbench.internal.errors import named_reason
from cwbench.sweep.outcome import Failed, Outcome
from cwbench.sweep.schedule import Task


class LocalExecutor:
    """Runs tasks in ``workers`` processes; a task whose process was lost begins again, ``retries`` times."""

    def __init__(self, workers: int, retries: int, threads: int) -> None:
        self.slots = workers
        self.retries = retries
        self._tried: dict[str, int] = {}
        self._over: queue.Queue[tuple[Task, Future[Outcome]]] = queue.Queue()
        # Workers read this when they load PyTorch; threads that spin while they wait would take each other's time.
        os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
        os.environ["OMP_NUM_THREADS"] = str(threads)
        self._pool: Any = ProcessPool(
            max_workers=workers,
            context=multiprocessing.get_context("spawn"),
            initializer=_end_with,
            initargs=(os.getpid(),),
        )

    def submit(self, task: Task) -> None:
        future = self._pool.schedule(task.work)
        future.add_done_callback(lambda done: self._over.put((task, done)))

    def finished(self, timeout: float) -> Mapping[str, Outcome]:
        found: dict[str, Outcome] = {}
        try:
            task, future = self._over.get(timeout=timeout) if timeout else self._over.get_nowait()
        except queue.Empty:
            return found
        outcome = self._outcome(task, future)
        return {task.key: outcome} if outcome else found

    def _outcome(self, task: Task, future: "Future[Outcome]") -> Outcome | None:
        """Return what became of a task; None where it is tried again."""
        try:
            return future.result()
        except ProcessExpired as error:
            self._tried[task.key] = self._tried.get(task.key, 0) + 1
            if self._tried[task.key] > self.retries:
                times = f"{self._tried[task.key]} times" if self.retries else "once"
                return Failed(f"its process was lost {times} (exit code {error.exitcode}): memory may be short")
            self.submit(task)
            return None
        except Exception as error:  # noqa: BLE001 - what a worker could not send back, such as its answer
            return Failed(named_reason(error), bug=True)

    def cancel(self) -> None:
        self._pool.stop()
        self._pool.join()

    def close(self) -> None:
        """Let the workers go."""
        self._pool.close()
        self._pool.join()


def _end_with(parent: int) -> None:
    """Let this worker end when the sweep does, however that ends: nobody would know of it any more."""

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(1)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
