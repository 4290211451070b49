"""A classifier to evaluate, and everything that is known of it."""

from dataclasses import dataclass

from cwbench.api import Backbone, Defense, Model
from cwbench.report.records import SourceRecord, TrainingRecord


@dataclass(frozen=True)
class Subject:
    """A classifier to evaluate, and what the report says of it."""

    model: Model
    """Maps images (N, C, H, W) in [0, 1] to logits (N, K)."""
    name: str
    """What the report calls it."""
    identity: str | None = None
    """A digest of what determines its outputs; None where nobody knows, so that a killed evaluation begins again."""
    backbone: Backbone | None = None
    defense: Defense | None = None
    training: TrainingRecord | None = None
    source: SourceRecord | None = None
    """Where it came from, if the run did not train it."""
