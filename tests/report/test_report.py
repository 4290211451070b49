"""Reports: what is derived, what is refused, and that what is written can be read for ever."""

import json
import math

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cwbench.internal.errors import CwbenchError
from cwbench.report.records import Accuracy, Condition, DatasetRecord, Figures
from cwbench.report.report import Report, read_report, schema
from cwbench.report.tables import report_table


def dataset(n_per_class, superclasses=None):
    return DatasetRecord(
        name="d",
        fields={},
        distribution="x",
        split="test",
        classes=[f"class {index}" for index in range(len(n_per_class))],
        superclasses=superclasses or {},
        digest="0" * 64,
        n_available=sum(n_per_class),
        limit=None,
        n_per_class=n_per_class,
    )


def test_figures_by_hand():
    figures = Figures.of([9, 0, 5], dataset([10, 0, 20], {"both": [0, 2], "none": [1]}))
    assert [entry.accuracy for entry in figures.classes] == [0.9, None, 0.25]
    assert figures.classes[1].interval is None
    assert figures.overall.accuracy == pytest.approx(14 / 30)
    assert (figures.worst_class.index, figures.worst_class.name) == (2, "class 2")
    assert figures.gap == pytest.approx(0.65)
    assert figures.superclasses["both"].accuracy == pytest.approx(14 / 30)
    assert figures.superclasses["none"].accuracy is None


def test_the_interval_of_the_worst_class_is_wider_than_its_own():
    figures = Figures.of([9, 5, 8], dataset([10, 10, 10]))
    own, corrected = figures.classes[1].interval, figures.worst_class.interval
    assert corrected[0] < own[0] < own[1] < corrected[1]


def test_imbalanced_classes_are_divided_by_their_own_number():
    figures = Figures.of([1, 100], dataset([2, 100]))
    assert [entry.accuracy for entry in figures.classes] == [0.5, 1]


@given(st.lists(st.tuples(st.integers(0, 50), st.integers(0, 50)), min_size=1, max_size=12))
def test_figures_of_any_counts_hold_together(pairs):
    correct, n = [min(pair) for pair in pairs], [max(pair) for pair in pairs]
    figures = Figures.of(correct, dataset(n))
    known = [entry.accuracy for entry in figures.classes if entry.accuracy is not None]
    if not known:
        assert figures.worst_class is None
        assert figures.gap is None
        return
    assert figures.worst_class.accuracy == min(known)
    assert figures.gap == pytest.approx(max(known) - min(known))
    assert sum(entry.correct for entry in figures.classes) == figures.overall.correct


def test_no_examples_are_null_and_never_nan():
    assert Accuracy.of(0, 0).model_dump() == {"n": 0, "correct": 0, "accuracy": None, "interval": None}


def test_the_committed_schema_is_the_codes(request):
    committed = request.config.rootpath / "schemas" / "report.v1.json"
    assert json.loads(committed.read_text()) == json.loads(json.dumps(schema())), "run: cwbench schema --write schemas"
    jsonschema.Draft202012Validator.check_schema(schema())


def test_a_written_report_reads_back_the_same(report_file):
    report = read_report(report_file)
    assert report.to_json() == report_file.read_text()
    jsonschema.validate(json.loads(report_file.read_text()), schema())


def test_the_python_door_to_the_figures(report_file):
    report = read_report(report_file)
    assert report.labels() == ["pgd", "pgd:restarts=2,steps=3"]
    assert report.accuracy("pgd") == report.condition("pgd").figures.overall.accuracy
    assert list(report.class_accuracy()) == [str(digit) for digit in range(10)]
    assert sum(map(sum, report.confusion("clean"))) == 40
    assert report.worst_class("pgd").accuracy == min(report.class_accuracy("pgd").values())
    assert report.worst_case().overall.accuracy <= report.accuracy("pgd")
    with pytest.raises(CwbenchError, match=r"no attack is named 'cw'.*known: clean, pgd"):
        report.accuracy("cw")


def at(content, path):
    *parents, last = path
    for key in parents:
        content = content[key]
    return content, last


def change(path, value):
    def do(content):
        place, last = at(content, path)
        place[last] = value(place[last]) if callable(value) else value

    return do


def move_wrong(under, clean):
    """Move an example that is wrong when clean to another wrong class."""
    for truth, row in enumerate(clean):
        for predicted, count in enumerate(row):
            if predicted != truth and count:
                other = next(j for j in range(10) if j not in (truth, predicted))
                under[truth][other] += under[truth][predicted]
                under[truth][predicted] = 0
                return


EDITS = {
    "a count raised": (change(["clean", "confusion", 0, 0], lambda n: n + 1), "class 0 add up to"),
    "counts moved": (
        lambda content: content["clean"]["confusion"][0].__setitem__(slice(0, 2), [0, 4]),
        "clean: figures.* does not follow from the counts",
    ),
    "an accuracy polished": (change(["attacks", 0, "figures", "overall", "accuracy"], 0.999), "pgd: figures.overall"),
    "a better worst class": (change(["attacks", 0, "figures", "worst_class", "accuracy"], 1.0), "worst_class"),
    "a row missing": (lambda content: content["clean"]["confusion"].pop(), "not 10×10"),
    "a short row": (lambda content: content["clean"]["confusion"][3].pop(), "not 10×10"),
    "a class missing": (lambda content: content["dataset"]["n_per_class"].pop(), "9 counts for 10 classes"),
    "a worst case raised": (change(["worst_case_counts", "correct", 0], 5), "worst case"),
    "two of a label": (change(["attacks", 1, "label"], "pgd"), "same label"),
    "another eps": (change(["threat", "eps", "text"], "8/255"), "different numbers"),
    "a superclass beyond": (change(["dataset", "superclasses"], {"a": [10]}), "beyond the 10 classes"),
    "a negative count": (change(["clean", "confusion", 0, 0], -1), "less than the minimum"),
    "a text for a count": (change(["clean", "confusion", 0, 0], "4"), "not of type 'integer'"),
    "an extra field": (change(["comment"], "mine"), "'comment' was unexpected"),
    "a field missing": (lambda content: content.pop("threat"), "'threat' is a required property"),
    "a later version": (change(["schema_version"], 2), "schema version 2, newer than 1.*update cwbench"),
    "no version": (lambda content: content.pop("schema_version"), "not a cwbench report"),
    "more available": (change(["dataset", "n_available"], 20), "40 judged of 20 with limit 40"),
    "a limit that is none": (change(["dataset", "limit"], 3), "40 judged of 899 with limit 3"),
    "fewer attacked": (change(["attacks", 0, "cost", "examples"], 1), "pgd: 1 were attacked, but"),
    "an eps of nothing": (change(["threat", "eps"], {"text": "-1", "value": -1}), "out of range"),
    "an eps of everything": (change(["threat", "eps"], {"text": "7", "value": 7}), "out of range"),
    "another attack's label": (change(["attacks", 0, "label"], "fgsm"), "'fgsm' is no label of 'pgd'"),
    "a class twice in a superclass": (change(["dataset", "superclasses"], {"a": [1, 1]}), "names a class twice"),
    "two classes of a name": (change(["dataset", "classes", 0], "1"), "same name"),
    "a count beyond all": (change(["clean", "confusion", 0, 0], 10**400), "greater than the maximum"),
    "a worst case too low": (
        change(["worst_case_counts", "correct"], lambda counts: [0] * len(counts)),
        "fewer examples of class|does not follow",
    ),
    "curves beyond": (
        change(
            ["training", "curves"],
            [{"epoch": 1, "attack": "pgd", "n": [1] * 10, "clean": [1] * 10, "robust": [9] * 10}],
        ),
        "curves: epoch 1 has more right than there are",
    ),
    "curves of fewer classes": (
        change(["training", "curves"], [{"epoch": 1, "attack": "pgd", "n": [1], "clean": [1], "robust": [1]}]),
        "curves: epoch 1 does not have 10 counts",
    ),
    "wrong examples moved": (
        lambda content: move_wrong(content["attacks"][0]["confusion"], content["clean"]["confusion"]),
        "that are wrong before it have moved under attack",
    ),
    "a number too large": (change(["training", "state"], {"x": "HUGE"}), "is too large"),
    "curves beyond the last epoch": (
        change(
            ["training", "curves"],
            [{"epoch": 99, "attack": "pgd", "n": [1] * 10, "clean": [1] * 10, "robust": [1] * 10}],
        ),
        r"curves: epochs \[99\] of 6 must ascend",
    ),
    "losses of no epoch": (change(["training", "losses"], []), "0 losses in 6 epochs"),
    "training without a defense": (change(["defense"], None), "belong together"),
    "a file elsewhere": (change(["predictions", "file"], ".."), "is not valid under any"),
    "a file of any length": (change(["predictions", "file"], "a" * 300), "is not valid under any"),
    "better than clean": (
        lambda content: content["attacks"].append(
            content["attacks"].pop() | {"confusion": [[4 * (i == j) for j in range(10)] for i in range(10)]}
        ),
        "pgd:restarts=2,steps=3: ",
    ),
}


@pytest.mark.parametrize("name", EDITS)
def test_an_edited_report_is_refused_with_the_reason(name, report_file, tmp_path):
    edit, complaint = EDITS[name]
    content = json.loads(report_file.read_text())
    edit(content)
    edited = tmp_path / "report.json"
    edited.write_text(json.dumps(content).replace('"HUGE"', "1e999"))
    with pytest.raises(CwbenchError, match=complaint) as caught:
        read_report(edited)
    assert str(edited) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("where", [["subject"], ["provenance", "seed"], ["training", "recipe", "epochs"]])
def test_what_follows_from_nothing_is_sealed(where, report_file, tmp_path):
    """A name, a seed, a number of epochs: no count contradicts them, so the report's digest does."""
    content = json.loads(report_file.read_text())
    change(where, "mine" if where == ["subject"] else 7)(content)
    edited = tmp_path / "report.json"
    edited.write_text(json.dumps(content))
    with pytest.raises(CwbenchError, match="does not have the digest that it names"):
        read_report(edited)


def test_spaces_are_not_content(report_file, tmp_path):
    (tmp_path / "report.json").write_text(json.dumps(json.loads(report_file.read_text()), indent=7))
    assert read_report(tmp_path / "report.json") == read_report(report_file)


@pytest.mark.parametrize(
    "text", ["", "{", "<html>", '{"schema_version": NaN}', "[" * 100_000, "\x00", '"text"', "[]", "3"]
)
def test_what_is_no_report_is_refused(text, tmp_path):
    path = tmp_path / "report.json"
    path.write_text(text)
    with pytest.raises(CwbenchError, match=r"is not JSON|is not a cwbench report"):
        read_report(path)


def test_a_key_given_twice_is_refused(report_file, tmp_path):
    path = tmp_path / "report.json"
    path.write_text(report_file.read_text().replace("{", '{"subject": "another",', 1))
    with pytest.raises(CwbenchError, match="a key is given twice"):
        read_report(path)


def test_a_missing_or_binary_file_is_refused(tmp_path):
    with pytest.raises(CwbenchError, match="cannot read"):
        read_report(tmp_path / "report.json")
    (tmp_path / "report.json").write_bytes(b"\xff\xfe")
    with pytest.raises(CwbenchError, match="is not JSON"):
        read_report(tmp_path / "report.json")


def test_conditions_agree_with_their_counts():
    condition = Condition.of([[3, 1], [0, 4]], dataset([4, 4]))
    assert condition.figures.overall.accuracy == 7 / 8
    assert not math.isnan(condition.figures.gap)


def test_a_report_is_written_with_one_row_of_counts_to_a_line(report_file):
    report = read_report(report_file)
    row = json.dumps(report.confusion("clean")[0], separators=(",", ":"))
    assert row in report_file.read_text()


def test_names_cannot_steer_the_table(report_file):
    """Names come from whoever wrote the report: no control character, and no cell or tag of their own."""
    report = read_report(report_file)
    hostile = ["a|b", "<script>", "\x1b[31m", "two\nlines", "[x](y)", "[ 1 ]", *"4567"]
    dataset_ = report.dataset.model_copy(update={"classes": hostile})
    report = report.model_copy(update={"dataset": dataset_, "subject": "\x1b]0;title\x07"})
    for style in ("terminal", "markdown"):
        table = report_table(report, style)
        assert all(letter.isprintable() or letter == "\n" for letter in table)
    rows = [line for line in table.split("\n\n")[1].splitlines() if line.startswith("|")]
    assert len({line.replace("\\|", "").count("|") for line in rows}) == 1
    assert "\\<script\\>" in table
    assert "[x]\\(y)" in table


def test_old_reports_are_kept_readable(request):
    """Every report ever committed as a fixture must load: add one for each version of the schema."""
    folder = request.config.rootpath / "tests" / "report" / "written"
    files = sorted(folder.glob("*.json"))
    assert files
    for file in files:
        assert isinstance(read_report(file), Report)
