"""Observers and openers: plugins as pip leaves them, told of real runs."""

import json
import os
import sys

import pytest

import cwbench
from cwbench.checkpoints.store import Store
from cwbench.pipeline.runner import run
from cwbench.pipeline.session import Session
from cwbench.plugins.discovery import discover
from cwbench.plugins.registry import Registry
from cwbench.spec import RunSpec
from tests import command_line

RECORDER = """
import cwbench
events = []

@cwbench.hookimpl
def cwbench_run_started(run):
    events.append(("started", run))

@cwbench.hookimpl
def cwbench_epoch_finished(run, epoch):
    events.append(("epoch", epoch))

@cwbench.hookimpl
def cwbench_attack_finished(attack):
    events.append(("attack", attack))

@cwbench.hookimpl
def cwbench_report_written(run, report, path):
    events.append(("report", run, report, path))
"""


@pytest.fixture
def install(tmp_path, monkeypatch):
    """Return a function that installs a distribution with one module as its plugin, and returns the module's name."""
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setenv("CWBENCH_CACHE", str(tmp_path / "cache"))

    def do(name: str, source: str) -> str:
        module = f"observer_{name}"
        sys.modules.pop(module, None)
        (tmp_path / f"{module}.py").write_text(source)
        info = tmp_path / f"{name}-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
        (info / "entry_points.txt").write_text(f"[cwbench]\n{name} = {module}\n")
        return module

    return do


def go(tmp_path, **options):
    spec = RunSpec(
        **(
            {"defense": "he-lis", "attacks": ["fgsm", "pgd:steps=2"], "set": {"recipe.epochs": 4}, "limit": 60}
            | options
        )
    )
    return run(spec, Session(Registry(discover()), Store.default(), out=tmp_path / "runs"))


def test_an_observer_is_told_everything_in_order(install, tmp_path):
    module = install("recorder", RECORDER)
    report, path = go(tmp_path, every=2)
    events = sys.modules[module].events
    assert [event[0] for event in events] == ["started", *["epoch"] * 4, "attack", "attack", "report"]
    started = events[0][1]
    assert (started.subject, started.dataset, started.attacks) == ("he-lis", "digits", ("fgsm", "pgd:steps=2"))
    assert (started.classes, started.out) == (tuple("0123456789"), tmp_path / "runs")
    epochs = [event[1] for event in events[1:5]]
    assert [epoch.epoch for epoch in epochs] == [1, 2, 3, 4]
    assert [epoch.loss for epoch in epochs] == report.training.losses
    assert [epoch.accuracy and epoch.accuracy["epoch"] for epoch in epochs] == [None, 2, None, 4]
    assert epochs[-1].state["inverse_temperatures"][-1] == 75
    for event, attack in zip(events[5:7], report.attacks, strict=True):
        assert event[1].label == attack.label
        assert list(event[1].n) == report.dataset.n_per_class
        assert list(event[1].correct) == [entry.correct for entry in attack.figures.classes]
        assert list(event[1].clean) == [entry.correct for entry in report.clean.figures.classes]
    _, run_again, told, where = events[-1]
    assert (run_again, told, where) == (started, report, path)


def test_a_cached_checkpoint_has_no_epochs(install, tmp_path):
    module = install("recorder", RECORDER)
    go(tmp_path)
    events = sys.modules[module].events
    events.clear()
    go(tmp_path)
    assert [event[0] for event in events] == ["started", "attack", "attack", "report"]


FAILING = """
import cwbench
told = []

@cwbench.hookimpl
def cwbench_run_started(run):
    print("an observer that prints")
    told.append("started")
    raise {error}

@cwbench.hookimpl
def cwbench_report_written(run, report):
    told.append("report")
"""


@pytest.mark.parametrize("error", ["ValueError('no such server')", "SystemExit(3)"])
def test_an_observer_that_fails_is_named_once_and_the_run_goes_on(error, install, tmp_path, capsys):
    failing, recorder = install("failing", FAILING.format(error=error)), install("recorder", RECORDER)
    report, _ = go(tmp_path)
    assert report.accuracy() is not None
    assert sys.modules[failing].told == ["started"]
    assert [event[0] for event in sys.modules[recorder].events][-1] == "report"
    out, err = capsys.readouterr()
    assert out == ""
    complaint = [line for line in err.splitlines() if line.startswith("cwbench: plugin failing:failing failed in")]
    assert len(complaint) == 1
    assert "cwbench_run_started" in complaint[0]


def test_ctrl_c_in_an_observer_is_still_ctrl_c(install, tmp_path):
    install("failing", FAILING.format(error="KeyboardInterrupt"))
    with pytest.raises(KeyboardInterrupt):
        go(tmp_path)


def test_what_an_observer_prints_is_not_in_the_json(install, tmp_path):
    install("failing", FAILING.format(error="ValueError('late')"))
    arguments = ["--defense", "standard", "--attack", "fgsm", "--json", "--limit", "20", "--set", "recipe.epochs=2"]
    done = command_line.run("run", *arguments, cwd=tmp_path, environment=os.environ | {"PYTHONPATH": str(tmp_path)})
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["subject"] == "standard"
    assert "an observer that prints" in done.stderr


OPENER = """
import os
import cwbench, torch
from cwbench.api import OpenedCheckpoint

class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.last = torch.nn.Linear(64, 10)
    def forward(self, x):
        return self.last(x.flatten(1))

@cwbench.hookimpl
def cwbench_open_checkpoint(uri, dataset):
    if not uri.startswith("toy://"):
        return None
    if uri == "toy://refused":
        raise cwbench.CwbenchError("toy has no refused", "try toy://net")
    if uri == "toy://broken":
        return 1 / 0
    if uri == "toy://nothing":
        return "nothing"
    if uri == "toy://function":
        return OpenedCheckpoint(lambda x: x, "toy net", "ab" * 32)
    if uri == "toy://hash":
        return OpenedCheckpoint(Net(), "toy net", None)
    if uri == "toy://notes":
        return OpenedCheckpoint(Net(), "toy net", "ab" * 32, notes=(3,))
    print("an opener that prints", flush=True)
    os.system("echo a child that prints")
    assert dataset.name == "digits"
    return OpenedCheckpoint(Net(), "toy net", "ab" * 32, revision="7", notes=("a toy",))
"""


def test_a_plugin_opens_a_scheme_of_its_own(install, tmp_path):
    install("opener", OPENER)
    report, path = go(tmp_path, defense=None, checkpoint="toy://net", set={})
    assert (report.subject, report.training, report.backbone) == ("toy net", None, None)
    assert report.source.model_dump(include={"kind", "uri", "sha256", "revision", "notes"}) == {
        "kind": "plugin",
        "uri": "toy://net",
        "sha256": "ab" * 32,
        "revision": "7",
        "notes": ["a toy"],
    }
    assert cwbench.read_report(path) == report


def test_what_an_opener_and_its_children_print_is_not_in_the_json(install, tmp_path):
    install("opener", OPENER)
    arguments = ["--checkpoint", "toy://net", "--attack", "fgsm", "--json"]
    done = command_line.run("run", *arguments, cwd=tmp_path, environment=os.environ | {"PYTHONPATH": str(tmp_path)})
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["subject"] == "toy net"
    assert "an opener that prints" in done.stderr
    assert "a child that prints" in done.stderr


@pytest.mark.parametrize(
    ("uri", "complaint"),
    [
        ("toy://refused", "toy has no refused .try toy://net"),
        ("toy://broken", "plugin opener:opener could not open toy://broken: ZeroDivisionError"),
        ("toy://nothing", "plugin opener:opener did not return a cwbench.api.OpenedCheckpoint"),
        ("toy://function", "plugin opener:opener did not return .* with an nn.Module"),
        ("toy://hash", "what plugin opener:opener opened for toy://hash: sha256"),
        ("toy://notes", "what plugin opener:opener opened for toy://notes: notes"),
        ("boy://net", "nothing opens boy:// checkpoints .*cwbench-boy; those installed that open any: opener:opener"),
    ],
)
def test_an_opener_that_cannot_gets_one_line(uri, complaint, install, tmp_path):
    install("opener", OPENER)
    with pytest.raises(cwbench.CwbenchError, match=complaint):
        go(tmp_path, defense=None, checkpoint=uri, set={})


def test_plugins_lists_what_observes_and_opens(install, tmp_path):
    install("recorder", RECORDER)
    install("opener", OPENER)
    found = discover()
    hooks = {origin.plugin: found.hooks_of(origin) for origin in found.origins}
    assert sorted(hooks["recorder"])[:2] == ["cwbench_attack_finished", "cwbench_epoch_finished"]
    assert hooks["opener"] == ["cwbench_open_checkpoint"]
    assert hooks["builtin"] == []


def test_a_plugin_for_a_later_interface_is_named_and_the_others_go_on(install):
    install("later", "cwbench_api_version = 99\n" + RECORDER)
    install("recorder", RECORDER)
    found = discover()
    (failure,) = found.failures
    assert "it is built for version 99 of the plugin interface" in str(failure)
    assert "update cwbench" in str(failure)
    assert found.hooks_of(next(origin for origin in found.origins if origin.plugin == "recorder"))


def test_a_plugin_for_a_later_interface_says_so_although_its_import_fails(install):
    install("later", "from cwbench.api import Telepathy\n\ncwbench_api_version = 99\n")
    (failure,) = discover().failures
    assert "it is built for version 99 of the plugin interface" in str(failure)


def test_a_plugin_that_fails_while_it_offers_observes_nothing(install, tmp_path, capsys):
    broken = "@cwbench.hookimpl\ndef cwbench_attacks():\n    return 1 / 0\n"
    module = install("half", RECORDER + broken)
    go(tmp_path)
    assert sys.modules[module].events == []
