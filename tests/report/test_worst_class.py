"""What classes say together: selection bias, seeds, intervals."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binom

from cwbench.report.intervals import wilson
from cwbench.report.report import read_report
from cwbench.report.worst_class import Estimate, Profile, _expected_minimum, combined, corrected_minimum


def estimates(correct, n):
    return [combined([count], n) for count in correct]


@given(st.integers(1, 200).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_one_seed_has_wilsons_interval(pair):
    correct, n = pair
    estimate = combined([correct], n)
    assert estimate.accuracy == correct / n
    assert estimate.interval() == pytest.approx(wilson(correct, n))


def test_seeds_that_agree_add_no_examples_and_seeds_that_differ_widen_the_interval():
    alone, agreeing, differing = combined([80], 100), combined([80, 80, 80], 100), combined([70, 80, 90], 100)
    assert agreeing == alone
    assert differing.accuracy == pytest.approx(0.8)
    # By hand: 0.8 · 0.2 / 100 = 0.0016 for the examples, 0.01 / 3 for the seeds.
    assert differing.n == pytest.approx(100 * 0.0016 / (0.0016 + 0.01 / 3))
    assert differing.interval()[0] < alone.interval()[0] < alone.interval()[1] < differing.interval()[1]


def test_no_example_has_no_accuracy():
    assert combined([0, 0], 0) == Estimate(None, 0)
    assert Profile.of([Estimate(None, 0)]) is None
    assert corrected_minimum([Estimate(None, 0)]) is None


def test_the_expected_minimum_is_that_of_every_possible_outcome():
    """Against the sum over all outcomes of three classes of 40, 30 and 50 examples."""
    n, p = np.array([40.0, 30.0, 50.0]), np.array([0.5, 0.55, 0.6])
    pmfs = [binom.pmf(np.arange(size + 1), size, share) for size, share in zip(n.astype(int), p, strict=True)]
    exact = sum(
        math.prod(pmf[x] for pmf, x in zip(pmfs, outcome, strict=True)) * min(np.array(outcome) / n)
        for outcome in itertools.product(*(range(len(pmf)) for pmf in pmfs))
    )
    assert _expected_minimum(p, n) == pytest.approx(exact, abs=1e-3)


@pytest.mark.parametrize(("k", "n"), [(10, 90), (10, 1000), (100, 100)])
def test_most_of_the_bias_of_a_minimum_goes_where_all_classes_are_equal(k, n):
    """There a minimum is most biased: nothing but chance makes one class the worst."""
    rng = np.random.default_rng(0)
    counts = rng.binomial(n, 0.6, size=(300, k))
    raw = counts.min(axis=1).mean() / n - 0.6
    corrected = np.mean([corrected_minimum(estimates(row, n)) for row in counts]) - 0.6
    assert raw < 0
    assert abs(corrected) < 0.2 * abs(raw)


def test_a_class_far_below_all_others_is_left_as_measured():
    assert corrected_minimum(estimates([30, 90, 92, 95], 100)) == pytest.approx(0.3, abs=1e-3)


@given(st.lists(st.integers(0, 60), min_size=1, max_size=30))
def test_the_correction_only_ever_raises_and_stays_a_share(counts):
    found = corrected_minimum(estimates(counts, 60))
    assert min(counts) / 60 <= found <= 1


def test_a_profile_by_hand():
    profile = Profile.of([*estimates([90, 29, 60], 100), Estimate(None, 0), combined([100], 100)])
    assert (profile.worst, profile.accuracy) == (1, 0.29)
    assert profile.interval == pytest.approx(wilson(29, 100, comparisons=4))
    assert profile.gap == pytest.approx(0.71)
    assert profile.spread == pytest.approx(np.std([0.9, 0.29, 0.6, 1.0]))
    assert profile.per_interval == (0, 0, 1, 0, 0, 0, 1, 0, 0, 2)
    assert profile.worst_tenth is None


def test_a_report_has_them_of_every_condition(request):
    report = read_report(request.config.rootpath / "tests" / "report" / "written" / "v1-digits-madry-suite.json")
    for name in ("clean", "pgd", "worst case"):
        figures = report.worst_case() if name == "worst case" else report.condition(name).figures
        profile = report.profile(name)
        assert (profile.accuracy, profile.interval) == (figures.worst_class.accuracy, figures.worst_class.interval)
        assert profile.gap == pytest.approx(figures.gap)
        assert profile.accuracy <= report.corrected_worst_class(name) < figures.overall.accuracy
        assert sum(profile.per_interval) == 10


def test_of_many_classes_the_worst_tenth_is_averaged():
    profile = Profile.of(estimates(range(40, 65), 100))
    assert profile.worst_tenth == pytest.approx((0.40 + 0.41 + 0.42) / 3)


def test_bounds_of_intervals_belong_to_the_upper_one():
    assert Profile.of(estimates([7, 3], 10)).per_interval == (0, 0, 0, 1, 0, 0, 0, 1, 0, 0)
