"""Reproducing reports: what reproduces, and every way in which one may not."""

import json
import re
import sys

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

import cwbench
from cwbench.cli import main
from cwbench.datasets.digits import Digits
from cwbench.evaluation.saved_examples import ExampleFolder
from cwbench.internal import digest
from cwbench.pipeline.verify_claims import check_split
from cwbench.report.predictions import PREDICTIONS, column
from cwbench.report.report import read_report

ATTACKS = ["pgd:steps=5", "cw:iterations=20,searches=2", "transfer:steps=3"]
OPTIONS = {"limit": 40, "set": {"recipe.epochs": 6, "recipe.eps_warmup": 0.3}}


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """A run that kept its examples."""
    out = tmp_path_factory.mktemp("saved")
    cwbench.run("madry", ATTACKS, out=out, save_examples=True, **OPTIONS)
    (path,) = out.glob("*/report.json")
    return path


@pytest.fixture
def verify(monkeypatch, capsys):
    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["cwbench", "verify", *map(str, arguments)])
        with pytest.raises(SystemExit) as stop:
            main()
        captured = capsys.readouterr()
        return stop.value.code or 0, captured.out, captured.err

    return run


def copied(path, tmp_path, change=None):
    """Copy a run; ``change`` edits its report, which is then sealed again as somebody who knows cwbench would."""
    for file in path.parent.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    content = json.loads(path.read_text())
    content.pop("digest")
    if change:
        change(content)
    (tmp_path / "report.json").write_text(json.dumps(content | {"digest": digest.of_json(content)}))
    return tmp_path / "report.json"


def test_saved_examples_are_of_the_attacked_and_reproduce(saved, verify):
    report = read_report(saved)
    assert [entry.attack for entry in report.examples] == ATTACKS
    right = report.clean.figures.overall.correct
    assert [entry.n for entry in report.examples] == [right] * 3
    code, printed, _ = verify(saved)
    assert code == 0
    assert f"reproduced, {40 + 3 * right} saved examples and clean images predicted again and 25 random" in printed
    assert "0 verdicts differ" in printed


def test_without_them_attacks_run_again(saved, tmp_path, verify):
    path = copied(saved, tmp_path, lambda content: content.update(examples=[]))
    code, printed, _ = verify(path, "--sample", "15")
    assert (code, "reproduced, 15 random examples attacked again, 0 verdicts differ" in printed) == (0, True)


def test_saving_examples_changes_no_verdict(saved, tmp_path):
    cwbench.run("madry", ATTACKS, out=tmp_path, **OPTIONS)
    (path,) = tmp_path.glob("*/report.json")
    mine, theirs = (load_file(one.parent / PREDICTIONS) for one in (path, saved))
    assert all((mine[name] == theirs[name]).all() for name in theirs)
    assert read_report(path).examples == []


def rewritten(tmp_path, number, change):
    """Change the tensors of a file of examples, and its sha256 in the report with it."""
    name = f"examples-{number:02d}-000000.safetensors"
    tensors = load_file(tmp_path / name)
    change(tensors)
    save_file(tensors, tmp_path / name)
    content = json.loads((tmp_path / "report.json").read_text())
    content.pop("digest")
    content["examples"][number]["sha256"] = digest.of_file(tmp_path / name)
    (tmp_path / "report.json").write_text(json.dumps(content | {"digest": digest.of_json(content)}))


def noise(tensors):
    tensors["x"] = np.random.default_rng(0).random(tensors["x"].shape, dtype=np.float32)


FORGED = {
    "examples outside of the ball": (0, noise, "pgd:steps=5: saved example .* outside of the Linf ball of eps 0.1"),
    "examples outside of the box": (1, lambda t: t["x"].__imul__(3), "lies .* outside of the box"),
    "nearer than recorded": (1, noise, "is not as far away as recorded"),
    "NaN": (0, lambda t: t["x"].fill(np.nan), "are no finite images"),
    "of other examples": (0, lambda t: t["ids"].__iadd__(0 * t["ids"] + 1), "was not judged|are not those"),
    "the clean images": (2, None, "the report does not reproduce: .* verdicts on saved examples differ"),
}


@pytest.mark.parametrize("name", FORGED)
def test_forged_examples_are_refused(name, saved, tmp_path, verify):
    number, change, complaint = FORGED[name]
    path = copied(saved, tmp_path)
    if change is None:
        test = Digits().load("test", None)
        change, number = (lambda t: t.update(x=test.x[t["ids"]].numpy())), 0
    rewritten(tmp_path, number, change)
    code, _, errors = verify(path)
    assert code == 2
    assert errors.count("\n") == 1
    assert re.search(complaint, errors), errors


def claims_all_stand(content, folder):
    """Raise the worst class: predictions, counts and figures together, as a forger must."""
    columns = load_file(folder / PREDICTIONS)
    name = column("pgd:steps=5")
    columns[name] = columns["clean"].copy()
    save_file(columns, folder / PREDICTIONS)
    attack = content["attacks"][0]
    attack["confusion"], attack["figures"] = content["clean"]["confusion"], content["clean"]["figures"]
    content["predictions"]["sha256"] = digest.of_file(folder / PREDICTIONS)
    from cwbench.report.counts import right_under
    from cwbench.report.records import DatasetRecord, Figures

    under = [columns[key] for key in columns if key == "clean" or key.startswith("under ")]
    worst = right_under(columns["labels"], under, 10)
    figures = Figures.of(worst, DatasetRecord.model_validate(content["dataset"]))
    content["worst_case_counts"] = {"correct": worst, "figures": figures.model_dump(mode="json")}


def test_a_consistent_forgery_reads_well_and_does_not_reproduce(saved, tmp_path, verify):
    path = copied(saved, tmp_path)
    copied(saved, tmp_path, lambda content: claims_all_stand(content, tmp_path))
    assert read_report(path).accuracy("pgd:steps=5") == read_report(path).accuracy("clean")
    code, _, errors = verify(path)
    assert (code, "verdicts on saved examples differ" in errors) == (2, True)
    test = Digits().load("test", None)
    rewritten(tmp_path, 0, lambda tensors: tensors.update(x=test.x[tensors["ids"]].numpy()))
    code, _, errors = verify(path, "--sample", "40")
    assert (code, "examples of a random sample differ" in errors) == (2, True), "no attack made the saved images"


def set_seed(content):
    content["training"]["recipe"]["lr"] = 0.5


def set_defense(content):
    content["defense"]["name"] = "trades"


def set_data(content):
    content["dataset"]["digest"] = "0" * 64


def set_checkpoint(content):
    content["training"]["checkpoint"] = "0" * 64


CLAIMS = {
    "another recipe": (set_seed, "recipe: the report says another one than its checkpoint"),
    "another defense": (set_defense, "defense: the report says another one than its checkpoint"),
    "other data": (set_data, "dataset.digest: digits here has"),
    "a checkpoint that nobody has": (set_checkpoint, "checkpoint 000000000000 is not in .*train it"),
}


@pytest.mark.parametrize("name", CLAIMS)
def test_claims_that_the_checkpoint_contradicts(name, saved, tmp_path, verify):
    change, complaint = CLAIMS[name]
    code, _, errors = verify(copied(saved, tmp_path, change))
    assert code == 2
    assert re.search(complaint, errors), errors


def test_a_file_that_is_missing_or_damaged(saved, tmp_path, verify):
    path = copied(saved, tmp_path)
    file = tmp_path / "examples-00-000000.safetensors"
    file.write_bytes(file.read_bytes()[:-5])
    assert "is not the file that the report was written with" in verify(path)[2]
    file.unlink()
    assert "cannot read" in verify(path)[2]
    (tmp_path / PREDICTIONS).unlink()
    assert "do not lie beside it" in verify(path)[2]


def test_a_board_records_what_was_verified(saved, verify, tmp_path):
    (tmp_path / "entries").mkdir()
    code, _, errors = verify(saved, "--board", tmp_path)
    assert (code, "the report is no entry of" in errors) == (2, True)
    code, _, errors = verify(saved, "--board", tmp_path / "nowhere")
    assert (code, "there is no board at" in errors) == (2, True)


def test_labels_that_are_not_those_of_the_data_are_refused(saved, tmp_path):
    report, dataset = read_report(saved), Digits()
    columns = load_file(saved.parent / PREDICTIONS)
    test = dataset.load("test", None)
    check_split(report, columns, dataset, test)
    wrong = columns | {"labels": (columns["labels"] + 1) % 10}
    with pytest.raises(cwbench.CwbenchError, match="has another label than in digits"):
        check_split(report, wrong, dataset, test)
    with pytest.raises(cwbench.CwbenchError, match="there is no example 10000000 among 899"):
        check_split(report, columns | {"ids": columns["ids"] + 10**7}, dataset, test)
    whole = report.model_copy(update={"dataset": report.dataset.model_copy(update={"limit": None})})
    with pytest.raises(cwbench.CwbenchError, match="40 of 899 examples were judged, and no limit is told"):
        check_split(whole, columns, dataset, test)


TOLD = {
    "subject": lambda c: c.update(subject="trades (robust, checked)"),
    "provenance.seed": lambda c: c["provenance"].update(seed=10**12),
    "training.losses": lambda c: c["training"].update(losses=[0.0] * len(c["training"]["losses"])),
    "training.data": lambda c: c["training"]["data"].update(kind="labelled", description="a million images"),
    "pgd:steps=5: the report says decision access": lambda c: c["attacks"][0].update(access="decision"),
    "dataset.classes": lambda c: c["dataset"]["classes"].__setitem__(3, "three"),
    "dataset.n_available": lambda c: c["dataset"].update(n_available=10**9),
}


@pytest.mark.parametrize("claim", TOLD)
def test_what_a_report_says_of_checkpoint_and_data_is_held_against_them(claim, saved, tmp_path, verify):
    path = copied(saved, tmp_path, TOLD[claim])
    code, _, errors = verify(path)
    assert (code, errors.count("\n")) == (2, 1)
    assert claim in errors


def test_the_subject_may_be_spelt_as_the_user_did(tmp_path, verify):
    cwbench.run("trades:beta=6", ["fgsm"], out=tmp_path, limit=20, set={"recipe.epochs": 2})
    (path,) = tmp_path.glob("*/report.json")
    assert verify(path)[0] == 0


def test_two_runs_that_save_the_same_examples_do_not_share_a_folder(tmp_path):
    gallery = ExampleFolder(tmp_path / "cache" / "evaluation-examples", ["pgd"])
    other = ExampleFolder(tmp_path / "cache" / "evaluation-examples", ["pgd"])
    with gallery.held(), pytest.raises(cwbench.CwbenchError, match="another process is saving"), other.held():
        pass
    with other.held():
        pass
