"""Discovery with real distributions: a folder on the path with a module and its metadata, as pip leaves them."""

import os
import sys

import pytest

from cwbench.api import Dataset
from cwbench.datasets.digits import Digits
from cwbench.plugins.discovery import discover, flaws
from cwbench.plugins.registry import Registry
from tests import command_line

ATTACK = """
import cwbench
from cwbench.api import Access, Attack

class Nothing(Attack):
    name = "{name}"
    reference = "nobody"
    access = Access.DECISION

    def perturb(self, model, x, y, *, threat, streams, budget):
        return x

@cwbench.hookimpl
def cwbench_attacks():
    return [Nothing]
"""


@pytest.fixture
def install(tmp_path, monkeypatch):
    """Return a function that installs a distribution with one module as its plugin."""
    monkeypatch.syspath_prepend(str(tmp_path))

    def do(name: str, source: str) -> None:
        module = f"{name.replace('-', '_')}_module"
        sys.modules.pop(module, None)
        (tmp_path / f"{module}.py").write_text(source)
        info = tmp_path / f"{name}-1.2.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.2\n")
        (info / "entry_points.txt").write_text(f"[cwbench]\n{name}-plugin = {module}\n")

    do.path = tmp_path
    return do


def reasons(limit=None):
    return [str(failure) for failure in discover(limit).failures]


def test_the_builtins_come_through_the_entry_point():
    found = discover("")
    assert [origin.plugin for origin in found.origins] == ["builtin"]
    assert {offer.origin.distribution for offer in found.offers} == {"cwbench"}
    assert not found.failures


def test_a_third_partys_attack_is_found(install):
    install("good", ATTACK.format(name="nothing"))
    registry = Registry(discover())
    offer = registry.find("attack", "nothing")
    assert (offer.origin.plugin, offer.origin.distribution, offer.origin.version) == ("good-plugin", "good", "1.2")
    assert not registry.failures


BROKEN = {
    "raises": ("raise ValueError('no such thing')", "import of raises_module failed: ValueError: no such thing"),
    "missing": (
        "import a_module_that_is_not_there",
        "it needs the module a_module_that_is_not_there, which is not installed",
    ),
    "exits": ("import sys; sys.exit(3)", "SystemExit: 3"),
    "syntax": ("def (", "SyntaxError"),
    "misspelt": (ATTACK.format(name="a1").replace("def cwbench_attacks", "def cwbench_atacks"), "unknown hook"),
    "unmarked": (ATTACK.format(name="a2").replace("@cwbench.hookimpl", ""), "not marked with @cwbench.hookimpl"),
    "arguments": (ATTACK.format(name="a3").replace("cwbench_attacks()", "cwbench_attacks(extra)"), "extra"),
    "empty": ("x = 1", "implements no cwbench hook"),
    "explodes": (ATTACK.format(name="a4").replace("return [Nothing]", "return 1 / 0"), "ZeroDivisionError"),
    "none": (ATTACK.format(name="a5").replace("return [Nothing]", "return None"), "TypeError"),
    "repeats": (ATTACK.format(name="pgd"), "the name 'pgd' is taken by cwbench"),
    "shouts": (ATTACK.format(name="Bad Name"), "must be lower-case"),
    "nameless": (ATTACK.format(name="a6").replace('    name = "a6"\n', ""), "does not set name"),
    "uncited": (ATTACK.format(name="a7").replace("nobody", " "), "citation"),
    "access": (ATTACK.format(name="a8").replace("Access.DECISION", '"all"'), "cwbench.api.Access"),
    "abstract": (ATTACK.format(name="a9").replace("def perturb", "def other"), "does not define perturb"),
    "interrupts": ("raise GeneratorExit('out')", "GeneratorExit: out"),
    "watching": (
        "def __dir__():\n    return ['cwbench_attacks']\n\ndef __getattr__(name):\n    raise OSError('no peeking')",
        "no peeking",
    ),
    "reserved": (ATTACK.format(name="clean"), "and not ('clean',)"),
    "numbered": (ATTACK.format(name="a11").replace('name = "a11"', "name = 5"), "must be lower-case"),
    "dataset": (
        ATTACK.format(name="a12").replace("def perturb", "def other")
        + """
from cwbench.datasets.digits import Digits

class Half(cwbench.api.Dataset):
    name = "half"
    reference = "nobody"
    classes, shape, sizes, eps = Digits.classes, Digits.shape, Digits.sizes, Digits.eps
    attack, backbone, recipes, superclasses = Digits.attack, Digits.backbone, None, None

    def load(self, split, root):
        return None

@cwbench.hookimpl
def cwbench_attacks():
    return []

@cwbench.hookimpl
def cwbench_datasets():
    return [Half]
""",
        "'NoneType' object has no attribute 'values'",
    ),
    "speechless": (
        "class Mute(Exception):\n    def __str__(self):\n        raise OSError\n\nraise Mute",
        "import of speechless_module failed: Mute",
    ),
    "stranger": (ATTACK.format(name="a10").replace("return [Nothing]", "return [dict]"), "no subclass of cwbench.api"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_plugin_is_reported_and_the_others_go_on(name, install):
    source, complaint = BROKEN[name]
    install(name, source)
    install("good", ATTACK.format(name="nothing"))
    (reason,) = reasons()
    assert reason.startswith(f"plugin {name}-plugin of {name} 1.2: ")
    assert complaint in reason
    assert "\n" not in reason
    registry = Registry(discover())
    assert registry.attack("nothing").name == "nothing"
    assert len(registry.offers("attack")) == len(Registry(discover("")).offers("attack")) + 1


def test_metadata_of_others_stop_nothing(install):
    install("good", ATTACK.format(name="nothing"))
    install("latin", "x = 1")
    (install.path / "latin-1.2.dist-info" / "METADATA").write_bytes(b"Name: caf\xe9\n")
    (reason,) = reasons()
    assert "its metadata cannot be read" in reason
    (install.path / "latin-1.2.dist-info" / "entry_points.txt").unlink()
    assert not reasons()


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"norm": "L3"}, "unknown norm"),
        ({"eps": "oops"}, "bad eps"),
        ({"attack": None}, "its attack must be"),
        ({"sizes": {}}, "its sizes must say"),
        ({"recipes": {"paper": {}}, "default_recipe": "paper"}, "its recipes must be"),
        ({"classes": ("a", 1)}, "its classes must be"),
        ({"classes": ("a",)}, "its classes must be"),
        ({"shape": (1, "8")}, "its shape must be"),
    ],
)
def test_datasets_that_cannot_work_are_left_out(changes, complaint):
    base = {name: getattr(Digits, name) for name in Dataset.__class_vars__ if hasattr(Digits, name)}
    base |= {"load": lambda self, split, root: None, "reference": "nobody", "__module__": __name__}
    assert not flaws("dataset", type("Good", (Dataset,), base))
    assert complaint in "; ".join(flaws("dataset", type("Bad", (Dataset,), base | changes)))


def test_a_plugin_that_prints_leaves_stdout_alone(install, capsys):
    install("chatty", "print('hello')\n" + ATTACK.format(name="nothing"))
    assert not discover().failures
    assert capsys.readouterr() == ("", "hello\n")


def test_broken_metadata_are_reported(install):
    install("good", ATTACK.format(name="nothing"))
    install("torn", "x = 1")
    (install.path / "torn-1.2.dist-info" / "entry_points.txt").write_text("[cwbench]\nno value")
    (reason,) = reasons()
    assert "torn-1.2.dist-info" in reason
    assert Registry(discover()).attack("nothing").name == "nothing"


def test_of_two_that_repeat_each_other_the_first_by_name_stands(install):
    install("bbb", ATTACK.format(name="nothing"))
    install("aaa", ATTACK.format(name="nothing"))
    registry = Registry(discover())
    assert registry.find("attack", "nothing").origin.distribution == "aaa"
    assert "bbb" in str(registry.failures[0])


def test_the_environment_limits_what_is_loaded(install):
    install("first", ATTACK.format(name="one"))
    install("second", ATTACK.format(name="two"))
    assert [origin.distribution for origin in discover("second").origins] == ["cwbench", "second"]
    assert [origin.distribution for origin in discover("first-plugin").origins] == ["cwbench", "first"]
    assert [origin.distribution for origin in discover("").origins] == ["cwbench"]
    assert "no such plugin is installed" in reasons("third")[0]


def test_cwbench_plugins_and_the_error_of_a_run_report_the_broken_one(install):
    install("raises", BROKEN["raises"][0])
    environment = os.environ | {"PYTHONPATH": str(install.path)}
    listed = command_line.run("plugins", cwd=install.path, environment=environment)
    assert listed.returncode == 0, listed.stderr
    assert "plugin raises-plugin of raises 1.2: import of raises_module failed" in listed.stdout
    arguments = ["run", "--defense", "mart", "--attack", "mine"]
    failed = command_line.run(*arguments, cwd=install.path, environment=environment)
    assert failed.returncode == 2
    assert "no attack is named 'mine'" in failed.stderr
    assert "raises-plugin of raises 1.2" in failed.stderr
    assert not (install.path / "runs").exists()
