"""Discovery of plugins: a broken one is reported by name, distribution and reason, and the others go on working."""

import ast
import inspect
import os
import re
import sys
from collections.abc import Iterable, Iterator
from contextlib import redirect_stdout, suppress
from dataclasses import dataclass, field
from importlib.metadata import EntryPoint, distributions
from importlib.util import find_spec
from pathlib import Path
from typing import Any, cast

import pluggy

from cwbench.api import Access, Attack, Backbone, Dataset, Defense, Inner, Plugin, Recipe, hooks, make_threat
from cwbench.internal.errors import CwbenchError, named_reason

KINDS: dict[str, type[Plugin]] = {
    "attack": Attack,
    "defense": Defense,
    "dataset": Dataset,
    "backbone": Backbone,
}
BUILTIN = "builtin"
API_VERSION = 1
"""Of ``cwbench.api`` and the hooks. A plugin may say which one it was written for: ``cwbench_api_version = 1``."""
VERSION = "cwbench_api_version"
OFFERING = {f"cwbench_{kind}s": kind for kind in KINDS}
"""The hooks that offer classes, and the kind of each."""
RESERVED = ("clean",)  # what a report calls the condition without an attack


@dataclass(frozen=True)
class Origin:
    """Where a plugin comes from."""

    plugin: str
    """The name of the entry point."""
    distribution: str
    version: str


@dataclass(frozen=True)
class Failure:
    """A plugin, or one class of a plugin, that cannot be used."""

    origin: Origin
    reason: str

    def __str__(self) -> str:
        return f"plugin {self.origin.plugin} of {self.origin.distribution} {self.origin.version}: {self.reason}"


@dataclass(frozen=True)
class Offer:
    """A sound class that a plugin offers."""

    kind: str
    cls: type[Plugin]
    origin: Origin


@dataclass
class Discovery:
    """What discovery found."""

    origins: list[Origin] = field(default_factory=list)
    offers: list[Offer] = field(default_factory=list)
    failures: list[Failure] = field(default_factory=list)
    manager: pluggy.PluginManager = field(default_factory=lambda: pluggy.PluginManager(hooks.PROJECT))
    """Holds the implementations of the hooks that are called while a run is under way."""

    def hooks_of(self, origin: Origin) -> list[str]:
        """Return the hooks that a plugin implements besides those that offer classes."""
        plugin = self.manager.get_plugin(_registered(origin))
        callers = (plugin is not None and self.manager.get_hookcallers(plugin)) or []
        return [caller.name for caller in callers if caller.name not in OFFERING]


def discover(limit: str | None = None) -> Discovery:
    """Load every installed plugin of the entry-point group ``cwbench``, built-ins first, then by distribution.

    ``limit`` is the value of ``CWBENCH_PLUGINS``: a comma-separated list of the plugins (entry points or
    distributions) to load besides the built-ins; empty for the built-ins alone, None for all.
    """
    found = Discovery()
    manager = found.manager
    manager.add_hookspecs(hooks)
    for origin, entry in _entries(found):
        if limit is None or origin.plugin == BUILTIN or {origin.plugin, origin.distribution} & _names(limit):
            found.origins.append(origin)
            _load(manager, origin, entry, found)
    for name in sorted(_names(limit or "")):
        if not any(name in (origin.plugin, origin.distribution) for origin in found.origins):
            missing = Origin(name, "?", "?")
            found.failures.append(Failure(missing, "named in CWBENCH_PLUGINS, but no such plugin is installed"))
    return found


def discover_installed() -> Discovery:
    """Discover within the limits of the environment variable ``CWBENCH_PLUGINS``."""
    return discover(os.environ.get("CWBENCH_PLUGINS"))


def _names(limit: str) -> set[str]:
    return {name.strip() for name in limit.split(",") if name.strip()}


def _entries(found: Discovery) -> list[tuple[Origin, EntryPoint]]:
    """Return the entry points, each once even when a distribution lies twice on the path."""
    entries: dict[Origin, EntryPoint] = {}
    for dist in distributions():
        name, version = "?", "?"
        try:
            group = list(dist.entry_points.select(group=hooks.PROJECT))
            if group:
                name, version = dist.metadata["Name"] or "?", dist.metadata["Version"] or "?"
        except Exception as error:  # noqa: BLE001 - somebody's broken metadata
            origin = Origin("?", str(getattr(dist, "_path", "?")), version)
            found.failures.append(Failure(origin, f"its metadata cannot be read: {named_reason(error)}"))
            continue
        for entry in group:
            entries.setdefault(Origin(entry.name, name, version), entry)
    return sorted(entries.items(), key=lambda item: (item[0].plugin != BUILTIN, item[0].distribution, item[0].plugin))


def _load(manager: pluggy.PluginManager, origin: Origin, entry: EntryPoint, found: Discovery) -> None:
    """Import a plugin and take what it offers; whatever goes wrong in it becomes a failure."""
    try:
        with redirect_stdout(sys.stderr):  # a plugin that prints must not end up in the JSON of a report
            plugin = _imported(entry)
            for kind, classes in _implemented(manager, _registered(origin), plugin):
                for cls in classes:
                    _offer(kind, cls, origin, found)
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # noqa: BLE001 - whatever a third party's code does, the others go on
        found.failures.append(Failure(origin, _told(error)))
        if manager.has_plugin(_registered(origin)):
            manager.unregister(name=_registered(origin))


def _registered(origin: Origin) -> str:
    """Return the name that a plugin is registered under."""
    return f"{origin.distribution}:{origin.plugin}"


def _imported(entry: EntryPoint) -> object:
    try:
        plugin = entry.load()
    except KeyboardInterrupt:
        raise
    except ModuleNotFoundError as error:
        _refuse_later(_declared_version(entry))
        missing = f"it needs the module {error.name}, which is not installed"
        raise _ImportFailedError(f"import of {entry.value} failed: {missing}") from error
    except BaseException as error:
        _refuse_later(_declared_version(entry))
        raise _ImportFailedError(f"import of {entry.value} failed: {named_reason(error)}") from error
    _refuse_later(getattr(plugin, VERSION, API_VERSION))
    return plugin


def _refuse_later(wanted: Any) -> None:
    if not isinstance(wanted, int) or wanted > API_VERSION:
        raise _ImportFailedError(
            f"it is built for version {wanted} of the plugin interface, and this cwbench has {API_VERSION}: "
            "update cwbench"
        )


def _declared_version(entry: EntryPoint) -> Any:
    """Return the version that a module states which cannot be imported, perhaps because it is of a later one."""
    with suppress(Exception):  # whatever keeps its source from being read, the error of the import is told
        spec = find_spec(entry.module)
        tree = ast.parse(Path(str(spec and spec.origin)).read_bytes())
        for node in tree.body:
            if isinstance(node, ast.Assign) and [ast.unparse(target) for target in node.targets] == [VERSION]:
                return ast.literal_eval(node.value)
    return API_VERSION


def _implemented(manager: pluggy.PluginManager, name: str, plugin: object) -> Iterator[tuple[str, list[Any]]]:
    """Register a plugin and yield, for each hook that offers classes, the kind and the classes.

    Raises:
        pluggy.PluginValidationError: a hook is misspelled, unmarked or has other arguments, or there is none.
    """
    hooks = [hook for hook in dir(plugin) if hook.startswith("cwbench_") and callable(getattr(plugin, hook))]
    unmarked = [hook for hook in hooks if manager.parse_hookimpl_opts(plugin, hook) is None]
    if unmarked:
        reason = f"{', '.join(unmarked)} is not marked with @cwbench.hookimpl and would never be called"
        raise pluggy.PluginValidationError(plugin, reason)
    manager.register(plugin, name=name)
    try:
        manager.check_pending()
    except pluggy.PluginValidationError:
        manager.unregister(plugin)
        raise
    callers = manager.get_hookcallers(plugin)
    if not callers:
        raise pluggy.PluginValidationError(plugin, "it implements no cwbench hook")
    for caller in callers:
        if caller.name not in OFFERING:
            continue
        (implementation,) = [found for found in caller.get_hookimpls() if found.plugin is plugin]
        classes = cast("Iterable[Any]", implementation.function())
        yield OFFERING[caller.name], list(classes)


def _offer(kind: str, cls: Any, origin: Origin, found: Discovery) -> None:
    wrong = flaws(kind, cls)
    if not wrong:
        rivals = [offer for offer in found.offers if offer.kind == kind and offer.cls.name == cls.name]
        wrong = [f"the name {cls.name!r} is taken by {rival.origin.distribution}" for rival in rivals]
    if wrong:
        label = cls.__name__ if isinstance(cls, type) else repr(cls)
        found.failures.append(Failure(origin, f"{kind} {label} is left out: {'; '.join(wrong)}"))
    else:
        found.offers.append(Offer(kind, cls, origin))


def flaws(kind: str, cls: Any) -> list[str]:
    """Return what is wrong with a class that a plugin offers, in words."""
    base = KINDS[kind]
    if not isinstance(cls, type) or not issubclass(cls, base):
        return [f"it is no subclass of cwbench.api.{base.__name__}"]
    missing = [name for name in _declared(base) if not hasattr(cls, name)]
    if missing:
        return [f"it does not set {', '.join(missing)}"]
    found = []
    if inspect.isabstract(cls):
        found.append(f"it does not define {', '.join(sorted(cls.__abstractmethods__))}")
    if not re.fullmatch(r"[a-z0-9][a-z0-9-]*", cls.name if isinstance(cls.name, str) else "") or cls.name in RESERVED:
        found.append(f"its name {cls.name!r} must be lower-case letters, digits and hyphens, and not {RESERVED}")
    if not str(cls.reference).strip():
        found.append("its reference must be a citation")
    if issubclass(cls, Attack) and cls.access not in list(Access):
        found.append(f"its access {cls.access!r} must be a value of cwbench.api.Access")
    if issubclass(cls, Dataset):
        found += _dataset_flaws(cls)
    return found


def _dataset_flaws(cls: type[Dataset]) -> list[str]:
    try:
        make_threat(cls.norm, cls.eps)
    except CwbenchError as error:
        return [str(error)]
    recipes = all(isinstance(recipe, Recipe) for recipe in cls.recipes.values())
    rules = {
        "its attack must be a cwbench.api.Inner": isinstance(cls.attack, Inner),
        "its recipes must be cwbench.api.Recipe": recipes,
        f"its default_recipe {cls.default_recipe!r} is not among its recipes": cls.default_recipe in cls.recipes,
    }
    if not cls.classes_from_files:
        members = sorted(index for group in cls.superclasses.values() for index in group)
        names = all(isinstance(name, str) for name in cls.classes)
        rules |= {
            "its classes must be two or more different names": names and len(set(cls.classes)) == len(cls.classes) > 1,
            "its superclasses must hold every class exactly once": (
                not members or members == list(range(len(cls.classes)))
            ),
            "its sizes must say how many examples train and test have": set(cls.sizes) == {"train", "test"},
            "its shape must be two numbers, channels and size": [type(n) for n in cls.shape] == [int, int],
        }
    return [rule for rule, kept in rules.items() if not kept]


def _declared(base: type[Plugin]) -> Iterable[str]:
    """Return the class attributes that a kind of plugin declares."""
    return [name for cls in reversed(base.__mro__) if issubclass(cls, Plugin) for name in cls.__class_vars__]


class _ImportFailedError(Exception):
    """A module of a plugin cannot be used; the text says why."""


def _told(error: BaseException) -> str:
    return str(error) if isinstance(error, _ImportFailedError) else named_reason(error)
