"""Sweep files: which cells they have, and what is wrong with those that have none."""

from pathlib import Path

import pytest

from cwbench.internal.errors import CwbenchError
from cwbench.internal.validation import validated
from cwbench.plugins.registry import installed
from cwbench.sweep.check import checked_cells
from cwbench.sweep.grid import SweepSpec, cells_of, read_sweep

SWEEPS = sorted((Path(__file__).parents[2] / "sweeps").glob("*.yaml"))


def sweep(**content):
    return validated(SweepSpec, {"name": "some", "defenses": ["madry"], "attacks": ["pgd"]} | content, "the sweep")


def checked(**content):
    return checked_cells(sweep(**content), installed())


@pytest.mark.parametrize("path", SWEEPS, ids=lambda path: path.stem)
def test_the_sweeps_of_the_repository_are_sound(path):
    cells = checked_cells(read_sweep(path), installed())
    assert len({cell.name for cell in cells}) == len(cells)


def test_a_grid_is_every_combination_in_the_order_of_its_axes():
    cells = cells_of(sweep(defenses=["madry", "trades:beta=3"], attacks=["fgsm", ["pgd", "tpgd"]], seeds=[4, 5]))
    assert [cell.number for cell in cells] == list(range(1, 9))
    assert [cell.name for cell in cells[:3]] == [
        "madry × fgsm × digits × seed 4",
        "madry × fgsm × digits × seed 5",
        "madry × pgd + tpgd × digits × seed 4",
    ]
    last = cells[-1].spec
    assert (str(last.defense), [str(a) for a in last.attacks], last.seed) == ("trades:beta=3", ["pgd", "tpgd"], 5)


def test_one_value_need_not_be_a_list_and_a_sweep_without_attacks_takes_the_standard_one():
    (cell,) = cells_of(sweep(defenses="madry", attacks=None, seeds=7))
    assert (cell.spec.attacks, cell.spec.seed) == ((), 7)


def test_rules_set_fields_of_some_cells_and_leave_others_out():
    rules = [
        {"where": {"defense": "trades"}, "set": {"limit": 10}},
        {"where": {"attacks": ["pgd"], "seed": 1}, "set": {"limit": 20}},
        {"where": {"defense": "madry", "attacks": "fgsm"}, "skip": True},
    ]
    cells = cells_of(
        sweep(defenses=["madry", "trades:beta=3"], attacks=["fgsm", "pgd"], seeds=[0, 1], cells=rules, run={"limit": 5})
    )
    assert {cell.name: cell.spec.limit for cell in cells} == {
        "madry × pgd × digits × seed 0": 5,
        "madry × pgd × digits × seed 1": 20,
        "trades:beta=3 × fgsm × digits × seed 0": 10,
        "trades:beta=3 × fgsm × digits × seed 1": 10,
        "trades:beta=3 × pgd × digits × seed 0": 10,
        "trades:beta=3 × pgd × digits × seed 1": 20,
    }


def test_cells_attack_in_fp32_unless_the_file_says_otherwise():
    """What ``auto`` measures comes out differently from one process to the next, and reports must not."""
    assert {cell.spec.precision for cell in cells_of(sweep())} == {"fp32"}
    assert {cell.spec.precision for cell in cells_of(sweep(run={"precision": "auto"}))} == {"auto"}


def test_networks_that_cannot_have_the_images_are_refused_and_those_that_can_are_not():
    with pytest.raises(CwbenchError) as raised:
        checked(backbones=["mnist-cnn", "digits-cnn"], seeds=[0, 1])
    message = str(raised.value)
    for seed in (0, 1):
        assert f"mnist-cnn × seed {seed}: backbone mnist-cnn needs images of at least 16×16, not 8×8" in message
    assert "digits-cnn ×" not in message


def test_all_unknown_names_are_listed_at_once():
    with pytest.raises(CwbenchError) as caught:
        checked(defenses=["mraty", "madry:z=1", "trades"], attacks=["pgdd", "cw"], datasets=["digitz"])
    text = str(caught.value)
    for part in ("'mraty' (did you mean", "madry has no field 'z'", "'pgdd'", "'digitz'", "nothing has been run"):
        assert part in text
    assert "\n" not in text


def test_everything_else_that_is_unknown_is_listed_with_the_names():
    with pytest.raises(CwbenchError) as caught:
        checked(
            defenses=["madri"],
            recipes="nope",
            eps=["abc"],
            cells=[
                {"where": {"attacks": "pgd"}, "set": {"backbone": "resnet17"}},
                {"where": {"attacks": ["pgd", "fgms"]}, "set": {"limit": 3}},
            ],
        )
    for part in (
        "'madri'",
        "digits has no recipe 'nope'",
        "eps 'abc'",
        "'resnet17'",
        "rule 2 of cells: no attacks is 'fgms'",
    ):
        assert part in str(caught.value)


def test_all_cells_that_cannot_be_are_listed_at_once():
    with pytest.raises(CwbenchError) as caught:
        checked(attacks=["pgd", "cw", "fgsm"], run={"norm": "L2"}, eps=[1.0, "2"])
    text = str(caught.value)
    assert text.count("attack cw cannot be bounded by L2") == 2
    assert "pgd ×" not in text


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        ({"defenses": None}, "either defenses or checkpoints"),
        ({"checkpoints": ["0" * 64]}, "either defenses or checkpoints"),
        ({"run": {"seed": 3}}, "run: 'seed' is an axis already"),
        ({"seeds": []}, "seeds"),
        ({"seeds": [-1]}, "seeds"),
        ({"name": "No Name"}, "name"),
        ({"defences": ["madry"]}, "has no field 'defences'"),
        (
            {"cells": [{"where": {"defence": "madry"}, "skip": True}]},
            "there is no axis 'defence' .did you mean defense",
        ),
        ({"cells": [{"where": {"defense": "madry"}}]}, "fields to set or skip"),
        ({"resources": {"cpus": 0}}, "resources.cpus"),
        ({"cells": [{"where": {"seed": 0}, "set": {"seed": 5}}]}, "a rule cannot set 'seed', which is an axis"),
    ],
)
def test_a_file_that_is_no_sweep_gets_one_line(content, complaint):
    with pytest.raises(CwbenchError, match=complaint):
        sweep(**content)


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        ({"cells": [{"where": {"defense": "trades"}, "skip": True}]}, "rule 1 of cells: no defense is 'trades'"),
        ({"cells": [{"where": {"defense": "madry"}, "skip": True}]}, "its rules skip every cell"),
        ({"seeds": [1, 1]}, "madry × pgd × digits × seed 1 is there twice"),
        ({"run": {"limitt": 3}}, "a cell's run has no field 'limitt'"),
        ({"run": {"set": {"recipe.epochs": 0}}}, "recipe"),
    ],
)
def test_a_grid_without_sound_cells_gets_one_line(content, complaint):
    with pytest.raises(CwbenchError, match=complaint):
        checked(**content)
