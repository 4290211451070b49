"""Real runs, read back with TensorBoard's own reader."""

import os

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

import cwbench

PLUGIN = "cwbench-tensorboard"


def logged(folder):
    (place,) = folder.iterdir()
    reader = EventAccumulator(str(place))
    reader.Reload()
    return reader


@pytest.fixture(autouse=True)
def _own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("CWBENCH_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("CWBENCH_TENSORBOARD", raising=False)


def run(**options):
    recipe = {"recipe.epochs": 4}
    return cwbench.run(defense="he-lis", attacks=["fgsm", "pgd:steps=2"], set=recipe, limit=100, every=2, **options)


def test_a_run_is_logged_below_its_reports(tmp_path):
    report = run(out=tmp_path / "runs")
    log = logged(tmp_path / "runs" / "tensorboard")
    losses = log.Scalars("training/loss")
    assert [event.step for event in losses] == [1, 2, 3, 4]
    assert [event.value for event in losses] == pytest.approx(report.training.losses, rel=1e-6)
    assert [event.value for event in log.Scalars("state/inverse_temperatures")][-1] == 75
    for point in report.training.curves:
        for index, name in enumerate(report.dataset.classes):
            values = {event.step: event.value for event in log.Scalars(f"robust/class {name}")}
            assert values[point.epoch] == pytest.approx(point.robust[index] / point.n[index], rel=1e-6)
    for name, accuracy in report.class_accuracy("fgsm").items():
        assert log.Scalars(f"under fgsm/class {name}")[0].value == pytest.approx(accuracy, rel=1e-6)
    assert log.Scalars("worst case/worst class")[0].value == pytest.approx(
        report.worst_case().worst_class.accuracy, rel=1e-6
    )


def test_the_variable_names_another_folder_and_a_cached_checkpoint_has_no_epochs(tmp_path, monkeypatch):
    run()
    assert not list(tmp_path.glob("**/events*"))  # nothing is written that was not asked for
    monkeypatch.setenv("CWBENCH_TENSORBOARD", str(tmp_path / "logs"))
    run()
    log = logged(tmp_path / "logs")
    assert "training/loss" not in log.Tags()["scalars"]
    assert "under fgsm/overall" in log.Tags()["scalars"]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_that_is_not_writable_does_not_stop_the_run(tmp_path, monkeypatch, capsys):
    (tmp_path / "closed").mkdir(mode=0o500)
    monkeypatch.setenv("CWBENCH_TENSORBOARD", str(tmp_path / "closed"))
    assert run().accuracy() is not None
    assert PLUGIN in capsys.readouterr().err


def test_a_place_that_is_a_file_does_not_stop_the_run(tmp_path, monkeypatch, capsys):
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("CWBENCH_TENSORBOARD", str(tmp_path / "file"))
    assert run().accuracy() is not None
    errors = capsys.readouterr().err
    assert errors.count(PLUGIN) == 1
    assert "cwbench_run_started" in errors
