"""Two real processes on one CPU, started by torchrun as a user would."""

import json
import os
import subprocess
import sys

import pytest
import torch

from cwbench.checkpoints.store import Store
from cwbench.internal.distributed import ALONE, Team
from cwbench.training.synchronise import average, share_of
from tests import command_line

TOGETHER = ["torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m", "cwbench"]


def together(tmp_path, *options, cache="cache"):
    environment = os.environ | {"CWBENCH_CACHE": str(tmp_path / cache), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", *TOGETHER, "run", "--out", str(tmp_path / "runs"), *options]
    return subprocess.run(command, check=False, env=environment, capture_output=True, text=True, timeout=300)


def test_two_processes_give_the_verdicts_of_one_for_the_same_checkpoint(tmp_path):
    """Every kind of attack: pooled, batched, minimal and score-based, and the clean predictions."""
    from cwbench.datasets import splits
    from cwbench.evaluation.harness import evaluate
    from cwbench.plan import make_plan
    from cwbench.plugins.registry import installed
    from cwbench.spec import EvaluationSettings, RunSpec
    from cwbench.training.fit import fit
    from cwbench.training.job import Job
    from cwbench.training.rebuild import load_classifier

    attacks = ["pgd", "apgd-t", "cw:iterations=20,searches=1", "square:queries=50"]
    spec = {"defense": "madry", "attacks": attacks, "limit": 61, "set": {"recipe.epochs": 8}, "precision": "fp32"}
    plan = make_plan(RunSpec.model_validate(spec), installed())
    job = Job.of(plan)
    store = Store(tmp_path / "store")
    checkpoint = fit(job, store)
    test = splits.open_split(plan.dataset, "test", None)
    alone = evaluate(
        load_classifier(job, checkpoint),
        test,
        plan.attacks,
        ids=splits.chosen_rows(test.labels, plan.settings.limit),
        classes=10,
        threat=plan.threat,
        settings=EvaluationSettings(device="cpu", precision="fp32", batch_size=16),
    )
    script = tmp_path / "together.py"
    script.write_text(
        f"""
import json, torch
from pathlib import Path
from cwbench.datasets import splits
from cwbench.checkpoints.store import Store
from cwbench.evaluation.outcomes import Tools
from cwbench.internal.distributed import joined
from cwbench.plan import make_plan
from cwbench.plugins.registry import installed
from cwbench.evaluation.distributed import evaluate_together
from cwbench.spec import EvaluationSettings, RunSpec
from cwbench.training.job import Job
from cwbench.training.rebuild import load_classifier

plan = make_plan(RunSpec.model_validate({spec!r}), installed())
job = Job.of(plan)
test = splits.open_split(plan.dataset, "test", None)
with joined() as team:
    outcomes = evaluate_together(
        load_classifier(job, Store(Path({str(store.root)!r})).find(job.digest)), test, plan.attacks,
        ids=splits.chosen_rows(test.labels, plan.settings.limit), classes=10, threat=plan.threat,
        settings=EvaluationSettings(device="cpu", precision="fp32", batch_size=16), tools=Tools(), team=team,
    )
    found = [outcomes.ids, outcomes.clean, *(attack.predictions for attack in outcomes.attacks)]
    Path({str(tmp_path)!r}, f"{{team.rank}}.json").write_text(json.dumps([column.tolist() for column in found]))
"""
    )
    command = [sys.executable, "-m", *TOGETHER[:-2], str(script)]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, check=False, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    expected = [alone.ids, alone.clean, *(attack.predictions for attack in alone.attacks)]
    for rank in range(2):
        found = json.loads((tmp_path / f"{rank}.json").read_text())
        assert found == [column.tolist() for column in expected]


def test_torchrun_trains_once_together_and_writes_one_report(tmp_path):
    options = ["--defense", "rst", "--attack", "pgd", "--limit", "30", "--set", "recipe.epochs=6", "--json"]
    done = together(tmp_path, *options)
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    (path,) = (tmp_path / "runs").glob("*/report.json")
    assert json.loads(path.read_text()) == report
    assert sum(report["dataset"]["n_per_class"]) == 30
    again = together(tmp_path, *options)
    assert json.loads(again.stdout)["attacks"][0]["confusion"] == report["attacks"][0]["confusion"]
    entries = Store(tmp_path / "cache" / "checkpoints").all()
    kept = {entry.identity["defense"]["name"]: entry.identity for entry in entries}
    assert {name: identity["processes"] for name, identity in kept.items()} == {"rst": 2, "standard": 2}


def test_gradients_of_two_processes_are_those_of_one(tmp_path):
    """Without random starts and batch norm, half a batch each gives the weights of a whole one, but for rounding."""
    options = ["--defense", "standard", "--attack", "fgsm", "--limit", "20"]
    options += ["--set", "recipe.epochs=2", "--set", "recipe.batch_size=100"]
    environment = os.environ | {"CWBENCH_CACHE": str(tmp_path / "one"), "OMP_NUM_THREADS": "1"}
    assert command_line.run("run", *options, cwd=tmp_path, environment=environment).returncode == 0
    done = together(tmp_path, *options, cache="two")
    assert done.returncode == 0, done.stderr
    (one,), (two,) = (Store(tmp_path / name / "checkpoints").all() for name in ("one", "two"))
    for name, weight in one.weights.items():
        assert torch.allclose(weight, two.weights[name], atol=2e-4), name
    assert one.record["losses"] == pytest.approx(two.record["losses"], abs=1e-3)


def test_averages_and_batch_norm_are_the_same_in_every_process(tmp_path):
    """The first run judges what it trained, the second what was stored: the leader's weights, in both."""
    options = ["--defense", "standard", "--attack", "fgsm", "--limit", "40", "--backbone", "timm:test_resnet", "--json"]
    options += ["--set", "recipe.epochs=1", "--set", 'recipe.average={"kind":"ema","decay":0.5}']
    first, second = (together(tmp_path, *options) for _ in range(2))
    assert first.returncode == 0, first.stderr
    confusions = [json.loads(done.stdout)["clean"]["confusion"] for done in (first, second)]
    assert confusions[0] == confusions[1]


def test_an_error_is_told_and_nothing_hangs_or_is_trained(tmp_path):
    done = together(tmp_path, "--defense", "standard", "--attack", "fgsm", "--limit", "1")
    assert done.returncode != 0
    assert "cwbench: 2 processes cannot share 1 examples (start fewer)" in done.stderr.splitlines()
    assert not (tmp_path / "cache").exists() or not Store(tmp_path / "cache" / "checkpoints").all()
    assert not list((tmp_path / "runs").glob("*")) if (tmp_path / "runs").exists() else True


def test_alone_everything_is_ones_own():
    assert share_of(torch.arange(5), ALONE).tolist() == [0, 1, 2, 3, 4]
    assert ALONE.from_leader(lambda: 7) == 7
    assert ALONE.gathered("x") == ["x"]
    tensor = torch.ones(3)
    average([tensor], ALONE, 0.5)
    assert tensor.tolist() == [1, 1, 1]
    assert [share_of(torch.arange(7), Team(rank, 3)).tolist() for rank in range(3)] == [[0, 3, 6], [1, 4], [2, 5]]
