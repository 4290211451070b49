"""Signs that a robustness figure should not be believed, as named warnings (Carlini et al. 2019, section 5).

Thresholds ask for at least three examples and a share of all, because one flipped example is noise. Only more effort of
the same attack is held to the last example: nearly all that less effort looks at it looks at, too.
"""

from collections.abc import Iterator, Sequence
from itertools import permutations
from typing import Protocol

import numpy as np

from cwbench.api import Access, Attack
from cwbench.evaluation.gradient_masking import MORE_STEPS, STEPS, GradientSigns, Signs
from cwbench.evaluation.outcomes import Outcomes
from cwbench.report.counts import Ints
from cwbench.report.records import WarningRecord

LEAST, SHARE, BEATEN = 3, 0.05, 0.005
BLACK_BOX = (Access.TRANSFER, Access.SCORE, Access.DECISION)


class Tried(Protocol):
    """An attack and what it achieved."""

    @property
    def label(self) -> str: ...
    @property
    def attack(self) -> Attack: ...
    @property
    def predictions(self) -> Ints: ...


def warnings_of(outcomes: Outcomes) -> list[WarningRecord]:
    """Return what is suspicious about the outcomes."""
    found = [*_from_signs(outcomes.signs)] if outcomes.signs else []
    if not outcomes.cascade:  # in a cascade no attack can be compared with another
        found += side_by_side(outcomes.attacks, labels=outcomes.labels, clean=outcomes.clean)
    return found


def side_by_side(attacks: Sequence[Tried], *, labels: Ints, clean: Ints) -> list[WarningRecord]:
    """Return what is suspicious about attacks on one model and the same examples, beside each other."""
    return [
        *_black_box_beats_white_box(attacks, labels),
        *_more_is_weaker(attacks, labels),
        *_temperature(attacks, labels, clean),
    ]


def _many(count: int, n: int) -> bool:
    return count >= LEAST and count >= SHARE * n


def _from_signs(signs: Signs) -> Iterator[WarningRecord]:
    n = signs.examples
    if signs.changed_when_repeated:
        yield WarningRecord(
            name="non-deterministic-logits",
            message=f"{signs.changed_when_repeated} of {n} examples get other logits when the same images are sent "
            "again: verdicts depend on chance",
            figures={"examples": n, "changed": signs.changed_when_repeated},
        )
    if signs.changed_when_alone:
        yield WarningRecord(
            name="batch-dependent-logits",
            message=f"{signs.changed_when_alone} of {signs.alone} examples get other logits alone than in a batch: "
            "does a layer use statistics of its batch?",
            figures={"examples": signs.alone, "changed": signs.changed_when_alone},
        )
    if signs.gradients is None:
        yield WarningRecord(
            name="no-gradient",
            message="the logits have no finite gradient with respect to the image: only attacks without one can be "
            "run, and they bound robustness loosely",
            figures={"examples": n},
        )
    else:
        yield from _from_gradients(signs.gradients, n)


def _from_gradients(signs: GradientSigns, n: int) -> Iterator[WarningRecord]:
    if _many(signs.tiny, n):
        yield WarningRecord(
            name="vanishing-gradients",
            message=f"the gradient of cross-entropy is zero for {signs.zero} and at most 1e-12 for {signs.tiny} of {n} "
            "examples: attacks that follow it stand still there",
            figures={"examples": n, "zero": signs.zero, "tiny": signs.tiny},
        )
    if _many(signs.not_risen, n):
        yield WarningRecord(
            name="loss-does-not-rise",
            message=f"{STEPS} steps of PGD do not raise the loss of {signs.not_risen} of {n} examples",
            figures={"examples": n, "not_risen": signs.not_risen, "steps": STEPS},
        )
    if _many(signs.robust_longer - signs.robust, n):
        yield WarningRecord(
            name="more-steps-are-weaker",
            message=f"{signs.robust_longer} of {n} examples stand at the end of {MORE_STEPS} steps of PGD, "
            f"but {signs.robust} at the end of {STEPS}",
            figures={
                "examples": n,
                f"robust_after_{STEPS}": signs.robust,
                f"robust_after_{MORE_STEPS}": signs.robust_longer,
            },
        )
    stands = signs.robust_at
    if _many(stands[1.0] - min(stands.values()), n):
        listed = ", ".join(f"{count} at 1/T = {value:g}" for value, count in stands.items())
        yield WarningRecord(
            name="temperature-changes-the-result",
            message=f"of {n} examples {STEPS} steps of PGD leave standing {listed}: {_meaning(stands)}",
            figures={"examples": n} | {f"robust_at_{value:g}": count for value, count in stands.items()},
        )


def _meaning(stands: dict[float, int]) -> str:
    best = min(stands, key=lambda value: stands[value])
    if best < 1:
        return "a saturated softmax masks the gradient, and a flatter one shows it"
    return "a smooth output hides the strongest rival, and a sharper one shows it: use tpgd"


def _black_box_beats_white_box(attacks: Sequence[Tried], labels: Ints) -> Iterator[WarningRecord]:
    black = [one for one in attacks if one.attack.access in BLACK_BOX]
    white = [one for one in attacks if one.attack.access is Access.WHITE_BOX]
    if not black or not white:
        return
    n = len(labels)
    stands = np.all([_right(one, labels) for one in white], axis=0)
    for one in black:
        alone = int((stands & ~_right(one, labels)).sum())
        fewest = min(int(_right(other, labels).sum()) for other in white)
        count = int(_right(one, labels).sum())
        if fewest - count >= max(LEAST, BEATEN * n) or _many(alone, n):
            yield WarningRecord(
                name="black-box-beats-white-box",
                message=f"{one.label}, which sees no gradient, leaves {count} examples standing and breaks "
                f"{alone} that every white-box attack leaves; the strongest of those leaves {fewest}",
                figures={"examples": n, "black_box": count, "white_box": fewest, "broken_by_black_box_alone": alone},
            )


def _more_is_weaker(attacks: Sequence[Tried], labels: Ints) -> Iterator[WarningRecord]:
    for less, more in permutations(attacks, 2):
        field = _effort_that_differs(less, more)
        a, b = (int(_right(one, labels).sum()) for one in (less, more))
        if field and b > a:
            yield WarningRecord(
                name=f"more-{field}-are-weaker" if field != "population" else "a-larger-population-is-weaker",
                message=f"{more.label} leaves {b} examples standing, {less.label} only {a}",
                figures={"examples": len(labels), "less": a, "more": b},
            )


def _effort_that_differs(less: Tried, more: Tried) -> str | None:
    """Return the field of which ``more`` has more, if the two attacks are the same in everything else."""
    if type(less.attack) is not type(more.attack):
        return None
    a, b = less.attack.model_dump(), more.attack.model_dump()
    differing = [name for name in a if a[name] != b[name]]
    if len(differing) != 1 or differing[0] not in less.attack.effort:
        return None
    return differing[0] if a[differing[0]] < b[differing[0]] else None


def _temperature(attacks: Sequence[Tried], labels: Ints, clean: Ints) -> Iterator[WarningRecord]:
    """Compare attacks with their plain counterparts: Temperature-PGD with PGD of the same steps."""
    n = int((clean == labels).sum())
    for one in attacks:
        plain = one.attack.plain_counterpart()
        for other in attacks:
            a, b = (int(_right(each, labels).sum()) for each in (other, one))
            if other.attack == plain and _many(a - b, n):
                yield WarningRecord(
                    name="temperature-changes-the-result",
                    message=f"{one.label} leaves {b} examples standing and {other.label} {a}: the loss that "
                    "PGD follows is not the one that matters",
                    figures={"examples": n, "pgd": a, "tpgd": b},
                )


def _right(one: Tried, labels: Ints) -> np.ndarray[tuple[int, ...], np.dtype[np.bool_]]:
    right: np.ndarray[tuple[int, ...], np.dtype[np.bool_]] = one.predictions == labels
    return right
