"""Whole runs: trained, killed and gone on with, judged, and described in the report."""

import subprocess
import sys

import pytest

import cwbench


@pytest.fixture(autouse=True)
def _own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("CWBENCH_CACHE", str(tmp_path / "cache"))


@pytest.mark.parametrize("defense", ["frl:warmup=0.2", "cfa:threshold=0", "wat", "dafa"])
def test_a_run(defense):
    report = cwbench.run(defense=defense, attacks=["fgsm"], set={"recipe.epochs": 8}, limit=200)
    assert report.defense.distribution == "cwbench-fair"
    assert report.accuracy() > 0.5
    assert report.training.data.kind == "none"
    counted = report.training.data.labelled
    assert counted == 898 if defense == "dafa" else counted < 898  # what is held out is not trained on


KILLED = """
import os, cwbench
from cwbench_fair.cfa import CFA
begin = CFA.epoch_begin
def dying(self, state, progress):
    if progress.epoch == 5:
        os._exit(9)
    return begin(self, state, progress)
CFA.epoch_begin = dying
cwbench.run(defense="cfa:threshold=0", attacks=["fgsm"], set={"recipe.epochs": 8}, limit=200)
"""


def test_a_killed_training_goes_on_with_the_same_counts(tmp_path, monkeypatch):
    killed = subprocess.run([sys.executable, "-c", KILLED], check=False)
    assert killed.returncode == 9
    options = {"defense": "cfa:threshold=0", "attacks": ["fgsm"], "set": {"recipe.epochs": 8}, "limit": 200}
    resumed = cwbench.run(**options)
    monkeypatch.setenv("CWBENCH_CACHE", str(tmp_path / "other"))
    whole = cwbench.run(**options)
    assert resumed.training == whole.training
    assert resumed.confusion("fgsm") == whole.confusion("fgsm")
