"""Doing the study: cells that are missing are run, pieces are found in them, and everything is written down."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import torch

from cwbench import __version__
from cwbench.api import Dataset
from cwbench.checkpoints.store import Store
from cwbench.datasets import splits
from cwbench.datasets.without_class import FEWEST
from cwbench.internal.errors import CwbenchError, UsageError
from cwbench.plan import choose_device
from cwbench.plugins.registry import Registry
from cwbench.spec import EvaluationSettings
from cwbench.study.figures import PIECES, Piece, wanted_removals
from cwbench.study.findings.confusion_blocks import check_groups
from cwbench.study.findings.finding import Finding
from cwbench.study.paper_numbers import PUBLISHED
from cwbench.study.record import PieceRecord
from cwbench.study.render import Studied, write
from cwbench.study.results import Evidence, without_training
from cwbench.study.settings import REFERENCE, Machine, Scale, curve_step, dataset_of
from cwbench.study.warnings import doubts
from cwbench.sweep.engine import Engine, Item, Watch, run_all
from cwbench.sweep.identity import Training
from cwbench.sweep.outcome import Failed

ALL = "all"
HOMING, CONFUSION = "figure3", "figure2"


@dataclass(frozen=True)
class Study:
    """What is asked for."""

    names: tuple[str, ...]
    """Pieces: ``figure1`` … ``table5``, ``claims``, or ``all``."""
    scale: Scale
    machine: Machine
    engine: Engine
    folder: Path
    """Where Markdown, JSON, figures and the page go."""


def pieces_of(names: Sequence[str]) -> list[Piece]:
    """Return the pieces of some names, in the order of the page.

    Raises:
        UsageError: there is no such piece.
    """
    known = [piece.name for piece in PIECES]
    unknown = [name for name in names if name not in (*known, ALL)]
    if unknown:
        raise UsageError(f"the study has no {', '.join(unknown)}", f"known: {', '.join([*known, ALL])}")
    return [piece for piece in PIECES if piece.name in names or ALL in names]


def machine_of(scale: Scale, registry: Registry, data: Path | None, settings: EvaluationSettings) -> Machine:
    """Return where a study is done.

    Raises:
        UsageError: the scale names what there is not.
    """
    return Machine(data=data, settings=settings, every=curve_step(scale, dataset_of(scale, registry)))


def study(wanted: Study, registry: Registry, watch: Watch = lambda items, schedule: None) -> Studied:
    """Do what is missing of the study, and write what was found; what was done before is taken from there.

    A cell that fails costs the pieces that need it, and they say so.

    Raises:
        UsageError: names that are none, a piece that the dataset cannot have, or nothing can be written.
    """
    scale, pieces = wanted.scale, pieces_of(wanted.names)
    dataset = dataset_of(scale, registry)
    alone = ALL not in wanted.names
    _refuse_early(wanted, dataset)
    keys = [(d, a, s) for piece in pieces for d, a in piece.cells(scale) for s in scale.seeds]
    keys = list(dict.fromkeys(keys))
    named = [(f"{d} × {a} × {scale.dataset} × seed {s}", scale.run(d, a, s, wanted.machine)) for d, a, s in keys]
    with splits.remembering():
        items = dict(zip(keys, run_all(named, wanted.engine, registry, watch=watch), strict=True))
        evidence = Evidence(scale, wanted.machine, registry, Store.default(), wanted.engine.results, items)
        homing = any(piece.name == HOMING for piece in pieces)
        untrained = _train_without(evidence, wanted.engine, watch) if homing else []
        records = [_recorded(piece, evidence) for piece in pieces]
    failed = [item for item in [*items.values(), *untrained] if isinstance(item.outcome, Failed)]
    if alone and len(records) == 1 and not records[0].findings:
        raise UsageError(f"{wanted.names[0]}: {records[0].notes[0]}", "nothing was written")
    return write(records, wanted.folder, failed)


def _refuse_early(wanted: Study, dataset: Dataset) -> None:
    """Refuse what cannot be found before anything is trained for it."""
    scale, k = wanted.scale, len(dataset.classes)
    if scale.homing not in ("all", "most-confused"):
        unknown = [index for index in scale.homing if int(index) >= k]
        if unknown:
            raise UsageError(f"there is no class {unknown[0]} to remove", f"classes are 0 to {k - 1}")
    if scale.example is not None and scale.example >= dataset.sizes["test"]:
        raise UsageError(f"there is no test image {scale.example}", f"they are 0 to {dataset.sizes['test'] - 1}")
    check_groups(scale.superclasses, k)
    if HOMING in wanted.names and k - 1 < FEWEST:
        raise UsageError(
            f"{dataset.name} has {k} classes, and without one of them {k - 1} are left",
            f"the homing experiment of figure 3 needs {FEWEST} or more to be left",
        )
    if CONFUSION in wanted.names and not (scale.superclasses or dataset.superclasses):
        raise UsageError(
            f"{dataset.name} has no superclasses, by which figure 2 groups the classes",
            "give groups, as --superclasses round=0,6,8,9; 'study all' shows its confusion without them",
        )


def _train_without(evidence: Evidence, engine: Engine, watch: Watch) -> list[Item]:
    """Train what figure 3 needs, of each seed the networks without a class or its control; return the failures."""
    trainings: list[Training] = []
    for seed in evidence.scale.seeds:
        try:
            wanted = wanted_removals(evidence, seed)
            plan = evidence.plan(REFERENCE, "pgd", seed)
            every = {index for removal in wanted for index in (removal.index, removal.control) if index is not None}
            for index in sorted(every):
                trainings += without_training(evidence.scale, evidence.machine, plan, REFERENCE, "pgd", seed, index)
        except CwbenchError:
            continue  # figure 3 will say why
    return run_all([], engine, evidence.registry, extra=trainings, watch=watch)


def _recorded(piece: Piece, evidence: Evidence) -> PieceRecord:
    """Return what a piece finds; where it cannot be found, why."""
    found: list[Finding] = []
    notes: list[str] = []
    if not list(piece.cells(evidence.scale)):
        notes.append("none of its defenses takes part")
    else:
        try:
            found = piece.find(evidence)
        except CwbenchError as error:
            notes.append(str(error))
    return PieceRecord.model_validate(
        {
            "piece": piece.name,
            "scale": evidence.scale,
            "findings": found,
            "published": PUBLISHED.get(piece.name, ()),
            "notes": notes,
            "warnings": doubts(piece.cells(evidence.scale), evidence),
            "created": datetime.now(UTC),
            "cwbench": __version__,
            "torch": torch.__version__,
            "device": choose_device(evidence.machine.settings.device).type,
        }
    )
