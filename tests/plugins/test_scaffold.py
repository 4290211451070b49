"""The start of a plugin, as a new user makes it: real commands in a virtual environment of their own."""

import os
import runpy
import shlex
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

from cwbench.internal.errors import CwbenchError
from cwbench.plugins.discovery import KINDS
from cwbench.plugins.scaffold import create
from cwbench.testing import check


@pytest.fixture(scope="module")
def environment(tmp_path_factory):
    """Return the variables of a virtual environment that has what this one has, and pip of its own."""
    home = tmp_path_factory.mktemp("environment")
    subprocess.run([sys.executable, "-m", "venv", home / "venv"], check=True)
    site = next((home / "venv").glob("lib/python*/site-packages"))
    (site / "parent.pth").write_text(
        f"import site; site.addsitedir({sysconfig.get_paths()['purelib']!r})\n", encoding="utf-8"
    )
    command = home / "venv" / "bin" / "cwbench"
    command.write_text(f"#!{home}/venv/bin/python\nfrom cwbench.cli import main\nmain()\n", encoding="utf-8")
    command.chmod(0o755)
    return os.environ | {
        "PATH": f"{home}/venv/bin:{os.environ['PATH']}",
        "VIRTUAL_ENV": str(home / "venv"),
        "CWBENCH_CACHE": str(home / "cache"),
        "PIP_DISABLE_PIP_VERSION_CHECK": "1",
        "OMP_NUM_THREADS": "1",
    }


def shell(command: str, folder: Path, environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        shlex.split(command), cwd=folder, env=environment, capture_output=True, text=True, check=False
    )


QUICK = "--set recipe.epochs=2 --limit 50"


def succeeds(command: str, folder: Path, environment: dict[str, str]) -> None:
    done = shell(command, folder, environment)
    assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"


def test_four_commands_from_an_empty_folder(environment, tmp_path):
    folder = tmp_path / "cwbench-mine"
    succeeds("cwbench plugins new mine --kind attack", tmp_path, environment)
    succeeds("pip install -q -e .", folder, environment)
    succeeds("cwbench plugins check mine", folder, environment)
    succeeds(f"cwbench run --defense standard --attack mine {QUICK}", folder, environment)
    assert list((folder / "runs").glob("*/report.json"))
    succeeds("python -m pytest -q -p no:cacheprovider tests", folder, environment)
    succeeds("pip uninstall -q -y cwbench-mine", tmp_path, environment)


RUN = {
    "defense": f"cwbench run --defense my-defense --attack fgsm {QUICK}",
    "dataset": f"cwbench run --defense standard --attack fgsm --dataset my-dataset {QUICK}",
    "backbone": f"cwbench run --defense standard --attack fgsm --backbone my-backbone {QUICK}",
}


def test_the_other_kinds_are_made_installed_checked_and_run_as_well(environment, tmp_path):
    for kind in RUN:
        succeeds(f"cwbench plugins new my-{kind} --kind {kind}", tmp_path, environment)
    names = [f"cwbench-my-{kind}" for kind in RUN]
    succeeds(f"pip install -q {shlex.join(f'-e{tmp_path / name}' for name in names)}", tmp_path, environment)
    for kind, run in RUN.items():
        succeeds(f"cwbench plugins check my-{kind}", tmp_path, environment)
        succeeds(f"{run} --out {kind}", tmp_path, environment)
        assert list((tmp_path / kind).glob("*/report.json"))
    succeeds(f"pip uninstall -q -y {shlex.join(names)}", tmp_path, environment)


@pytest.mark.parametrize("kind", KINDS)
def test_a_new_plugin_is_short(kind, tmp_path):
    module = create("mine", kind, tmp_path) / "cwbench_mine.py"
    assert len(module.read_text(encoding="utf-8").splitlines()) < 40


def test_a_check_says_in_words_what_is_wrong(environment, tmp_path):
    folder = create("leaky", "attack", tmp_path)
    module = folder / "cwbench_leaky.py"
    module.write_text(module.read_text(encoding="utf-8").replace("        return best", "        return best + 1"))
    assert shell("pip install -q -e .", folder, environment).returncode == 0
    done = shell("cwbench plugins check leaky", folder, environment)
    shutil.rmtree(folder)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert "leaky: perturb left the ball or the box by" in done.stderr
    assert "Traceback" not in done.stderr
    gone = shell("cwbench plugins", tmp_path, environment)
    assert "import of cwbench_leaky failed: it needs the module cwbench_leaky, which is not installed" in gone.stdout
    assert shell("pip uninstall -q -y cwbench-leaky", tmp_path, environment).returncode == 0


@pytest.mark.parametrize("name", ["", "Mine", "my attack", "../up", "/absolute", "a--b", "-a", "a-", "clean", "ä"])
def test_a_name_that_is_none_is_refused(name, tmp_path):
    with pytest.raises(CwbenchError, match="is no name for a plugin"):
        create(name, "attack", tmp_path)
    assert not list(tmp_path.iterdir())


def test_what_exists_is_left_alone(tmp_path):
    with pytest.raises(CwbenchError, match="the attack 'pgd' exists already, from cwbench"):
        create("pgd", "attack", tmp_path)
    created = create("mine", "attack", tmp_path)
    before = {path: path.read_bytes() for path in created.rglob("*") if path.is_file()}
    with pytest.raises(CwbenchError, match="exists already"):
        create("mine", "defense", tmp_path)
    assert {path: path.read_bytes() for path in created.rglob("*") if path.is_file()} == before


NAMES = ["7", "list", "attack", "class", "a-b-3", "loss", "f", "tensor-examples", "features", "field", "a" * 60]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("kind", KINDS)
def test_any_good_name_makes_a_plugin_that_keeps_the_contract(kind, name, tmp_path):
    folder = create(name, kind, tmp_path)
    (module,) = folder.glob("*.py")
    made = runpy.run_path(str(module))
    (cls,) = made[f"cwbench_{kind}s"]()
    assert cls.name == name
    check(cls())


def test_a_name_that_is_too_long_is_refused(tmp_path):
    with pytest.raises(CwbenchError, match="is no name for a plugin"):
        create("a" * 300, "attack", tmp_path)
