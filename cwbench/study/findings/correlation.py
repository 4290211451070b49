"""Correlation coefficients with their intervals."""

import math
from collections.abc import Sequence
from itertools import permutations
from typing import NamedTuple

import numpy as np
from scipy.stats import norm, pearsonr, rankdata, spearmanr

from cwbench.internal.validation import Closed
from cwbench.report.records import Share

FEWEST, MOST_EXACT = 4, 7
"""Points that an interval needs, and up to which all orders are gone through."""
ROUNDING = 1e-9


class Correlation(Closed):
    """A coefficient in [−1, 1]."""

    value: float | None
    """None where one of the two does not vary, or of fewer than four points."""
    interval: tuple[float, float] | None
    """At 95 %, None also at −1 and 1: Fisher's z for Pearson; for Spearman with the variance (1 + r²/2)/(n − 3) of
    Bonett & Wright 2000, Sample size requirements for estimating Pearson, Kendall and Spearman correlations,
    Psychometrika 65."""
    p_value: Share | None
    """Two-sided, that the true one is 0."""

    def __str__(self) -> str:
        if self.value is None:
            return "not defined"
        interval = f" [{self.interval[0]:+.2f}, {self.interval[1]:+.2f}]" if self.interval else ""
        return f"{self.value:+.2f}{interval}, p {self.p_value:.2g}"


NONE = Correlation(value=None, interval=None, p_value=None)


def pearson(x: Sequence[float], y: Sequence[float]) -> Correlation:
    """Return the linear correlation of two columns."""
    if _flat(x, y):
        return NONE
    found = pearsonr(x, y)
    return _with_interval(float(found.statistic), float(found.pvalue), 1 / (len(x) - 3))


def spearman(x: Sequence[float], y: Sequence[float]) -> Correlation:
    """Return the rank correlation of two columns."""
    if _flat(x, y):
        return NONE
    value, p_values = rank_test(x, y)
    return _with_interval(value, p_values.two_sided, (1 + value**2 / 2) / (len(x) - 3))


class RankPValues(NamedTuple):
    """Of Spearman's coefficient under independence."""

    two_sided: float
    greater: float
    less: float


def rank_test(x: Sequence[float], y: Sequence[float]) -> tuple[float, RankPValues]:
    """Return Spearman's coefficient and its p-values: exact over all orders of up to seven points.

    Of more the usual t approximation, which at a perfect order would say 0: never less than one order in n!.
    """
    value = float(spearmanr(x, y).statistic)
    if len(x) <= MOST_EXACT:
        first, second = (rankdata(column) - (len(x) + 1) / 2 for column in (x, y))
        orders = np.array(list(permutations(range(len(x)))))
        all_values = second[orders] @ first / np.sqrt((first @ first) * (second @ second))
        greater, less = (float((sign * all_values >= sign * value - ROUNDING).mean()) for sign in (1, -1))
        two_sided = float((abs(all_values) >= abs(value) - ROUNDING).mean())
        return value, RankPValues(two_sided, greater, less)
    least = 1 / math.factorial(len(x))
    tails = [max(float(spearmanr(x, y, alternative=side).pvalue), least) for side in ("two-sided", "greater", "less")]
    return value, RankPValues(*tails)


def _flat(x: Sequence[float], y: Sequence[float]) -> bool:
    return len(x) < FEWEST or bool(np.ptp(x) == 0) or bool(np.ptp(y) == 0)


def _with_interval(value: float, p_value: float, variance: float) -> Correlation:
    if abs(value) >= 1 - 1e-12:
        return Correlation(value=value, interval=None, p_value=p_value)
    z, half = math.atanh(value), float(norm.ppf(0.975)) * math.sqrt(variance)
    return Correlation(value=value, interval=(math.tanh(z - half), math.tanh(z + half)), p_value=min(p_value, 1.0))
