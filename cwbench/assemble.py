"""Outcomes to a report: counts, figures, and records of what was judged and how."""

from collections.abc import Sequence
from typing import Any

import torch

from cwbench import data, sidecar
from cwbench.api import Dataset, Examples, Plugin
from cwbench.checkpoints import Checkpoint
from cwbench.evaluation import AttackOutcome, Outcomes
from cwbench.exact import Exact
from cwbench.gallery import Kept
from cwbench.provenance import provenance
from cwbench.recipe import Recipe
from cwbench.records import (
    AttackRecord,
    Condition,
    CostRecord,
    DataRecord,
    DatasetRecord,
    EpsCurve,
    Figures,
    PluginRecord,
    SavedExamples,
    Sidecar,
    SourceRecord,
    ThreatRecord,
    TrainingRecord,
    WorstCase,
)
from cwbench.registry import Registry
from cwbench.report import Report
from cwbench.summarise import Ints, confusion, per_class, standing, standing_at
from cwbench.threat import Threat
from cwbench.trust import warnings_of

EPS_POINTS = 20
"""How many points a curve over eps has above 0; the middle one is the threat's."""


def columns(outcomes: Outcomes) -> sidecar.Columns:
    """Return the predictions as the columns of a sidecar."""
    found: sidecar.Columns = {"ids": outcomes.ids, "labels": outcomes.labels, "clean": outcomes.clean}
    for attack in outcomes.attacks:
        found[sidecar.column(attack.label)] = attack.predictions
        if attack.distances is not None:
            found[sidecar.distance_column(attack.label)] = attack.distances
    return found


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


def training_record(checkpoint: Checkpoint) -> TrainingRecord:
    """Describe the training behind a checkpoint, as its own record has it.

    Raises:
        CwbenchError: the record lacks something.
    """
    record, recipe = checkpoint.record, Recipe.model_validate(checkpoint.identity["recipe"])
    return TrainingRecord(
        checkpoint=checkpoint.digest,
        recipe_name=record["recipe_name"],
        recipe=recipe.model_dump(mode="json"),
        selection=_selection(recipe, record["judged_epoch"]),
        data=DataRecord(**record["data"]),
        losses=record["losses"],
        curves=record["curves"],
        state=record["state"],
    )


def _selection(recipe: Recipe, epoch: int) -> str:
    if recipe.held_out is None:
        return f"fixed epoch {epoch} of {recipe.epochs}"
    return f"epoch {epoch} of {recipe.epochs}: most robust on {recipe.held_out:.0%} of the training set, held out"


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
    defense: Plugin | None = None,
    backbone: Plugin | None = None,
    training: TrainingRecord | None = None,
    source: SourceRecord | None = None,
    predictions: Sidecar | None = None,
    examples: Sequence[Kept] = (),
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
        source=source,
        dataset=dataset,
        threat=ThreatRecord(norm=threat.norm, eps=Exact(text=threat.eps.text, value=threat.eps.value)),
        clean=Condition.of(confusion(outcomes.labels, outcomes.clean, k), dataset),
        attacks=[_attack_record(outcome, outcomes.labels, dataset, threat, registry) for outcome in outcomes.attacks],
        cascade=outcomes.cascade,
        worst_case_counts=WorstCase(correct=worst, figures=Figures.of(worst, dataset)),
        provenance=provenance(
            device=device,
            seed=seed,
            batch_size=outcomes.batch_size,
            precision=outcomes.precision,
            folded=outcomes.folded,
            origins=[registry.origin(plugin) for plugin in plugins],
        ),
        predictions=predictions,
        examples=[SavedExamples(**vars(kept)) for kept in examples],
        warnings=warnings_of(outcomes),
    ).sealed()


def _attack_record(
    outcome: AttackOutcome, labels: Ints, dataset: DatasetRecord, threat: Threat, registry: Registry
) -> AttackRecord:
    k = len(dataset.classes)
    counts = confusion(labels, outcome.predictions, k)
    curve = None
    if outcome.distances is not None:
        eps = [2 * threat.radius * point / EPS_POINTS for point in range(EPS_POINTS + 1)]
        eps[EPS_POINTS // 2] = threat.radius
        curve = EpsCurve(eps=eps, correct=standing_at(labels, outcome.distances, eps, k))
    cost: dict[str, Any] = vars(outcome.cost)
    return AttackRecord(
        **dict(Condition.of(counts, dataset)),
        label=outcome.label,
        attack=plugin_record(outcome.attack, registry),
        access=outcome.attack.access.value,
        cost=CostRecord(**cost),
        substitute=outcome.substitute,
        notes=list(outcome.attack.notes(k)),
        eps_curve=curve,
    )
