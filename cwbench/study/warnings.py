"""What speaks against believing the cells of a piece: the warnings of their reports, and their attacks side by side."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from cwbench.api import Attack
from cwbench.evaluation.warnings import side_by_side
from cwbench.internal.errors import CwbenchError
from cwbench.report.counts import Ints
from cwbench.report.predictions import column
from cwbench.report.records import WarningRecord
from cwbench.study.results import Evidence


@dataclass(frozen=True)
class _Tried:
    label: str
    attack: Attack
    predictions: Ints


def doubts(cells: Iterable[tuple[str, str]], evidence: Evidence) -> list[str]:
    """Return the warnings about each network that some cells (defense, attack) judged, each of them once.

    A cell has one attack, so that its report cannot compare attacks: that is done here. Cells that have failed are
    left out.
    """
    attacks: dict[str, list[str]] = {}
    for defense, attack in cells:
        attacks.setdefault(defense, []).append(attack)
    found = [
        f"{defense}, seed {seed}: {warning.name}: {warning.message}"
        for defense, names in attacks.items()
        for seed in evidence.scale.seeds
        for warning in _of_network(defense, names, seed, evidence)
    ]
    return list(dict.fromkeys(found))


def _of_network(defense: str, names: Iterable[str], seed: int, evidence: Evidence) -> Iterator[WarningRecord]:
    tried, labels, clean = [], None, None
    for name in dict.fromkeys(names):
        try:
            judged = evidence.judged(defense, name, seed)
        except CwbenchError:
            continue
        yield from judged.report.warnings
        (planned,) = evidence.plan(defense, name, seed).attacks
        tried.append(_Tried(planned.label, planned.attack, judged.columns[column(planned.label)]))
        labels, clean = judged.labels, judged.columns["clean"]
    if labels is not None and clean is not None:
        yield from side_by_side(tried, labels=labels, clean=clean)
