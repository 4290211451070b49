"""docs/plugins.md: its examples run as they stand, and it documents every hook with its exact arguments."""

import inspect
import re
import sys
import types
from pathlib import Path

import pytest

import cwbench.api
from cwbench.api import hooks
from cwbench.checkpoints.store import Store
from cwbench.pipeline.runner import run
from cwbench.pipeline.session import Session
from cwbench.plugins.discovery import KINDS, discover
from cwbench.plugins.registry import Registry
from cwbench.spec import RunSpec
from cwbench.testing import check

TEXT = (Path(__file__).parents[2] / "docs" / "plugins.md").read_text(encoding="utf-8")
EXAMPLES = dict(re.findall(r"```python (\w+)\n(.*?)```", TEXT, re.DOTALL))


@pytest.fixture
def example(tmp_path, monkeypatch):
    """Return a function that installs an example as a distribution and returns the registry with it and its module."""
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setenv("CWBENCH_CACHE", str(tmp_path / "cache"))

    def install(name: str) -> tuple[Registry, types.ModuleType]:
        module = f"documented_{name}"
        sys.modules.pop(module, None)
        (tmp_path / f"{module}.py").write_text(EXAMPLES[name], encoding="utf-8")
        info = tmp_path / f"documented_{name}-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: documented-{name}\nVersion: 1.0\n")
        (info / "entry_points.txt").write_text(f"[cwbench]\ndocumented = {module}\n")
        found = discover()
        assert not found.failures
        return Registry(found), sys.modules[module]

    return install


def test_there_is_an_example_of_everything():
    assert set(EXAMPLES) == {*KINDS, "observer", "opener"}


RUNS = {
    "attack": {"defense": "standard", "attacks": "darken:share=0.5"},
    "defense": {"defense": "smooth", "attacks": "fgsm"},
    "dataset": {"defense": "madry", "attacks": "fgsm", "dataset": "bars"},
    "backbone": {"defense": "standard", "attacks": "fgsm", "backbone": "shallow"},
    "observer": {"defense": "standard", "attacks": "fgsm"},
    "opener": {"checkpoint": "mean://anything", "attacks": "fgsm"},
}


@pytest.mark.parametrize("name", EXAMPLES)
def test_an_example_keeps_the_contract_and_runs(name, example, tmp_path, capsys):
    registry, module = example(name)
    for offer in registry.discovery.offers:
        if offer.cls.__module__ == module.__name__:
            check(offer.cls())
    quick = {} if "checkpoint" in RUNS[name] else {"set": {"recipe.epochs": 3}}
    report, _ = run(RunSpec(limit=40, **RUNS[name], **quick), Session(registry, Store.default(), out=tmp_path))
    assert report.accuracy() is not None
    if name == "observer":
        printed = capsys.readouterr().err
        assert "standard: epoch 3 of 3, loss" in printed
        assert "report.json" in printed


def specified() -> list[str]:
    return [name for name in vars(hooks) if name.startswith("cwbench_")]


def test_every_hook_is_documented_with_its_exact_arguments():
    names = specified()
    assert len(names) == 9
    for name in names:
        arguments = ", ".join(inspect.signature(getattr(hooks, name)).parameters)
        assert f"| `{name}({arguments})` |" in TEXT
    documented = re.findall(r"^\| `(cwbench_\w+)\(", TEXT, re.MULTILINE)
    assert sorted(documented) == sorted(names)


def test_every_hook_is_called_by_a_test_of_this_page_or_of_observers():
    observed = (Path(__file__).parent / "test_observers.py").read_text(encoding="utf-8")
    for name in specified():
        assert f"def {name}(" in "".join(EXAMPLES.values()) + observed


def test_the_table_of_attributes_does_not_miss_what_the_api_has():
    for attribute in ("pooled", "norms", "minimal", "needs_images", "wants_substitute"):
        assert f"`{attribute}`" in TEXT
        assert hasattr(cwbench.api.Attack, attribute)
