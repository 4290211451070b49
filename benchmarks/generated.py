"""Reports of models that do not exist, for boards of any size: drawn example by example, so that everything adds up."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from cwbench.internal import digest
from cwbench.report.counts import confusion, right_under
from cwbench.report.predictions import PREDICTIONS, column, encode_predictions
from cwbench.report.records import Condition, Figures, WorstCase
from cwbench.report.report import Report

STRENGTH = 0.3
"""The largest share of a class that an attack breaks."""


def drawn(template: Report, number: int, **changes: Any) -> tuple[Report, bytes]:
    """Return a report like ``template`` with predictions drawn from ``number``, and the bytes of its sidecar.

    ``changes`` are fields of the report to replace; its counts, figures, checkpoint and digest follow.
    """
    rng = np.random.default_rng(number)
    data = changes.get("dataset", template.dataset)
    k, labels = len(data.classes), np.repeat(np.arange(len(data.classes)), data.n_per_class)
    n = len(labels)
    columns: dict[str, Any] = {"ids": np.arange(n), "labels": labels}
    columns["clean"] = _moved(labels, labels, rng.uniform(0, 0.1, k), k, rng)
    for attack in template.attacks:
        name = column(attack.label)
        columns[name] = _moved(columns["clean"], labels, rng.uniform(0, STRENGTH, k), k, rng)
    content, predictions = encode_predictions(columns)
    clean = Condition.of(confusion(labels, columns["clean"], k), data)
    right = clean.figures.overall.correct
    worst = right_under(labels, [columns[name] for name in columns if name not in ("ids", "labels")], k)
    fields: dict[str, Any] = {
        "subject": f"defense-{number:05d}",
        "clean": clean,
        "attacks": [
            attack.model_copy(
                update=dict(Condition.of(confusion(labels, columns[column(attack.label)], k), data))
                | {"cost": attack.cost.model_copy(update={"examples": right}), "eps_curve": None}
            )
            for attack in template.attacks
        ],
        "worst_case_counts": WorstCase(correct=worst, figures=Figures.of(worst, data)),
        "predictions": predictions,
        "examples": [],
    }
    if template.training and template.defense:
        fields["training"] = template.training.model_copy(update={"checkpoint": digest.of_json(["drawn", number])})
        # A field of its own, lest all of them share a row as seeds of the same defense.
        fields["defense"] = template.defense.model_copy(update={"fields": {"number": number}})
    return template.model_copy(update=fields | changes).sealed(), content


def _moved(predictions: Any, labels: Any, share: Any, k: int, rng: np.random.Generator) -> Any:
    """Return predictions where a share of the right ones of each class has moved to another class."""
    broken = (predictions == labels) & (rng.random(len(labels)) < share[labels])
    other = (labels + rng.integers(1, max(k, 2), len(labels))) % k
    return np.where(broken, other, predictions)


def as_text(report: Report) -> str:
    """Return a report as JSON without the check against the schema, which would take most of the time."""
    return json.dumps(report.model_dump(mode="json"), ensure_ascii=False)


def write(report: Report, predictions: bytes, folder: Path) -> Path:
    """Write a report and its predictions into a new folder, as a run does."""
    folder.mkdir(parents=True)
    (folder / PREDICTIONS).write_bytes(predictions)
    (folder / "report.json").write_text(as_text(report), encoding="utf-8")
    return folder / "report.json"


def changed(report: Report, changes: Mapping[str, Any]) -> str:
    """Return a report as JSON with top-level fields replaced by any JSON, sealed as if nobody had edited it."""
    content = report.model_dump(mode="json") | changes
    content.pop("digest")
    return json.dumps(content | {"digest": digest.of_json(content)}, ensure_ascii=False)
