"""The report: integer counts, what follows from them, and where they come from. Schema version 1.

It knows neither torch nor plugins, so that whoever only reads reports need not load them.
"""

import json
import math
import re
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any, Literal

import jsonschema
from pydantic import BaseModel, ConfigDict, Field, JsonValue, ValidationError, model_validator

from cwbench.errors import CwbenchError
from cwbench.exact import Exact
from cwbench.files import write_atomically
from cwbench.statistics import wilson

SCHEMA_VERSION = 1
Count = Annotated[int, Field(ge=0, le=10**12)]
Share = Annotated[float, Field(ge=0, le=1)]
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Counts = list[list[Count]]
Interval = tuple[Share, Share]


class _Closed(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, use_attribute_docstrings=True)


class Accuracy(_Closed):
    """A proportion of examples that are classified correctly."""

    n: Count
    correct: Count
    accuracy: Share | None
    """Null where there is no example."""
    interval: Interval | None
    """The 95 % Wilson interval."""

    @classmethod
    def of(cls, correct: int, n: int) -> "Accuracy":
        return cls(n=n, correct=correct, accuracy=correct / n if n else None, interval=wilson(correct, n))


class WorstClass(_Closed):
    """The class with the lowest accuracy; the first of them when several tie."""

    index: Count
    name: str
    accuracy: Share
    interval: Interval
    """At 95 % for all classes at once (Wilson, Bonferroni's correction): the class was picked as the worst."""


class Figures(_Closed):
    """What follows from the counts of one condition."""

    classes: list[Accuracy]
    overall: Accuracy
    worst_class: WorstClass | None
    gap: Share | None
    """Accuracy of the best class minus that of the worst."""
    superclasses: dict[str, Accuracy]

    @classmethod
    def of(cls, correct: Sequence[int], dataset: "DatasetRecord") -> "Figures":
        """Derive the figures from the correct examples of each class."""
        n = dataset.n_per_class
        classes = [Accuracy.of(*pair) for pair in zip(correct, n, strict=True)]
        present = [(entry.accuracy, index) for index, entry in enumerate(classes) if entry.accuracy is not None]
        worst = None
        if present:
            accuracy, index = min(present)
            interval = wilson(correct[index], n[index], comparisons=len(present))
            assert interval is not None  # noqa: S101 - the class is present
            worst = WorstClass(index=index, name=dataset.classes[index], accuracy=accuracy, interval=interval)
        return cls(
            classes=classes,
            overall=Accuracy.of(sum(correct), sum(n)),
            worst_class=worst,
            gap=max(present)[0] - min(present)[0] if present else None,
            superclasses={
                name: Accuracy.of(sum(correct[i] for i in group), sum(n[i] for i in group))
                for name, group in dataset.superclasses.items()
            },
        )


class Condition(_Closed):
    """Predictions under one condition: clean, or one attack."""

    confusion: Counts
    """K×K: row true class, column predicted class."""
    figures: Figures

    @classmethod
    def of(cls, confusion: list[list[int]], dataset: "DatasetRecord") -> "Condition":
        return cls(confusion=confusion, figures=Figures.of(_diagonal(confusion), dataset))


class PluginRecord(_Closed):
    """A plugin with every field, and where it came from."""

    name: str
    fields: dict[str, JsonValue]
    distribution: str
    version: str


class CostRecord(_Closed):
    """What an attack spent, summed over the examples that it attacked."""

    examples: Count
    """Attacked examples: those classified correctly when clean."""
    forward: Count
    """Images sent through the model by the attack."""
    backward: Count
    """Images for which a gradient was computed."""
    seconds: Annotated[float, Field(ge=0)]


class AttackRecord(Condition):
    """One attack and what it achieved."""

    label: str
    """The attack as asked for, such as ``pgd:restarts=10``; unique within the report."""
    attack: PluginRecord
    access: Literal["white-box", "transfer", "score", "decision"]
    cost: CostRecord


class WorstCase(_Closed):
    """Each example under whichever attack breaks it."""

    correct: list[Count]
    """Examples of each class that are right when clean and under every attack."""
    figures: Figures


class DatasetRecord(_Closed):
    """What was judged on."""

    name: str
    fields: dict[str, JsonValue]
    distribution: str
    split: Literal["test", "given"]
    """``given``: tensors that were handed in."""
    classes: Annotated[list[str], Field(min_length=1)]
    superclasses: dict[str, list[Count]]
    digest: Sha256
    """Of all labels and images of the split."""
    n_available: Count
    limit: Annotated[int, Field(ge=1)] | None
    """How many examples were asked for; null for all."""
    n_per_class: list[Count]
    """How many examples of each class were judged."""


class ThreatRecord(_Closed):
    """What the attacker was allowed."""

    norm: Literal["Linf", "L2"]
    eps: Exact

    @model_validator(mode="after")
    def _in_range(self) -> "ThreatRecord":
        if self.eps.value <= 0 or (self.norm == "Linf" and self.eps.value > 1):
            raise ValueError(f"threat: {self.norm} eps {self.eps} is out of range")
        return self


class TrainingRecord(_Closed):
    """How the model came about."""

    checkpoint: Sha256
    """The digest of everything that determined the weights."""
    recipe_name: str
    recipe: dict[str, JsonValue]
    selection: str
    """How the epoch was chosen."""
    losses: list[float]
    """Mean training loss of each epoch."""
    curves: list["CurvePoint"]
    state: dict[str, JsonValue]
    """The state in which the defense ended."""


class CurvePoint(_Closed):
    """Class-wise accuracy on the test split after an epoch; shown, and never used to choose an epoch."""

    epoch: Annotated[int, Field(ge=1)]
    attack: str
    n: list[Count]
    clean: list[Count]
    """Correct examples of each class."""
    robust: list[Count]
    """Correct examples of each class under the attack."""


class Provenance(_Closed):
    """Where and when, and with what."""

    created: datetime
    cwbench: str
    commit: str | None
    """The commit of a source checkout; null for an installed package."""
    python: str
    torch: str
    numpy: str
    platform: str
    device: str
    device_name: str
    threads: Annotated[int, Field(ge=1)]
    """PyTorch threads on the CPU: sums are rounded in another order with another number of them."""
    seed: Count
    batch_size: Annotated[int, Field(ge=1)]
    plugins: dict[str, str]
    """Distributions that plugins came from, and their versions."""


class Sidecar(_Closed):
    """A file beside the report."""

    file: Annotated[str, Field(pattern=r"^[A-Za-z0-9_-][A-Za-z0-9_.-]{0,99}$")]
    sha256: Sha256


class Report(_Closed):
    """How robust a model is, class by class."""

    schema_version: Literal[1] = 1
    subject: str
    """What was judged, in a few words."""
    defense: PluginRecord | None
    """Null for a model that was handed in."""
    backbone: PluginRecord | None
    training: TrainingRecord | None
    dataset: DatasetRecord
    threat: ThreatRecord
    clean: Condition
    attacks: list[AttackRecord]
    worst_case_counts: WorstCase
    provenance: Provenance
    predictions: Sidecar | None
    """Every example's predictions; null where they were not written."""

    @model_validator(mode="after")
    def _adds_up(self) -> "Report":
        data = self.dataset
        _check_dataset(data)
        _check_labels([(attack.label, attack.attack.name) for attack in self.attacks])
        for name, condition in [("clean", self.clean), *((attack.label, attack) for attack in self.attacks)]:
            _check_confusion(name, condition.confusion, data.n_per_class)
            _check_figures(name, condition.figures, Figures.of(_diagonal(condition.confusion), data))
        clean = _diagonal(self.clean.confusion)
        for attack in self.attacks:
            _check_against_clean(attack.label, attack.confusion, self.clean.confusion)
            if attack.cost.examples != sum(clean):
                raise ValueError(f"{attack.label}: {attack.cost.examples} were attacked, but {sum(clean)} were right")
        _check_worst_case(self.worst_case_counts.correct, clean, [_diagonal(a.confusion) for a in self.attacks])
        worst = self.worst_case_counts
        _check_figures("worst case", worst.figures, Figures.of(worst.correct, data))
        if len({part is None for part in (self.defense, self.backbone, self.training)}) > 1:
            raise ValueError("defense, backbone and training belong together: all, or none")
        if self.training:
            _check_training(self.training, len(data.classes))
        return self

    def labels(self) -> list[str]:
        """Return the labels of the attacks."""
        return [attack.label for attack in self.attacks]

    def condition(self, name: str = "clean") -> Condition:
        """Return ``clean`` or the attack of that label, or of that name if only one attack has it.

        Raises:
            CwbenchError: the report has no such attack, or several.
        """
        return self.clean if name == "clean" else self.attack(name)

    def attack(self, name: str) -> AttackRecord:
        """Return the attack of that label, or of that name if only one attack has it.

        Raises:
            CwbenchError: the report has no such attack, or several.
        """
        matches = [attack for attack in self.attacks if attack.label == name]
        matches = matches or [attack for attack in self.attacks if attack.attack.name == name]
        if len(matches) != 1:
            problem = "several attacks are" if matches else "no attack is"
            raise CwbenchError(f"{problem} named {name!r}", f"known: {', '.join(['clean', *self.labels()])}")
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

    def worst_case(self) -> Figures:
        """Return the figures over all attacks: an example counts only if none of them breaks it."""
        return self.worst_case_counts.figures

    def to_json(self) -> str:
        """Return the report as JSON.

        Raises:
            jsonschema.ValidationError: the report does not obey its own schema, which is a bug.
        """
        content = self.model_dump(mode="json")
        jsonschema.validate(content, schema(), cls=jsonschema.Draft202012Validator)
        text = json.dumps(content, indent=1, allow_nan=False, ensure_ascii=False)
        # One row of counts to a line, not one count; the line break cannot be in a string.
        return re.sub(r"\[\n[\d\s,.eE+-]*\]", lambda row: re.sub(r"\s+", "", row[0]), text) + "\n"

    def write(self, path: Path) -> None:
        """Write the report atomically.

        Raises:
            CwbenchError: the folder is not writable or the disk is full.
        """
        write_atomically(path, self.to_json().encode())


def schema() -> dict[str, Any]:
    """Return the JSON schema of a report."""
    head = {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": "cwbench report, version 1"}
    return head | Report.model_json_schema(mode="serialization") | head


def read_report(path: Path) -> Report:
    """Read a report and check it: version, schema, and that all counts add up.

    Raises:
        CwbenchError: the file is no report of a known version, or its figures do not follow from its counts.
    """
    try:
        text = path.read_text(encoding="utf-8")
        content = json.loads(text, parse_constant=_refuse_constant, object_pairs_hook=_unique_keys, parse_float=_finite)
    except OSError as error:
        raise CwbenchError(f"cannot read {path}: {error.strerror}") from None
    except (ValueError, RecursionError) as error:
        raise CwbenchError(f"{path} is not JSON: {error}", "a run writes report.json") from None
    version = content.get("schema_version") if isinstance(content, dict) else None
    if not isinstance(version, int):
        raise CwbenchError(f"{path} is not a cwbench report: it has no schema_version", "a run writes report.json")
    if version > SCHEMA_VERSION:
        raise CwbenchError(f"{path} has schema version {version}, newer than {SCHEMA_VERSION}", "update cwbench")
    errors = jsonschema.Draft202012Validator(schema()).iter_errors(content)
    first = next(iter(sorted(errors, key=lambda error: list(map(str, error.absolute_path)))), None)
    if first:
        text = first.message if len(first.message) < 200 else f"{first.message[:60]} … {first.message[-120:]}"
        raise CwbenchError(f"{path}: {first.json_path}: {text}", "the file does not obey the schema")
    try:
        return Report.model_validate_json(text)
    except ValidationError as error:
        reason = error.errors()[0]["msg"].removeprefix("Value error, ")
        raise CwbenchError(f"{path}: {reason}", "was it edited by hand?") from None


def _refuse_constant(text: str) -> None:
    raise ValueError(f"{text} is no JSON number")


def _finite(text: str) -> float:
    if not math.isfinite(float(text)):
        raise ValueError(f"{text[:40]} is too large")
    return float(text)


def _unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    content = dict(pairs)
    if len(content) != len(pairs):
        raise ValueError("a key is given twice")
    return content


def _diagonal(confusion: Sequence[Sequence[int]]) -> list[int]:
    return [row[index] for index, row in enumerate(confusion)]


def _check_dataset(data: DatasetRecord) -> None:
    k, judged = len(data.classes), sum(data.n_per_class)
    if len(data.n_per_class) != k:
        raise ValueError(f"dataset: {len(data.n_per_class)} counts for {k} classes")
    if len(set(data.classes)) != k:
        raise ValueError("dataset: two classes have the same name")
    for name, group in data.superclasses.items():
        if any(index >= k for index in group) or len(set(group)) != len(group):
            raise ValueError(f"dataset: superclass {name!r} names a class twice or beyond the {k} classes")
    if judged != min(data.limit or data.n_available, data.n_available):
        raise ValueError(f"dataset: {judged} judged of {data.n_available} with limit {data.limit}")


def _check_labels(pairs: Sequence[tuple[str, str]]) -> None:
    if len({label for label, _ in pairs}) != len(pairs):
        raise ValueError("attacks: two have the same label")
    for label, name in pairs:
        if label.partition(":")[0] != name or name == "clean":
            raise ValueError(f"attacks: {label!r} is no label of {name!r}")


def _check_worst_case(worst: list[int], clean: list[int], attacks: list[list[int]]) -> None:
    """Hold the worst case between the strongest attack and what is left if no two attacks break the same example."""
    if len(worst) != len(clean):
        raise ValueError(f"worst case: {len(worst)} counts for {len(clean)} classes")
    for index, stands in enumerate(worst):
        under = [attack[index] for attack in attacks]
        if stands > min([clean[index], *under]):
            raise ValueError(f"worst case: more examples of class {index} stand than under the strongest attack")
        if stands < clean[index] - sum(clean[index] - right for right in under):
            raise ValueError(f"worst case: fewer examples of class {index} stand than the attacks together broke")


def _check_against_clean(label: str, under: Counts, clean: Counts) -> None:
    """An example that is wrong when clean is never attacked and keeps its prediction."""
    for truth, (row, before) in enumerate(zip(under, clean, strict=True)):
        if any(n < m for predicted, (n, m) in enumerate(zip(row, before, strict=True)) if predicted != truth):
            raise ValueError(f"{label}: examples of class {truth} that are wrong when clean have moved under attack")


def _check_training(training: TrainingRecord, k: int) -> None:
    epochs = training.recipe.get("epochs")
    if not isinstance(epochs, int) or not 1 <= len(training.losses) <= epochs:
        raise ValueError(f"training: {len(training.losses)} losses in {epochs} epochs")
    trained = [point.epoch for point in training.curves]
    if trained != sorted(set(trained)) or (trained and trained[-1] > len(training.losses)):
        raise ValueError(f"curves: epochs {trained} of {len(training.losses)} must ascend")
    for point in training.curves:
        if not len(point.n) == len(point.clean) == len(point.robust) == k:
            raise ValueError(f"curves: epoch {point.epoch} does not have {k} counts of each kind")
        if any(not r <= c <= n for r, c, n in zip(point.robust, point.clean, point.n, strict=True)):
            raise ValueError(f"curves: epoch {point.epoch} has more right than there are")


def _check_confusion(name: str, confusion: Counts, n_per_class: list[int]) -> None:
    k = len(n_per_class)
    if len(confusion) != k or any(len(row) != k for row in confusion):
        raise ValueError(f"{name}: the confusion counts are not {k}×{k}")
    for index, (row, n) in enumerate(zip(confusion, n_per_class, strict=True)):
        if sum(row) != n:
            raise ValueError(f"{name}: the counts of class {index} add up to {sum(row)}, but {n} were judged")


def _check_figures(name: str, stored: Figures, derived: Figures) -> None:
    """Compare up to the last digits, which may differ between versions of SciPy."""
    difference = _first_difference(stored.model_dump(), derived.model_dump())
    if difference:
        raise ValueError(f"{name}: figures{difference} does not follow from the counts")


def _first_difference(a: Any, b: Any, path: str = "") -> str | None:
    """Return the path of the first value that differs, or None."""
    if isinstance(a, dict) and isinstance(b, dict) and a.keys() == b.keys():
        pairs = [(a[key], b[key], f"{path}.{key}") for key in a]
    elif isinstance(a, list | tuple) and isinstance(b, list | tuple) and len(a) == len(b):
        pairs = [(x, y, f"{path}[{index}]") for index, (x, y) in enumerate(zip(a, b, strict=True))]
    elif isinstance(a, float) and isinstance(b, float):
        return None if abs(a - b) < 1e-9 else path
    else:
        return None if a == b else path
    return next((found for pair in pairs if (found := _first_difference(*pair))), None)
