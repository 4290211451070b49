"""Which of the study's properties hold in given results, each with its test."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from scipy.stats import chi2_contingency

from cwbench.internal.errors import ReportError
from cwbench.report.intervals import holm
from cwbench.report.predictions import Columns, column
from cwbench.report.records import Share
from cwbench.report.report import Report
from cwbench.study.findings.confusion_blocks import confusion_blocks, inside_test
from cwbench.study.findings.correlation import FEWEST, rank_test
from cwbench.study.findings.finding import Cells, Finding
from cwbench.study.findings.temperature_table import PGD, TPGD

LEVEL = 0.05
EXCHANGES = 2000
"""Of the permutation test: enough to tell a p-value of 0.05 from one of 0.04."""
ROUNDING = 1e-12
Floats = np.ndarray[Any, np.dtype[np.float64]]
Bools = np.ndarray[Any, np.dtype[np.bool_]]
Verdict = Literal["holds", "does not hold", "not shown", "not applicable"]


@dataclass(frozen=True)
class Judged:
    """A report and the predictions beside it."""

    report: Report
    columns: Columns

    def right(self, attack: str) -> Bools:
        """Return which examples are classified correctly under an attack, or ``clean``."""
        key = attack if attack == "clean" else column(self.report.attack(attack).label)
        found: Bools = self.columns[key] == self.columns["labels"]
        return found

    @property
    def labels(self) -> Any:
        return self.columns["labels"]


@dataclass(frozen=True)
class Effect:
    """What one seed shows."""

    value: float
    """Positive in the direction that the study found."""
    p_value: float
    """One-sided: how likely so much is where there is nothing."""
    opposite: float = 1.0
    """The same in the other direction; 1 where there is none."""


class Property(Finding):
    """One property of the study, and whether it holds here."""

    claim: str
    test: str
    effect: str
    """What is measured, with its mean over the seeds."""
    p_values: list[Share]
    """Of each seed."""
    p_value: Share | None
    """The largest of them: the property must hold at every seed (an intersection-union test)."""
    adjusted: Share | None
    """For the number of properties, by Holm's method."""
    verdict: Verdict

    @property
    def title(self) -> str:
        return self.claim

    def summary(self) -> str:
        return f"{self.claim}: {self.verdict}."

    def table(self) -> Cells:
        p_values = ("–" if p is None else f"{p:.2g}" for p in (self.p_value, self.adjusted))
        return [[self.claim, self.verdict, self.effect, *p_values, self.test]]


class Properties(Finding):
    """All of them on one dataset."""

    finding: Literal["properties"] = "properties"
    rows: list[Property]

    @property
    def title(self) -> str:
        return f"Which of the study's properties hold on {self.dataset}"

    def summary(self) -> str:
        kinds: tuple[Verdict, ...] = ("holds", "does not hold", "not shown", "not applicable")
        counts = {kind: sum(row.verdict == kind for row in self.rows) for kind in kinds}
        told = ", ".join(f"{kind} {n}" for kind, n in counts.items() if n)
        return f"Of {len(self.rows)} properties: {told} (at {LEVEL:g} after Holm's adjustment, at every seed)."

    def table(self) -> Cells:
        head = ["the study's property", "here", "measured", "p", "p (Holm)", "test"]
        return [head] + [row for entry in self.rows for row in entry.table()]


@dataclass(frozen=True)
class Claim:
    """A property and how it is tested on one seed."""

    text: str
    test: str
    measured: str
    """Names the effect, with ``{}`` for its value."""
    needs: tuple[tuple[str, str], ...]
    """Defenses and attacks whose results it takes."""
    scale: float = 1.0
    """What the value is told in: 100 for points."""


def properties(dataset: str, claims: Sequence[tuple[Claim, Sequence[Effect] | str]]) -> Properties:
    """Return the verdicts from the effects of every seed; a text instead of them says why a claim is not applicable."""
    worst = [None if isinstance(found, str) else max(effect.p_value for effect in found) for _, found in claims]
    against = [None if isinstance(found, str) else max(effect.opposite for effect in found) for _, found in claims]
    holding, failing = (iter(holm([p for p in column if p is not None])) for column in (worst, against))
    rows = []
    for (claim, found), p_value in zip(claims, worst, strict=True):
        if isinstance(found, str):
            about: dict[str, Any] = {"effect": found, "p_values": [], "p_value": None, "adjusted": None}
            verdict: Verdict = "not applicable"
        else:
            after, other = next(holding), next(failing)
            mean = float(np.mean([effect.value for effect in found]))
            about = {
                "effect": claim.measured.format(f"{claim.scale * mean:.2f}"),
                "p_values": [effect.p_value for effect in found],
                "p_value": p_value,
                "adjusted": after,
            }
            verdict = "holds" if after < LEVEL else "does not hold" if other < LEVEL else "not shown"
        rows.append(Property(dataset=dataset, claim=claim.text, test=claim.test, verdict=verdict, **about))
    return Properties(dataset=dataset, rows=rows)


def class_gap(judged: Judged, attack: str = PGD) -> Effect:
    """Test that classes are equally robust: Pearson's χ² on robust and broken examples of each class."""
    right, labels = judged.right(attack), judged.labels
    present = np.unique(labels)
    counts = np.array([[(right & (labels == c)).sum(), (~right & (labels == c)).sum()] for c in present])
    shares = counts[:, 0] / counts.sum(1)
    value = float(shares.max() - shares.min())
    if (counts.sum(0) == 0).any():  # all robust, or none
        return Effect(value, 1.0)
    return Effect(value, float(chi2_contingency(counts).pvalue))


def vulnerable_hit_more(weak: Judged, strong: Judged, attacks: tuple[str, str] = ("fgsm", PGD)) -> Effect:
    """Test that the stronger attack takes more from the classes that are less robust under the weaker one.

    Spearman's correlation over classes of robustness under the weaker attack with what the stronger takes, its sign
    turned. Luck under the weaker attack raises both, so chance works against the property.
    """
    first, second = (_class_shares(judged, attack) for judged, attack in zip((weak, strong), attacks, strict=True))
    return _rank_effect(first, [b - a for a, b in zip(first, second, strict=True)])


def norms_follow_robustness(judged: Judged, norms: Sequence[float], attack: str = PGD) -> Effect:
    """Test that classes with larger classifier weights are more robust: Spearman's correlation over the classes."""
    present = np.unique(judged.labels)
    return _rank_effect([norms[int(c)] for c in present], _class_shares(judged, attack))


def temperature_hits_more(
    first: tuple[Judged, Judged], second: tuple[Judged, Judged], attacks: tuple[str, str] = (PGD, TPGD)
) -> Effect:
    """Test that Temperature-PGD takes more from the first network than from the second, beyond what PGD takes.

    What it takes from an example is 1 where PGD leaves it right and Temperature-PGD does not, −1 the other way round. A
    permutation test on pairs: if the networks were the same, what it takes from an example could change places.
    """
    taken = [
        plain.right(attacks[0]).astype(float) - hot.right(attacks[1]).astype(float) for plain, hot in (first, second)
    ]
    apart = taken[0] - taken[1]
    signs = np.random.default_rng(0).choice((-1.0, 1.0), size=(EXCHANGES, int((apart != 0).sum())))
    return _permuted(float(apart.mean()), signs @ apart[apart != 0] / len(apart))


def gap_is_wider(wide: tuple[Judged, str], narrow: tuple[Judged, str], seed: int = 0) -> Effect:
    """Test that the gap between best and worst class is wider in the first than in the second.

    A permutation test on pairs (Good 2005, Permutation, parametric and bootstrap tests of hypotheses): if the two were
    the same, the two verdicts on an example could change places. The p-value is the share of such exchanges that give
    at least the difference of the gaps that was measured.
    """
    labels = wide[0].labels
    first, second = (judged.right(attack).astype(float) for judged, attack in (wide, narrow))
    draw = np.random.default_rng(seed)
    sums, differences = [], []
    for c in np.unique(labels):
        of_class = labels == c
        apart = first[of_class] - second[of_class]
        signs = draw.choice((-1.0, 1.0), size=(EXCHANGES, int((apart != 0).sum())))
        sums.append((first[of_class] + second[of_class]).mean())
        # The measured assignment comes first, so that it is rounded like the others.
        exchanged = np.concatenate([[apart.sum()], signs @ apart[apart != 0]])
        differences.append(exchanged / of_class.sum())
    total, moved = np.array(sums)[:, None], np.stack(differences)  # classes × (1 + exchanges)
    found = np.ptp(total + moved, axis=0) / 2 - np.ptp(total - moved, axis=0) / 2
    return _permuted(float(found[0]), found[1:])


def errors_stay_inside(judged: Judged, groups: Mapping[str, Sequence[int]], attack: str = PGD) -> Effect:
    """Test that errors stay inside the superclass more often than if every wrong class were as likely."""
    found = inside_test(confusion_blocks([judged.report], attack, groups).blocks)
    return Effect(found.excess, found.greater, found.less)


def _permuted(measured: float, exchanged: Floats) -> Effect:
    """Return the effect with the shares of exchanges that give at least, and at most, what was measured."""
    tails = [int((sign * exchanged >= sign * measured - ROUNDING).sum()) for sign in (1, -1)]
    return Effect(measured, *((1 + n) / (1 + EXCHANGES) for n in tails))


def _class_shares(judged: Judged, attack: str) -> list[float]:
    right, labels = judged.right(attack), judged.labels
    return [float(right[labels == c].mean()) for c in np.unique(labels)]


def _rank_effect(x: Sequence[float], y: Sequence[float]) -> Effect:
    if len(x) < FEWEST:
        raise ReportError(f"{len(x)} classes have no correlation to speak of", f"{FEWEST} or more do")
    if np.ptp(x) == 0 or np.ptp(y) == 0:
        return Effect(0.0, 1.0)
    value, tails = rank_test(x, y)
    return Effect(value, tails.greater, tails.less)
