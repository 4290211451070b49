"""Checking plugins by the name that users type, or all those of a distribution."""

import traceback
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from pydantic import JsonValue

from cwbench.api import Dataset, Plugin
from cwbench.internal.errors import CwbenchError, UsageError, did_you_mean, named_reason
from cwbench.plugins.contract.check import check
from cwbench.plugins.contract.contract import ContractError
from cwbench.plugins.discovery import KINDS, Failure, Offer
from cwbench.plugins.naming import PluginSpec, build_plugin
from cwbench.plugins.registry import Registry


@dataclass(frozen=True)
class Checked:
    """What came of checking a plugin."""

    subject: str
    """The plugin, and where it comes from."""
    kind: str
    broken: str | None = None
    """The rule of the contract that it breaks."""
    unchecked: CwbenchError | None = None
    """Why it could not be checked, or not whole, through no fault of its own: data or required fields are missing."""

    def __str__(self) -> str:
        if self.broken:
            return f"{self.subject}: {self.broken}"
        return f"{self.subject}: {f'not checked whole: {self.unchecked}' if self.unchecked else 'keeps the contract'}"


@dataclass(frozen=True)
class Matches:
    """What a name stands for."""

    offers: list[Offer]
    """Its attacks, defenses, datasets and backbones."""
    named: bool
    """Whether it is their own name and not that of a distribution."""
    failures: list[Failure]
    """What could not be loaded under that name."""
    hooks: list[str]
    """The hooks besides those that offer classes."""


def find_plugins(spec: PluginSpec, registry: Registry) -> Matches:
    """Return what a name stands for: a plugin, or a distribution with all of its plugins.

    Raises:
        UsageError: nothing has that name, or fields are given to a distribution.
    """
    name = spec.name
    offers = [offer for kind in KINDS for offer in registry.offers(kind)]
    named = [offer for offer in offers if offer.cls.name == name]
    found = named or [offer for offer in offers if name in (offer.origin.distribution, offer.origin.plugin)]
    failures = [
        failure
        for failure in registry.failures
        if name in (failure.origin.plugin, failure.origin.distribution) or repr(name) in failure.reason
    ]
    hooks = [
        hook
        for origin in registry.discovery.origins
        if name in (origin.plugin, origin.distribution)
        for hook in registry.discovery.hooks_of(origin)
    ]
    if not found and not failures and not hooks:
        known = {offer.cls.name for offer in offers} | {offer.origin.distribution for offer in offers}
        others = "".join(f"; {failure}" for failure in registry.failures)
        raise UsageError(
            f"no plugin is named {name!r}", f"{did_you_mean(name, known)}; `cwbench plugins` lists them{others}"
        )
    if spec.fields and not named and not failures:
        raise UsageError(f"{name} is a distribution and has no fields", "check its plugins one by one to set theirs")
    return Matches(found, bool(named), failures, hooks)


def check_offer(offer: Offer, fields: Mapping[str, JsonValue], root: Path | None) -> Checked:
    """Check a plugin with some of its fields set.

    Args:
        offer: the plugin's class and where it comes from.
        fields: what the user has set.
        root: for a dataset, the folder with the data.

    Raises:
        UsageError: fields that were given are not the plugin's.
    """
    name, kind = offer.cls.name, offer.kind
    subject = f"{kind} {name}, from {offer.origin.distribution}"
    needed = ",".join(f"{field}=VALUE" for field, info in offer.cls.model_fields.items() if info.is_required())
    if needed and not fields:
        advice = f"check it as {name}:{needed}"
        return Checked(subject, kind, unchecked=UsageError("it cannot be checked by its name alone", advice))
    absent = None
    try:
        plugin = build_plugin(offer.cls, PluginSpec(name=name, fields=dict(fields)), kind)
        absent = _missing_data(plugin, root)
        check(plugin, root=root, load=absent is None)
    except ContractError as error:
        return Checked(subject, kind, broken=str(error))
    except CwbenchError as error:
        if fields and not absent:
            raise
        return Checked(subject, kind, unchecked=absent) if absent else Checked(subject, kind, broken=f"{name}: {error}")
    except Exception as error:  # noqa: BLE001 - somebody else's code raises anything
        place = traceback.extract_tb(error.__traceback__)[-1]
        told = f"{name}: it raised {named_reason(error)} ({Path(place.filename).name}:{place.lineno})"
        return Checked(subject, kind, broken=told)
    return Checked(subject, kind, unchecked=absent)


def _missing_data(plugin: Plugin, root: Path | None) -> CwbenchError | None:
    """Return why a dataset cannot be loaded here, which is no fault of its plugin."""
    if isinstance(plugin, Dataset):
        try:
            plugin.load("test", root)
        except CwbenchError as error:
            return error
    return None
