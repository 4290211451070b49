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

OWN = "cwbench"
PAGE = "cwbench.api"
"""The package whose ``__init__`` only names what its modules define: an import from it is followed to the
definition."""


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


def of_code(*modules: str, packages: Collection[str]) -> str:
    """Return the sha256 of the code of some modules and of all that they import and that counts.

    It is part of a checkpoint's digest: whoever edits a loss must not be served the weights of the loss before.
    Comments, docstrings and the text of errors do not count, nor does the name of a module: code that moves stays the
    same.

    Args:
        modules: the modules to begin with.
        packages: the packages of cwbench whose code counts, such as ``training``; the others are neither hashed nor
            followed. Of other distributions those count that ``modules`` belong to, and modules that no distribution
            claims: a file beside a script, a package installed for editing.

    A module that cannot be read, such as a notebook, gets a new digest every time, since nobody can tell whether its
    code is the same.
    """
    return of_json(sorted(code_of(*modules, packages=packages).values()))


def code_of(*modules: str, packages: Collection[str]) -> dict[str, str]:
    """Return the code that :func:`of_code` hashes, by module; arguments as there."""
    owners = {owner for name in modules for owner in _owners(name)} - {OWN}
    texts: dict[str, str] = {}
    waiting = list(modules)
    while waiting:
        name = waiting.pop()
        if name in texts:
            continue
        path = _source(name)
        try:
            text, imports = _read(name, path, path.stat().st_mtime_ns) if path else (None, ())
        except (OSError, ValueError, SyntaxError):
            text, imports = None, ()
        if text is None:
            texts[name] = str(uuid.uuid4())
            continue
        texts[name] = text
        waiting += [found for found in imports if _counts(found, owners, packages) and _source(found)]
    return texts


@lru_cache(maxsize=1024)
def _read(module: str, path: Path, changed: int) -> tuple[str, tuple[str, ...]]:
    """Return what of a module's code counts, and what it imports; ``changed`` is when the file was.

    A sweep asks for the same modules in every cell, and parsing them takes a third of a second.
    """
    del changed
    tree = ast.parse(path.read_bytes())
    imports = tuple(_imports(tree, module, path))  # before docstrings go: that changes the tree
    _Bare().visit(tree)  # in place
    return ast.unparse(tree), imports


@cache
def _distributions() -> Mapping[str, list[str]]:
    return packages_distributions()


def _owners(module: str) -> list[str]:
    """Return the distributions that a module's top-level package belongs to."""
    return _distributions().get(module.partition(".")[0], [])


def _counts(module: str, owners: set[str], packages: Collection[str]) -> bool:
    first, *rest = module.split(".")
    if first == OWN:
        return bool(rest) and rest[0] in packages
    if first in sys.stdlib_module_names:
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
    for node in _walked(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
            base = ".".join([*above, *([node.module] if node.module else [])])
            if base == PAGE:
                defined = _page()
                yield from (defined.get(alias.name, f"{PAGE}.{alias.name}") for alias in node.names)
            else:
                yield base
                yield from (f"{base}.{alias.name}" for alias in node.names)


def _walked(tree: ast.Module) -> Iterator[ast.AST]:
    """Yield every node but those that only a type checker sees."""
    waiting: list[ast.AST] = [tree]
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.If) and ast.unparse(node.test) in ("TYPE_CHECKING", "typing.TYPE_CHECKING"):
            waiting += node.orelse
            continue
        yield node
        waiting += ast.iter_child_nodes(node)


def _page() -> Mapping[str, str]:
    """Return in which module each name of ``cwbench.api`` is defined."""
    path = _source(PAGE)
    return {} if path is None else _names_of(path, path.stat().st_mtime_ns)


@lru_cache(maxsize=1)
def _names_of(path: Path, changed: int) -> Mapping[str, str]:
    del changed
    imports = (node for node in ast.parse(path.read_bytes()).body if isinstance(node, ast.ImportFrom) and node.module)
    return {alias.asname or alias.name: str(node.module) for node in imports for alias in node.names}


class _Bare(ast.NodeTransformer):
    """Takes away what cannot change a result: docstrings, what an error says, and where in cwbench a name comes from.

    The definitions that cwbench's names refer to are hashed themselves, so a module may move without changing anything.
    """

    def visit(self, node: ast.AST) -> ast.AST | None:
        if isinstance(node, ast.ImportFrom) and not node.level and str(node.module).partition(".")[0] == OWN:
            return None
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            node.body = [part for part in node.body if not _is_string(part)] or [ast.Pass()]
        if isinstance(node, ast.Raise) and isinstance(node.exc, ast.Call):
            node.exc = node.exc.func
        if isinstance(node, ast.Call) and ast.unparse(node.func).endswith("Error"):
            node.args, node.keywords = [], []
        kept: ast.AST = self.generic_visit(node)
        return kept


def _is_string(node: ast.stmt) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)
