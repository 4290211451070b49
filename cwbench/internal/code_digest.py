"""Digests of code: of some modules and of everything of theirs, and of cwbench's, that they are built on."""

import importlib.util
import json
import re
import sys
import uuid
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cache, lru_cache
from importlib.machinery import all_suffixes
from importlib.metadata import distribution, packages_distributions, requires, version
from pathlib import Path

from cwbench.internal import bare_code
from cwbench.internal.bare_code import Import
from cwbench.internal.digest import of_bytes, of_json

OWN = "cwbench"
PAGE = "cwbench.api"
"""The package whose ``__init__`` only names what its modules define: an import from it is followed to the
definition."""


@dataclass(frozen=True)
class ModuleCode:
    """What of a module counts."""

    text: str
    """Its code without what cannot change a result."""
    imports: tuple[Import, ...] = ()
    """What it takes from modules that count, and what it takes from cwbench."""
    versions: tuple[str, ...] = ()
    """Other distributions that a plugin's module imports from."""


def of_code(*modules: str, packages: Collection[str]) -> str:
    """Return the sha256 of the code of some modules and of all that they import and that counts.

    It is part of a checkpoint's digest: whoever edits a loss must not be served the weights of the loss before.
    Comments, docstrings and the text of errors do not count, nor does the name of a module of cwbench: code that moves
    stays the same.

    Args:
        modules: the modules to begin with.
        packages: the packages of cwbench whose code counts, such as ``training``; the others are neither hashed nor
            followed. Of other distributions those count whole that ``modules`` belong to, and so do modules that no
            distribution claims: a file beside a script, a package installed for editing. What a plugin imports from
            further distributions counts by their versions, but for those that cwbench itself requires.

    A module that cannot be read, such as a notebook, gets a new digest every time, since nobody can tell whether its
    code is the same. Modules that are imported by a computed name (``importlib``) and files that are read are not seen.
    """
    found = code_of(*modules, packages=packages)
    # Modules are told by the order in which they are found and not by their names: a module may move, and yet it
    # matters which of two a name comes from.
    places = {name: place for place, name in enumerate(found)}
    return of_json(
        [
            [code.text, [[each.bound, each.name, places.get(each.module)] for each in code.imports], code.versions]
            for code in found.values()
        ]
    )


def code_of(*modules: str, packages: Collection[str]) -> dict[str, ModuleCode]:
    """Return the code that :func:`of_code` hashes, by module, in the order found; arguments as there."""
    owners = {owner for name in modules for owner in _owners(name)} - {OWN}
    found: dict[str, ModuleCode] = {}
    waiting = list(modules)
    while waiting:
        name = waiting.pop(0)
        if name in found:
            continue
        path = _source(name)
        try:
            text, imports = _parsed(name, path, path.read_bytes()) if path else (None, ())
        except (OSError, ValueError, SyntaxError, RecursionError):
            text, imports = None, ()
        if text is None:
            found[name] = ModuleCode(str(uuid.uuid4()))
            continue
        taken = [one for each in imports for one in _resolved(each, owners, packages)]
        # By what they are called and not by where they come from, which is no part of the digest.
        taken.sort(key=lambda one: one.bound)
        if not text and not taken:
            continue  # an empty __init__ says nothing, and would tell where a module lies
        found[name] = ModuleCode(text, tuple(taken), _versions(name, imports, owners, packages))
        waiting += [each.module for each in taken if each.module]
        # Importing a module runs the packages that it lies in; the page would lead to everything.
        waiting += [each for each in _packages_around(name) if each != PAGE and _counts(each, owners, packages)]
    return found


@lru_cache(maxsize=1024)
def _parsed(module: str, path: Path, source: bytes) -> tuple[str, tuple[Import, ...]]:
    """Return a module's bare code and its imports.

    A sweep asks for the same modules in every cell, and parsing them takes a third of a second. They are known by what
    is in them: two edits within a tick of the clock have the same time.
    """
    if path.suffix != ".py":
        return of_bytes(source), ()  # compiled: what it imports is in its bytes
    package = module if path.name == "__init__.py" else module.rpartition(".")[0]
    return bare_code.text_of(source, without_imports_from=OWN), bare_code.imports_of(source, package, OWN)


def _resolved(found: Import, owners: set[str], packages: Collection[str]) -> Iterator[Import]:
    """Yield where an import's names are defined: modules that count, or no module for other names of cwbench."""
    module, name = found.module, found.name
    inner = f"{module}.{name}"
    if module == OWN and name not in ("", "*") and _source(inner):
        yield from _resolved(Import(found.bound, inner, ""), owners, packages)
    elif module == PAGE and not name:  # the page itself: what is taken from it is an import of its own
        yield Import(found.bound, "", "")
    elif module in (OWN, PAGE) and name == "*" and "api" in packages:
        for bound, defined in _page().items():
            yield from _resolved(replace(defined, bound=f"*{bound}"), owners, packages)
    elif module == PAGE and "api" in packages:
        defined = _page().get(name, Import(name, inner, ""))
        yield from _resolved(replace(defined, bound=found.bound), owners, packages)
    elif not _counts(module, owners, packages):
        if _is_own(module):
            yield Import(found.bound, "", name)
    elif name not in ("", "*") and _source(inner):
        yield Import(found.bound, inner, "")
    elif _source(module):
        yield found


def _versions(module: str, imports: Collection[Import], owners: set[str], packages: Collection[str]) -> tuple[str, ...]:
    """Return the distributions, with versions, behind what a plugin's module imports and does not count by its code."""
    if _is_own(module):
        return ()
    foreign = {each.module for each in imports if not _is_own(each.module)}
    names = {owner for name in foreign if not _counts(name, owners, packages) for owner in _owners(name)}
    return tuple(f"{name} {version(name)}" for name in sorted(names) if _canonical(name) not in _required())


@cache
def _distributions() -> Mapping[str, list[str]]:
    return packages_distributions()


@cache
def _required() -> set[str]:
    """Return the distributions that cwbench requires: their versions count for plugins as little as for built-ins.

    Those that decide weights, PyTorch's first, stand in a checkpoint's digest by themselves.
    """
    needed = (re.split(r"[^\w.-]", line)[0] for line in requires(OWN) or () if "extra ==" not in line)
    return {_canonical(name) for name in needed}


def _canonical(distribution: str) -> str:
    return re.sub(r"[-_.]+", "-", distribution).lower()


def _owners(module: str) -> list[str]:
    """Return the distributions that a module's top-level package belongs to, but those installed for editing."""
    return [name for name in _distributions().get(module.partition(".")[0], []) if not _is_editable(name)]


@cache
def _is_editable(name: str) -> bool:
    origin = distribution(name).read_text("direct_url.json")
    return bool(origin and json.loads(origin).get("dir_info", {}).get("editable"))


def _is_own(module: str) -> bool:
    return module.partition(".")[0] == OWN


def _counts(module: str, owners: set[str], packages: Collection[str]) -> bool:
    first, *rest = module.split(".")
    if first == OWN:
        return bool(rest) and rest[0] in packages
    if first in sys.stdlib_module_names:
        return False
    found = _owners(module)
    return not found or bool(owners & set(found))


def _packages_around(module: str) -> list[str]:
    """Return the packages that a module lies in, as far as they have an ``__init__``."""
    parts = module.split(".")
    around = (".".join(parts[:length]) for length in range(1, len(parts)))
    return [package for package in around if _source(package)]


def _source(module: str) -> Path | None:
    """Return the file of a module, imported or not; None where there is none."""
    try:
        spec = importlib.util.find_spec(module) if module not in sys.modules else None
    except (Exception, SystemExit):  # noqa: BLE001 - it may import a package that raises anything
        return None
    place = spec.origin if spec else getattr(sys.modules.get(module), "__file__", None)
    return Path(place) if place and place.endswith(tuple(all_suffixes())) and Path(place).is_file() else None


def _page() -> Mapping[str, Import]:
    """Return where each name of ``cwbench.api`` is defined."""
    path = _source(PAGE)
    return {} if path is None else _names_of(path.read_bytes())


@lru_cache(maxsize=1)
def _names_of(source: bytes) -> Mapping[str, Import]:
    return {each.bound: each for each in bare_code.imports_of(source, PAGE, OWN)}
