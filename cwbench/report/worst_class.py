"""What a set of class-wise accuracies says: the worst class without its selection bias, gap, spread, seeds combined."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from scipy.special import betainc

from cwbench.report.intervals import wilson

MANY = 20
"""From this many classes on the mean of the worst tenth says more than the worst one."""
INTERVALS = 10
"""How many equal intervals of robustness figure 6 of the study counts classes in."""
_NODES, _WEIGHTS = np.polynomial.legendre.leggauss(24)
_REACH = 6.0
"""Standard deviations beyond which a binomial proportion is not looked for."""


class Estimate(NamedTuple):
    """An accuracy, perhaps the mean of several seeds."""

    accuracy: float | None
    """In [0, 1]; None without an example."""
    n: float
    """Examples behind it: as many as were judged, or fewer, as far as the seeds disagree."""

    def interval(self, comparisons: int = 1) -> tuple[float, float] | None:
        """Return the 95 % Wilson interval, for ``comparisons`` of them at once."""
        return None if self.accuracy is None else wilson(self.accuracy * self.n, self.n, comparisons=comparisons)


def combined(correct: Sequence[int], n: int) -> Estimate:
    """Return the mean accuracy of several seeds that were judged on the same ``n`` examples.

    The seeds share their examples, so a second seed adds no example: the variance is at most that of one seed's
    p(1 − p)/n, for the draw of the examples, plus s²/m for the draw of m trainings, where s² is the variance
    between the seeds. The interval is Wilson's with the number of examples that has this variance (Franco et
    al. 2019, Comparative study of confidence intervals for proportions in complex sample surveys, J. Survey Statistics
    and Methodology 7).
    """
    if not n:
        return Estimate(None, 0)
    if len(correct) == 1:
        return Estimate(correct[0] / n, n)
    shares = [count / n for count in correct]
    mean = sum(correct) / (n * len(correct))
    own = mean * (1 - mean) / n
    if own == 0:
        return Estimate(mean, n)
    between = sum((share - mean) ** 2 for share in shares) / (len(shares) - 1) / len(shares)
    return Estimate(mean, n * own / (own + between))


def corrected_minimum(estimates: Sequence[Estimate]) -> float | None:
    """Return the lowest accuracy of the classes with the selection bias of a minimum removed; None without examples.

    The lowest of several measured proportions lies below the lowest true one on average, the more so the more
    classes are close. The bias is that of a parametric bootstrap (Efron & Tibshirani 1993, An introduction to the
    bootstrap, chapter 10), in closed form instead of by draws: with class accuracies shrunk towards
    their mean as far as they differ by chance (beta-binomial model fitted by moments; Laird & Louis 1987,
    Empirical Bayes confidence intervals based on bootstrap samples, JASA 82), the expected minimum of binomial
    proportions is an integral of products of their distribution functions. ``docs/statistics.md`` shows how much of
    the bias is left.
    """
    known = [(entry.accuracy, entry.n) for entry in estimates if entry.accuracy is not None]
    if not known:
        return None
    shares, n = (np.array(column, dtype=float) for column in zip(*known, strict=True))
    n = np.maximum(np.round(n), 1)
    model = _shrunk(shares, n)
    bias = float(model.min()) - _expected_minimum(model, n)
    return min(1.0, float(shares.min()) + max(0.0, bias))


def _shrunk(shares: Any, n: Any) -> Any:
    """Return the posterior means of the classes under a beta prior with the moments of the observed accuracies."""
    if len(shares) == 1:
        return shares
    mean = shares.mean()
    between = shares.var(ddof=1) - (shares * (1 - shares) / np.maximum(n - 1, 1)).mean()
    if between <= 0 or mean in (0, 1):
        return np.full_like(shares, mean)
    prior = mean * (1 - mean) / between - 1
    return shares if prior <= 0 else (shares * n + prior * mean) / (n + prior)


def _expected_minimum(shares: Any, n: Any) -> float:
    """Return E[min X_k/n_k] of independent binomial X_k: the integral of P(all X_k/n_k ≥ t) over t."""
    deviation = np.sqrt(shares * (1 - shares) / n)
    low = max(0.0, float((shares - _REACH * deviation).min()))
    high = min(1.0, float((shares + _REACH * deviation).min()))
    if high <= low:
        return low
    points = low + (_NODES + 1) / 2 * (high - low)
    # P(X ≥ c) is the incomplete beta function I_p(c, n − c + 1). Half an example more makes it smooth in t.
    needed = np.minimum(points[:, None] * n + 0.5, n + 0.5)
    above = betainc(needed, n - needed + 1, np.clip(shares, 0, 1))
    return low + float(above.prod(axis=1) @ _WEIGHTS) / 2 * (high - low)


@dataclass(frozen=True)
class Profile:
    """The classes of one condition taken together."""

    worst: int
    """The index of the class with the lowest accuracy, the first of them when several tie."""
    accuracy: float
    """Of that class, as measured."""
    interval: tuple[float, float]
    """At 95 % for all classes at once (Wilson, Bonferroni's correction)."""
    gap: float
    """Accuracy of the best class minus that of the worst."""
    spread: float
    """Standard deviation of the class-wise accuracies."""
    worst_tenth: float | None
    """Mean accuracy of the worst tenth of the classes; None with fewer than 20 of them."""
    per_interval: tuple[int, ...]
    """How many classes lie in [0, 10), [10, 20), … [90, 100] % (figure 6 of the study)."""

    @classmethod
    def of(cls, estimates: Sequence[Estimate]) -> "Profile | None":
        """Return the profile of classes; None where none of them has an example."""
        known = [(entry.accuracy, index) for index, entry in enumerate(estimates) if entry.accuracy is not None]
        if not known:
            return None
        accuracy, worst = min(known)
        shares = sorted(share for share, _ in known)
        mean = sum(shares) / len(shares)
        interval = estimates[worst].interval(len(known))
        assert interval is not None  # noqa: S101 - the class has examples
        counts = [0] * INTERVALS
        for share in shares:
            # The rounding takes back what 0.29 * 10 loses as a float.
            counts[min(INTERVALS - 1, int(round(share * INTERVALS, 9)))] += 1
        tenth = math.ceil(len(shares) / 10)
        return cls(
            worst=worst,
            accuracy=accuracy,
            interval=interval,
            gap=shares[-1] - shares[0],
            spread=math.sqrt(sum((share - mean) ** 2 for share in shares) / len(shares)),
            worst_tenth=sum(shares[:tenth]) / tenth if len(shares) >= MANY else None,
            per_interval=tuple(counts),
        )
