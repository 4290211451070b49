"""Doing the study: cells that are missing are run, pieces are found in them, and everything is written down."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import torch

from cwbench import __version__, data
from cwbench.api import Dataset
from cwbench.checkpoints import Store
from cwbench.errors import CwbenchError
from cwbench.findings.confusion_blocks import check_groups
from cwbench.findings.result import Finding
from cwbench.findings.without import FEWEST
from cwbench.plan import choose_device
from cwbench.registry import Registry
from cwbench.spec import validated
from cwbench.study.doubts import doubts
from cwbench.study.evidence import Evidence, without_training
from cwbench.study.pieces import PIECES, Piece, wanted_removals
from cwbench.study.published import PUBLISHED
from cwbench.study.record import PieceRecord
from cwbench.study.render import Studied, write
from cwbench.study.scale import REFERENCE, Machine, Scale, curve_step, dataset_of
from cwbench.suite.identity import Training
from cwbench.suite.outcome import Failed
from cwbench.suite.run import Engine, Item, Watch, run_all

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
        CwbenchError: there is no such piece.
    """
    known = [piece.name for piece in PIECES]
    unknown = [name for name in names if name not in (*known, ALL)]
    if unknown:
        raise CwbenchError(f"the study has no {', '.join(unknown)}", f"known: {', '.join([*known, ALL])}")
    return [piece for piece in PIECES if piece.name in names or ALL in names]


def machine_of(
    scale: Scale, registry: Registry, *, data: Path | None, device: str = "auto", precision: str = "fp32"
) -> Machine:
    """Return where a study is done.

    Raises:
        CwbenchError: the scale names what there is not, or there is no such precision.
    """
    step = curve_step(scale, dataset_of(scale, registry))
    return validated(Machine, {"data": data, "device": device, "precision": precision, "every": step}, "the study")


def study(wanted: Study, registry: Registry, watch: Watch = lambda items, schedule: None) -> Studied:
    """Do what is missing of the study, and write what was found; what was done before is taken from there.

    A cell that fails costs the pieces that need it, and they say so.

    Raises:
        CwbenchError: names that are none, a piece that the dataset cannot have, or nothing can be written.
    """
    scale, pieces = wanted.scale, pieces_of(wanted.names)
    dataset = dataset_of(scale, registry)
    alone = ALL not in wanted.names
    _refuse_early(wanted, dataset)
    keys = [(d, a, s) for piece in pieces for d, a in piece.cells(scale) for s in scale.seeds]
    keys = list(dict.fromkeys(keys))
    named = [(f"{d} × {a} × {scale.dataset} × seed {s}", scale.run(d, a, s, wanted.machine)) for d, a, s in keys]
    with data.remembering():
        items = dict(zip(keys, run_all(named, wanted.engine, registry, watch=watch), strict=True))
        evidence = Evidence(scale, wanted.machine, registry, Store.default(), wanted.engine.results, items)
        homing = any(piece.name == HOMING for piece in pieces)
        untrained = _train_without(evidence, wanted.engine, watch) if homing else []
        records = [_recorded(piece, evidence) for piece in pieces]
    failed = [item for item in [*items.values(), *untrained] if isinstance(item.outcome, Failed)]
    if alone and len(records) == 1 and not records[0].findings:
        raise CwbenchError(f"{wanted.names[0]}: {records[0].notes[0]}", "nothing was written")
    return write(records, wanted.folder, failed)


def _refuse_early(wanted: Study, dataset: Dataset) -> None:
    """Refuse what cannot be found before anything is trained for it."""
    scale, k = wanted.scale, len(dataset.classes)
    if scale.homing not in ("all", "most-confused"):
        unknown = [index for index in scale.homing if int(index) >= k]
        if unknown:
            raise CwbenchError(f"there is no class {unknown[0]} to remove", f"classes are 0 to {k - 1}")
    if scale.example is not None and scale.example >= dataset.sizes["test"]:
        raise CwbenchError(f"there is no test image {scale.example}", f"they are 0 to {dataset.sizes['test'] - 1}")
    check_groups(scale.superclasses, k)
    if HOMING in wanted.names and k - 1 < FEWEST:
        raise CwbenchError(
            f"{dataset.name} has {k} classes, and without one of them {k - 1} are left",
            f"the homing experiment of figure 3 needs {FEWEST} or more to be left",
        )
    if CONFUSION in wanted.names and not (scale.superclasses or dataset.superclasses):
        raise CwbenchError(
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
            "device": choose_device(evidence.machine.device).type,
        }
    )
