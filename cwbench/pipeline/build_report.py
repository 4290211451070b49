"""Outcomes to a report: counts, figures, and records of what was judged and how."""

from collections.abc import Sequence
from typing import Any, Literal

from cwbench.api import Examples, Plugin, Recipe, Threat
from cwbench.checkpoints.store import Checkpoint
from cwbench.datasets import splits
from cwbench.datasets.given_tensors import GivenTensors
from cwbench.evaluation.outcomes import AttackOutcome, Outcomes
from cwbench.evaluation.saved_examples import SavedFile
from cwbench.evaluation.warnings import warnings_of
from cwbench.internal.errors import CheckpointError, reason_of
from cwbench.internal.exact_number import Exact
from cwbench.pipeline.provenance import provenance
from cwbench.pipeline.subject import Subject
from cwbench.plan import EvaluationPlan
from cwbench.plugins.registry import Registry
from cwbench.report.counts import Ints, confusion, per_class, right_at, right_under
from cwbench.report.predictions import Columns, column, distance_column
from cwbench.report.records import (
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
    ThreatRecord,
    TrainingRecord,
    WorstCase,
)
from cwbench.report.report import Report

EPS_POINTS = 20
"""How many points a curve over eps has above 0; the middle one is the threat's."""


def columns_of(outcomes: Outcomes) -> Columns:
    """Return the predictions as the columns of a sidecar."""
    found: Columns = {"ids": outcomes.ids, "labels": outcomes.labels, "clean": outcomes.clean}
    for attack in outcomes.attacks:
        found[column(attack.label)] = attack.predictions
        if attack.distances is not None:
            found[distance_column(attack.label)] = attack.distances
    return found


def dataset_record(plan: EvaluationPlan, test: Examples, labels: Ints) -> DatasetRecord:
    """Describe what was evaluated on; ``labels`` are those of the evaluated examples, (n,)."""
    dataset, given = plan.dataset, isinstance(plan.dataset, GivenTensors)
    return DatasetRecord(
        name=dataset.name,
        fields=dataset.model_dump(mode="json"),
        distribution="given" if given else plan.registry.origin(dataset).distribution,
        split="given" if given else "test",
        classes=list(dataset.classes),
        superclasses={name: list(group) for name, group in dataset.superclasses.items()},
        digest=splits.digest(test),
        n_available=len(test),
        limit=plan.settings.limit,
        n_per_class=per_class(labels, len(dataset.classes)),
    )


def training_record(checkpoint: Checkpoint) -> TrainingRecord:
    """Describe the training behind a checkpoint, as its own record has it.

    Raises:
        CheckpointError: the record lacks something.
    """
    record = checkpoint.record
    try:
        recipe = Recipe.model_validate(checkpoint.identity["recipe"])
        return TrainingRecord(
            checkpoint=checkpoint.digest,
            recipe_name=record["recipe_name"],
            recipe=recipe.model_dump(mode="json"),
            selection=_selection(recipe, record["judged_epoch"]),
            data=data_record(checkpoint.identity["dataset"]["name"], **record["data"]),
            losses=record["losses"],
            curves=record["curves"],
            state=record["state"],
        )
    except (KeyError, TypeError, ValueError) as error:
        subject = f"the record of checkpoint {checkpoint.digest[:12]}"
        told = f"lacks {error}" if isinstance(error, KeyError) else f"is damaged: {reason_of(error)}"
        raise CheckpointError(f"{subject} {told}", "train it again with this cwbench") from None


def data_record(dataset: str, *, labelled: int, unlabelled: int, set_aside: int, split: int) -> DataRecord:
    """Describe what a model was trained on.

    Args:
        dataset: its name.
        labelled: examples with their labels.
        unlabelled: images without labels.
        set_aside: examples of the training split that the network does not see.
        split: the size of the training split.
    """
    kind: Literal["none", "held-back", "unlabelled", "labelled"] = "none"
    description = f"the training split of {dataset}"
    seen = labelled + unlabelled + set_aside
    if unlabelled and seen <= split:
        kind = "held-back"
        description = f"the training split of {dataset}, {unlabelled:,} of its images without their labels"
    elif unlabelled:
        kind = "unlabelled"
        description = f"{labelled:,} examples of {dataset} and {unlabelled:,} images without labels"
    elif seen > split:
        kind = "labelled"
        description = f"{labelled:,} examples, where the training split of {dataset} has {split:,}"
    return DataRecord(kind=kind, labelled=labelled, unlabelled=unlabelled, description=description)


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


def build_report(
    outcomes: Outcomes,
    plan: EvaluationPlan,
    subject: Subject,
    test: Examples,
    *,
    predictions: Sidecar | None,
    examples: Sequence[SavedFile],
) -> Report:
    """Return the report of what a model predicted.

    Args:
        outcomes: what the evaluation found.
        plan: what was evaluated on, under which attacks, and how.
        subject: the classifier.
        test: the split.
        predictions: the file with every example's predictions, if it is written.
        examples: the files with what attacks returned, if they are kept.
    """
    registry, threat, k = plan.registry, plan.threat, len(plan.dataset.classes)
    dataset = dataset_record(plan, test, outcomes.labels)
    under = [attack.predictions for attack in outcomes.attacks]
    worst = right_under(outcomes.labels, [outcomes.clean, *under], k)
    plugins: list[Plugin] = [attack.attack for attack in outcomes.attacks]
    plugins += [plugin for plugin in (subject.defense, subject.backbone) if plugin]
    return Report(
        subject=subject.name,
        defense=plugin_record(subject.defense, registry) if subject.defense else None,
        backbone=plugin_record(subject.backbone, registry) if subject.backbone else None,
        training=subject.training,
        source=subject.source,
        dataset=dataset,
        threat=ThreatRecord(norm=threat.norm, eps=Exact(text=threat.eps.text, value=threat.eps.value)),
        clean=Condition.of(confusion(outcomes.labels, outcomes.clean, k), dataset),
        attacks=[_attack_record(outcome, outcomes.labels, dataset, threat, registry) for outcome in outcomes.attacks],
        cascade=outcomes.cascade,
        worst_case_counts=WorstCase(correct=worst, figures=Figures.of(worst, dataset)),
        provenance=provenance(
            device=plan.device,
            seed=plan.settings.seed,
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
        curve = EpsCurve(eps=eps, correct=right_at(labels, outcome.distances, eps, k))
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
