"""Workers on a Ray cluster: each task with its request of processors and GPUs, again when its machine is lost."""

import logging
import os
import socket
from collections.abc import Mapping
from typing import Any

from cwbench.internal.errors import UsageError, named_reason, reason_of
from cwbench.sweep.grid import Resources
from cwbench.sweep.outcome import Failed, Outcome
from cwbench.sweep.schedule import Task

PASSED_ON = ("CWBENCH_CACHE", "CWBENCH_DATA", "CWBENCH_PLUGINS", "HF_HUB_OFFLINE", "HF_ENDPOINT", "OMP_WAIT_POLICY")
"""Settings of this process that workers get, too. No token is among them: it would stand in the cluster's records."""
ADDRESS = "RAY_ADDRESS"
PATIENCE = 5
"""Seconds that a cluster may take to answer the knock."""


class RayExecutor:
    """Runs tasks on the cluster of ``RAY_ADDRESS``, or on one that it starts on this machine."""

    def __init__(self, resources: Resources, retries: int) -> None:
        """Connect.

        Raises:
            UsageError: Ray is not installed, or its cluster cannot be reached.
        """
        try:
            import ray  # noqa: PLC0415 - an extra, which most never need
        except ImportError:
            raise UsageError("Ray is not installed", "install it beside cwbench: pip install 'ray>=2.40'") from None
        self._ray: Any = ray
        self._own = not os.environ.get(ADDRESS)
        _require_reachable(os.environ.get(ADDRESS, ""))
        passed = {name: os.environ[name] for name in PASSED_ON if name in os.environ}
        try:
            ray.init(
                address=os.environ.get(ADDRESS) or None,
                runtime_env={"env_vars": passed | {"OMP_NUM_THREADS": str(resources.cpus)}},
                log_to_driver=False,
                logging_level=logging.ERROR,
                include_dashboard=False if self._own else None,
            )
        except Exception as error:  # noqa: BLE001 - Ray raises its own, ConnectionError, RuntimeError, ValueError …
            raise UsageError(
                f"the Ray cluster {os.environ.get(ADDRESS) or 'of this machine'} cannot be used: {reason_of(error)}",
                f"{ADDRESS} names a running one; unset it to start one here",
            ) from None
        self._refuse_impossible(resources)
        self.slots = 1_000_000  # Ray has a queue of its own
        self._remote = ray.remote(_run).options(
            num_cpus=resources.cpus, num_gpus=resources.gpus, max_retries=retries, retry_exceptions=False
        )
        self._tasks: dict[Any, Task] = {}

    def _refuse_impossible(self, resources: Resources) -> None:
        nodes = [node["Resources"] for node in self._ray.nodes() if node["Alive"]]
        if not any(n.get("CPU", 0) >= resources.cpus and n.get("GPU", 0) >= resources.gpus for n in nodes):
            self._ray.shutdown()
            raise UsageError(
                f"no machine of the Ray cluster has {resources.cpus} CPUs and {resources.gpus:g} GPUs for a cell",
                "ask for less under resources in the sweep file",
            )

    def call(self, work: Any) -> Any:
        """Do a piece of work on the cluster and return what it returns."""
        return self._ray.get(self._remote.remote(work))

    def submit(self, task: Task) -> None:
        self._tasks[self._remote.remote(task.work)] = task

    def finished(self, timeout: float) -> Mapping[str, Outcome]:
        if not self._tasks:
            return {}
        ready, _ = self._ray.wait(list(self._tasks), num_returns=1, timeout=timeout)
        return {task.key: self._outcome(ref) for ref in ready for task in [self._tasks.pop(ref)]}

    def _outcome(self, ref: Any) -> Outcome:
        try:
            outcome: Outcome = self._ray.get(ref)
        except self._ray.exceptions.RayTaskError as error:
            return Failed(named_reason(error.cause), bug=True)
        except self._ray.exceptions.RayError as error:
            lines = [line for line in str(error).splitlines() if line.strip()]
            return Failed(f"its worker was lost: {' '.join(lines[:1])[:200]}")
        return outcome

    def cancel(self) -> None:
        for ref in self._tasks:
            self._ray.cancel(ref, force=True, recursive=True)
        self.close()

    def close(self) -> None:
        """Disconnect, and stop a cluster that was started here."""
        self._ray.shutdown()


def _require_reachable(address: str) -> None:
    """Knock at a cluster's door: Ray itself tries for minutes.

    Raises:
        UsageError: nobody answers.
    """
    host, _, port = address.rpartition("://")[2].rpartition(":")
    if not host or not port.isdigit():
        return  # "auto", "local" or none: Ray knows
    try:
        socket.create_connection((host, int(port)), timeout=PATIENCE).close()
    except OSError as error:
        raise UsageError(
            f"the Ray cluster {address} cannot be reached: {reason_of(error)}",
            f"{ADDRESS} names a running one; unset it to start one here",
        ) from None


def _run(work: Any) -> Any:
    return work()
