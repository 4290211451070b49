"""``cwbench.api`` is the page a plugin author reads: all of it is documented, and plugins import from nowhere else."""

import ast
import inspect
import re
from pathlib import Path

import pytest

import cwbench.api

ROOT = Path(__file__).parents[2]
DOCUMENT = (ROOT / "docs" / "plugins.md").read_text(encoding="utf-8")
TEMPLATES = ROOT / "cwbench" / "plugins" / "scaffold" / "templates"
PLACES = {"cwbench", "cwbench.api", "cwbench.testing"}
"""Where a plugin may import from: hookimpl and the report's class, the page, and the check of its contract."""


def test_the_documented_names_are_those_of_the_page():
    listed = DOCUMENT.split("## Everything in cwbench.api", 1)[1].split("\n## ", 1)[0]
    names = re.findall(r"^\| `(\w+)` \|", listed, re.MULTILINE)
    assert sorted(names) == sorted(cwbench.api.__all__)
    assert len(set(names)) == len(names)


def test_every_name_is_there_and_nothing_else_is_public():
    public = {name for name in vars(cwbench.api) if not name.startswith("_")}
    modules = {path.stem for path in Path(cwbench.api.__file__).parent.glob("*.py")}
    assert public - modules == set(cwbench.api.__all__) - modules


def test_classes_and_functions_have_a_docstring():
    for name in cwbench.api.__all__:
        thing = getattr(cwbench.api, name)
        if inspect.isclass(thing) or inspect.isfunction(thing):  # not aliases of types, which the table explains
            assert (thing.__doc__ or "").strip(), name


def imported(source: str) -> set[str]:
    tree = ast.parse(source)
    found = {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and not node.level}
    found |= {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    return {name for name in found if name and name.split(".")[0] == "cwbench"}


PLUGINS = [
    path for path in sorted((ROOT / "plugins").glob("cwbench-*/**/*.py")) if "tests" not in path.relative_to(ROOT).parts
]


@pytest.mark.parametrize("path", PLUGINS, ids=lambda path: path.name)
def test_the_first_party_plugins_import_from_the_page_alone(path):
    assert imported(path.read_text(encoding="utf-8")) <= PLACES


@pytest.mark.parametrize("path", sorted(TEMPLATES.glob("*.py.txt")), ids=lambda path: path.name)
def test_a_new_plugin_imports_from_the_page_alone(path):
    source = re.sub(r"\{\{([A-Z]+)\}\}", lambda word: "1" if word[1] == "API" else "word", path.read_text("utf-8"))
    assert imported(source) <= PLACES


def taken(source: str) -> set[tuple[str, str]]:
    """Return each name that code imports from cwbench, with the module that it is imported from."""
    nodes = [node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.ImportFrom) and node.module]
    return {(node.module, alias.name) for node in nodes for alias in node.names if node.module.startswith("cwbench")}


def test_the_built_in_plugins_import_what_they_share_from_the_page():
    """They are what plugin authors read as examples: what stands on the page comes from there."""
    page = taken(Path(cwbench.api.__file__).read_text(encoding="utf-8"))
    for kind in ("attacks", "defenses", "backbones", "datasets"):
        for path in sorted((ROOT / "cwbench" / kind).glob("*.py")):
            assert not taken(path.read_text(encoding="utf-8")) & page, f"{path.name} goes around cwbench.api"
