"""Checking, ranking and rendering a board."""

import json
import random
import shutil
import subprocess
import sys

import jsonschema
import pytest

from benchmarks.generated import as_text, drawn
from cwbench.internal.errors import CwbenchError
from cwbench.leaderboard import board as boards
from cwbench.leaderboard.build import UnsoundError, build, check
from cwbench.leaderboard.layout import JSON, PAGE, RENDERED, Place
from cwbench.leaderboard.rank import rank
from cwbench.leaderboard.submit import submit
from cwbench.leaderboard.verification import Verification


def rendered(place):
    return {name: (place.root / name).read_bytes() for name in RENDERED}


def test_building_twice_changes_nothing(board):
    assert build(board)[1]
    first = rendered(board)
    found, again = build(board)
    assert not again
    assert rendered(board) == first
    assert found.entries == 6
    assert not list(board.root.glob(".next*"))


def test_the_order_of_entries_does_not_matter(board):
    entries = list(check(board).entries)
    first = rank(entries, {})
    for seed in range(5):
        random.Random(seed).shuffle(entries)
        assert rank(entries, {}) == first


def test_the_board_obeys_its_schema(board, request):
    build(board)
    content = json.loads((board.root / JSON).read_text())
    jsonschema.validate(content, boards.schema(), cls=jsonschema.Draft202012Validator)
    committed = json.loads((request.config.rootpath / "schemas" / "leaderboard.v1.json").read_text())
    assert committed == json.loads(json.dumps(boards.schema())), "run: cwbench schema --write schemas"
    (table,) = content["tables"]
    worst = [row["conditions"]["worst case"]["worst"] for row in table["rows"]]
    assert worst == sorted(worst, reverse=True)
    assert [row["rank"] for row in table["rows"]] == [1 + sum(other > own for other in worst) for own in worst]


def test_ranks_that_intervals_leave_possible(board):
    build(board)
    (table,) = json.loads((board.root / JSON).read_text())["tables"]
    intervals = [row["conditions"]["worst case"]["worst_interval"] for row in table["rows"]]
    for row, (low, high) in zip(table["rows"], intervals, strict=True):
        assert row["best_rank"] == 1 + sum(other[0] > high for other in intervals)
        assert row["last_rank"] == sum(other[1] >= low for other in intervals)
        assert row["best_rank"] <= row["rank"] <= row["last_rank"]


def test_only_like_is_ranked_with_like(run, place, template):
    from cwbench.internal.exact_number import Exact

    other = template.threat.model_copy(update={"eps": Exact(text="1/8", value=0.125)})
    same = template.threat.model_copy(update={"eps": Exact(text="1/10", value=0.1)})
    another_split = template.dataset.model_copy(update={"digest": "0" * 64})
    submit([run(1), run(2, threat=other), run(3, threat=same), run(4, dataset=another_split)], place)
    found, _ = build(place)
    assert sorted((table.eps, len(table.rows)) for table in found.tables) == [(0.1, 1), (0.1, 2), (0.125, 1)]


def test_seeds_share_a_row_and_a_second_run_of_a_seed_does_not(run, place, template):
    defense = {"defense": template.defense, "subject": "madry"}
    seeds = [template.provenance.model_copy(update={"seed": seed}) for seed in (0, 1, 1)]
    paths = [run(number, provenance=seed, **defense) for number, seed in enumerate(seeds)]
    submit(paths, place)
    found, _ = build(place)
    rows = found.tables[0].rows
    assert sorted(row.seeds for row in rows) == [[0, 1], [1]]
    (both,) = (row for row in rows if len(row.seeds) == 2)
    reports = [
        json.loads((place.entries / "digits" / "Linf-0.1" / f"{name}.json").read_text()) for name in both.entries
    ]
    means = [sum(column) / 2 for column in zip(*(r["worst_case_counts"]["correct"] for r in reports), strict=True)]
    expected = [mean / n for mean, n in zip(means, template.dataset.n_per_class, strict=True)]
    assert both.conditions["worst case"].classes == pytest.approx(expected)


def test_verified_is_what_somebody_reproduced(board):
    (entry, other, *_) = check(board).entries
    board.verifications.mkdir()
    verification = Verification(
        entry=entry.id,
        digest=entry.digest,
        means="sample",
        examples=100,
        differing=0,
        attacks=["pgd"],
        created="2026-11-23T00:00:00Z",
        cwbench="0.1.0",
        torch="2.15.0",
    )
    path = board.verifications / f"{entry.id}.json"
    path.write_text(verification.model_dump_json())
    found, _ = build(board)
    assert {row.entries[0]: row.verified[0] for row in found.tables[0].rows if row.verified[0]} == {entry.id: "sample"}
    path.write_text(verification.model_copy(update={"digest": other.digest}).model_dump_json())
    with pytest.raises(UnsoundError) as caught:
        check(board)
    assert "about a report that is no entry" in str(caught.value.problems[0])
    path.write_text("{}")
    with pytest.raises(UnsoundError):
        check(board)


def problem(place):
    with pytest.raises(UnsoundError) as caught:
        check(place)
    (complaint,) = caught.value.problems
    assert "\n" not in str(complaint)
    return str(complaint)


def test_a_half_written_file_is_told_and_the_board_stays(board):
    build(board)
    first = rendered(board)
    path = next(board.files())
    path.write_bytes(path.read_bytes()[:1000])
    assert f"{path.name} is not JSON" in problem(board)
    with pytest.raises(UnsoundError):
        build(board)
    assert rendered(board) == first


def test_every_problem_is_told_not_only_the_first(board):
    paths = list(board.files())
    paths[0].write_text("{}")
    paths[1].write_text("[]")
    shutil.move(paths[2], paths[2].with_name("0" * 16 + ".json"))
    (paths[3].parent / "notes.txt").write_text("")
    (paths[3].parent / ("f" * 16 + ".json")).symlink_to(paths[3])
    with pytest.raises(UnsoundError, match="5 of 8 files may not stand") as caught:
        check(board)
    texts = "\n".join(map(str, caught.value.problems))
    for part in (
        "no schema_version",
        "its content belongs at entries/digits",
        "notes.txt: not an entry",
        "ffff.json: not",
    ):
        assert part in texts


def test_many_entries_are_read_by_several_processes(place, template):
    for number in range(210):
        report, _ = drawn(template, number)
        path = place.path(report)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(as_text(report))
    path.write_text("{")
    with pytest.raises(UnsoundError, match="1 of 210"):
        check(place)
    path.unlink()
    first = check(place)
    assert len(first.entries) == 209
    assert check(place) == first, "now from the memo"


def test_the_memo_hides_no_change_and_its_loss_costs_only_time(place, template, tmp_path, monkeypatch):
    monkeypatch.setenv("CWBENCH_CACHE", str(tmp_path / "cache"))
    for number in range(200):
        report, _ = drawn(template, number)
        path = place.path(report)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(as_text(report))
    first = check(place)
    kept = list((tmp_path / "cache" / "leaderboard").glob("*/*"))
    assert 1 < len(kept) <= 16
    before = path.read_text()
    path.write_text(before.replace('"subject": "', '"subject": "x'))
    with pytest.raises(UnsoundError, match="1 of 200"):
        check(place)
    path.write_text(before)
    for file in (tmp_path / "cache" / "leaderboard").glob("*/*"):
        file.write_text("[")
    assert check(place) == first


def test_no_board_and_an_empty_board(tmp_path):
    with pytest.raises(CwbenchError, match="there is no board at"):
        Place.existing(tmp_path)
    (tmp_path / "entries").mkdir()
    found, changed = build(Place.existing(tmp_path))
    assert (found.entries, found.tables, changed) == (0, [], True)
    assert "No entry yet" in (tmp_path / PAGE).read_text()


@pytest.mark.parametrize("size", [6, 200])
def test_the_board_loads_neither_torch_nor_plugins(size, board, template):
    for number in range(6, size):
        report, _ = drawn(template, number)
        board.path(report).write_text(as_text(report))
    code = (
        "import sys; from pathlib import Path; from cwbench.leaderboard.build import build;"
        "from cwbench.leaderboard.layout import Place; build(Place(Path(sys.argv[1])));"
        "print(sorted({'torch', 'pluggy', 'sklearn'} & {name.partition('.')[0] for name in sys.modules}))"
    )
    done = subprocess.run([sys.executable, "-c", code, str(board.root)], check=True, capture_output=True, text=True)
    assert done.stdout == "[]\n"


def test_the_packaged_suites_are_the_datasets(request):
    from cwbench.plugins.attack_suites import suites_of
    from cwbench.plugins.registry import installed

    registry = installed()
    own = [offer.cls.name for offer in registry.offers("dataset") if offer.origin.distribution == "cwbench"]
    path = request.config.rootpath / "cwbench" / "leaderboard" / "suites.json"
    assert json.loads(path.read_text()) == suites_of(registry, own), "run: cwbench leaderboard suites > that file"


def test_the_repositorys_own_board_is_sound_and_rendered(request, tmp_path):
    own = Place.existing(request.config.rootpath / "leaderboard")
    shutil.copytree(own.root, tmp_path / "board")
    found, changed = build(Place(tmp_path / "board"))
    assert not changed, "run: cwbench leaderboard build"
    digits = next(table for table in found.tables if table.dataset == "digits")
    defenses = {"standard", "madry", "trades", "mart", "rst", "he", "he-lis", "he-cmp", "fast"}
    assert {row.subject for row in digits.rows} == defenses
    assert all(row.seeds == [0, 1, 2] for row in digits.rows)
    assert all(means for row in digits.rows for means in row.verified)
