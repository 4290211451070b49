"""Everything that a plugin may import, on one page: base classes, what they are given, and helper functions.

A plugin is a frozen pydantic model: its fields are its hyperparameters and its methods do the work, so that the name,
the command line (``--attack tpgd:inverse_temperature=10``), the JSON and the behaviour cannot drift apart.
docs/plugins.md has an example of each kind.
"""

from cwbench.api.adversarial_defense import AdversarialDefense, nearby_start
from cwbench.api.attack import Access, Attack, Budget
from cwbench.api.backbone import Backbone
from cwbench.api.checkpoint import ExternalFigure, OpenedCheckpoint
from cwbench.api.classifier import (
    Classifier,
    Features,
    Model,
    evaluating,
    frozen,
    modules,
    placed,
    traced_pass,
)
from cwbench.api.continuous_batching import Confirm, Finish, SlotState, Step, drive
from cwbench.api.dataset import ByteExamples, Dataset, Examples, Split, TensorExamples
from cwbench.api.defense import Batch, Defense, Loss, Progress, State, Task, Teacher, TrainingSet
from cwbench.api.divergence import summed_kl
from cwbench.api.events import AttackFinished, EpochFinished, RunStarted
from cwbench.api.hold_out import hold_out
from cwbench.api.hooks import hookimpl
from cwbench.api.mart_loss import mart_loss
from cwbench.api.plugin import Plugin
from cwbench.api.projected_ascent import (
    MOST_STEPS,
    Exit,
    Objective,
    ascend,
    columns,
    no_gradient,
    value_and_gradient,
)
from cwbench.api.projected_attack import ProjectedAttack, SteppedAttack
from cwbench.api.recipe import (
    EMA,
    SGD,
    Adam,
    Averaging,
    Cosine,
    CropFlip,
    EpochEMA,
    Inner,
    Mean,
    MultiStep,
    OneCycle,
    Recipe,
    ResizedCrop,
    Resolution,
    ThreeStage,
)
from cwbench.api.restarts import Attempt, Tick, attempts, likeliest, misclassified, still_robust
from cwbench.api.streams import BatchStreams, ExampleStreams, Streams, global_random_state, key
from cwbench.api.threat import L2, Linf, Threat, make_threat
from cwbench.api.trades_loss import divergence_from, trades_loss
from cwbench.internal.digest import of_file as sha256_of_file
from cwbench.internal.digest import of_json as sha256_of_json
from cwbench.internal.errors import (
    CheckpointError,
    CwbenchError,
    DataError,
    HubError,
    ReportError,
    UsageError,
    did_you_mean,
    reason_of,
)
from cwbench.internal.exact_number import Number
from cwbench.internal.files import cache_root, write_atomically

__all__ = [
    "EMA",
    "L2",
    "MOST_STEPS",
    "SGD",
    "Access",
    "Adam",
    "AdversarialDefense",
    "Attack",
    "AttackFinished",
    "Attempt",
    "Averaging",
    "Backbone",
    "Batch",
    "BatchStreams",
    "Budget",
    "ByteExamples",
    "CheckpointError",
    "Classifier",
    "Confirm",
    "Cosine",
    "CropFlip",
    "CwbenchError",
    "DataError",
    "Dataset",
    "Defense",
    "EpochEMA",
    "EpochFinished",
    "ExampleStreams",
    "Examples",
    "Exit",
    "ExternalFigure",
    "Features",
    "Finish",
    "HubError",
    "Inner",
    "Linf",
    "Loss",
    "Mean",
    "Model",
    "MultiStep",
    "Number",
    "Objective",
    "OneCycle",
    "OpenedCheckpoint",
    "Plugin",
    "Progress",
    "ProjectedAttack",
    "Recipe",
    "ReportError",
    "ResizedCrop",
    "Resolution",
    "RunStarted",
    "SlotState",
    "Split",
    "State",
    "Step",
    "SteppedAttack",
    "Streams",
    "Task",
    "Teacher",
    "TensorExamples",
    "Threat",
    "ThreeStage",
    "Tick",
    "TrainingSet",
    "UsageError",
    "ascend",
    "attempts",
    "cache_root",
    "columns",
    "did_you_mean",
    "divergence_from",
    "drive",
    "evaluating",
    "frozen",
    "global_random_state",
    "hold_out",
    "hookimpl",
    "key",
    "likeliest",
    "make_threat",
    "mart_loss",
    "misclassified",
    "modules",
    "nearby_start",
    "no_gradient",
    "placed",
    "reason_of",
    "sha256_of_file",
    "sha256_of_json",
    "still_robust",
    "summed_kl",
    "traced_pass",
    "trades_loss",
    "value_and_gradient",
    "write_atomically",
]
