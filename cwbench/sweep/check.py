"""Holding a sweep against what is installed, before anything runs."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from pydantic import ValidationError

from cwbench.api import Backbone
from cwbench.internal.errors import CwbenchError, did_you_mean, first_complaint
from cwbench.internal.exact_number import Exact
from cwbench.internal.validation import validated
from cwbench.plan import make_plan, plan_evaluation
from cwbench.plugins.naming import PluginSpec, wrong_names
from cwbench.plugins.registry import Registry
from cwbench.sweep.grid import Cell, SweepSpec, cells_of, refuse, unmatched


def checked_cells(sweep: SweepSpec, registry: Registry) -> list[Cell]:
    """Return the cells of a sweep, each of which can be run as far as names, fields and combinations tell.

    Raises:
        UsageError: names every unknown name, bad field and combination that is none, all at once.
    """
    refuse(sweep, [*_bad_names(sweep, registry), *_bad_settings(sweep, registry), *unmatched(sweep)])
    cells = cells_of(sweep)
    networks: dict[str, CwbenchError | None] = {}
    refuse(sweep, [f"{cell.name}: {error}" for cell in cells if (error := _misfit(cell, registry, networks))])
    return cells


def _bad_names(sweep: SweepSpec, registry: Registry) -> Iterator[str]:
    """Yield what is wrong with each plugin that the axes name."""
    finders: Mapping[str, Callable[[str], Any]] = {
        "defense": registry.defense,
        "dataset": registry.dataset,
        "backbone": registry.backbone,
        "attacks": registry.attack,
    }
    axes = sweep.axes()
    for kind, find in finders.items():
        yield from wrong_names(kind.removesuffix("s"), find, _plugins(axes.get(kind, ())))


def _bad_settings(sweep: SweepSpec, registry: Registry) -> Iterator[str]:
    """Yield what is wrong with recipes, radii, and plugins that rules name."""
    known = {offer.cls.name for offer in registry.offers("dataset")}
    recipes = {name: registry.dataset(name).recipes for name in (spec.name for spec in sweep.datasets) if name in known}
    for recipe in sweep.recipes or ():
        for dataset, own in recipes.items():
            if recipe not in own:
                yield f"{dataset} has no recipe {recipe!r} ({did_you_mean(recipe, own)})"
    for eps in sweep.eps or ():
        try:
            Exact.model_validate(eps)
        except ValidationError as error:
            yield f"eps {eps!r}: {first_complaint(error)}"
    for rule in sweep.cells:
        if "backbone" in rule.set:
            try:
                spec = validated(PluginSpec, rule.set["backbone"], "backbone")
            except CwbenchError as error:
                yield str(error)
            else:
                yield from wrong_names("backbone", registry.backbone, [spec])


def _plugins(values: tuple[Any, ...]) -> Iterator[PluginSpec]:
    for value in values:
        yield from value if isinstance(value, tuple) else (value,)


def _unfit(backbone: Backbone, shape: tuple[int, int]) -> CwbenchError | None:
    """Return why a network cannot have images of a shape, which only its making tells; bugs are left to its cells."""
    with torch.random.fork_rng(devices=[]):
        try:
            backbone.build(channels=shape[0], size=shape[1])
        except CwbenchError as error:
            return error
        except Exception:  # noqa: BLE001 - somebody else's code raises anything
            return None
    return None


def _misfit(cell: Cell, registry: Registry, networks: dict[str, CwbenchError | None]) -> CwbenchError | None:
    """Return why the parts of a cell do not go together, or None; ``networks`` keeps which were made already."""
    try:
        if cell.spec.checkpoint:
            plan_evaluation(cell.spec, cell.spec.dataset, registry)
        else:
            plan = make_plan(cell.spec, registry)
            key = f"{plan.backbone.name} {plan.backbone.model_dump_json()} {plan.dataset.shape}"
            if key not in networks:
                networks[key] = _unfit(plan.backbone, plan.dataset.shape)
            return networks[key]
    except CwbenchError as error:
        return error
    return None
