"""The figures and tables of the study: which cells each needs, and what it finds in them."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from cwbench.datasets import splits
from cwbench.plan import default_attack
from cwbench.study.findings.class_curves import class_curves
from cwbench.study.findings.class_table import class_table
from cwbench.study.findings.confusion_blocks import confusion_blocks
from cwbench.study.findings.finding import Finding, class_estimates
from cwbench.study.findings.homing import Removal, homing, removals
from cwbench.study.findings.output_path import output_path
from cwbench.study.findings.probability_variance import probability_variance
from cwbench.study.findings.robustness_intervals import robustness_intervals
from cwbench.study.findings.temperature_table import temperature_table
from cwbench.study.findings.training_gap import training_gap
from cwbench.study.findings.weight_norm import weight_norm
from cwbench.study.hypotheses import CLAIM_CELLS, tested
from cwbench.study.results import Evidence, temperature
from cwbench.study.settings import HYPERSPHERE, INSTANCE_WISE, INVERSE_TEMPERATURES, REFERENCE, STANDARD, Scale

Cells = Iterator[tuple[str, str]]
"""Defenses and attacks; each is a cell for every seed."""
HOT = 5.0
"""Table 3's 1/T; the others are table 4's."""
PATHS = ((("madry", 1.0), ("mart", 1.0)), (("he", 1.0), ("he", 10.0)))
"""Figure 5 b–d and f–h: networks, and 1/T of the attack on them."""


@dataclass(frozen=True)
class Piece:
    """A figure or table."""

    name: str
    heading: str
    told: str
    """What the study shows there, in a sentence."""
    cells: Callable[[Scale], Cells]
    find: Callable[[Evidence], list[Finding]]


def _reference(scale: Scale) -> Cells:
    yield REFERENCE, "pgd"


def _with_standard(scale: Scale) -> Cells:
    yield REFERENCE, "pgd"
    yield STANDARD, "pgd"


def _smooth(scale: Scale) -> Cells:
    yield REFERENCE, "pgd"  # its most vulnerable class gives the example
    for defense in dict.fromkeys([*scale.of(INSTANCE_WISE, others=True), *scale.of(HYPERSPHERE)]):
        yield defense, "pgd"


def _table2(scale: Scale) -> Cells:
    for defense in scale.of(INSTANCE_WISE, others=True):
        for attack in scale.table2_attacks:
            yield defense, attack


def _table3(scale: Scale) -> Cells:
    for defense in scale.of(INSTANCE_WISE, others=True):
        yield defense, "pgd"
        yield defense, temperature(HOT)


def _table4(scale: Scale) -> Cells:
    for defense in scale.of(INSTANCE_WISE, others=True):
        yield defense, "pgd"
        for inverse in INVERSE_TEMPERATURES:
            if inverse != HOT:
                yield defense, temperature(inverse)


def _table5(scale: Scale) -> Cells:
    for defense in scale.of(HYPERSPHERE):
        yield defense, "pgd"


def _claims(scale: Scale) -> Cells:
    present = {*scale.of(INSTANCE_WISE), *scale.of(HYPERSPHERE), REFERENCE, STANDARD}
    return (cell for cell in CLAIM_CELLS if cell[0] in present)


def _figure1(evidence: Evidence) -> list[Finding]:
    return [class_curves(evidence.reports(REFERENCE, "pgd"))]


def _figure2(evidence: Evidence) -> list[Finding]:
    return [confusion_blocks(evidence.reports(REFERENCE, "pgd"), "pgd", evidence.scale.superclasses)]


def wanted_removals(evidence: Evidence, seed: int) -> list[Removal]:
    """Return the classes that figure 3 removes, with their controls."""
    classes, chosen = evidence.plan(REFERENCE, "pgd", seed).dataset.classes, evidence.scale.homing
    if chosen == "all":
        wanted: Sequence[int] = range(len(classes))
    elif chosen == "most-confused":
        counts = np.array(evidence.judged(REFERENCE, "pgd", seed).report.confusion("pgd"))
        np.fill_diagonal(counts, 0)
        wanted = [int(counts.sum(0).argmax())]
    else:
        wanted = [int(index) for index in chosen]
    return removals(len(classes), wanted, seed)


def _figure3(evidence: Evidence) -> list[Finding]:
    test, found = evidence.test(REFERENCE, "pgd"), []
    for seed in evidence.scale.seeds:
        plan, judged = evidence.plan(REFERENCE, "pgd", seed), evidence.judged(REFERENCE, "pgd", seed)
        wanted = wanted_removals(evidence, seed)
        every = {index for removal in wanted for index in (removal.index, removal.control) if index is not None}
        networks = {index: evidence.without(REFERENCE, "pgd", seed, index) for index in sorted(every)}
        found.append(homing(plan, plan.attacks[0], test, judged.columns, judged.report.subject, wanted, networks))
    return list(found)


def _figure4(evidence: Evidence) -> list[Finding]:
    trained = []
    for defense, condition in ((REFERENCE, "pgd"), (STANDARD, "clean")):
        checkpoints = [evidence.checkpoint(defense, "pgd", seed) for seed in evidence.scale.seeds]
        trained.append((evidence.reports(defense, "pgd"), checkpoints, condition))
    return [weight_norm(trained)]


def _figure5(evidence: Evidence) -> list[Finding]:
    scale, test = evidence.scale, evidence.test(REFERENCE, "pgd")
    looked_at = test.part(splits.chosen_rows(test.labels, scale.limit))
    found: list[Finding] = []
    plan = evidence.plan(REFERENCE, "pgd", scale.seeds[0])
    for names in (scale.of(INSTANCE_WISE, others=True), scale.of(HYPERSPHERE)):
        if not names:
            continue
        networks = {name: [evidence.network(name, "pgd", seed) for seed in scale.seeds] for name in names}
        robustness = {
            name: [estimate.accuracy for estimate in class_estimates(evidence.reports(name, "pgd"), "pgd")]
            for name in names
        }
        found.append(
            probability_variance(plan.dataset.name, plan.dataset.classes, networks, looked_at, robustness, plan.device)
        )
    shown = {*scale.of(INSTANCE_WISE), *scale.of(HYPERSPHERE)}
    for pairs in PATHS:
        present = [(name, inverse) for name, inverse in pairs if name in shown]
        if present:
            found.append(_path(evidence, present))
    return found


def _path(evidence: Evidence, pairs: Sequence[tuple[str, float]]) -> Finding:
    """Return the output path of an example: the given one, or the first of the most vulnerable class that all networks
    know and PGD breaks in all, or else in one of them.
    """
    seed, test = evidence.scale.seeds[0], evidence.test(REFERENCE, "pgd")
    plan = evidence.plan(REFERENCE, "pgd", seed)
    number = evidence.scale.example
    if number is None:
        number = _example(evidence, [name for name, _ in pairs], seed)
    rows = np.array([number])
    image = test.images(test.labels.new_tensor(rows))[0].to(plan.device)
    return output_path(
        plan.dataset.name,
        plan.dataset.classes,
        (number, image, int(test.labels[number])),
        [(name, evidence.network(name, "pgd", seed), inverse) for name, inverse in pairs],
        threat=plan.threat,
        steps=default_attack(plan.dataset, plan.threat),
        seed=seed,
    )


def _example(evidence: Evidence, names: Sequence[str], seed: int) -> int:
    reference = evidence.judged(REFERENCE, "pgd", seed)
    worst = reference.report.worst_class("pgd")
    networks = [evidence.judged(name, "pgd", seed) for name in names]
    known = np.logical_and.reduce([network.right("clean") for network in networks])
    known &= reference.columns["labels"] == (worst.index if worst else 0)
    stands = [network.right("pgd") for network in networks]
    broken = known & ~np.logical_or.reduce(stands), known & ~np.logical_and.reduce(stands)
    choices = (np.flatnonzero(of) for of in (*broken, known, np.ones_like(known)))
    return int(reference.columns["ids"][next(rows[0] for rows in choices if len(rows))])


def _figure6(evidence: Evidence) -> list[Finding]:
    return [robustness_intervals(evidence.reports(REFERENCE, "pgd"), "pgd")]


def _figure7(evidence: Evidence) -> list[Finding]:
    return [training_gap(evidence.reports(STANDARD, "pgd"), evidence.reports(REFERENCE, "pgd"), "pgd")]


def _classes(cells: Callable[[Scale], Cells]) -> Callable[[Evidence], list[Finding]]:
    return lambda evidence: [class_table({cell: evidence.reports(*cell) for cell in cells(evidence.scale)})]


def _temperatures(inverses: Sequence[float]) -> Callable[[Evidence], list[Finding]]:
    def find(evidence: Evidence) -> list[Finding]:
        defenses = evidence.scale.of(INSTANCE_WISE, others=True)
        return [
            temperature_table(
                {
                    (defense, t): (evidence.reports(defense, temperature(t)), evidence.reports(defense, "pgd"))
                    for t in inverses
                    for defense in defenses
                }
            )
        ]

    return find


PIECES: tuple[Piece, ...] = (
    Piece(
        "figure1",
        "Class-wise robustness while a network is trained",
        "Robustness differs between the classes from the first epochs on, and the gap stays.",
        _reference,
        _figure1,
    ),
    Piece(
        "figure2",
        "Confusion under attack",
        "Adversarial examples are mostly taken for classes of the same superclass.",
        _reference,
        _figure2,
    ),
    Piece(
        "figure3",
        "The homing property",
        "Many adversarial examples become robust when the network is trained again without the class "
        "that they are taken for.",
        _reference,
        _figure3,
    ),
    Piece(
        "figure4",
        "Robustness and the norm of the classifier weight",
        "The more robust a class, the larger the norm of its classifier weight; in standard training "
        "there is no such correlation.",
        _with_standard,
        _figure4,
    ),
    Piece(
        "figure5",
        "Smoothness of the output distribution",
        "Stronger defenses, and vulnerable classes, have smoother output distributions, in which PGD "
        "may not find the best direction.",
        _smooth,
        _figure5,
    ),
    Piece(
        "figure6",
        "Classes per interval of robustness",
        "With many classes their robustness is spread over many intervals.",
        _reference,
        _figure6,
    ),
    Piece(
        "figure7",
        "Standard and adversarial training",
        "The order of the classes is almost the same in both, and the gap is much larger in adversarial training.",
        _with_standard,
        _figure7,
    ),
    Piece(
        "table2",
        "Defenses under white-box and black-box attacks",
        "Gaps between the classes are large under every attack, and stronger attacks take most from "
        "vulnerable classes.",
        _table2,
        _classes(_table2),
    ),
    Piece(
        "table3",
        "Temperature-PGD against PGD",
        "Temperature-PGD lowers the robustness of MART and RST, most of all that of vulnerable classes, "
        "and hardly that of Madry's training.",
        _table3,
        _temperatures((HOT,)),
    ),
    Piece(
        "table4",
        "Temperature-PGD at other temperatures",
        "The same holds for other 1/T.",
        _table4,
        _temperatures([t for t in INVERSE_TEMPERATURES if t != HOT]),
    ),
    Piece(
        "table5",
        "The hypersphere defenses",
        "HE-LIS and HE-CMP are more robust than HE and Madry's training, most of all in vulnerable "
        "classes, so that the gap narrows.",
        _table5,
        _classes(_table5),
    ),
    Piece(
        "claims",
        "Which of the study's properties hold here",
        "The study's properties, each tested on these results.",
        _claims,
        lambda evidence: [tested(evidence)],
    ),
)
"""In the order of the page."""
