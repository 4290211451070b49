"""The board: tables of what is alike, each a ranking of rows. Schema version 1."""

from typing import Annotated, Any, Literal

from pydantic import Field, JsonValue

from cwbench.internal.validation import Closed, json_schema
from cwbench.report.records import Count, Interval, Sha256, Share

SCHEMA_VERSION = 1


class Standing(Closed):
    """One condition of a row: accuracies are means over its seeds."""

    overall: Share | None
    overall_interval: Interval | None
    """95 %, Wilson; with several seeds widened by how far they disagree, as all intervals here."""
    classes: list[Share | None]
    """In the order of the table's classes; null for a class without examples."""
    intervals: list[Interval | None]
    superclasses: dict[str, Share | None]
    """Mean accuracy of the classes of each group."""
    worst_class: Count | None
    """The index of the class with the lowest accuracy."""
    worst: Share | None
    """Its accuracy."""
    worst_interval: Interval | None
    """At 95 % for all classes at once (Wilson, Bonferroni's correction)."""
    gap: Share | None
    """Accuracy of the best class minus that of the worst."""
    spread: Share | None
    """Standard deviation of the class-wise accuracies."""
    worst_tenth: Share | None
    """Mean accuracy of the worst tenth of the classes; null with fewer than 20 of them."""
    per_interval: list[Count]
    """How many classes lie in [0, 10), [10, 20), … [90, 100] %."""


class Row(Closed):
    """One way to train, with all its seeds, or one model that was handed in."""

    rank: Annotated[int, Field(ge=1)]
    """By the worst class in the worst case over the attacks; rows with the same accuracy share a rank."""
    best_rank: Annotated[int, Field(ge=1)]
    """One more than there are rows whose interval lies wholly above this one's."""
    last_rank: Annotated[int, Field(ge=1)]
    """As many as there are rows whose interval does not lie wholly below this one's."""
    subject: str
    defense: dict[str, JsonValue] | None
    backbone: dict[str, JsonValue] | None
    recipe: str | None
    data: Literal["none", "held-back", "unlabelled", "labelled", "unknown"]
    """What was trained on beside the training split."""
    seeds: list[Count]
    entries: list[str]
    """The ids of the entries behind it, one for each seed."""
    verified: list[Literal["examples", "sample"] | None]
    """By which means each entry was reproduced; null where nobody has."""
    corrected: Share | None
    """The worst case's worst class with the selection bias of a minimum removed (docs/statistics.md)."""
    conditions: dict[str, Standing]
    """``clean``, ``worst case`` and each attack by its label."""


class AttackOfTable(Closed):
    """An attack that every row of a table stood."""

    label: str
    access: Literal["white-box", "transfer", "score", "decision"]
    fields: dict[str, JsonValue]


class Table(Closed):
    """Rows that may be ranked together: same data, same threat, same suite."""

    dataset: str
    fields: dict[str, JsonValue]
    digest: Sha256
    """Of the split that was judged."""
    classes: list[str]
    superclasses: dict[str, list[Count]]
    n_per_class: list[Count]
    norm: Literal["Linf", "L2"]
    eps: float
    suite: str
    attacks: list[AttackOfTable]
    rows: list[Row]


class Board(Closed):
    """Everything that is ranked. It depends on the entries alone, not on their order nor on when it was built."""

    schema_version: Literal[1] = 1
    entries: Count
    digest: Sha256
    """Of the reports that it was built from, and of what is verified of them."""
    tables: list[Table]


def schema() -> dict[str, Any]:
    """Return the JSON schema of ``leaderboard.json``."""
    return json_schema(Board, "cwbench leaderboard, version 1")
