"""What a report is made of: closed pydantic models of counts, figures and origins."""

from collections.abc import Sequence
from datetime import datetime
from typing import Annotated, Literal

from pydantic import Field, JsonValue, model_validator

from cwbench.internal.exact_number import Exact
from cwbench.internal.validation import Closed
from cwbench.report.intervals import wilson

Count = Annotated[int, Field(ge=0, le=10**12)]
Share = Annotated[float, Field(ge=0, le=1)]
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Counts = list[list[Count]]
Interval = tuple[Share, Share]


class Accuracy(Closed):
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


class WorstClass(Closed):
    """The class with the lowest accuracy; the first of them when several tie."""

    index: Count
    name: str
    accuracy: Share
    interval: Interval
    """At 95 % for all classes at once (Wilson, Bonferroni's correction): the class was picked as the worst."""


class Figures(Closed):
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


class Condition(Closed):
    """Predictions under one condition: clean, or one attack."""

    confusion: Counts
    """K×K: row true class, column predicted class."""
    figures: Figures

    @classmethod
    def of(cls, confusion: list[list[int]], dataset: "DatasetRecord") -> "Condition":
        return cls(confusion=confusion, figures=Figures.of(diagonal(confusion), dataset))


class PluginRecord(Closed):
    """A plugin with every field, and where it came from."""

    name: str
    fields: dict[str, JsonValue]
    distribution: str
    version: str


class CostRecord(Closed):
    """What an attack spent, summed over the examples that it attacked."""

    examples: Count
    """Attacked examples: those classified correctly when clean, or in a cascade after the attacks before."""
    forward: Count
    """Images sent forward by the attack: through the model, a substitute, or to confirm what it found."""
    backward: Count
    """Images for which a gradient was computed."""
    queries: Count | None = None
    """Images whose logits the attack asked of the model itself; null in reports from before they were counted."""
    seconds: Annotated[float, Field(ge=0)]


class AttackRecord(Condition):
    """One attack and what it achieved."""

    label: str
    """The attack as asked for, such as ``pgd:restarts=10``; unique within the report."""
    attack: PluginRecord
    access: Literal["white-box", "transfer", "score", "decision"]
    cost: CostRecord
    substitute: Sha256 | None = None
    """The digest of the checkpoint that a transfer attack used."""
    notes: list[str] = []
    """What a reader must know, such as a loss that the number of classes does not allow."""
    eps_curve: "EpsCurve | None" = None
    """For attacks that look for the smallest perturbation."""


class EpsCurve(Closed):
    """Accuracy as a function of eps."""

    eps: Annotated[list[Annotated[float, Field(ge=0)]], Field(min_length=2)]
    """Ascending from 0, with the threat's own among them."""
    correct: Counts
    """For each eps, the examples of each class that no candidate within it breaks."""


class WorstCase(Closed):
    """Each example under whichever attack breaks it."""

    correct: list[Count]
    """Examples of each class that are right when clean and under every attack."""
    figures: Figures


class DatasetRecord(Closed):
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


class ThreatRecord(Closed):
    """What the attacker was allowed."""

    norm: Literal["Linf", "L2"]
    eps: Exact

    @model_validator(mode="after")
    def _in_range(self) -> "ThreatRecord":
        if self.eps.value <= 0 or (self.norm == "Linf" and self.eps.value > 1):
            raise ValueError(f"threat: {self.norm} eps {self.eps} is out of range")
        return self


class DataRecord(Closed):
    """What the model was trained on, beside the dataset's training split: leaderboards rank it apart."""

    kind: Literal["none", "held-back", "unlabelled", "labelled", "unknown"]
    """``held-back``: a part of the training split served without its labels. ``unlabelled``, ``labelled``: further
    images without or with labels, also synthetic ones."""
    labelled: Count
    """Examples that were trained on with their labels."""
    unlabelled: Count
    """Images that were trained on without them."""
    description: str
    """Where they come from."""


class TrainingRecord(Closed):
    """How the model came about."""

    checkpoint: Sha256
    """The digest of everything that determined the weights."""
    recipe_name: str
    recipe: dict[str, JsonValue]
    selection: str
    """How the epoch was chosen."""
    data: DataRecord | None = None
    """Null in reports from before it was recorded."""
    losses: list[float]
    """Mean training loss of each epoch."""
    curves: list["CurvePoint"]
    state: dict[str, JsonValue]
    """The state in which the defense ended."""


class CurvePoint(Closed):
    """Class-wise accuracy on the test split after an epoch; shown, and never used to choose an epoch."""

    epoch: Annotated[int, Field(ge=1)]
    attack: str
    n: list[Count]
    clean: list[Count]
    """Correct examples of each class."""
    robust: list[Count]
    """Correct examples of each class under the attack."""


class ExternalFigure(Closed):
    """A figure that somebody else published for the same checkpoint: shown beside ours, ranked with nothing."""

    name: str
    """What was measured, such as ``AutoAttack robust accuracy``."""
    value: Share
    source: str


class SourceRecord(Closed):
    """Where a checkpoint that was not trained by this run came from."""

    kind: Literal["store", "hub", "file", "plugin"]
    uri: str
    """What it was asked for by; of a file only the name."""
    sha256: Sha256
    """Of the weights."""
    revision: str | None = None
    """The commit that a hub's revision was resolved to."""
    clean: Literal["reproduced", "not recorded", "other data"]
    """Whether it reproduced the clean accuracy that was published with it, if that is of these data."""
    notes: list[str] = []
    """What was recognised in its file: prefixes, nested entries, names that were left over."""
    external: list[ExternalFigure] = []


class Provenance(Closed):
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
    threads: Annotated[int, Field(ge=1, le=1_000_000)]
    """PyTorch threads on the CPU: sums are rounded in another order with another number of them."""
    seed: Count
    batch_size: Annotated[int, Field(ge=1, le=1_000_000_000)]
    """The one asked for, or what memory allowed."""
    precision: Literal["fp32", "bf16"] = "fp32"
    """What attacks searched in; the verdict is always fp32."""
    folded: Count = 0
    """Pairs of convolution and batch norm that the search ran as one layer."""
    plugins: dict[str, str]
    """Distributions that plugins came from, and their versions."""


class WarningRecord(Closed):
    """A sign that the numbers may not mean what they seem to."""

    name: Annotated[str, Field(pattern=r"^[a-z0-9-]{1,60}$")]
    message: str
    """What was seen and what it may mean, in a sentence."""
    figures: dict[str, float]
    """The numbers behind it."""


class Sidecar(Closed):
    """A file beside the report."""

    file: Annotated[str, Field(pattern=r"^[A-Za-z0-9_-][A-Za-z0-9_.-]{0,99}$")]
    sha256: Sha256


class SavedExamples(Sidecar):
    """Some of the examples that an attack returned: tensors ``ids`` (n,) and ``x`` (n, C, H, W), float32 in [0, 1]."""

    attack: str
    """The label of the attack."""
    n: Count


def diagonal(confusion: Sequence[Sequence[int]]) -> list[int]:
    """Return the correct examples of each class."""
    return [row[index] for index, row in enumerate(confusion)]
