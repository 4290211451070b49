"""Correlations and their intervals."""

import math

import numpy as np
import pytest
from scipy.stats import pearsonr, permutation_test, spearmanr

from cwbench.study.findings.correlation import pearson, rank_test, spearman

X = [0.1, 0.5, 0.2, 0.9, 0.4, 0.7]
Y = [1.0, 3.0, 2.5, 4.0, 2.0, 5.0]


def test_pearsons_interval_is_fishers():
    found, theirs = pearson(X, Y), pearsonr(X, Y)
    assert found.value == pytest.approx(theirs.statistic)
    assert found.interval == pytest.approx(tuple(theirs.confidence_interval(0.95)))
    assert found.p_value == pytest.approx(theirs.pvalue)


def test_spearmans_coefficient_is_that_of_the_ranks_and_its_interval_is_wider():
    ranks = [np.argsort(np.argsort(column)) for column in (X, Y)]
    found = spearman(X, Y)
    assert found.value == pytest.approx(np.corrcoef(*ranks)[0, 1])
    z, r = np.arctanh(found.value), found.value
    half = 1.959963985 * np.sqrt((1 + r**2 / 2) / 3)
    assert found.interval == pytest.approx((np.tanh(z - half), np.tanh(z + half)))


def test_spearmans_interval_covers_the_true_coefficient():
    """Of normal pairs with Pearson's ρ, Spearman's is 6/π asin(ρ/2) (Kruskal 1958)."""
    draw, rho, covered = np.random.default_rng(0), 0.6, 0
    true = 6 / np.pi * np.arcsin(rho / 2)
    for _ in range(400):
        pairs = draw.multivariate_normal([0, 0], [[1, rho], [rho, 1]], size=30)
        low, high = spearman(pairs[:, 0], pairs[:, 1]).interval
        covered += low <= true <= high
    assert 0.92 < covered / 400 < 0.98


@pytest.mark.parametrize("y", [[1.0, 1.0, 1.0, 1.0], [1.0, 2.0, 3.0]])
def test_where_there_is_nothing_to_correlate_there_is_none(y):
    for found in (pearson(X[: len(y)], y), spearman(X[: len(y)], y)):
        assert (found.value, found.interval, found.p_value) == (None, None, None)
        assert str(found) == "not defined"


def test_a_perfect_order_has_no_room_for_an_interval():
    found = spearman([1, 2, 3, 4, 5], [2, 4, 6, 8, 11])
    assert (found.value, found.interval) == (pytest.approx(1.0), None)
    assert str(found) == "+1.00, p 0.017"


def test_p_values_of_few_points_are_those_of_all_orders():
    value, tails = rank_test([1, 2, 3, 4], [1, 2, 3, 4])
    assert value == pytest.approx(1.0)
    assert tails == pytest.approx((2 / 24, 1 / 24, 1.0))
    theirs = permutation_test((X,), lambda x: spearmanr(x, Y).statistic, permutation_type="pairings", n_resamples=1e6)
    assert rank_test(X, Y)[1].two_sided == pytest.approx(theirs.pvalue)
    many = list(range(12))
    assert rank_test(many, many)[1].greater == pytest.approx(1 / math.factorial(12))
