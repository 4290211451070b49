"""What a sweep will cost: passes against those that the papers' algorithms take, and an estimate of a real sweep."""

import pytest

from cwbench.api import make_threat
from cwbench.attacks.cw import CW
from cwbench.attacks.cw_pgd import CWPGD
from cwbench.attacks.fgsm import FGSM
from cwbench.attacks.nattack import NAttack
from cwbench.attacks.pgd import PGD
from cwbench.attacks.square import Square
from cwbench.plan import make_plan
from cwbench.plugins.registry import installed
from cwbench.spec import RunSpec
from cwbench.sweep.cost import Speed, estimate
from cwbench.sweep.count_passes import Passes, attack_passes, training_passes
from cwbench.sweep.engine import Item
from cwbench.sweep.outcome import Done

THREAT = make_threat("Linf", "0.1")
N, EPOCHS, STEPS = 898, 3, 5


def passes_of(defense):
    spec = RunSpec(defense=defense, set={"recipe.epochs": EPOCHS, "recipe.eps_warmup": 0.3})
    return training_passes(make_plan(spec, installed()))


@pytest.mark.parametrize(
    ("defense", "forward", "inputs", "weights"),
    [
        ("standard", 1, 0, 1),
        ("madry", STEPS + 1, STEPS, 1),  # K steps, and the loss at their end
        ("trades", STEPS + 3, STEPS, 2),  # the target of the inner KL, K steps, and clean and adversarial logits
        ("mart", STEPS + 2, STEPS, 2),
        ("fast", 1 + 1, 1, 1),
        ("he", STEPS + 1, STEPS, 1),
    ],
)
def test_training_takes_the_passes_of_its_algorithm(defense, forward, inputs, weights):
    found = passes_of(defense)
    images = N * EPOCHS
    assert (found.forward, found.inputs, found.weights) == (forward * images, inputs * images, weights * images)


def test_half_of_every_batch_of_rst_is_unlabelled():
    assert passes_of("rst").weights == 2 * passes_of("trades").weights


@pytest.mark.parametrize(
    ("attack", "forward", "backward"),
    [
        (FGSM(), 1, 1),
        (PGD(steps=7, step_size=0.03), 7, 7),
        (PGD(steps=7, step_size=0.03, restarts=3), 21, 21),
        (CWPGD(steps=4, step_size=0.03), 4, 4),
        (CW(iterations=40, searches=3), 120, 120),  # it gives up where nothing is gained, and so must always gain
        (Square(queries=50), 50, 0),
    ],
)
def test_an_attack_takes_the_passes_of_an_example_that_it_never_breaks(attack, forward, backward):
    found = attack_passes(attack, THREAT, (1, 8), 10)
    assert found.inputs == backward
    assert forward <= found.forward <= forward + 3  # and what it looks at before or between its restarts


def test_queries_are_counted_too():
    found = attack_passes(NAttack(iterations=3, population=20), THREAT, (1, 8), 10)
    assert found.inputs == 0
    assert found.forward >= 60


def test_time_is_passes_times_what_each_kind_takes():
    speed = Speed(forward=1.0, inputs=3.0, weights=4.0)
    assert speed.seconds(Passes(forward=10, inputs=5, weights=2)) == 10 + 5 * 2 + 2 * 3


def test_an_estimate_names_each_training_once_and_leaves_finished_cells_out():
    specs = [
        RunSpec(defense="madry", attacks=attack, seed=seed, limit=50) for attack in ("fgsm", "pgd") for seed in (0, 1)
    ]
    items = [Item(f"cell {i}", spec) for i, spec in enumerate(specs)]
    lines = {line.name: line for line in estimate(items, installed(), calibration=0.3)}
    assert {name: line.count for name, line in lines.items()} == {
        "train madry on digits": 2,
        "fgsm on digits": 2,
        "pgd on digits": 2,
    }
    assert lines["pgd on digits"].passes.inputs == 2 * 50 * 20
    assert all(line.seconds > 0 for line in lines.values())
    finished = [Item(item.name, item.spec, outcome=Done(1.0)) for item in items[:2]]
    assert "fgsm on digits" not in {line.name for line in estimate([*finished, *items[2:]], installed(), 0.3)}


def test_the_command_line_plans_a_sweep(write, command):
    done = command("sweep", "plan", write(), "--seconds", "1", "--workers", "2")
    assert done.returncode == 0, done.stderr
    assert "train madry on digits" in done.stdout
    assert "CPU-hours at most, as measured on this machine" in done.stdout
    assert "hours with 2 at a time" in done.stdout
