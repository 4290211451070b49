import json
import shutil

import numpy as np
import pytest
from scipy.stats import binomtest

from cwbench.internal.errors import CwbenchError
from cwbench.report.compare import compare, shared_conditions
from cwbench.report.intervals import holm
from cwbench.report.predictions import PREDICTIONS, check_predictions, read_predictions
from cwbench.report.report import read_report


@pytest.fixture
def pair(report_file, other_report_file):
    return [
        (read_report(path), read_predictions(read_report(path), path.parent))
        for path in (report_file, other_report_file)
    ]


def test_paired_by_hand(pair):
    (first, a), (second, b) = pair
    rows = compare(first, second, condition="pgd", columns=(a, b))
    assert [row.name for row in rows] == ["all", *(str(digit) for digit in range(10))]
    right = [columns["under pgd"] == columns["labels"] for columns in (a, b)]
    only = int((right[0] & ~right[1]).sum()), int((right[1] & ~right[0]).sum())
    assert sum(only) > 0, "the reports must differ"
    assert rows[0].p_value == pytest.approx(binomtest(only[0], sum(only)).pvalue)
    assert rows[0].difference == pytest.approx(second.accuracy("pgd") - first.accuracy("pgd"))
    raw = []
    for digit in range(10):
        here = a["labels"] == digit
        x, y = int((right[0] & ~right[1] & here).sum()), int((right[1] & ~right[0] & here).sum())
        raw.append(binomtest(x, x + y).pvalue if x + y else 1.0)
    assert [row.p_value for row in rows[1:]] == pytest.approx(holm(raw))


def test_without_predictions_there_is_no_test(pair):
    (first, a), (second, _) = pair
    assert all(row.p_value is None for row in compare(first, second, condition="pgd", columns=(a, None)))


def test_a_report_against_itself_shows_no_difference(pair):
    (first, a), _ = pair
    rows = compare(first, first, condition="clean", columns=(a, a))
    assert {row.difference for row in rows} == {0}
    assert {row.p_value for row in rows} == {1}


def test_other_examples_are_not_paired(pair):
    (first, a), (second, b) = pair
    other = {**b, "ids": b["ids"] + 1}
    assert compare(first, second, condition="clean", columns=(a, other))[0].p_value is None


def test_other_threats_share_only_the_clean_column(pair):
    (first, _), (second, _) = pair
    content = json.loads(second.to_json())
    content["threat"]["eps"] = {"text": "0.05", "value": 0.05}
    other = type(second).model_validate(content)
    assert shared_conditions(first, second) == ["clean", "pgd", "pgd:restarts=2,steps=3"]
    assert shared_conditions(first, other) == ["clean"]
    compare(first, other, condition="clean")
    with pytest.raises(CwbenchError, match=r"different threats: Linf 0\.1 and Linf 0\.05"):
        compare(first, other, condition="pgd")


def test_other_classes_cannot_be_compared(pair):
    (first, _), (second, _) = pair
    content = json.loads(second.to_json())
    content["dataset"]["classes"][0] = "zero"
    content["clean"]["figures"]["worst_class"]["name"] = content["dataset"]["classes"][
        content["clean"]["figures"]["worst_class"]["index"]
    ]
    for condition in [*content["attacks"], content["worst_case_counts"]]:
        worst = condition["figures"]["worst_class"]
        worst["name"] = content["dataset"]["classes"][worst["index"]]
    with pytest.raises(CwbenchError, match="different data"):
        compare(first, type(second).model_validate(content), condition="clean")


def test_a_sidecar_of_another_report_is_refused(report_file, other_report_file, tmp_path):
    shutil.copy(report_file, tmp_path / "report.json")
    shutil.copy(other_report_file.parent / PREDICTIONS, tmp_path / PREDICTIONS)
    with pytest.raises(CwbenchError, match="is not the file that the report was written with"):
        read_predictions(read_report(report_file), tmp_path)


def test_predictions_that_do_not_add_up_are_refused(pair):
    (report, columns), _ = pair
    check_predictions(report, columns)
    with pytest.raises(CwbenchError, match="lack the column"):
        check_predictions(report, {name: column for name, column in columns.items() if name != "under pgd"})
    wrong = {**columns, "under pgd": np.roll(columns["under pgd"], 1)}
    with pytest.raises(CwbenchError, match="under pgd do not add up"):
        check_predictions(report, wrong)
