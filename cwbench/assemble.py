"""Outcomes to a report: counts, figures, and records of what was judged and how."""

from typing import Any

import torch

from cwbench import data, sidecar
from cwbench.api import Dataset, Examples, Plugin
from cwbench.checkpoints import Checkpoint
from cwbench.evaluation import AttackOutcome, Outcomes
from cwbench.exact import Exact
from cwbench.plan import Plan
from cwbench.provenance import provenance
from cwbench.registry import Registry
from cwbench.report import (
    AttackRecord,
    Condition,
    CostRecord,
    DatasetRecord,
    Figures,
    PluginRecord,
    Report,
    Sidecar,
    ThreatRecord,
    TrainingRecord,
    WorstCase,
)
from cwbench.summarise import Ints, confusion, per_class, standing
from cwbench.threat import Threat


def columns(outcomes: Outcomes) -> dict[str, Ints]:
    """Return the predictions as the columns of a sidecar."""
    attacks = {sidecar.column(attack.label): attack.predictions for attack in outcomes.attacks}
    return {"ids": outcomes.ids, "labels": outcomes.labels, "clean": outcomes.clean} | attacks


def dataset_record(dataset: Dataset, examples: Examples, registry: Registry, limit: int | None) -> DatasetRecord:
    """Describe a dataset; the counts per class are filled by :func:`report_of`."""
    return DatasetRecord(
        name=dataset.name,
        fields=dataset.model_dump(mode="json"),
        distribution=registry.origin(dataset).distribution,
        split="test",
        classes=list(dataset.classes),
        superclasses={name: list(group) for name, group in dataset.superclasses.items()},
        digest=data.digest(examples),
        n_available=len(examples),
        limit=limit,
        n_per_class=[0] * len(dataset.classes),
    )


def training_record(plan: Plan, checkpoint: Checkpoint) -> TrainingRecord:
    """Describe the training behind a checkpoint."""
    record = checkpoint.record
    return TrainingRecord(
        checkpoint=checkpoint.digest,
        recipe_name=plan.recipe_name,
        recipe=plan.recipe.model_dump(mode="json"),
        selection=f"fixed epoch {record['judged_epoch']} of {plan.recipe.epochs}",
        losses=record["losses"],
        curves=record["curves"],
        state=record["state"],
    )


def plugin_record(plugin: Plugin, registry: Registry) -> PluginRecord:
    """Describe a plugin with every field."""
    origin = registry.origin(plugin)
    return PluginRecord(
        name=plugin.name,
        fields=plugin.model_dump(mode="json"),
        distribution=origin.distribution,
        version=origin.version,
    )


def report_of(
    outcomes: Outcomes,
    *,
    subject: str,
    dataset: DatasetRecord,
    threat: Threat,
    registry: Registry,
    device: torch.device,
    seed: int,
    batch_size: int,
    defense: Plugin | None = None,
    backbone: Plugin | None = None,
    training: TrainingRecord | None = None,
    predictions: Sidecar | None = None,
) -> Report:
    """Return the report of what a model predicted."""
    k = len(dataset.classes)
    dataset = dataset.model_copy(update={"n_per_class": per_class(outcomes.labels, k)})
    under = [attack.predictions for attack in outcomes.attacks]
    worst = standing(outcomes.labels, [outcomes.clean, *under], k)
    plugins: list[Plugin] = [attack.attack for attack in outcomes.attacks]
    plugins += [plugin for plugin in (defense, backbone) if plugin]
    return Report(
        subject=subject,
        defense=plugin_record(defense, registry) if defense else None,
        backbone=plugin_record(backbone, registry) if backbone else None,
        training=training,
        dataset=dataset,
        threat=ThreatRecord(norm=threat.norm, eps=Exact(text=threat.eps.text, value=threat.eps.value)),
        clean=Condition.of(confusion(outcomes.labels, outcomes.clean, k), dataset),
        attacks=[_attack_record(outcome, outcomes, dataset, registry) for outcome in outcomes.attacks],
        worst_case_counts=WorstCase(correct=worst, figures=Figures.of(worst, dataset)),
        provenance=provenance(
            device=device,
            seed=seed,
            batch_size=batch_size,
            origins=[registry.origin(plugin) for plugin in plugins],
        ),
        predictions=predictions,
    )


def _attack_record(
    outcome: AttackOutcome, outcomes: Outcomes, dataset: DatasetRecord, registry: Registry
) -> AttackRecord:
    counts = confusion(outcomes.labels, outcome.predictions, len(dataset.classes))
    cost: dict[str, Any] = vars(outcome.cost)
    return AttackRecord(
        **dict(Condition.of(counts, dataset)),
        label=outcome.label,
        attack=plugin_record(outcome.attack, registry),
        access=outcome.attack.access.value,
        cost=CostRecord(**cost),
    )
