"""Digests: of JSON-able values, of files, and of code."""

import ast
import hashlib
import importlib.util
import json
import sys
import uuid
from collections.abc import Collection, Iterator, Mapping
from functools import cache, lru_cache
from importlib.metadata import packages_distributions
from pathlib import Path
from typing import Any


def of_json(value: Any) -> str:
    """Return the sha256 of ``value`` as canonical JSON: sorted keys, no spaces, no NaN."""
    return of_bytes(json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False).encode())


def of_bytes(content: bytes) -> str:
    """Return the sha256 of bytes."""
    return hashlib.sha256(content).hexdigest()


def of_file(path: Path) -> str:
    """Return the sha256 of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def of_code(*modules: str, skip: Collection[str] = ()) -> str:
    """Return the sha256 of the code of some modules and of all of their own that they import.

    Their own are the modules of the same distributions and of cwbench, and those of no distribution at all: a
    file beside a script, a package installed for editing. Comments and docstrings do not count, nor do the modules in
    ``skip`` and what only they import. It is part of a checkpoint's digest: whoever edits a loss must not be served the
    weights of the loss before. A module that cannot be read, such as a notebook, gets a new digest every time, since
    nobody can tell whether its code is the same.
    """
    owners = {"cwbench"} | {owner for name in modules for owner in _owners(name)}
    texts: dict[str, str] = {}
    waiting = list(modules)
    while waiting:
        name = waiting.pop()
        if name in texts or name in skip:
            continue
        path = _source(name)
        try:
            text, imports = _read(name, path, path.stat().st_mtime_ns) if path else (None, ())
        except (OSError, ValueError, SyntaxError):
            text, imports = None, ()
        if text is None:
            texts[name] = str(uuid.uuid4())
            continue
        found = [module for module in imports if module not in skip and _is_own(module, owners)]
        waiting += [module for module in found if _source(module)]
        texts[name] = text
    return of_json(texts)


@lru_cache(maxsize=1024)
def _read(module: str, path: Path, changed: int) -> tuple[str, tuple[str, ...]]:
    """Return a module's code without docstrings and what it imports; ``changed`` is when the file was.

    A suite asks for the same modules in every cell, and parsing them takes a third of a second.
    """
    del changed
    tree = ast.parse(path.read_bytes())
    imports = tuple(_imports(tree, module, path))  # before docstrings go: that changes the tree
    return _without_docstrings(tree), imports


@cache
def _distributions() -> Mapping[str, list[str]]:
    return packages_distributions()


def _owners(module: str) -> list[str]:
    """Return the distributions that a module's top-level package belongs to."""
    return _distributions().get(module.partition(".")[0], [])


def _is_own(module: str, owners: set[str]) -> bool:
    if module.partition(".")[0] in sys.stdlib_module_names:
        return False
    found = _owners(module)
    return not found or bool(owners & set(found))


def _source(module: str) -> Path | None:
    """Return the file of a module, imported or not; None where there is none."""
    try:
        spec = importlib.util.find_spec(module) if module not in sys.modules else None
    except Exception:  # noqa: BLE001 - it may import a package that raises anything
        return None
    place = spec.origin if spec else getattr(sys.modules.get(module), "__file__", None)
    return Path(place) if place and place.endswith(".py") and Path(place).is_file() else None


def _imports(tree: ast.Module, module: str, path: Path) -> Iterator[str]:
    """Yield the names of the modules that a module may import, also inside its functions."""
    package = module if path.name == "__init__.py" else module.rpartition(".")[0]
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
            base = ".".join([*above, *([node.module] if node.module else [])])
            yield base
            yield from (f"{base}.{alias.name}" for alias in node.names)


def _without_docstrings(tree: ast.Module) -> str:
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            node.body = [part for part in node.body if not _is_string(part)] or [ast.Pass()]
    return ast.unparse(tree)


def _is_string(node: ast.stmt) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)
