"""The suites of the installed datasets, for boards, which load no plugins themselves."""

from collections.abc import Sequence

from cwbench.plugins.naming import PluginSpec
from cwbench.plugins.registry import Registry

TABLE_3 = ("pgd", "tpgd")
"""What table 3 of the study compares."""
NORMS = ("Linf", "L2")


def suites_of(registry: Registry, datasets: Sequence[str] | None = None) -> dict[str, dict[str, dict[str, list[str]]]]:
    """Return the labels of the attacks of each suite, by dataset, norm and name of the suite.

    Raises:
        UsageError: there is no such dataset.
    """
    names = datasets or [offer.cls.name for offer in registry.offers("dataset")]
    return {name: _by_norm(registry, registry.dataset(name).suite) for name in names}


def _by_norm(registry: Registry, suite: Sequence[str]) -> dict[str, dict[str, list[str]]]:
    named = {"standard": suite, "study-table-3": TABLE_3}
    return {
        norm: {name: [label for label in labels if norm in _norms(registry, label)] for name, labels in named.items()}
        for norm in NORMS
    }


def _norms(registry: Registry, label: str) -> Sequence[str]:
    return registry.attack(PluginSpec.model_validate(label).name).norms
