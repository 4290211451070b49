"""Entries by somebody who means harm: refused with entry, field and reason, or shown as what they are: text."""

import json
import re

import pytest

from benchmarks.generated import changed, drawn, write
from cwbench.internal.errors import CwbenchError
from cwbench.leaderboard.admission import LARGEST, LONGEST
from cwbench.leaderboard.build import UnsoundError, build, check
from cwbench.leaderboard.layout import MARKDOWN, PAGE
from cwbench.leaderboard.submit import submit
from cwbench.report.report import read_report

MARKUP = "<img src=x onerror=alert(1)></script><script>alert(2)</script>"


def hostile_dataset(template, **changes):
    return template.dataset.model_copy(update=changes)


def test_markup_is_shown_harmlessly(run, place, template):
    """In Markdown it is escaped, in the page it appears as text and in its data without a single angle bracket."""
    classes = [MARKUP, "a|b", "`c`", "[x](javascript:alert(3))", "{{ 7 * 7 }}", *"56789"]
    submit([run(1, subject=MARKUP, dataset=hostile_dataset(template, classes=classes))], place)
    build(place)
    text, html = ((place.root / name).read_text() for name in (MARKDOWN, PAGE))
    assert "<img" not in text.replace("\\<img", "")
    assert html.count("<script") == 2, "its own data and its own script"
    assert "<img" not in html
    assert "{{ 7 * 7 }}" in html, "not evaluated"
    data = re.search(r'id="data">(.*?)</script>', html, re.S)[1]
    assert not set(data) & set("<>&")
    assert json.loads(data)["tables"][0]["classes"] == classes


BAD_TEXT = {
    "a terminal's escape": ("\x1b[31m", "U\\+001B"),
    "right to left": ("safe\u202egpj.exe", "U\\+202E"),
    "no width": ("a\u200bb", "U\\+200B"),
    "half a pair": ("\ud800", "Invalid JSON"),
    "a giant": ("x" * (LONGEST + 1), "a text of 1,001 characters"),
    "a giant of escapes": ('"' * (LONGEST + 1), "a text of 1,001 characters"),
}


@pytest.mark.parametrize("name", BAD_TEXT)
def test_text_that_cannot_be_shown_is_refused(name, run, place, template):
    text, complaint = BAD_TEXT[name]
    path = run(1)
    path.write_text(json.dumps(json.loads(changed(read_report(path), {"subject": text}))))
    with pytest.raises(CwbenchError, match=f"report.json.*({complaint})"):
        submit([path], place)
    classes = [text, *map(str, range(1, 10))]
    report, predictions = drawn(template, 2)
    content = report.model_dump(mode="json")["dataset"] | {"classes": classes}
    path = write(report, predictions, place.root.parent / "other")
    path.write_text(json.dumps(json.loads(changed(report, {"dataset": content}))))
    with pytest.raises(CwbenchError):
        submit([path], place)
    assert not place.root.exists()


def test_letters_of_every_script_are_fine(run, place, template):
    classes = ["猫", "כלב", "لون", "ÆØÅ", "ελιά", *"56789"]
    submit([run(1, dataset=hostile_dataset(template, classes=classes))], place)
    assert build(place)[0].tables[0].classes == classes


EDITS = {
    "not a number": (lambda text: text.replace('"seed": 0', '"seed": NaN'), "is not JSON: NaN is no JSON number"),
    "infinite": (lambda text: text.replace('"seconds": ', '"seconds": 1e999, "x": ', 1), "is too large"),
    "huge": (lambda text: text.replace('"seed": 0', f'"seed": {10**300}'), "greater than the maximum"),
    "endless digits": (lambda text: text.replace('"seed": 0', f'"seed": {"9" * 5000}'), "is not JSON"),
    "a key twice": (lambda text: text.replace('"subject"', '"subject": "a", "subject"', 1), "a key is given twice"),
    "nested": (lambda text: "[" * 100_000 + text, "is not JSON"),
    "nested in a field": (
        lambda text: text.replace('"fields": {', '"fields": {"a": ' + "[" * 300 + "]" * 300 + ", ", 1),
        "report.json",
    ),
    "later": (lambda text: text.replace('"schema_version": 1', '"schema_version": 2'), "newer than 1 .update cwbench"),
    "no object": (lambda text: f"[{text}]", "is not a cwbench report"),
    "bytes": (lambda text: text + "\x00", "is not JSON"),
}


@pytest.mark.parametrize("name", EDITS)
def test_what_is_no_report_is_refused_at_submit_and_at_check(name, run, board):
    edit, complaint = EDITS[name]
    path = run(9)
    text = edit(path.read_text())
    assert text != path.read_text(), "the edit found its place"
    path.write_text(text)
    with pytest.raises(CwbenchError, match=complaint) as caught:
        submit([path], board)
    assert "\n" not in str(caught.value)
    entry = board.entries / "digits" / "Linf-0.1" / "0123456789abcdef.json"
    entry.write_text(text)
    with pytest.raises(UnsoundError) as unsound:
        check(board)
    assert "entries/digits/Linf-0.1/0123456789abcdef.json" in str(unsound.value.problems[0])


def test_ten_thousand_classes_are_refused(run, place, template):
    k = 2_001
    classes = [str(index) for index in range(k)]
    dataset = hostile_dataset(template, classes=classes, n_per_class=[1] * k, superclasses={}, n_available=k)
    few = template.model_copy(update={"dataset": dataset, "attacks": template.attacks[:1]})
    report, predictions = drawn(few, 1)
    path = write(report, predictions, place.root.parent / "large")
    with pytest.raises(CwbenchError, match=r"dataset\.classes: 2,001 of at most 2,000"):
        submit([path], place)


def test_a_file_beyond_any_entry_is_not_even_read(board):
    path = board.entries / "digits" / "Linf-0.1" / "0123456789abcdef.json"
    with path.open("wb") as file:
        file.truncate(LARGEST + 1)
    with pytest.raises(UnsoundError) as unsound:
        check(board)
    assert "67,108,865 bytes, where an entry has at most 67,108,864" in str(unsound.value.problems[0])


def test_a_link_out_of_the_board_is_refused(board, tmp_path):
    outside = tmp_path / "outside.json"
    outside.write_bytes(next(board.files()).read_bytes())
    path = board.entries / "digits" / "Linf-0.1" / "0123456789abcdef.json"
    path.symlink_to(outside)
    with pytest.raises(UnsoundError, match="1 of 7"):
        check(board)
