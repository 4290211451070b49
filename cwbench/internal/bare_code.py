"""Python code without what cannot change a result, and the names that it imports."""

import ast
import builtins
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import takewhile

from cwbench.internal import errors

ERRORS = {
    name
    for place in (builtins, errors)
    for name, thing in vars(place).items()
    if isinstance(thing, type) and issubclass(thing, BaseException)
}


@dataclass(frozen=True)
class Import:
    """One name that a module takes from elsewhere."""

    bound: str
    """What it is called in the module that imports it; ``*`` for all."""
    module: str
    """Where it is taken from."""
    name: str
    """What it is called there; empty for the module itself, ``*`` for everything in it."""


def text_of(source: bytes, without_imports_from: str) -> str:
    """Return code without comments, docstrings, texts of errors, and the statements that import from one package.

    What is imported from that package must be looked at by :func:`imports_of`.

    Raises:
        SyntaxError, ValueError: it is not Python.
    """
    tree = ast.parse(source)
    _Bare(without_imports_from, ERRORS - _other_meanings(tree, without_imports_from)).visit(tree)  # in place
    return ast.unparse(tree)


def _other_meanings(tree: ast.Module, package: str) -> set[str]:
    """Return the names that a module defines itself, or takes from elsewhere than one package."""
    found = {node.name for node in ast.walk(tree) if isinstance(node, ast.ClassDef | ast.FunctionDef)}
    imports = (node for node in ast.walk(tree) if isinstance(node, ast.ImportFrom))
    others = (node for node in imports if str(node.module).split(".")[0] != package)
    return found | {alias.asname or alias.name for node in others for alias in node.names}


def imports_of(source: bytes, package: str, followed: str) -> tuple[Import, ...]:
    """Return what a module may import, also inside its functions, but not what only a type checker sees.

    Args:
        source: the module's code.
        package: what its relative imports begin from.
        followed: a package whose attributes count as imports: after ``import cwbench``, ``cwbench.api.Loss`` is one.

    Raises:
        SyntaxError, ValueError: it is not Python.
    """
    nodes = list(_executed(ast.parse(source)))
    found = [each for node in nodes for each in _named(node, package)]
    objects = dict(_packages_bound(nodes, followed))
    return (*found, *_attributes(nodes, objects))


def _executed(tree: ast.Module) -> Iterator[ast.AST]:
    """Yield every node, the outer before the inner, but those that only a type checker sees."""
    waiting: deque[ast.AST] = deque([tree])
    while waiting:
        node = waiting.popleft()
        if isinstance(node, ast.If) and _only_types(node):
            waiting += node.orelse
            continue
        yield node
        waiting += ast.iter_child_nodes(node)


def _only_types(node: ast.If) -> bool:
    """Tell whether the body of a condition is seen by type checkers alone."""
    return ast.unparse(node.test) in ("TYPE_CHECKING", "typing.TYPE_CHECKING")


def _is_head(node: ast.stmt) -> bool:
    """Tell whether a statement may stand among the imports at the head of a module."""
    return isinstance(node, ast.Import | ast.ImportFrom | ast.Expr) or (isinstance(node, ast.If) and _only_types(node))


def _named(node: ast.AST, package: str) -> Iterator[Import]:
    """Yield the names of an import statement."""
    if isinstance(node, ast.Import):
        for alias in node.names:
            yield Import(alias.asname or alias.name.partition(".")[0], alias.name, "")
    elif isinstance(node, ast.ImportFrom):
        base = _base(node, package)
        for alias in node.names:
            yield Import(alias.asname or alias.name, base, alias.name)


def _base(node: ast.ImportFrom, package: str) -> str:
    around = package.split(".")
    above = around[: len(around) - node.level + 1] if node.level else []
    return ".".join([*above, *([node.module] if node.module else [])])


def _packages_bound(nodes: list[ast.AST], followed: str) -> Iterator[tuple[str, str]]:
    """Yield the names that may stand for a package or module of ``followed``, and which one it would be."""
    for node in nodes:
        if isinstance(node, ast.Import):
            for alias in node.names:
                if alias.name.partition(".")[0] == followed:
                    yield (alias.asname, alias.name) if alias.asname else (followed, followed)
        elif isinstance(node, ast.ImportFrom) and node.module == followed and not node.level:
            for alias in node.names:
                yield alias.asname or alias.name, f"{followed}.{alias.name}"


def _attributes(nodes: list[ast.AST], objects: dict[str, str]) -> Iterator[Import]:
    """Yield what is reached as an attribute of a package: ``cwbench.api.Loss``, or all of it where it is passed on."""
    inner: set[int] = set()
    for node in nodes:  # the outer before the inner: the longest chain comes first
        if id(node) in inner or not isinstance(node, ast.Attribute | ast.Name):
            continue
        chain: list[str] = []
        base: ast.expr = node
        while isinstance(base, ast.Attribute):
            chain.append(base.attr)
            base = base.value
            inner.add(id(base))
        if isinstance(base, ast.Name) and base.id in objects:
            path = [*objects[base.id].split("."), *reversed(chain)]
            # The first two are the package and one of its packages; what follows may be a module or a name.
            for length in range(min(2, len(path)), len(path)):
                yield Import(ast.unparse(node), ".".join(path[:length]), path[length])
            if len(path) <= 2:  # the package itself is passed on: anything of it may be used
                yield Import(ast.unparse(node), ".".join(path), "*")


class _Bare(ast.NodeTransformer):
    """Takes away what cannot change a result: docstrings, what an error says, and where in cwbench a name comes from.

    The definitions that cwbench's names refer to are hashed themselves, so a module may move without changing anything.
    """

    def __init__(self, package: str, errors: set[str]) -> None:
        self.package = package
        self.errors = errors

    def generic_visit(self, node: ast.AST) -> ast.AST:
        super().generic_visit(node)
        if not isinstance(node, ast.Module) and getattr(node, "body", None) == []:
            node.body = [ast.Pass()]  # type: ignore[attr-defined]
        return node

    def visit_Module(self, node: ast.Module) -> ast.AST:
        # The imports at the head may be in any order: a sorted list of them is hashed beside the code.
        head = list(takewhile(_is_head, node.body))
        node.body = [part for part in head if not self._imports_from_package(part)] + node.body[len(head) :]
        return self.generic_visit(node)

    def visit_ImportFrom(self, node: ast.ImportFrom) -> ast.AST:
        # Further down, in a function or a condition, it matters which name is bound where.
        if self._imports_from_package(node):
            node.module = "_"
        return node

    def _imports_from_package(self, node: ast.AST) -> bool:
        return isinstance(node, ast.ImportFrom) and not node.level and str(node.module).split(".")[0] == self.package

    def visit_If(self, node: ast.If) -> ast.AST | list[ast.stmt]:
        self.generic_visit(node)
        return node.orelse if _only_types(node) else node

    def visit_Expr(self, node: ast.Expr) -> ast.AST | None:
        docstring = isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)
        return None if docstring else self.generic_visit(node)

    def visit_Assert(self, node: ast.Assert) -> ast.AST:
        if node.msg and _is_text(node.msg):
            node.msg = None
        return self.generic_visit(node)

    def visit_Call(self, node: ast.Call) -> ast.AST:
        # Only of what is certainly an error: another class may end in Error and compute, such as MeanSquaredError.
        if isinstance(node.func, ast.Name) and node.func.id in self.errors:
            _drop_texts(node)
        return self.generic_visit(node)

    def visit_Raise(self, node: ast.Raise) -> ast.AST:
        if isinstance(node.exc, ast.Call) and _called(node.exc).endswith(("Error", "Exception", "Warning")):
            _drop_texts(node.exc)
        return self.generic_visit(node)


def _called(call: ast.Call) -> str:
    """Return the name of what is called, without the module or object that it is an attribute of."""
    return call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")


def _drop_texts(call: ast.Call) -> None:
    """Take the texts from what an error is made of; other values may be caught and used."""
    call.args = [each for each in call.args if not _is_text(each)]
    call.keywords = [each for each in call.keywords if not _is_text(each.value)]


def _is_text(node: ast.expr) -> bool:
    """Tell whether an expression is certainly a text, and sets no name."""
    if any(isinstance(part, ast.NamedExpr) for part in ast.walk(node)):
        return False
    if isinstance(node, ast.Constant):
        return isinstance(node.value, str)
    if isinstance(node, ast.BinOp):  # "a" + b, "a" * n, "a %s" % b
        return _is_text(node.left) or _is_text(node.right)
    if isinstance(node, ast.IfExp):
        return _is_text(node.body) and _is_text(node.orelse)
    if isinstance(node, ast.Call):  # ", ".join(names)
        return isinstance(node.func, ast.Attribute) and _is_text(node.func.value)
    return isinstance(node, ast.JoinedStr)
