"""Digests: of JSON-able values, of arrays, and of the code that a class is made of."""

import ast
import hashlib
import inspect
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np


def of_json(value: Any) -> str:
    """Return the sha256 of ``value`` as canonical JSON: sorted keys, no spaces, no NaN."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


def of_arrays(*arrays: np.ndarray[Any, Any]) -> str:
    """Return the sha256 of the arrays' types, shapes and bytes, in order."""
    state = hashlib.sha256()
    for array in arrays:
        state.update(f"{array.dtype.str}{array.shape}".encode())
        state.update(np.ascontiguousarray(array).data)
    return state.hexdigest()


def of_bytes(content: bytes) -> str:
    """Return the sha256 of bytes."""
    return hashlib.sha256(content).hexdigest()


def of_file(path: Path) -> str:
    """Return the sha256 of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def of_code(cls: type, *, stop: tuple[type, ...] = ()) -> str:
    """Return the sha256 of the code that defines ``cls`` and its bases, up to the bases in ``stop``.

    The whole file of each class counts, without comments and docstrings. It is part of a checkpoint's digest:
    whoever edits the loss of a plugin must not be served the weights of the loss before.
    """
    skipped = {base for known in stop for base in known.__mro__}
    return of_modules(*dict.fromkeys(base.__module__ for base in cls.__mro__ if base not in skipped))


def of_modules(*names: str) -> str:
    """Return the sha256 of the code of imported modules, without comments and docstrings."""
    return of_bytes("\n".join(_code_text(name) for name in names).encode())


def _code_text(module: str) -> str:
    try:
        source = inspect.getsource(sys.modules[module])
    except (OSError, TypeError, KeyError):  # typed into an interpreter: there is no file to read
        return module
    tree = ast.parse(source)
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            body = [part for part in node.body if not _is_string(part)]
            node.body = body or [ast.Pass()]
    return ast.unparse(tree)


def _is_string(node: ast.stmt) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)
