"""The hooks a plugin implements: mark a function of the same name with ``@cwbench.hookimpl``.

The first four offer plugins and are called once, when cwbench looks for them. The next four observe a run; the last one
opens checkpoints. An implementation may leave out arguments that it does not need.
"""

from pathlib import Path
from typing import TYPE_CHECKING

import pluggy

from cwbench.api.attack import Attack
from cwbench.api.backbone import Backbone
from cwbench.api.checkpoint import OpenedCheckpoint
from cwbench.api.dataset import Dataset
from cwbench.api.defense import Defense
from cwbench.api.events import AttackFinished, EpochFinished, RunStarted

if TYPE_CHECKING:  # reports are above this package, and the hooks only hand them on
    from cwbench.report.report import Report

PROJECT = "cwbench"
hookspec = pluggy.HookspecMarker(PROJECT)
hookimpl = pluggy.HookimplMarker(PROJECT)


@hookspec
def cwbench_attacks() -> list[type[Attack]]:  # type: ignore[empty-body]
    """Return the attacks that this plugin adds."""


@hookspec
def cwbench_defenses() -> list[type[Defense]]:  # type: ignore[empty-body]
    """Return the defenses that this plugin adds."""


@hookspec
def cwbench_datasets() -> list[type[Dataset]]:  # type: ignore[empty-body]
    """Return the datasets that this plugin adds."""


@hookspec
def cwbench_backbones() -> list[type[Backbone]]:  # type: ignore[empty-body]
    """Return the backbones that this plugin adds."""


@hookspec
def cwbench_run_started(run: RunStarted) -> None:
    """Take note that a run has begun: its names are resolved, nothing is trained or attacked yet."""


@hookspec
def cwbench_epoch_finished(run: RunStarted, epoch: EpochFinished) -> None:
    """Take note of an epoch of training."""


@hookspec
def cwbench_attack_finished(run: RunStarted, attack: AttackFinished) -> None:
    """Take note of what an attack achieved."""


@hookspec
def cwbench_report_written(run: RunStarted, report: "Report", path: Path | None) -> None:
    """Take note of a run's report, and of the file that it was written to; None if it was not."""


@hookspec
def cwbench_open_checkpoint(uri: str, dataset: Dataset) -> OpenedCheckpoint | None:
    """Return the checkpoint of a URI such as ``robustbench://cifar10/Linf/NAME``, or None if the scheme is another's.

    ``dataset`` is what the run judges on. What can be put right is raised as ``cwbench.CwbenchError``.
    """
