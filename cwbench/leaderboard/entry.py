"""One entry of a board: a report, read, checked and reduced to what a board shows of it."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cwbench.internal import digest
from cwbench.internal.errors import CwbenchError, ReportError, reason_of
from cwbench.internal.text import plain
from cwbench.leaderboard.admission import LARGEST, admit
from cwbench.leaderboard.attack_suites import Suites
from cwbench.leaderboard.layout import Place, entry_id
from cwbench.report.records import Condition, PluginRecord, diagonal
from cwbench.report.report import Report, parsed

CLEAN, WORST_CASE = "clean", "worst case"
MOST_CELLS = 10_000
"""Cells of a confusion matrix that a page shows whole: a hundred classes. Beyond, it shows the commonest mistakes."""
COMMONEST = 100


@dataclass(frozen=True, slots=True)
class Entry:
    """What a board keeps of a report; the report itself would take a hundred times the memory."""

    id: str
    digest: str
    """Of the report."""
    created: str
    table: str
    """What it may be ranked with, as JSON: two entries with the same text belong into one table."""
    row: str
    """What it shares a row with, as JSON: the same training with another seed."""
    seed: int
    correct: dict[str, list[int]]
    """Correct examples of each class: clean, under each attack, and in the worst case over them."""
    detail: str
    """What only the view of the entry shows, as JSON."""


def read_entry(path: Path, place: Place, suites: Suites) -> Entry:
    """Read, recount and admit the entry in a file.

    Raises:
        ReportError: names the entry, the field and what is wrong with it.
    """
    name = plain(path.relative_to(place.root).as_posix(), "terminal")
    if path.is_symlink() or not path.is_file() or path.suffix != ".json":
        raise ReportError(f"{name}: not an entry", "only JSON files that `leaderboard submit` writes belong here")
    raw = read_limited(path, name)
    report = parsed(raw, name)
    try:
        suite = admit(report, raw, suites)
    except CwbenchError as error:
        raise ReportError(f"{name}: {error.message}", error.hint) from None
    if path != place.path(report):
        expected = place.path(report).relative_to(place.root).as_posix()
        raise ReportError(f"{name}: its content belongs at {expected}", "`leaderboard submit` puts it there")
    return entry_of(report, suite)


def read_limited(path: Path, name: str) -> bytes:
    """Return the bytes of a file that may be an entry.

    Raises:
        ReportError: it cannot be read, or is larger than any entry.
    """
    try:
        size = path.stat().st_size
        if size > LARGEST:
            raise ReportError(f"{name}: {size:,} bytes, where an entry has at most {LARGEST:,}")
        return path.read_bytes()
    except OSError as error:
        raise ReportError(f"{name}: cannot be read: {reason_of(error)}") from None


def entry_of(report: Report, suite: str) -> Entry:
    """Return what a board keeps of a report that was admitted."""
    data, training = report.dataset, report.training
    conditions: dict[str, Condition] = {CLEAN: report.clean} | {attack.label: attack for attack in report.attacks}
    correct = {name: diagonal(condition.confusion) for name, condition in conditions.items()}
    table = {
        "dataset": data.name,
        "fields": data.fields,
        "digest": data.digest,
        "classes": data.classes,
        "superclasses": data.superclasses,
        "n_per_class": data.n_per_class,
        "norm": report.threat.norm,
        "eps": report.threat.eps.value,
        "suite": suite,
        "attacks": [
            {"label": attack.label, "access": attack.access, "fields": attack.attack.fields}
            for attack in sorted(report.attacks, key=lambda attack: attack.label)
        ],
    }
    row = {
        "subject": report.subject,
        "defense": _described(report.defense),
        "backbone": _described(report.backbone),
        "recipe_name": training.recipe_name if training else None,
        "recipe": digest.of_json(training.recipe) if training else None,
        "data": training.data.kind if training and training.data else "unknown",
        "only": None if training else entry_id(report),
    }
    return Entry(
        id=entry_id(report),
        digest=str(report.digest),
        created=report.provenance.created.isoformat(),
        table=_canonical(table),
        row=_canonical(row),
        seed=report.provenance.seed,
        correct=correct | {WORST_CASE: report.worst_case_counts.correct},
        detail=_canonical(_detail(report, conditions)),
    )


def _described(plugin: PluginRecord | None) -> dict[str, Any] | None:
    if plugin is None:
        return None
    return {"name": plugin.name, "fields": plugin.fields, "distribution": plugin.distribution}


def _detail(report: Report, conditions: dict[str, Condition]) -> dict[str, Any]:
    provenance = report.provenance.model_dump(mode="json")
    training = report.training
    return {
        "digest": report.digest,
        "eps": report.threat.eps.text,
        "mistakes": {name: _mistakes(condition.confusion) for name, condition in conditions.items()},
        "cost": {attack.label: attack.cost.model_dump(mode="json") for attack in report.attacks},
        "notes": {attack.label: attack.notes for attack in report.attacks if attack.notes},
        "warnings": [[warning.name, warning.message] for warning in report.warnings],
        "provenance": provenance,
        "training": training
        and {
            "checkpoint": training.checkpoint,
            "recipe": training.recipe,
            "selection": training.selection,
            "data": training.data and training.data.description,
        },
    }


def _mistakes(confusion: list[list[int]]) -> dict[str, Any]:
    """Return the counts whole, or for many classes the commonest mistakes."""
    if len(confusion) ** 2 <= MOST_CELLS:
        return {"confusion": confusion}
    wrong = [
        (count, truth, predicted)
        for truth, row in enumerate(confusion)
        for predicted, count in enumerate(row)
        if count and predicted != truth
    ]
    return {"commonest": [list(entry) for entry in sorted(wrong, key=lambda entry: (-entry[0], entry[1:]))[:COMMONEST]]}


def _canonical(value: Any) -> str:
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False, ensure_ascii=False)
