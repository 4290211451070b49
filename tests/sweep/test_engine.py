"""Sweeps of real cells: nothing is done twice, and a failure stops nothing."""

import json

import pytest

from cwbench.checkpoints.store import Store

from .cells import results, written


def test_every_cell_is_judged_each_checkpoint_trained_once_and_nothing_twice(write, command, tmp_path):
    first = command("sweep", "run", write())
    assert first.returncode == 0, first.stderr
    assert "4 of 4 cells are finished, 0 failed" in first.stdout
    assert first.stdout.count("done in") == 4
    assert len(results(tmp_path / "runs" / "cells")) == 4
    store = tmp_path / "cache" / "checkpoints"
    assert len(list(store.iterdir())) == 2
    before = written(tmp_path / "runs") | written(store)
    again = command("sweep", "run", tmp_path / "sweep.yaml")
    assert again.returncode == 0, again.stderr
    assert again.stdout.count("finished before") == 4
    assert written(tmp_path / "runs") | written(store) == before
    more = command("sweep", "run", write(attacks=["fgsm", "pgd:steps=3", "tpgd:steps=2"]))
    assert (more.stdout.count("finished before"), more.stdout.count("done in")) == (4, 2)
    status = command("sweep", "status", tmp_path / "sweep.yaml")
    assert "6 of 6 cells are finished" in status.stdout


def test_a_teacher_and_a_substitute_are_trained_once_before_the_cells_that_need_them(write, command, tmp_path):
    done = command(
        "sweep", "run", write(defenses=["rst"], attacks=["transfer", ["fgsm", "transfer"]]), "--workers", "2"
    )
    assert done.returncode == 0, done.stdout + done.stderr
    trained = [entry.identity["defense"]["name"] for entry in Store(tmp_path / "cache" / "checkpoints").all()]
    assert sorted(trained) == ["rst", "standard", "standard"]


def test_a_failed_cell_is_told_with_its_reason_and_the_others_go_on(write, command, tmp_path):
    broken = write(
        datasets=["digits", "mnist"],
        recipes="quick",
        run={"limit": 40, "set": {"recipe.epochs": 2}, "data": str(tmp_path)},
    )
    done = command("sweep", "run", broken)
    assert done.returncode == 2
    assert "4 of 8 cells are finished, 4 failed" in done.stdout
    assert done.stdout.count("failed: ") == 4
    assert "MNIST/raw" in done.stdout
    assert done.stderr.splitlines()[-1].startswith("cwbench: 4 of 8 cells failed (the same command tries them again)")
    status = command("sweep", "status", broken)
    assert "4 of 8 cells are finished, 4 failed" in status.stdout


CRASHING = """
import cwbench
from cwbench.api import Access, Attack

class Crash(Attack):
    name = "crash"
    reference = "nobody"
    access = Access.DECISION

    def perturb(self, model, x, y, *, threat, streams, budget):
        raise RuntimeError("no idea")

@cwbench.hookimpl
def cwbench_attacks():
    return [Crash]
"""


def test_a_bug_of_a_plugin_ends_with_its_traceback_after_everything_else(write, command, tmp_path):
    (tmp_path / "crashing.py").write_text(CRASHING)
    info = tmp_path / "crashing-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: crashing\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[cwbench]\ncrashing = crashing\n")
    sweep = write(defenses=["standard"], attacks=["crash", "fgsm"])
    done = command("sweep", "run", sweep, PYTHONPATH=str(tmp_path))
    assert done.returncode == 1
    assert "1 of 2 cells are finished, 1 failed" in done.stdout
    assert "RuntimeError: no idea" in done.stdout
    assert "Traceback" in done.stderr
    status = command("sweep", "status", sweep, PYTHONPATH=str(tmp_path))
    assert "failed: standard × crash × digits × seed 0: RuntimeError: no idea" in status.stdout


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["--executor", "slurm"], "there is no executor 'slurm' (local or ray)"),
        (["--out", "/proc/nowhere"], "cannot write into /proc/nowhere/cells"),
        (["--out", "nosuch://bucket/x"], "cannot use nosuch://bucket/x/cells"),
    ],
)
def test_what_cannot_be_run_gets_one_line_and_runs_nothing(arguments, complaint, write, command, tmp_path):
    done = command("sweep", "run", write(), *arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert complaint in done.stderr
    assert done.stderr.count("\n") == 1
    assert not (tmp_path / "cache").exists()


def test_a_file_that_is_missing_or_no_sweep_gets_one_line(command, tmp_path):
    for content in (None, "{", "[]", "name: x"):
        path = tmp_path / "sweep.yaml"
        path.unlink(missing_ok=True)
        if content is not None:
            path.write_text(content)
        done = command("sweep", "run", path)
        assert (done.returncode, done.stderr.count("\n")) == (2, 1), done.stderr


def test_results_may_lie_wherever_fsspec_reaches(write, command, tmp_path):
    done = command("sweep", "run", write(defenses=["standard"]), "--out", f"file://{tmp_path}/elsewhere")
    assert done.returncode == 0, done.stderr
    assert len(results(tmp_path / "elsewhere" / "cells")) == 2
    report = next((tmp_path / "elsewhere" / "cells").glob("*/report.json"))
    assert json.loads(report.read_text())["training"]
    shown = command("report", "show", report)
    assert shown.returncode == 0, shown.stderr
