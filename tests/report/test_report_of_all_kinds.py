"""Reports with what the simplest ones lack: curves over eps, a cascade, notes, warnings."""

import json

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

import cwbench
from cwbench.internal import digest
from cwbench.internal.errors import CwbenchError
from cwbench.report.predictions import PREDICTIONS, distance_column, read_predictions
from cwbench.report.report import read_report
from cwbench.report.tables import report_table


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    """A cascade that ends with an attack for the smallest perturbation."""
    out = tmp_path_factory.mktemp("cascade")
    cwbench.run(
        "madry",
        ["fgsm", "pgd", "cw:iterations=500,searches=4"],
        limit=60,
        cascade=True,
        set={"recipe.epochs": 6, "recipe.eps_warmup": 0.3},
        out=out,
    )
    (found,) = out.glob("*/report.json")
    return found


def test_a_curve_over_eps_meets_the_counts(path):
    report = read_report(path)
    curve = report.accuracy_by_eps("cw")
    assert list(curve)[:2] == pytest.approx([0, 0.01])
    assert len(curve) == 21
    assert list(curve)[10] == 0.1
    assert curve[0.1] == report.accuracy("cw")
    assert curve[0] == report.accuracy("pgd"), "in a cascade it begins where the attack before ended"
    values = list(curve.values())
    assert values == sorted(values, reverse=True)
    assert values[0] > values[-1]
    classes = report.class_accuracy_by_eps("cw")
    assert {name: row[0.1] for name, row in classes.items()} == report.class_accuracy("cw")
    with pytest.raises(CwbenchError, match="pgd stays in the ball"):
        report.accuracy_by_eps("pgd")


def test_a_cascade_is_the_worst_case(path):
    report = read_report(path)
    assert report.cascade
    assert report.worst_case().overall == report.condition("cw").figures.overall
    right = [report.clean.figures.overall.correct, *(entry.figures.overall.correct for entry in report.attacks)]
    assert [entry.cost.examples for entry in report.attacks] == right[:-1]
    table = report_table(report)
    assert "note: a cascade" in table
    assert "cw:iterations=500,searches=4: eps" in table
    with pytest.raises(CwbenchError, match="in a cascade the counts of an attack"):
        cwbench_compare(report)


def cwbench_compare(report):
    from cwbench.report.compare import compare

    return compare(report, report, condition="fgsm")


@pytest.mark.parametrize(
    ("edit", "complaint"),
    [
        (lambda curve: curve["correct"][3].__setitem__(0, 99), "its curve rises with eps"),
        (lambda curve: curve["eps"].__setitem__(0, 0.001), "must ascend from 0"),
        (lambda curve: curve["correct"].pop(), "must ascend from 0, one for each row"),
        (lambda curve: curve["correct"][0].pop(), "does not have 10 counts"),
        (lambda curve: curve["eps"].__setitem__(10, 0.1001), "does not meet the counts"),
        (lambda curve: [row.__setitem__(1, 0) for row in curve["correct"]], "does not meet the counts"),
    ],
)
def test_an_edited_curve_is_refused(path, tmp_path, edit, complaint):
    content = json.loads(path.read_text())
    edit(content["attacks"][2]["eps_curve"])
    edited = tmp_path / "report.json"
    edited.write_text(json.dumps(content))
    with pytest.raises(CwbenchError, match=complaint):
        read_report(edited)


def test_a_cascade_that_is_called_none_is_refused(path, tmp_path):
    content = json.loads(path.read_text()) | {"cascade": False}
    edited = tmp_path / "report.json"
    edited.write_text(json.dumps(content))
    with pytest.raises(CwbenchError, match="were attacked, but"):
        read_report(edited)


@pytest.mark.parametrize("change", ["moved", "gone", "negative"])
def test_distances_are_recounted(path, tmp_path, change):
    columns = load_file(path.parent / PREDICTIONS)
    name = distance_column("cw:iterations=500,searches=4")
    assert columns[name].dtype == np.float64
    if change == "gone":
        del columns[name]
    else:
        columns[name] = columns[name] * (-1 if change == "negative" else 3)
    save_file(columns, tmp_path / PREDICTIONS)
    content = json.loads(path.read_text())
    content["predictions"]["sha256"] = digest.of_file(tmp_path / PREDICTIONS)
    content["digest"] = None
    (tmp_path / "report.json").write_text(json.dumps(content))
    with pytest.raises(
        CwbenchError, match="do not add up to the report's curve" if change == "moved" else "lack 60 dist"
    ):
        read_predictions(read_report(tmp_path / "report.json"), tmp_path)


def test_fewer_than_four_classes_are_noted():
    import torch

    x = torch.rand(12, 1, 2, 2, generator=torch.Generator().manual_seed(0))
    report = cwbench.evaluate(
        lambda images: images.flatten(1)[:, :3],
        ["apgd-t:steps=3", "autoattack:steps=3,queries=5"],
        (x, x.flatten(1)[:, :3].argmax(1)),
        eps="0.1",
    )
    assert report.attacks[0].notes == ["with 3 classes apgd-t ascends z_t − z_y: its ratio needs four"]
    assert report.attacks[1].notes == report.attacks[0].notes
    assert "note: apgd-t:steps=3: with 3 classes" in report_table(report)
