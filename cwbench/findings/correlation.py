"""Correlation coefficients with their intervals."""

import math
from collections.abc import Sequence

import numpy as np
from scipy.stats import norm, pearsonr, spearmanr

from cwbench.records import Closed, Share

FEWEST = 4
"""Points that an interval needs."""


class Correlation(Closed):
    """A coefficient in [−1, 1]."""

    value: float | None
    """None where one of the two does not vary, or of fewer than four points."""
    interval: tuple[float, float] | None
    """At 95 %: Fisher's z for Pearson; for Spearman with the variance (1 + r²/2)/(n − 3) of Bonett & Wright 2000,
    Sample size requirements for estimating Pearson, Kendall and Spearman correlations, Psychometrika 65."""
    p_value: Share | None
    """Two-sided, that the true one is 0."""

    def __str__(self) -> str:
        if self.value is None or self.interval is None:
            return "not defined"
        low, high = self.interval
        return f"{self.value:+.2f} [{low:+.2f}, {high:+.2f}], p {self.p_value:.2g}"


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
    found = spearmanr(x, y)
    value = float(found.statistic)
    return _with_interval(value, float(found.pvalue), (1 + value**2 / 2) / (len(x) - 3))


def _flat(x: Sequence[float], y: Sequence[float]) -> bool:
    return len(x) < FEWEST or bool(np.ptp(x) == 0) or bool(np.ptp(y) == 0)


def _with_interval(value: float, p_value: float, variance: float) -> Correlation:
    if abs(value) >= 1 - 1e-12:
        return Correlation(value=value, interval=(value, value), p_value=p_value)
    z, half = math.atanh(value), float(norm.ppf(0.975)) * math.sqrt(variance)
    return Correlation(value=value, interval=(math.tanh(z - half), math.tanh(z + half)), p_value=min(p_value, 1.0))
