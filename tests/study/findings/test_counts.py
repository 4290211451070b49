"""Findings that follow from the counts of reports: against numbers worked out by hand."""

import numpy as np
import pytest
from scipy.stats import binom

from cwbench.internal.errors import CwbenchError
from cwbench.report.records import CurvePoint
from cwbench.study.findings.class_curves import class_curves
from cwbench.study.findings.class_table import class_table
from cwbench.study.findings.confusion_blocks import confusion_blocks
from cwbench.study.findings.robustness_intervals import robustness_intervals
from cwbench.study.findings.temperature_table import temperature_table
from cwbench.study.findings.training_gap import training_gap

CLEAN = [[10, 0, 0, 0], [0, 20, 0, 0], [0, 0, 10, 0], [0, 0, 1, 9]]
PGD = [[9, 1, 0, 0], [4, 10, 6, 0], [0, 2, 5, 3], [1, 0, 3, 6]]
TPGD = [[8, 2, 0, 0], [4, 8, 8, 0], [0, 2, 5, 3], [1, 0, 3, 6]]
GROUPS = {"low": [0, 1], "high": [2, 3]}


@pytest.fixture
def report(made):
    return made({"clean": CLEAN, "pgd": PGD, "tpgd": TPGD}, superclasses=GROUPS)


def test_errors_inside_the_superclass_and_what_chance_would_leave_there(report):
    found = confusion_blocks([report], "pgd")
    assert [(b.name, b.errors, b.inside) for b in found.blocks] == [("low", 11, 5), ("high", 9, 6)]
    assert [b.by_chance for b in found.blocks] == [pytest.approx(1 / 3)] * 2
    assert found.p_value == pytest.approx(binom.sf(10, 20, 1 / 3))
    assert found.most_confused() == (1, 2)
    assert "55.0 % of 20 errors stay inside the superclass, where 33.3 % would by chance" in found.summary()
    assert found.table()[1] == ["low", "11", "5", "45.5", "33.3"]


def test_confusion_of_seeds_is_added_and_tested_on_one(report, made):
    other = made({"clean": CLEAN, "pgd": TPGD, "tpgd": TPGD}, superclasses=GROUPS, seed=1)
    found = confusion_blocks([report, other], "pgd")
    assert found.confusion == (np.array(PGD) + np.array(TPGD)).tolist()
    assert found.p_value == confusion_blocks([report], "pgd").p_value


def test_without_superclasses_there_is_the_matrix_alone(made):
    found = confusion_blocks([made({"clean": CLEAN, "pgd": PGD})], "pgd")
    assert (found.blocks, found.p_value) == ([], None)
    assert found.table()[2] == ["c1", "4", "10", "6", "0"]
    assert "has no superclasses" in found.summary()


@pytest.mark.parametrize("groups", [{"a": [0, 1], "b": [1, 2]}, {"a": [0, 4]}, {"a": [0, 0]}])
def test_groups_that_are_none_are_refused(groups, report):
    with pytest.raises(CwbenchError, match="groups of the classes 0 to 3"):
        confusion_blocks([report], "pgd", groups)


def test_classes_per_interval_of_robustness(report):
    found = robustness_intervals([report], "pgd")  # 90, 50, 50 and 60 %
    assert found.classes == [0, 0, 0, 0, 0, 2, 1, 0, 0, 1]
    assert found.spread == pytest.approx(np.std([0.9, 0.5, 0.5, 0.6]))
    assert found.table() == [
        ["robustness, %", *(f"{i}–{i + 10}" for i in range(0, 100, 10))],
        ["classes", *"0000021001"],
    ]


def test_standard_accuracy_beside_adversarial_robustness(report, made):
    standard = made({"clean": CLEAN, "pgd": PGD}, subject="standard")
    found = training_gap([standard], [report], "pgd")
    assert found.standard.gap == pytest.approx(0.1)
    assert (found.adversarial.gap, found.adversarial.best, found.adversarial.worst) == (pytest.approx(0.4), "c0", "c1")
    assert found.standard.accuracy == [1.0, 1.0, 1.0, 0.9]
    assert "40.0 points between c0 and c1" in found.summary()


def test_defenses_under_attacks_with_the_interval_of_the_worst_class(report, made):
    second = made({"clean": CLEAN, "pgd": TPGD, "tpgd": TPGD}, superclasses=GROUPS, seed=1)
    found = class_table({("madry", "pgd"): [report, second], ("madry", "tpgd"): [report]})
    row = found.rows[0]
    assert row.overall == pytest.approx((30 + 27) / 2 / 50)
    assert row.classes == pytest.approx([0.85, 0.45, 0.5, 0.6])
    assert (row.worst, row.gap, row.seeds) == (pytest.approx(0.45), pytest.approx(0.4), 2)
    assert row.interval[0] < 0.45 < row.interval[1]
    assert found.table()[0][:5] == ["defense", "attack", "access", "overall", "c0"]


def test_temperature_pgd_minus_pgd(report):
    found = temperature_table({("madry", 5.0): ([report], [report])})
    (row,) = found.rows
    assert row.overall == pytest.approx(-3 / 50)
    assert row.classes == pytest.approx([-0.1, -0.1, 0.0, 0.0])
    assert found.table()[1] == ["madry", "5", "-6.0 (54.0)", "-10.0", "-10.0", "+0.0", "+0.0"]


def points(*robust):
    n = [10, 20, 10, 10]
    return [CurvePoint(epoch=2 * i + 2, attack="pgd", n=n, clean=n, robust=list(row)) for i, row in enumerate(robust)]


def test_curves_name_the_gap_of_each_epoch(made):
    first = made({"clean": CLEAN, "pgd": PGD}, curves=points([5, 2, 5, 5], [9, 10, 5, 6]))
    second = made({"clean": CLEAN, "pgd": PGD}, curves=points([5, 2, 5, 5], [9, 10, 3, 6]), seed=1)
    found = class_curves([first, second])
    assert found.epochs == [2, 4]
    assert found.robust[2] == pytest.approx([0.5, 0.4])
    assert found.gap == pytest.approx([0.4, 0.5])
    assert (found.best, found.worst) == (["c0", "c0"], ["c1", "c2"])
    assert found.overall == pytest.approx([17 / 50, (30 + 28) / 2 / 50])
    assert "50.0 points lie between class c0 and class c2" in found.summary()


def test_of_many_classes_twelve_are_drawn_and_the_gap_is_of_all(made):
    counts = np.diag([10] * 30).tolist()
    curve = [CurvePoint(epoch=1, attack="pgd", n=[10] * 30, clean=[10] * 30, robust=[0, *range(1, 11), *[5] * 19])]
    found = class_curves([made({"clean": counts, "pgd": counts}, curves=curve)])
    assert (len(found.classes), found.of_classes, found.gap) == (12, 30, [1.0])
    assert found.classes == class_curves([made({"clean": counts, "pgd": counts}, curves=curve)]).classes


def test_a_class_without_examples_is_left_out(made):
    clean, pgd = [[5, 0, 0], [0, 0, 0], [0, 0, 5]], [[4, 1, 0], [0, 0, 0], [0, 2, 3]]
    curve = [CurvePoint(epoch=1, attack="pgd", n=[5, 0, 5], clean=[5, 0, 5], robust=[4, 0, 3])]
    report = made({"clean": clean, "pgd": pgd}, curves=curve)
    assert class_curves([report]).gap == pytest.approx([0.2])
    assert class_curves([report]).robust[1] == [None]
    assert sum(robustness_intervals([report], "pgd").classes) == 2
    assert training_gap([report], [report], "pgd").adversarial.accuracy[1] is None


def test_reports_that_do_not_belong_together_are_refused(report, made):
    other = made({"clean": PGD, "pgd": PGD, "tpgd": PGD})
    with pytest.raises(CwbenchError, match="different attacks"):
        robustness_intervals([report, made({"clean": CLEAN, "pgd": PGD})], "pgd")
    with pytest.raises(CwbenchError, match="different subjects"):
        robustness_intervals([report, made({"clean": CLEAN, "pgd": PGD, "tpgd": TPGD}, subject="trades")], "pgd")
    with pytest.raises(CwbenchError, match="no curves of the same epochs"):
        class_curves([other])
    with pytest.raises(CwbenchError, match="there is no report"):
        class_table({("madry", "pgd"): []})


@pytest.mark.parametrize("find", [robustness_intervals, confusion_blocks])
def test_figures_are_drawn(find, report):
    assert find([report], "pgd").figure().axes


def test_defenses_are_compared_each_under_the_attack_that_is_hardest_on_it(report, made):
    """Not under the weakest attack, which would be the best of all rows: other's 70 % under PGD."""
    other = made({"clean": CLEAN, "pgd": [[9, 1, 0, 0], [0, 20, 0, 0], [0, 0, 7, 3], [1, 0, 0, 9]], "tpgd": TPGD})
    rows = {("madry", "pgd"): [report], ("other", "pgd"): [other], ("other", "tpgd"): [other]}
    found = class_table(rows)
    rows = [row.model_copy(update={"subject": name}) for row, (name, _) in zip(found.rows, rows, strict=True)]
    told = found.model_copy(update={"rows": rows}).summary()
    assert told.endswith("leaves least of its worst class, madry keeps most: 50.0 % (pgd).")
