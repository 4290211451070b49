"""Intervals and tests for counts."""

import math
from collections.abc import Sequence
from functools import lru_cache

from scipy.special import ndtri

CONFIDENCE = 0.95


def wilson(correct: float, n: float, *, comparisons: int = 1) -> tuple[float, float] | None:
    """Return the 95 % interval of a proportion (Wilson 1927); None where ``n`` is 0.

    With ``comparisons`` above 1 the interval is widened by Bonferroni's correction, so that all of that many
    intervals hold at once with 95 %: the interval to quote for a class that was picked because it came out worst.
    ``n`` may be an effective number of examples, which is no integer.
    """
    if n == 0:
        return None
    # In closed form and not by scipy.stats.binomtest, whose exact p-value would cost a board of reports minutes.
    z = _quantile(comparisons)
    share = correct / n
    centre = share + z**2 / (2 * n)
    half = z * math.sqrt(share * (1 - share) / n + (z / (2 * n)) ** 2)
    scale = 1 + z**2 / n
    low = 0.0 if correct == 0 else (centre - half) / scale
    high = 1.0 if correct == n else (centre + half) / scale
    return low, high


@lru_cache
def _quantile(comparisons: int) -> float:
    return float(ndtri(1 - (1 - CONFIDENCE) / (2 * comparisons)))


def mcnemar(only_first: int, only_second: int) -> float:
    """Return the two-sided p-value of the exact McNemar test (1947) for paired verdicts.

    ``only_first`` counts the examples that only the first model classifies correctly, ``only_second`` the others on
    which they differ.
    """
    from scipy.stats import binomtest  # noqa: PLC0415 - most of a second, which `report show` need not wait for

    discordant = only_first + only_second
    return float(binomtest(only_first, discordant).pvalue) if discordant else 1.0


def holm(p_values: Sequence[float]) -> list[float]:
    """Return the p-values adjusted for their number by Holm's step-down method (1979), in the order given."""
    order = sorted(range(len(p_values)), key=lambda index: p_values[index])
    adjusted = [0.0] * len(p_values)
    running = 0.0
    for rank, index in enumerate(order):
        running = max(running, min(1.0, (len(p_values) - rank) * p_values[index]))
        adjusted[index] = running
    return adjusted
