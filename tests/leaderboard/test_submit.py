"""Joining a board: what is refused and why, and that nothing is lost however many submit at once."""

import json
import multiprocessing
import os

import pytest

from benchmarks.generated import changed
from cwbench.internal.errors import CwbenchError
from cwbench.leaderboard.build import check
from cwbench.leaderboard.layout import Place
from cwbench.leaderboard.submit import submit
from cwbench.report.predictions import PREDICTIONS
from cwbench.report.records import DataRecord
from cwbench.report.report import read_report


def test_a_submitted_report_lies_where_its_data_and_threat_say(run, place):
    (path,) = submit([run(1)], place)
    assert path.relative_to(place.root).parts[:3] == ("entries", "digits", "Linf-0.1")
    assert len(path.stem) == 16
    assert read_report(path).subject == "defense-00001"


def test_the_same_run_again_is_a_duplicate_also_when_made_at_another_time(run, place, template):
    (path,) = submit([run(1)], place)
    before = path.read_bytes()
    later = template.provenance.model_copy(update={"threads": 7})
    with pytest.raises(CwbenchError, match=f"is a duplicate: {path} has the same checkpoint"):
        submit([run(1, provenance=later)], place)
    assert path.read_bytes() == before


def test_another_seed_is_another_entry(run, place, template):
    seeds = [template.provenance.model_copy(update={"seed": seed}) for seed in (0, 1)]
    assert len(set(submit([run(1, provenance=seed) for seed in seeds], place))) == 2


def test_all_or_none(run, place):
    broken = run(2)
    (broken.parent / PREDICTIONS).unlink()
    with pytest.raises(CwbenchError, match="predictions it was written with do not lie beside it"):
        submit([run(1), broken], place)
    assert not list(place.root.rglob("*.json"))


def test_the_same_report_twice_in_one_command(run, place):
    path = run(1)
    with pytest.raises(CwbenchError, match="are given twice"):
        submit([path, path], place)
    assert not place.root.exists()


REFUSED = {
    "limited": ({"limit": 899}, r"dataset.limit: 899 of 899 examples were judged \(run it without --limit"),
    "handed in": ({"split": "given"}, "dataset.split: tensors that were handed in"),
    "nowhere": ({"name": "../../etc"}, "dataset.name: '../../etc' is no name of a dataset"),
    "unknown": ({"name": "flowers"}, r"no suite is known for flowers under Linf \(a maintainer"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_ranked_is_refused_with_field_and_reason(name, run, place, template):
    changes, complaint = REFUSED[name]
    with pytest.raises(CwbenchError, match=complaint) as caught:
        submit([run(1, dataset=template.dataset.model_copy(update=changes))], place)
    assert str(caught.value).startswith(str(place.root.parent / "runs"))
    assert not place.root.exists()


def test_another_suite_is_refused_with_the_difference(run, place, template):
    without = [attack for attack in template.attacks if attack.label != "square:queries=1000"]
    report = template.model_copy(update={"attacks": without})
    from benchmarks.generated import drawn, write

    path = write(*drawn(report, 1), place.root.parent / "other")
    with pytest.raises(CwbenchError, match="of another suite: against 'standard' it lacks square:queries=1000"):
        submit([path], place)


def test_a_board_may_know_suites_of_further_datasets(run, place, template):
    place.root.mkdir()
    labels = template.labels()
    place.suites.write_text(json.dumps({"flowers": {"Linf": {"standard": labels}}}))
    (path,) = submit([run(1, dataset=template.dataset.model_copy(update={"name": "flowers"}))], place)
    assert path.parts[-3] == "flowers"
    place.suites.write_text(json.dumps({"digits": {"Linf": {"easy": ["fgsm"]}}}))
    with pytest.raises(CwbenchError, match="redefines digits, which cwbench knows"):
        submit([run(2)], place)
    place.suites.write_text("[]")
    with pytest.raises(CwbenchError, match="is not a table of suites"):
        submit([run(2)], place)


def test_edits_by_hand_are_refused(run, place):
    path = run(1)
    content = json.loads(path.read_text())
    content["subject"] = "mine"
    path.write_text(json.dumps(content))
    with pytest.raises(CwbenchError, match="does not have the digest that it names"):
        submit([path], place)


def test_an_edit_that_is_sealed_again_is_found_by_recounting(run, place, template):
    """Another confusion that adds up to the same figures is consistent in itself; the predictions contradict it."""
    path = run(1)
    report = read_report(path)
    content = report.model_dump(mode="json")
    row = content["attacks"][0]["confusion"][0]
    full = max(range(1, 10), key=lambda column: row[column])
    empty = min(range(1, 10), key=lambda column: row[column])
    row[full], row[empty] = row[full] - 1, row[empty] + 1
    path.write_text(changed(report, {"attacks": content["attacks"]}))
    with pytest.raises(CwbenchError, match=r"do not add up|moved under attack"):
        submit([path], place)


def test_an_unsealed_report_is_from_before(run, place):
    path = run(1)
    content = json.loads(path.read_text()) | {"digest": None}
    path.write_text(json.dumps(content))
    with pytest.raises(CwbenchError, match="digest: there is none"):
        submit([path], place)


def test_a_folder_that_cannot_be_written(run, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(CwbenchError, match="cannot write"):
        submit([run(1)], Place(tmp_path / "file" / "leaderboard"))


def test_extra_data_reach_the_entry(run, place, template):
    data = DataRecord(kind="unlabelled", labelled=898, unlabelled=5, description="five more")
    training = template.training.model_copy(update={"data": data})
    (path,) = submit([run(1, training=training)], place)
    assert read_report(path).training.data.kind == "unlabelled"


def _submit(path, root, gate):
    gate.wait()
    try:
        submit([path], Place(root))
    except CwbenchError:
        os._exit(2)


def test_fifty_processes_lose_nothing(run, place):
    """Forty different ones, and one report that ten submit: forty-one entries, and nine are told of the duplicate."""
    paths = [run(number) for number in range(40)]
    paths += [run(40)] * 10
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["cwbench.leaderboard.submit", "cwbench.leaderboard.build"])
    gate = context.Barrier(len(paths))
    processes = [context.Process(target=_submit, args=(path, place.root, gate)) for path in paths]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes[:40]] == [0] * 40
    assert sorted(process.exitcode for process in processes[40:]) == [0] + [2] * 9
    assert len(check(place).entries) == 41
    assert not [path for path in place.root.rglob(".*") if path.is_file()], "no draft stays"
