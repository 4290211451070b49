"""The report: integer counts, what follows from them, and where they come from. Schema version 1.

It knows neither torch nor plugins, so that whoever only reads reports need not load them.
"""

import json
import re
from functools import cache
from pathlib import Path
from typing import Any, Literal

import jsonschema
from pydantic import ValidationError, model_validator

from cwbench.internal import digest
from cwbench.internal.errors import ReportError, first_complaint
from cwbench.internal.files import reading, write_atomically
from cwbench.internal.validation import Closed, json_schema
from cwbench.report import consistency
from cwbench.report.records import (
    AttackRecord,
    Condition,
    DatasetRecord,
    EpsCurve,
    Figures,
    PluginRecord,
    Provenance,
    SavedExamples,
    Sha256,
    Sidecar,
    SourceRecord,
    ThreatRecord,
    TrainingRecord,
    WarningRecord,
    WorstCase,
    WorstClass,
    diagonal,
)
from cwbench.report.worst_class import Estimate, Profile, corrected_minimum

SCHEMA_VERSION = 1


class Report(Closed):
    """How robust a model is, class by class."""

    schema_version: Literal[1] = 1
    subject: str
    """What was judged, in a few words."""
    defense: PluginRecord | None
    """Null for a model that was handed in."""
    backbone: PluginRecord | None
    training: TrainingRecord | None
    """Null for a model that was handed in, and for a checkpoint whose training nobody recorded."""
    source: SourceRecord | None = None
    """Where the checkpoint came from, if the run did not train it."""
    dataset: DatasetRecord
    threat: ThreatRecord
    clean: Condition
    attacks: list[AttackRecord]
    cascade: bool = False
    """True: each attack got what those before had left standing, and its counts are those of all up to it."""
    worst_case_counts: WorstCase
    provenance: Provenance
    predictions: Sidecar | None
    """Every example's predictions; null where they were not written."""
    examples: list[SavedExamples] = []
    """Files with what the attacks returned, where they were asked to be kept."""
    warnings: list[WarningRecord] = []
    """Signs of masked gradients and of numbers that depend on chance."""
    digest: Sha256 | None = None
    """Of everything else in the report: whoever changes a number by hand must at least know of it. Null in reports from
    before it was recorded."""

    @model_validator(mode="after")
    def _adds_up(self) -> "Report":
        data = self.dataset
        consistency.check_dataset(data)
        consistency.check_labels([(attack.label, attack.attack.name) for attack in self.attacks])
        for name, condition in [("clean", self.clean), *((attack.label, attack) for attack in self.attacks)]:
            consistency.check_confusion(name, condition.confusion, data.n_per_class)
            consistency.check_figures(name, condition.figures, diagonal(condition.confusion), data)
        for attack, before in zip(self.attacks, self._befores(), strict=True):
            consistency.check_against_before(attack, before.confusion)
            if attack.eps_curve:
                right, under = diagonal(before.confusion), diagonal(attack.confusion)
                consistency.check_eps_curve(attack.label, attack.eps_curve, right, under, self.threat.eps.value)
        under_each = [diagonal(attack.confusion) for attack in self.attacks]
        consistency.check_examples(self.examples, self.attacks)
        worst = self.worst_case_counts
        consistency.check_worst_case(worst.correct, diagonal(self.clean.confusion), under_each)
        consistency.check_figures("worst case", worst.figures, worst.correct, data)
        if (self.defense is None) != (self.training is None) or (self.training and not self.backbone):
            raise ValueError("defense, backbone and training belong together: all, or none")
        if self.backbone and not (self.training or self.source):
            raise ValueError("a backbone without training needs the source of its weights")
        if self.training:
            consistency.check_training(self.training, len(data.classes))
        return self

    def _befores(self) -> list[Condition]:
        """Return for each attack the condition that it began from."""
        if not self.cascade:
            return [self.clean] * len(self.attacks)
        return [self.clean, *self.attacks][: len(self.attacks)]

    def labels(self) -> list[str]:
        """Return the labels of the attacks."""
        return [attack.label for attack in self.attacks]

    def condition(self, name: str = "clean") -> Condition:
        """Return ``clean`` or the attack of that label, or of that name if only one attack has it.

        Raises:
            ReportError: the report has no such attack, or several.
        """
        return self.clean if name == "clean" else self.attack(name)

    def attack(self, name: str) -> AttackRecord:
        """Return the attack of that label, or of that name if only one attack has it.

        Raises:
            ReportError: the report has no such attack, or several.
        """
        matches = [attack for attack in self.attacks if attack.label == name]
        matches = matches or [attack for attack in self.attacks if attack.attack.name == name]
        if len(matches) != 1:
            problem = "several attacks are" if matches else "no attack is"
            raise ReportError(f"{problem} named {name!r}", f"known: {', '.join(['clean', *self.labels()])}")
        return matches[0]

    def accuracy(self, name: str = "clean") -> float | None:
        """Return the share of correct examples, clean or under an attack."""
        return self.condition(name).figures.overall.accuracy

    def class_accuracy(self, name: str = "clean") -> dict[str, float | None]:
        """Return the share of correct examples for each class; None for a class without examples."""
        entries = self.condition(name).figures.classes
        return {cls: entry.accuracy for cls, entry in zip(self.dataset.classes, entries, strict=True)}

    def confusion(self, name: str = "clean") -> list[list[int]]:
        """Return the K×K counts: row true class, column predicted class."""
        return self.condition(name).confusion

    def worst_class(self, name: str = "clean") -> WorstClass | None:
        """Return the class with the lowest accuracy."""
        return self.condition(name).figures.worst_class

    def profile(self, name: str = "worst case") -> Profile | None:
        """Return what the classes say together under an attack, ``clean`` or in the ``worst case`` over all attacks.

        That is worst class, gap, spread, mean of the worst tenth and classes per interval of robustness; None if
        nothing was judged.
        """
        return Profile.of(self._estimates(name))

    def corrected_worst_class(self, name: str = "worst case") -> float | None:
        """Return the accuracy of the worst class with the selection bias of a minimum removed; names as above."""
        return corrected_minimum(self._estimates(name))

    def _estimates(self, name: str) -> list[Estimate]:
        figures = self.worst_case() if name == "worst case" else self.condition(name).figures
        return [Estimate(entry.accuracy, entry.n) for entry in figures.classes]

    def worst_case(self) -> Figures:
        """Return the figures over all attacks: an example counts only if none of them breaks it."""
        return self.worst_case_counts.figures

    def accuracy_by_eps(self, name: str) -> dict[float, float | None]:
        """Return accuracy as a function of eps under an attack that looks for the smallest perturbation.

        Raises:
            ReportError: the report has no such attack, or the attack stays in the ball.
        """
        n = sum(self.dataset.n_per_class)
        curve = self._eps_curve(name)
        return {eps: sum(row) / n if n else None for eps, row in zip(curve.eps, curve.correct, strict=True)}

    def class_accuracy_by_eps(self, name: str) -> dict[str, dict[float, float | None]]:
        """Return for each class what :meth:`accuracy_by_eps` returns for all."""
        curve = self._eps_curve(name)
        return {
            cls: {eps: row[i] / n if n else None for eps, row in zip(curve.eps, curve.correct, strict=True)}
            for i, (cls, n) in enumerate(zip(self.dataset.classes, self.dataset.n_per_class, strict=True))
        }

    def _eps_curve(self, name: str) -> EpsCurve:
        curve = self.attack(name).eps_curve
        if curve is None:
            raise ReportError(f"{name} stays in the ball: it says nothing about other eps", "cw does")
        return curve

    def sealed(self) -> "Report":
        """Return the report with the digest of everything else in it."""
        return self.model_copy(update={"digest": _content_digest(self.model_dump(mode="json"))})

    def to_json(self) -> str:
        """Return the report as JSON.

        Raises:
            jsonschema.ValidationError: the report does not obey its own schema, which is a bug.
        """
        content = self.model_dump(mode="json")
        _validator().validate(content)
        text = json.dumps(content, indent=1, allow_nan=False, ensure_ascii=False)
        # One row of counts to a line, not one count; the line break cannot be in a string.
        return re.sub(r"\[\n[\d\s,.eE+-]*\]", lambda row: re.sub(r"\s+", "", row[0]), text) + "\n"

    def write(self, path: Path) -> None:
        """Write the report atomically.

        Raises:
            ReportError: the folder is not writable or the disk is full.
        """
        write_atomically(path, self.to_json().encode())


def schema() -> dict[str, Any]:
    """Return the JSON schema of a report."""
    return json_schema(Report, "cwbench report, version 1")


def _content_digest(content: dict[str, Any]) -> str:
    try:
        return digest.of_json({name: value for name, value in content.items() if name != "digest"})
    except ValueError:
        raise ValueError("a number is too large") from None


def read_report(path: Path | str) -> Report:
    """Read a report and check it: version, schema, digest, and that all counts add up.

    Raises:
        ReportError: the file is no report of a known version, or its figures do not follow from its counts.
    """
    with reading(path, ReportError):
        content = Path(path).read_bytes()
    return parsed(content, str(path))


def parsed(raw: bytes, subject: str) -> Report:
    """Return the report that ``raw`` spells, checked as :func:`read_report` does; ``subject`` begins its complaints.

    Raises:
        ReportError: as ``read_report``.
    """
    try:
        text = raw.decode()
        content = json.loads(text, parse_constant=_refuse_constant, object_pairs_hook=_unique_keys)
        found = _content_digest(content) if isinstance(content, dict) else None
    except (ValueError, RecursionError) as error:
        raise ReportError(f"{subject} is not JSON: {error}", "a run writes report.json") from None
    version = content.get("schema_version") if isinstance(content, dict) else None
    if not isinstance(version, int):
        raise ReportError(f"{subject} is not a cwbench report: it has no schema_version", "a run writes report.json")
    if version > SCHEMA_VERSION:
        raise ReportError(f"{subject} has schema version {version}, newer than {SCHEMA_VERSION}", "update cwbench")
    try:
        # Strict, which is what the schema says; checked by the schema itself it would take a hundred times as long.
        report = Report.model_validate_json(raw, strict=True)
    except ValidationError as error:
        against = first_against_schema(content)
        if against:
            raise ReportError(f"{subject}: {against}", "the file does not obey the schema") from None
        raise ReportError(f"{subject}: {first_complaint(error)}", "was it edited by hand?") from None
    if report.digest is not None and report.digest != found:
        raise ReportError(f"{subject}: its content does not have the digest that it names", "was it edited by hand?")
    return report


@cache
def _validator() -> jsonschema.Draft202012Validator:
    return jsonschema.Draft202012Validator(schema())


def first_against_schema(content: Any) -> str | None:
    """Return where and how content first disobeys the schema; None where it obeys."""
    errors = _validator().iter_errors(content)
    first = next(iter(sorted(errors, key=lambda error: list(map(str, error.absolute_path)))), None)
    if first is None:
        return None
    text = first.message if len(first.message) < 200 else f"{first.message[:60]} … {first.message[-120:]}"
    return f"{first.json_path}: {text}"


def _refuse_constant(text: str) -> None:
    raise ValueError(f"{text} is no JSON number")


def _unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    content = dict(pairs)
    if len(content) != len(pairs):
        raise ValueError("a key is given twice")
    return content
