"""The hooks a plugin implements: mark a function of the same name with ``@cwbench.hookimpl``."""

import pluggy

from cwbench.api import Attack, Backbone, Dataset, Defense

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
