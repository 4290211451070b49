"""The run as it will be done: every name resolved, every unset field filled, every combination checked."""

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar

import torch
from pydantic import JsonValue

from cwbench.api import Attack, Backbone, Dataset, Defense, Plugin
from cwbench.errors import CwbenchError, did_you_mean
from cwbench.exact import Exact
from cwbench.recipe import Inner, Recipe
from cwbench.registry import Registry
from cwbench.spec import PluginSpec, RunSpec, validated
from cwbench.threat import Threat, make_threat

P = TypeVar("P", bound=Plugin)
DEFAULT_BATCH = 256


@dataclass(frozen=True)
class PlannedAttack:
    """An attack with nothing left unset, under the label that the user knows it by."""

    label: str
    attack: Attack


@dataclass(frozen=True)
class Judging:
    """What is judged on, under which attacks, and how."""

    dataset: Dataset
    root: Path | None
    threat: Threat
    attacks: tuple[PlannedAttack, ...]
    cascade: bool
    precision: Literal["auto", "fp32", "bf16"]
    seed: int
    limit: int | None
    device: torch.device
    batch_size: int
    save_examples: bool
    registry: Registry


@dataclass(frozen=True)
class Plan(Judging):
    """A resolved run that trains."""

    defense: Defense
    backbone: Backbone
    recipe_name: str
    """The recipe, with ``*`` behind it where the user changed a number."""
    recipe: Recipe
    inner_scale: float
    """What the recipe's inner step sizes are multiplied with: this run's eps over the dataset's."""
    every: int | None


def make_plan(spec: RunSpec, registry: Registry) -> Plan:
    """Resolve a run that trains.

    Raises:
        CwbenchError: an unknown name or field, a value out of range, or parts that do not fit together.
    """
    if spec.defense is None:
        raise CwbenchError("the run names no defense", "for example --defense madry")
    judging = plan_judging(spec, spec.dataset, registry)
    dataset = judging.dataset
    backbone_spec = spec.backbone or PluginSpec(name=dataset.backbone)
    recipe_name = spec.recipe or dataset.default_recipe
    if recipe_name not in dataset.recipes:
        raise CwbenchError(f"{dataset.name} has no recipe {recipe_name!r}", did_you_mean(recipe_name, dataset.recipes))
    recipe = changed_recipe(dataset.recipes[recipe_name], spec.set)
    if spec.every and spec.every > recipe.epochs:
        raise CwbenchError(f"every {spec.every} epochs: there are {recipe.epochs}", "give --every a smaller number")
    return Plan(
        **vars(judging),
        defense=build(registry.defense(spec.defense.name), spec.defense, "defense"),
        backbone=build(registry.backbone(backbone_spec.name), backbone_spec, "backbone"),
        recipe_name=recipe_name + "*" * bool(spec.set),
        recipe=recipe,
        inner_scale=_scale(judging.threat, dataset),
        every=spec.every,
    )


def plan_judging(spec: RunSpec, on: PluginSpec, registry: Registry) -> Judging:
    """Resolve what a run judges on and under which attacks.

    Raises:
        CwbenchError: an unknown name or field, a value out of range, or parts that do not fit together.
    """
    dataset = build(registry.dataset(on.name), on, "dataset")
    threat = dataset_threat(dataset, spec.norm, spec.eps)
    return Judging(
        dataset=dataset,
        root=data_root(spec.data),
        threat=threat,
        attacks=plan_attacks(spec.attacks, registry, threat, default_attack(dataset, threat), dataset.suite),
        cascade=spec.cascade,
        precision=spec.precision,
        seed=spec.seed,
        limit=spec.limit,
        device=choose_device(spec.device),
        batch_size=DEFAULT_BATCH if spec.batch_size == "auto" else spec.batch_size,
        save_examples=spec.save_examples,
        registry=registry,
    )


def plan_attacks(
    specs: tuple[PluginSpec, ...], registry: Registry, threat: Threat, default: Inner, suite: Sequence[str] = ()
) -> tuple[PlannedAttack, ...]:
    """Resolve attacks and fill what they leave unset; without any, take those of ``suite`` that know the norm.

    Raises:
        CwbenchError: an unknown name or field, a value out of range, an attack that does not know the norm, or the same
            attack twice.
    """
    if not specs:
        standard = [PluginSpec.model_validate(text) for text in suite]
        specs = tuple(spec for spec in standard if threat.norm in registry.attack(spec.name).norms)
    for spec in specs:
        known = registry.attack(spec.name).norms
        if threat.norm not in known:
            raise CwbenchError(f"attack {spec.name} cannot be bounded by {threat.norm}", f"it knows {', '.join(known)}")
    planned = [
        PlannedAttack(str(spec), filled(build(registry.attack(spec.name), spec, "attack"), default)) for spec in specs
    ]
    labels = [attack.label for attack in planned]
    for label in labels:
        if labels.count(label) > 1:
            raise CwbenchError(f"attack {label!r} is given {labels.count(label)} times", "give each attack once")
    for position, one in enumerate(planned):
        for other in planned[:position]:
            if one.attack == other.attack:
                raise CwbenchError(f"attacks {other.label!r} and {one.label!r} are the same", "give each attack once")
    return tuple(planned)


def dataset_threat(dataset: Dataset, norm: str | None, eps: object) -> Threat:
    """Return the threat of a run: the dataset's, unless norm and eps say otherwise.

    Raises:
        CwbenchError: a bad eps or norm, or another norm without an eps.
    """
    if norm and norm != dataset.norm and eps is None:
        raise CwbenchError(f"{dataset.name} has no default eps for {norm}", "give one with --eps")
    return make_threat(norm or dataset.norm, dataset.eps if eps is None else eps)


def default_attack(dataset: Dataset, threat: Threat) -> Inner:
    """Return the steps and step size of attacks that leave them unset, under this run's threat."""
    steps = dataset.attack.steps
    if threat.norm != dataset.norm:  # the study has no setting: the customary 2.5 eps over all steps
        return Inner(steps=steps, step_size=2.5 * threat.radius / steps)
    return Inner(steps=steps, step_size=dataset.attack.step_size * _scale(threat, dataset))


def choose_device(name: str) -> torch.device:
    """Return the device that was asked for; ``auto`` is CUDA where there is one, else the CPU.

    Raises:
        CwbenchError: the name is none of PyTorch's, or this machine has no such device.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(1, device=device).tolist()  # fails on "meta", which holds no numbers
    except (RuntimeError, AssertionError) as error:
        raise CwbenchError(
            f"device {name!r} cannot be used: {str(error).splitlines()[0]}", "try --device cpu"
        ) from None
    return device


def data_root(given: Path | None) -> Path | None:
    """Return the folder with the data: the one given, else that of CWBENCH_DATA, else None for the cache.

    Raises:
        CwbenchError: the folder does not exist.
    """
    named = given or (Path(os.environ["CWBENCH_DATA"]) if os.environ.get("CWBENCH_DATA") else None)
    if named and not named.is_dir():
        raise CwbenchError(f"the data folder {named} does not exist", "--data or CWBENCH_DATA names it")
    return named


def changed_recipe(recipe: Recipe, changes: Mapping[str, JsonValue]) -> Recipe:
    """Return the recipe with some fields changed, such as ``{"recipe.epochs": 2, "recipe.optimizer.momentum": 0}``.

    Raises:
        CwbenchError: an unknown field, or a recipe that no longer holds together.
    """
    content: dict[str, Any] = recipe.model_dump(mode="json")
    for path, value in changes.items():
        head, *keys = path.split(".")
        if head != "recipe" or not keys:
            raise CwbenchError(f"cannot set {path!r}", "fields of the recipe are set as recipe.epochs=2")
        content = _replaced(content, keys, value, path)
    return validated(Recipe, content, "the recipe")


def _replaced(place: Any, keys: list[str], value: JsonValue, path: str) -> Any:
    """Return a copy of a part of a recipe with the value at ``keys``: fields by name, members of a list by number."""
    if not keys:
        return value
    members = dict(zip(map(str, range(len(place))), place, strict=True)) if isinstance(place, list) else place
    known = members if isinstance(members, dict) else {}
    if keys[0] not in known:
        raise CwbenchError(f"the recipe has no {path!r}", did_you_mean(keys[0], known))
    changed = known | {keys[0]: _replaced(known[keys[0]], keys[1:], value, path)}
    return list(changed.values()) if isinstance(place, list) else changed


def build(cls: type[P], spec: PluginSpec, kind: str) -> P:
    """Return the plugin of a class with the fields of a spec.

    Raises:
        CwbenchError: an unknown field, or a value out of range.
    """
    fields = dict(spec.fields)
    if "" in fields:
        if cls.bare is None or cls.bare in fields:
            raise CwbenchError(f"{fields['']!r} in {str(spec)!r} is not field=value", "for example pgd:steps=50")
        fields[cls.bare] = fields.pop("")
    return validated(cls, fields, f"{kind} {spec.name}")


def misnamed(kind: str, find: Callable[[str], type[Plugin]], specs: Iterable[PluginSpec]) -> Iterator[str]:
    """Yield what is wrong with the names and fields of plugins of a kind, which ``find`` looks up."""
    for spec in specs:
        try:
            build(find(spec.name), spec, kind)
        except CwbenchError as error:
            yield str(error)


def filled(attack: Attack, default: Inner) -> Attack:
    """Return the attack with unset ``steps`` and ``step_size`` taken from ``default``."""
    unset: dict[str, float] = {
        name: getattr(default, name)
        for name in ("steps", "step_size")
        if name in type(attack).model_fields and getattr(attack, name) is None
    }
    return attack.model_copy(update=unset)


def _scale(threat: Threat, dataset: Dataset) -> float:
    """Return this run's eps over the dataset's: exactly 1 where they are the same."""
    return threat.radius / Exact.model_validate(dataset.eps).value
