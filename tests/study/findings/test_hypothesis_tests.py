"""The tests behind the verdicts: on made-up predictions in which a property holds, or does not."""

from types import SimpleNamespace

import numpy as np
import pytest
from scipy.stats import binom, chi2

from cwbench.internal.errors import CwbenchError
from cwbench.study.findings import hypothesis_tests as p
from cwbench.study.findings.hypothesis_tests import Claim, Effect, Judged, properties

K, EACH = 6, 60
LABELS = np.repeat(np.arange(K), EACH)


def judged(**right):
    """Return predictions under attacks: for each attack how many examples of each class are right, the first ones."""
    columns = {"ids": np.arange(len(LABELS)), "labels": LABELS}
    for attack, counts in right.items():
        place = np.tile(np.arange(EACH), K)
        fine = place < np.repeat(counts, EACH)
        name = attack if attack == "clean" else f"under {attack}"
        columns[name] = np.where(fine, LABELS, (LABELS + 1) % K)
    report = SimpleNamespace(
        attack=lambda name: SimpleNamespace(label=name), dataset=SimpleNamespace(classes=[str(c) for c in range(K)])
    )
    return Judged(report, columns)


EVEN, SPREAD, WIDE = [40] * K, [58, 55, 50, 45, 40, 35], [60, 55, 45, 35, 20, 5]


def test_a_gap_that_is_there_is_found_and_an_even_one_is_not():
    assert p.class_gap(judged(pgd=WIDE)).p_value < 1e-6
    found = p.class_gap(judged(pgd=EVEN))
    assert (found.value, found.p_value) == (0.0, pytest.approx(1.0))
    assert p.class_gap(judged(pgd=[60] * K)).p_value == 1.0
    counts = np.array([SPREAD, [60 - n for n in SPREAD]])
    expected = counts.sum(1, keepdims=True) * 60 / 360
    statistic = ((counts - expected) ** 2 / expected).sum()
    assert p.class_gap(judged(pgd=SPREAD)).p_value == pytest.approx(chi2.sf(statistic, K - 1))


def test_stronger_attacks_that_take_from_vulnerable_classes():
    taken = [1, 2, 4, 6, 8, 12]
    found = p.vulnerable_hit_more(judged(fgsm=SPREAD), judged(pgd=np.subtract(SPREAD, taken)))
    assert (found.value, found.p_value) == (pytest.approx(1.0), pytest.approx(1 / 720))
    other = p.vulnerable_hit_more(judged(fgsm=SPREAD), judged(pgd=np.subtract(SPREAD, taken[::-1])))
    assert other.value == pytest.approx(-1.0)
    assert other.p_value > 0.99


def test_norms_that_follow_robustness():
    assert p.norms_follow_robustness(judged(pgd=SPREAD), [6, 5, 4, 3, 2, 1]).p_value < 0.01
    assert p.norms_follow_robustness(judged(pgd=SPREAD), [1, 2, 3, 4, 5, 6]).value == pytest.approx(-1)
    assert p.norms_follow_robustness(judged(pgd=EVEN), [1, 2, 3, 4, 5, 6]).p_value == 1.0


def test_temperature_that_hits_one_network_more():
    both = lambda hot: (judged(pgd=EVEN), judged(tpgd=hot))  # noqa: E731 - a pair, named for what it is
    mart, madry = both([38, 36, 34, 32, 30, 28]), both([40, 40, 40, 40, 39, 39])
    found = p.temperature_hits_more(mart, madry)
    assert found.value == pytest.approx((42 - 2) / 360)
    assert found.p_value == pytest.approx(1 / 2001)  # forty examples apart: no exchange in 2000 gives as much
    back = p.temperature_hits_more(madry, mart)
    assert (back.p_value, back.opposite) == (pytest.approx(1.0), pytest.approx(1 / 2001))
    same = p.temperature_hits_more(madry, madry)
    assert (same.value, same.p_value, same.opposite) == (0.0, 1.0, 1.0)


def test_what_temperature_gains_counts_against_what_it_takes():
    """As many examples are gained as lost, in other classes: nothing is taken."""
    moved = (judged(pgd=EVEN), judged(tpgd=[20, 60, 20, 60, 40, 40]))
    found = p.temperature_hits_more(moved, (judged(pgd=EVEN), judged(tpgd=EVEN)))
    assert found.value == 0.0
    assert found.p_value > 0.3


def test_two_examples_decide_nothing():
    one = (judged(pgd=EVEN), judged(tpgd=[40, 40, 40, 40, 40, 38]))
    found = p.temperature_hits_more((judged(pgd=EVEN), judged(tpgd=EVEN)), one)
    assert found.value < 0
    assert found.opposite == pytest.approx(0.25, abs=0.04)


def test_a_gap_that_is_wider_than_another():
    found = p.gap_is_wider((judged(pgd=WIDE), "pgd"), (judged(pgd=SPREAD), "pgd"))
    assert found.value == pytest.approx((55 - 23) / 60)
    assert found.p_value < 0.01
    assert p.gap_is_wider((judged(pgd=SPREAD), "pgd"), (judged(pgd=WIDE), "pgd")).p_value > 0.99
    assert p.gap_is_wider((judged(pgd=SPREAD), "pgd"), (judged(clean=SPREAD), "clean")).p_value == 1.0


def test_the_permutation_test_is_wrong_no_more_often_than_it_says():
    """Two networks with the same true accuracies: of 200 p-values about a tenth may lie below 0.1."""
    draw, low = np.random.default_rng(0), 0
    accuracy = np.repeat([0.9, 0.8, 0.7, 0.7, 0.6, 0.5], EACH)
    for _ in range(200):
        pair = []
        for _ in range(2):
            network = judged(pgd=EVEN)
            network.columns["under pgd"] = np.where(draw.random(len(LABELS)) < accuracy, LABELS, (LABELS + 1) % K)
            pair.append((network, "pgd"))
        low += p.gap_is_wider(*pair).p_value < 0.1
    assert 6 <= low <= 34  # outside of this with probability 0.0005


def test_errors_inside_superclasses(made):
    right, wrong = [[10, 0, 0, 0]] * 4, [6, 4, 0, 0]
    confusion = [np.roll(wrong, c).tolist() for c in range(4)]  # each class is taken for the next one
    clean = [np.roll(row, c).tolist() for c, row in enumerate(right)]
    report = made({"clean": clean, "pgd": confusion})
    found = p.errors_stay_inside(Judged(report, {}), {"a": [0, 1], "b": [2, 3]})
    assert found.value == pytest.approx(0.5 - 1 / 3)
    assert found.p_value == pytest.approx(binom.sf(7, 16, 1 / 3))
    assert found.opposite == pytest.approx(binom.cdf(8, 16, 1 / 3))
    apart = p.errors_stay_inside(Judged(report, {}), {"a": [0, 2], "b": [1, 3]})
    assert apart.value == pytest.approx(-1 / 3)
    sound = made({"clean": clean, "pgd": clean})
    assert p.errors_stay_inside(Judged(sound, {}), {"a": [0, 1], "b": [2, 3]}).p_value == 1.0


def test_few_classes_have_no_correlation():
    found = judged(pgd=SPREAD)
    few = Judged(found.report, {name: column[: 3 * EACH] for name, column in found.columns.items()})
    with pytest.raises(CwbenchError, match="3 classes have no correlation"):
        p.norms_follow_robustness(few, [1, 2, 3, 4, 5, 6])


CLAIM = Claim("it holds", "some test", "effect {} points", (("madry", "pgd"),), scale=100)


@pytest.mark.parametrize(
    ("effects", "verdict"),
    [
        ([Effect(0.3, 0.001), Effect(0.2, 0.01)], "holds"),
        ([Effect(0.3, 0.001), Effect(0.2, 0.2)], "not shown"),
        ([Effect(-0.3, 0.999, 0.001), Effect(-0.2, 0.98, 0.02)], "does not hold"),
        ([Effect(-0.3, 0.999, 0.001), Effect(0.2, 0.01, 0.99)], "not shown"),
        ([Effect(0.0, 1.0)], "not shown"),
        ("nothing to look at", "not applicable"),
    ],
)
def test_a_property_holds_if_every_seed_shows_it(effects, verdict):
    found = properties("made", [(CLAIM, effects)])
    (row,) = found.rows
    assert row.verdict == verdict
    if not isinstance(effects, str):
        assert row.p_value == max(effect.p_value for effect in effects)
        assert row.effect == f"effect {50 * sum(effect.value for effect in effects):.2f} points"
    assert f"{verdict} 1 (" in found.summary()


def test_p_values_are_adjusted_for_the_number_of_properties():
    found = properties("made", [(CLAIM, [Effect(0.3, 0.03)]), (CLAIM, [Effect(0.1, 0.04)]), (CLAIM, "none")])
    assert [row.adjusted for row in found.rows] == [pytest.approx(0.06), pytest.approx(0.06), None]
    assert {row.verdict for row in found.rows} == {"not shown", "not applicable"}
