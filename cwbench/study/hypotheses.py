"""The study's properties, tested on the cells of a study."""

from collections.abc import Callable

from cwbench.internal.errors import CwbenchError
from cwbench.study.findings import hypothesis_tests as p
from cwbench.study.findings.hypothesis_tests import Claim, Effect, Properties
from cwbench.study.findings.weight_norm import class_norms
from cwbench.study.results import Evidence, temperature
from cwbench.study.settings import HYPERSPHERE, INSTANCE_WISE, REFERENCE, STANDARD

HOT = temperature(5)
Test = Callable[[Evidence, int], Effect]
"""The effect of one seed."""


def _temperature(evidence: Evidence, seed: int) -> Effect:
    mart, madry = (
        (evidence.judged(name, "pgd", seed), evidence.judged(name, HOT, seed)) for name in ("mart", REFERENCE)
    )
    return p.temperature_hits_more(mart, madry)


def _narrows(defense: str) -> Test:
    return lambda evidence, seed: p.gap_is_wider(
        (evidence.judged(REFERENCE, "pgd", seed), "pgd"), (evidence.judged(defense, "pgd", seed), "pgd"), seed
    )


def _superclasses(evidence: Evidence, seed: int) -> Effect:
    judged = evidence.judged(REFERENCE, "pgd", seed)
    groups = evidence.scale.superclasses or judged.report.dataset.superclasses
    return p.errors_stay_inside(judged, groups)


_EXCHANGE = "permutation of paired verdicts, one-sided"
_GAP = "gap of madry minus its own: {} points"
CLAIMS: tuple[tuple[Claim, Test], ...] = (
    (
        Claim(
            "robustness differs between the classes (madry, PGD)",
            "Pearson's χ² of robust examples over the classes",
            "largest gap {} points",
            ((REFERENCE, "pgd"),),
            scale=100,
        ),
        lambda evidence, seed: p.class_gap(evidence.judged(REFERENCE, "pgd", seed)),
    ),
    (
        Claim(
            "the gap is wider in adversarial training than in standard training",
            _EXCHANGE,
            "its gap minus that of standard training: {} points",
            ((REFERENCE, "pgd"), (STANDARD, "pgd")),
            scale=100,
        ),
        lambda evidence, seed: p.gap_is_wider(
            (evidence.judged(REFERENCE, "pgd", seed), "pgd"), (evidence.judged(STANDARD, "pgd", seed), "clean"), seed
        ),
    ),
    (
        Claim(
            "a stronger attack takes more from vulnerable classes (madry, PGD after FGSM)",
            "Spearman over classes: robustness under FGSM and its change to PGD, one-sided",
            "correlation {}",
            ((REFERENCE, "fgsm"), (REFERENCE, "pgd")),
        ),
        lambda evidence, seed: p.vulnerable_hit_more(
            evidence.judged(REFERENCE, "fgsm", seed), evidence.judged(REFERENCE, "pgd", seed)
        ),
    ),
    (
        Claim(
            "robust classes have larger classifier weights (madry)",
            "Spearman over classes, one-sided",
            "correlation {}",
            ((REFERENCE, "pgd"),),
        ),
        lambda evidence, seed: p.norms_follow_robustness(
            evidence.judged(REFERENCE, "pgd", seed), class_norms(evidence.checkpoint(REFERENCE, "pgd", seed), REFERENCE)
        ),
    ),
    (
        Claim(
            "errors stay inside the superclass (madry, PGD)",
            "binomial, one-sided, against equally likely wrong classes",
            "{} points above chance",
            ((REFERENCE, "pgd"),),
            scale=100,
        ),
        _superclasses,
    ),
    (
        Claim(
            "Temperature-PGD takes more from MART than from Madry's training",
            _EXCHANGE,
            "taken from MART minus that from madry: {} points",
            (("mart", "pgd"), ("mart", HOT), (REFERENCE, "pgd"), (REFERENCE, HOT)),
            scale=100,
        ),
        _temperature,
    ),
    *(
        (
            Claim(
                f"{defense.upper()} narrows the gap of Madry's training (PGD)",
                _EXCHANGE,
                _GAP,
                ((REFERENCE, "pgd"), (defense, "pgd")),
                scale=100,
            ),
            _narrows(defense),
        )
        for defense in ("he-lis", "he-cmp")
    ),
)
CLAIM_CELLS = tuple(dict.fromkeys(cell for claim, _ in CLAIMS for cell in claim.needs))


def tested(evidence: Evidence) -> Properties:
    """Return which properties hold in the cells of a study."""
    scale = evidence.scale
    present = {*scale.of(INSTANCE_WISE), *scale.of(HYPERSPHERE), REFERENCE, STANDARD}
    dataset = evidence.plan(REFERENCE, "pgd", scale.seeds[0]).dataset
    rows: list[tuple[Claim, list[Effect] | str]] = []
    for claim, test in CLAIMS:
        missing = [defense for defense, _ in claim.needs if defense not in present]
        if missing:
            rows.append((claim, f"{missing[0]} takes no part"))
        elif test is _superclasses and not (scale.superclasses or dataset.superclasses):
            rows.append((claim, f"{dataset.name} has no superclasses"))
        else:
            try:
                rows.append((claim, [test(evidence, seed) for seed in scale.seeds]))
            except CwbenchError as error:  # a cell has failed, or there are too few classes
                rows.append((claim, str(error)))
    return p.properties(dataset.name, rows)
