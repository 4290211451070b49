"""The README's promises: its commands run as they stand, and its plugin is one."""

import re
import shlex
import sys

import pytest

from cwbench.cli import main
from cwbench.testing import check


@pytest.fixture(scope="module")
def readme(request):
    return (request.config.rootpath / "README.md").read_text()


def blocks(text: str, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)


def test_the_two_lines_are_what_ci_runs(readme, request):
    script = (request.config.rootpath / ".ci" / "run").read_text()
    assert "pip install . && cwbench run --defense mart --attack tpgd" in readme
    assert "pip install -e '.[dev]' && pytest" in readme
    assert 'pip install --quiet . && (cd "$work" && cwbench run --defense mart --attack tpgd)' in script
    assert "pip install --quiet -e '.[dev]' && pytest" in script


def test_every_example_of_run_runs(readme, tmp_path, monkeypatch, capsys):
    """Cut short by fewer epochs and images; those that need data or a file of the reader's are left out."""
    monkeypatch.chdir(tmp_path)
    lines = [line for block in blocks(readme, "") for line in block.splitlines() if line.startswith("cwbench run")]
    commands = [shlex.split(line, comments=True)[1:] for line in lines]
    elsewhere = re.compile(r"DIR|POOL|run\.yaml|cifar10|USER")
    commands = [command for command in commands if not elsewhere.search(" ".join(command))]
    assert len(commands) == 4
    for command in commands:
        monkeypatch.setattr(sys, "argv", ["cwbench", *command, "--limit", "20", "--set", "recipe.epochs=10"])
        with pytest.raises(SystemExit) as stop:
            main()
        assert not stop.value.code
    assert "tpgd:inverse_temperature=10" in capsys.readouterr().out


def test_every_change_of_a_recipe_is_accepted(readme, tmp_path, monkeypatch):
    lines = [line for block in blocks(readme, "") for line in block.splitlines() if line.startswith("--set")]
    assert len(lines) == 4
    monkeypatch.chdir(tmp_path)
    for line in lines:
        command = [
            "run",
            "--defense",
            "standard",
            "--attack",
            "fgsm",
            "--limit",
            "10",
            *shlex.split(line, comments=True),
        ]
        monkeypatch.setattr(sys, "argv", ["cwbench", *command, "--recipe", "quick"])
        with pytest.raises(SystemExit) as stop:
            main()
        assert not stop.value.code, line


def test_the_plugin_is_one(readme):
    (source,) = [block for block in blocks(readme, "python") if "hookimpl" in block]
    namespace: dict = {"__name__": "corner"}
    exec(source, namespace)  # noqa: S102 - the README is ours
    (corner,) = namespace["cwbench_attacks"]()
    check(corner())
    check(corner(up=False))
