"""Real photographs in class folders, from end to end."""

import json
import sys

import pytest

from cwbench.cli import main


def test_a_run_on_photographs(photographs, tmp_path, monkeypatch, capsys):
    """All 5,000 photographs are read and trained on, with the small network: the whole one is in docs/results.md."""
    command = ["run", "--defense", "standard", "--attack", "pgd", "--dataset", f"folder:path={photographs}", "--json"]
    command += ["--backbone", "digits-cnn", "--set", "recipe.epochs=2", "--limit", "200", "--out", str(tmp_path)]
    monkeypatch.setattr(sys, "argv", ["cwbench", *command])
    with pytest.raises(SystemExit) as stop:
        main()
    assert not stop.value.code
    report = json.loads(capsys.readouterr().out)
    assert report["dataset"]["classes"][0] == "airplane"
    assert report["dataset"]["n_per_class"] == [20] * 10
    assert report["dataset"]["n_available"] == 1000
    correct = [report["clean"]["confusion"][index][index] for index in range(10)]
    assert sum(correct) > 35, "two epochs are better than chance: more than 35 of 200 happens by chance once in 2,500"
