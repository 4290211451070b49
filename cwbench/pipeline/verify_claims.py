"""What a report says of its data, its checkpoint and its attacks, held against what is there."""

from typing import Any

import numpy as np

from cwbench.api import Dataset, Defense, Examples
from cwbench.checkpoints.store import Checkpoint
from cwbench.datasets import splits
from cwbench.internal.errors import CwbenchError, ReportError
from cwbench.internal.validation import validated
from cwbench.pipeline.build_report import training_record
from cwbench.plugins.naming import PluginSpec, build_plugin
from cwbench.plugins.registry import Registry
from cwbench.report.predictions import Columns
from cwbench.report.report import Report

PARTS = ("defense", "backbone")
HAPPENED = ("losses", "curves", "state", "data")
"""What the checkpoint's own record tells of the training."""


def check_split(report: Report, columns: Columns, dataset: Dataset, test: Examples) -> None:
    """Check that a report and its predictions are about the test split that is here.

    Raises:
        ReportError: other images, classes, labels or examples.
    """
    found, about = splits.digest(test), report.dataset
    if found != about.digest:
        raise ReportError(f"dataset.digest: {dataset.name} here has {found[:12]}, the report {about.digest[:12]}")
    true: dict[str, Any] = {
        "n_available": len(test),
        "classes": list(dataset.classes),
        "superclasses": {name: list(group) for name, group in dataset.superclasses.items()},
    }
    for name, value in true.items():
        if getattr(about, name) != value:
            raise ReportError(f"dataset.{name}: the report says another than {dataset.name} has")
    ids, labels = columns["ids"], columns["labels"]
    outside = (ids < 0) | (ids >= len(test))
    if outside.any():
        raise ReportError(f"predictions: there is no example {int(ids[outside][0])} among {len(test):,}")
    if len(np.unique(ids)) != len(ids):
        raise ReportError("predictions: an example is judged twice")
    if about.limit is None and len(ids) != len(test):
        raise ReportError(f"predictions: {len(ids):,} of {len(test):,} examples were judged, and no limit is told")
    other = labels != test.labels.cpu().numpy()[ids]
    if other.any():
        raise ReportError(f"predictions: example {int(ids[other][0])} has another label than in {dataset.name}")


def check_training(report: Report, checkpoint: Checkpoint, registry: Registry) -> None:
    """Check that a report tells of a checkpoint what its identity and its record tell.

    Raises:
        ReportError: names the first thing that differs.
        CheckpointError: the checkpoint's record lacks something.
    """
    training, identity = report.training, checkpoint.identity
    if training is None:
        return
    pairs: list[tuple[str, Any, Any]] = [
        ("training.recipe", training.recipe, identity["recipe"]),
        ("dataset.name", report.dataset.name, identity["dataset"]["name"]),
    ]
    for kind in PARTS:
        told = getattr(report, kind)
        pairs += [(kind, told and [told.name, told.fields], [identity[kind]["name"], identity[kind]["fields"]])]
    told, true = (record.model_dump(mode="json") for record in (training, training_record(checkpoint)))
    pairs += [(f"training.{name}", told[name], true[name]) for name in HAPPENED]
    if report.source is None:  # whoever judges a checkpoint that is there chooses a seed for the attacks alone
        pairs.append(("provenance.seed", report.provenance.seed, identity["seed"]))
    wrong = [name for name, here, there in pairs if here != there]
    if not wrong and not _names_the_defense(report, registry):
        wrong = ["subject"]
    if wrong:
        raise ReportError(f"{wrong[0]}: the report says another one than its checkpoint {checkpoint.digest[:12]}")


def check_attacks(report: Report, registry: Registry) -> None:
    """Check that attacks had the access that they say.

    Raises:
        ReportError: one is unknown, or needs another access.
    """
    for attack in report.attacks:
        access = registry.attack(attack.attack.name).access.value
        if attack.access != access:
            raise ReportError(f"{attack.label}: the report says {attack.access} access, and it needs {access}")


def _names_the_defense(report: Report, registry: Registry) -> bool:
    """Tell whether the subject spells the defense with these fields, however the user wrote it."""
    if report.defense is None:
        return True
    try:
        spec = validated(PluginSpec, report.subject, "subject")
        named: Defense = build_plugin(registry.defense(spec.name), spec, "subject")
    except CwbenchError:
        return False
    return named.name == report.defense.name and named.model_dump(mode="json") == report.defense.fields
