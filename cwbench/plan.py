"""The run as it will be done: every name resolved, every unset field filled, every combination checked."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self

import torch
from pydantic import JsonValue

from cwbench.api import Attack, Backbone, Dataset, Defense, Inner, Recipe, Threat, make_threat
from cwbench.internal.errors import DataError, UsageError, did_you_mean, reason_of
from cwbench.internal.exact_number import Exact
from cwbench.internal.validation import validated
from cwbench.plugins.naming import PluginSpec, build_plugin
from cwbench.plugins.registry import Registry
from cwbench.spec import EvaluationSettings, RunSpec


@dataclass(frozen=True)
class PlannedAttack:
    """An attack with nothing left unset, under the label that the user knows it by."""

    label: str
    attack: Attack


@dataclass(frozen=True)
class EvaluationPlan:
    """What to evaluate on, under which attacks, and how."""

    dataset: Dataset
    root: Path | None
    """The folder with the data, or None for the user's cache."""
    threat: Threat
    attacks: tuple[PlannedAttack, ...]
    settings: EvaluationSettings
    """With the device that ``auto`` chose."""
    save_examples: bool
    registry: Registry

    @property
    def device(self) -> torch.device:
        """Where the networks are."""
        return torch.device(self.settings.device)

    def on(self, device: torch.device) -> Self:
        """Return the same plan on another device, such as a process's own GPU."""
        return replace(self, settings=self.settings.model_copy(update={"device": str(device)}))

    @property
    def substitute_recipe(self) -> str:
        """The recipe that substitutes of transfer attacks are trained by: one of the dataset's, as it has it."""
        return self.dataset.default_recipe


@dataclass(frozen=True)
class Plan(EvaluationPlan):
    """A resolved run that trains."""

    defense: Defense
    backbone: Backbone
    recipe_name: str
    """Which of the dataset's recipes it is made from."""
    recipe_changed: bool
    """Whether the user changed a number of it."""
    recipe: Recipe
    inner_scale: float
    """What the recipe's inner step sizes are multiplied with: this run's eps over the dataset's."""
    every: int | None

    @property
    def recipe_label(self) -> str:
        """The recipe as reports name it: with ``*`` behind it where the user changed a number."""
        return self.recipe_name + "*" * self.recipe_changed

    @property
    def substitute_recipe(self) -> str:
        return self.recipe_name


def make_plan(spec: RunSpec, registry: Registry) -> Plan:
    """Resolve a run that trains.

    Raises:
        UsageError: an unknown name or field, a value out of range, or parts that do not fit together.
    """
    if spec.defense is None:
        raise UsageError("the run names no defense", "for example --defense madry")
    evaluation = plan_evaluation(spec, spec.dataset, registry)
    dataset = evaluation.dataset
    backbone_spec = spec.backbone or PluginSpec(name=dataset.backbone)
    recipe_name = spec.recipe or dataset.default_recipe
    recipe = changed_recipe(named_recipe(dataset, recipe_name), spec.set)
    if spec.every and spec.every > recipe.epochs:
        raise UsageError(f"--every {spec.every} exceeds the recipe's {recipe.epochs} epochs", "use a smaller value")
    return Plan(
        **vars(evaluation),
        defense=build_plugin(registry.defense(spec.defense.name), spec.defense, "defense"),
        backbone=build_plugin(registry.backbone(backbone_spec.name), backbone_spec, "backbone"),
        recipe_name=recipe_name,
        recipe_changed=bool(spec.set),
        recipe=recipe,
        inner_scale=_scale(evaluation.threat, dataset),
        every=spec.every,
    )


def plan_evaluation(spec: RunSpec, on: PluginSpec, registry: Registry) -> EvaluationPlan:
    """Resolve what a run evaluates on and under which attacks.

    Raises:
        UsageError: an unknown name or field, a value out of range, or parts that do not fit together.
        DataError: the data folder does not exist.
    """
    dataset = build_plugin(registry.dataset(on.name), on, "dataset")
    return plan_on(
        dataset,
        dataset_threat(dataset, spec.norm, spec.eps),
        spec.attacks,
        spec.settings,
        registry=registry,
        root=data_root(spec.data),
        save_examples=spec.save_examples,
    )


def plan_on(
    dataset: Dataset,
    threat: Threat,
    attacks: tuple[PluginSpec, ...],
    settings: EvaluationSettings,
    *,
    registry: Registry,
    root: Path | None,
    save_examples: bool = False,
) -> EvaluationPlan:
    """Resolve the attacks and the device of an evaluation on a dataset.

    Raises:
        UsageError: an unknown name or field, a value out of range, or parts that do not fit together.
    """
    return EvaluationPlan(
        dataset=dataset,
        root=root,
        threat=threat,
        attacks=plan_attacks(attacks, registry, threat, default_attack(dataset, threat), dataset.suite),
        settings=settings.model_copy(update={"device": str(choose_device(settings.device))}),
        save_examples=save_examples,
        registry=registry,
    )


def plan_attacks(
    specs: tuple[PluginSpec, ...], registry: Registry, threat: Threat, default: Inner, suite: Sequence[str] = ()
) -> tuple[PlannedAttack, ...]:
    """Resolve attacks and fill what they leave unset; without any, take those of ``suite`` that know the norm.

    Raises:
        UsageError: an unknown name or field, a value out of range, an attack that does not know the norm, or the same
            attack twice.
    """
    if not specs:
        standard = [PluginSpec.model_validate(text) for text in suite]
        specs = tuple(spec for spec in standard if threat.norm in registry.attack(spec.name).norms)
    for spec in specs:
        known = registry.attack(spec.name).norms
        if threat.norm not in known:
            raise UsageError(f"attack {spec.name} cannot be bounded by {threat.norm}", f"it knows {', '.join(known)}")
    planned = [
        PlannedAttack(str(spec), build_plugin(registry.attack(spec.name), spec, "attack").with_defaults(default))
        for spec in specs
    ]
    labels = [attack.label for attack in planned]
    for label in labels:
        if labels.count(label) > 1:
            raise UsageError(f"attack {label!r} is given {labels.count(label)} times", "give each attack once")
    for position, one in enumerate(planned):
        for other in planned[:position]:
            if one.attack == other.attack:
                raise UsageError(f"attacks {other.label!r} and {one.label!r} are the same", "give each attack once")
    return tuple(planned)


def dataset_threat(dataset: Dataset, norm: str | None, eps: object) -> Threat:
    """Return the threat of a run: the dataset's, unless norm and eps say otherwise.

    Raises:
        UsageError: a bad eps or norm, or another norm without an eps.
    """
    if norm and norm != dataset.norm and eps is None:
        raise UsageError(f"{dataset.name} has no default eps for {norm}", "give one with --eps")
    return make_threat(norm or dataset.norm, dataset.eps if eps is None else eps)


def default_attack(dataset: Dataset, threat: Threat) -> Inner:
    """Return the steps and step size of attacks that leave them unset, under this run's threat."""
    steps = dataset.attack.steps
    if threat.norm != dataset.norm:  # the paper has no setting: the customary 2.5 eps over all steps
        return Inner(steps=steps, step_size=2.5 * threat.radius / steps)
    return Inner(steps=steps, step_size=dataset.attack.step_size * _scale(threat, dataset))


def choose_device(name: str) -> torch.device:
    """Return the device that was asked for; ``auto`` is CUDA where there is one, else the CPU.

    Raises:
        UsageError: PyTorch does not know the name, or this machine has no such device.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(1, device=device).tolist()  # fails on "meta", which holds no numbers
    except (RuntimeError, AssertionError) as error:
        reason = reason_of(error).partition(". ")[0]  # PyTorch's first sentence says it, the others address its makers
        raise UsageError(f"device {name!r} cannot be used: {reason}", "try --device cpu") from None
    return device


def data_root(given: Path | None) -> Path | None:
    """Return the folder with the data: the one given, else that of CWBENCH_DATA, else None for the cache.

    Raises:
        DataError: the folder does not exist.
    """
    named = given or (Path(os.environ["CWBENCH_DATA"]) if os.environ.get("CWBENCH_DATA") else None)
    if named and not named.is_dir():
        raise DataError(f"the data folder {named} does not exist", "--data or CWBENCH_DATA names it")
    return named


def named_recipe(dataset: Dataset, name: str) -> Recipe:
    """Return the recipe of a dataset that has this name.

    Raises:
        UsageError: there is none.
    """
    if name not in dataset.recipes:
        raise UsageError(f"{dataset.name} has no recipe {name!r}", did_you_mean(name, dataset.recipes))
    return dataset.recipes[name]


def changed_recipe(recipe: Recipe, changes: Mapping[str, JsonValue]) -> Recipe:
    """Return the recipe with some fields changed, such as ``{"recipe.epochs": 2, "recipe.optimizer.momentum": 0}``.

    Raises:
        UsageError: an unknown field, or a recipe that no longer holds together.
    """
    content: dict[str, Any] = recipe.model_dump(mode="json")
    for path, value in changes.items():
        head, *keys = path.split(".")
        if head != "recipe" or not keys:
            raise UsageError(f"cannot set {path!r}", "fields of the recipe are set as recipe.epochs=2")
        content = _replaced(content, keys, value, path)
    return validated(Recipe, content, "the recipe")


def _replaced(place: Any, keys: list[str], value: JsonValue, path: str) -> Any:
    """Return a copy of a part of a recipe with the value at ``keys``: fields by name, members of a list by number."""
    if not keys:
        return value
    members = dict(zip(map(str, range(len(place))), place, strict=True)) if isinstance(place, list) else place
    known = members if isinstance(members, dict) else {}
    if keys[0] not in known:
        raise UsageError(f"the recipe has no {path!r}", did_you_mean(keys[0], known))
    changed = known | {keys[0]: _replaced(known[keys[0]], keys[1:], value, path)}
    return list(changed.values()) if isinstance(place, list) else changed


def _scale(threat: Threat, dataset: Dataset) -> float:
    """Return this run's eps over the dataset's: exactly 1 where they are the same."""
    return threat.radius / Exact.model_validate(dataset.eps).value
