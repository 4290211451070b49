"""The study on digits, cut short: every piece is found, nothing is done twice, and people can read the page."""

import json
import os
import shutil
from pathlib import Path

import jsonschema
import pytest

from cwbench.checkpoints.store import Store
from cwbench.study.figures import PIECES
from cwbench.study.record import read_record, schema
from cwbench.study.render import write
from tests import command_line

SCALE = ["--set", "recipe.epochs=2", "--limit", "60"]
DEFENSES = ["--defense", "madry", "--defense", "mart", "--defense", "he-lis"]
SHORT = [*SCALE, *DEFENSES, "--attack", "fgsm", "--attack", "transfer"]
HOMING = ["--homing", "3,5"]


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    return tmp_path_factory.mktemp("study")


@pytest.fixture(scope="module")
def command(home):
    def do(*arguments):
        environment = os.environ | {"CWBENCH_CACHE": str(home / "cache"), "OMP_NUM_THREADS": "1"}
        return command_line.run("study", *arguments, cwd=home, environment=environment, timeout=600)

    return do


@pytest.fixture(scope="module")
def done(command):
    found = command("all", *SHORT, *HOMING)
    assert found.returncode == 0, found.stderr
    return found


@pytest.fixture(scope="module")
def folder(done, home):
    (found,) = (home / "runs" / "study").glob("digits-default-*")
    return found


def test_every_piece_is_found_and_told(done, folder):
    for piece in PIECES:
        record = read_record(folder / f"{piece.name}.json")
        assert record.findings, record.notes
        assert f"{piece.name}: {record.findings[0].summary()}" in done.stdout
        jsonschema.validate(json.loads((folder / f"{piece.name}.json").read_text()), schema())
    assert done.stdout.rstrip().endswith(str((folder / "index.html").relative_to(folder.parents[2])))


def test_the_substitute_of_two_transfer_attacks_is_one_network_like_those_of_several_cells(folder, home):
    trained = [entry.identity for entry in Store(home / "cache" / "checkpoints").all()]
    whole = sorted(identity["defense"]["name"] for identity in trained if identity["dataset"]["name"] == "digits")
    assert whole == ["he-lis", "madry", "mart", "standard", "standard"]


def test_every_figure_is_there_as_png_and_svg(folder):
    drawn = {path.name for path in (folder / "figures").iterdir()}
    names = {name.rpartition(".")[0] for name in drawn}
    assert {f"figure{n}" for n in (1, 2, 3, 4, 6, 7)} | {"figure5-1", "table2", "table3", "table4", "table5"} <= names
    assert drawn == {f"{name}.{kind}" for name in names for kind in ("png", "svg")}
    for path in (folder / "figures").glob("*.png"):
        assert path.read_bytes().startswith(b"\x89PNG")


def test_the_markdown_names_its_figures_and_the_studys_own_numbers(folder):
    text = (folder / "study.md").read_text()
    assert text.count("\n## ") == len(PIECES)
    for line in text.splitlines():
        if line.startswith("!["):
            assert (folder / line.rpartition("(")[2].rstrip(")")).is_file()
    assert "The study, table 3, CIFAR-10" in text
    assert "54.4" in text


def test_again_nothing_is_trained_or_judged_and_a_piece_alone_keeps_the_others(command, folder, home):
    kept = [home / "cache" / "checkpoints", home / "runs" / "cells"]
    before = {path: path.stat().st_mtime_ns for place in kept for path in place.rglob("*")}
    found = command("table5", "figure6", *SHORT, *HOMING)
    assert found.returncode == 0, found.stderr
    assert {path: path.stat().st_mtime_ns for place in kept for path in place.rglob("*")} == before
    assert (folder / "index.html").read_text().count("<section") == len(PIECES)
    page = (folder / "index.html").read_bytes()
    other = command("figure6", *SCALE[:2], "--limit", "30", "--defense", "madry")
    assert other.returncode == 0, other.stderr
    assert (folder / "index.html").read_bytes() == page  # another scale is another study, in a folder of its own
    assert len(list(folder.parent.iterdir())) == 2
    shutil.rmtree(next(place for place in folder.parent.iterdir() if place != folder))


def test_homing_is_of_the_classes_that_were_asked_for(folder):
    (found,) = read_record(folder / "figure3.json").findings
    assert [entry.removed for entry in found.removed] == ["3", "5"]
    assert [entry.control for entry in found.removed] == ["5", "3"]
    confusion = read_record(folder / "figure2.json").findings[0].confusion
    assert found.removed[0].misclassified == sum(row[3] for row in confusion) - confusion[3][3]


def test_the_page_in_a_browser(opened, folder, command):
    command("all", *SHORT, *HOMING)
    for scheme, width in (("light", 1200), ("dark", 390)):
        page = opened(f"file://{folder / 'index.html'}", color_scheme=scheme, viewport={"width": width, "height": 800})
        assert page.locator("section").count() == len(PIECES)
        broken = "images => images.filter(image => !image.naturalWidth).length"
        assert page.locator("img").evaluate_all(broken) == 0
        assert page.locator("img").count() >= 12
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        page.get_by_role("link", name="Table 3").click()
        assert page.evaluate("location.hash") == "#table3"
        assert page.get_by_role("heading", name="The study, table 3, CIFAR-10").count() == 1


BAD = {
    "an unknown piece": (["figure8"], "the study has no figure8 (known: figure1"),
    "no superclasses": (["figure2"], "digits has no superclasses, by which figure 2 groups the classes (give groups"),
    "groups that overlap": (["figure2", "--superclasses", "a=0,1", "--superclasses", "b=1,2"], "each class in one"),
    "a group that is none": (["figure2", "--superclasses", "round"], "is not NAME=0,1"),
    "an unknown defense": (["table2", "--defense", "mraty"], "no defense is named 'mraty'"),
    "an unknown dataset": (["figure1", "--dataset", "digitz"], "no dataset is named 'digitz'"),
    "an unknown recipe": (["figure1", "--recipe", "slow"], "digits has no recipe 'slow'"),
    "an unknown field": (["figure1", "--set", "recipe.epoch=2"], "the recipe has no 'recipe.epoch'"),
    "no class of that number": (["figure3", "--homing", "12"], "there is no class 12 to remove"),
    "no homing at all": (["figure3", "--homing", "some"], "--homing 'some' is not all, most-confused, or indices"),
    "an empty homing": (["figure3", "--homing", ""], "is not all, most-confused, or indices"),
    "no test image of that number": (["figure5", "--example", "9999"], "there is no test image 9999"),
    "several unknown names": (
        ["table2", "--defense", "nope", "--defense", "madrid", "--attack", "pgdx"],
        ["no defense is named 'nope'", "no defense is named 'madrid'", "no attack is named 'pgdx'"],
    ),
    "no name at all": (["table2", "--defense", ""], "no defense is named ''"),
    "an attack twice": (["table2", "--attack", "pgd", "--attack", "pgd"], "attacks holds one of them twice"),
    "an address to write to": (["figure1", "--out", "s3://bucket/x"], "--out 's3://bucket/x' is not a folder"),
    "nowhere to write to": (["figure1", "--out", ""], "--out '' is not a folder"),
    "an unknown precision": (["figure1", "--precision", "fp8"], "the study: precision"),
    "a bad seed": (["figure1", "--seed", "a"], "Invalid value for '--seed'"),
    "a seed twice": (["figure1", "--seed", "0", "--seed", "0"], "seeds holds one of them twice"),
    "a class twice": (["figure3", "--homing", "3,3"], "homing holds one of them twice"),
    "a group twice": (["figure2", "--superclasses", "a=0", "--superclasses", "a=1"], "is there twice"),
    "no defense left": (["table5", "--defense", "mart"], "table5: none of its defenses takes part"),
    "data that are missing": (["figure1", "--dataset", "mnist", "--data", "."], "MNIST/raw"),
}


@pytest.mark.parametrize("name", BAD)
def test_what_cannot_be_done_gets_one_line(name, command, done):
    arguments, complaint = BAD[name]
    scale = [] if {"--defense", "--dataset", "--attack"} & set(arguments) else SHORT
    found = command(*arguments, *scale)
    assert found.returncode == 2, found.stdout
    for part in [complaint] if isinstance(complaint, str) else complaint:
        assert part in found.stderr.splitlines()[-1]
    assert "Traceback" not in found.stderr


def test_a_defense_may_have_fields_and_still_be_the_studys(command, done):
    found = command("table3", "claims", *SCALE, "--defense", "madry", "--defense", "mart:beta=3")
    assert found.returncode == 0, found.stderr
    assert "mart:beta=3, 1/T = 5" in found.stdout
    assert "not applicable 3 (" in found.stdout  # superclasses, HE-LIS and HE-CMP


def test_a_network_that_figure_5_asks_for_needs_no_other_in_the_study(command, done):
    found = command("figure5", *SCALE, "--defense", "mart")
    assert found.returncode == 0, found.stderr


def test_warnings_are_told_on_the_page_and_in_the_markdown(folder, tmp_path):
    record = read_record(folder / "table2.json").model_copy(update={"warnings": ["madry, seed 0: a <b> is odd"]})
    write([record], tmp_path, [])
    assert "Warning: madry, seed 0: a" in (tmp_path / "study.md").read_text()
    assert "<li>Warning: madry, seed 0: a &lt;b&gt; is odd</li>" in (tmp_path / "index.html").read_text()
    assert read_record(tmp_path / "table2.json") == record


def test_superclasses_may_be_given(command, folder):
    groups = ["--superclasses", "round=0,6,8,9", "--superclasses", "straight=1,2,3,4,5,7"]
    found = command("figure2", *SHORT, *groups)
    assert found.returncode == 0, found.stderr
    assert "errors stay inside the superclass" in found.stdout
    record = read_record(folder / "figure2.json")
    assert list(record.findings[0].superclasses) == ["round", "straight"]
    assert Path(folder / "figures" / "figure2.svg").stat().st_size > 1000


def test_a_cell_that_fails_costs_its_pieces_and_no_other(command, home):
    environment = home / "runs" / "cells"
    found = command(
        "table2", "figure6", *SCALE, *DEFENSES, "--attack", "fgsm", "--attack", "transfer:substitute=0000000000"
    )
    assert found.returncode == 2
    assert "figure6: The 10 classes lie in" in found.stdout
    assert "table2: missing: madry × transfer:substitute=" in found.stdout
    assert "failed: madry × transfer:substitute=" in found.stderr
    assert environment.is_dir()
