"""Whether a published checkpoint has the clean accuracy that was published with it, whatever it is loaded for."""

from typing import Any, Literal

import torch
from torch import nn

from cwbench.api import Classifier, Dataset, Examples, make_threat
from cwbench.checkpoints.hub.address import SCHEME, address
from cwbench.checkpoints.store import Checkpoint, pulled
from cwbench.datasets import splits
from cwbench.evaluation.harness import evaluate
from cwbench.internal.distributed import ALONE, Team
from cwbench.internal.errors import CheckpointError
from cwbench.plan import Plan
from cwbench.report.counts import per_class, right_under
from cwbench.spec import EvaluationSettings
from cwbench.training.rebuild import rebuilt

CHECKED = 1_000
"""Test examples, or ten of each class if that is more, on which a published checkpoint must reproduce."""
SLACK = 0.005
"""The share of them whose verdict may differ: another machine rounds differently, which decides between ties."""


def clean_counts(
    model: nn.Module, dataset: Dataset, test: Examples, device: torch.device, limit: int | None
) -> dict[str, Any]:
    """Return the clean accuracy that is published with a checkpoint: per class, on ``limit`` examples of the split."""
    ids, k = splits.chosen_rows(test.labels, limit), len(dataset.classes)
    found = evaluate(
        model,
        test,
        [],
        ids=ids,
        classes=k,
        threat=make_threat(dataset.norm, dataset.eps),
        settings=EvaluationSettings(device=str(device), precision="fp32"),
    )
    return {
        "dataset": splits.digest(test),
        "limit": limit,
        "n": per_class(found.labels, k),
        "correct": right_under(found.labels, [found.clean], k),
    }


def checked_limit(dataset: Dataset, test: Examples) -> int | None:
    """Return on how many test examples a published checkpoint's clean accuracy is checked; None for all."""
    limit = max(CHECKED, 10 * len(dataset.classes))
    return limit if limit < len(test) else None


def reproduced(
    checkpoint: Checkpoint, model: Classifier, dataset: Dataset, test: Examples, device: torch.device, uri: str
) -> Literal["reproduced", "not recorded", "other data"]:
    """Tell whether the clean accuracy published with a checkpoint was reproduced.

    Raises:
        CheckpointError: it was not.
    """
    if checkpoint.published is None:
        return "not recorded"
    recorded = checkpoint.published.clean
    if recorded["dataset"] != splits.digest(test):
        about = checkpoint.identity["dataset"]
        if not dataset.classes_from_files and (about["name"], about["fields"]) == (
            dataset.name,
            dataset.model_dump(mode="json"),
        ):
            raise CheckpointError(
                f"{uri} was published with a clean accuracy on another test split of {dataset.name} than the one here",
                "do not use it; ask who published it, or check your data",
            )
        return "other data"
    found = clean_counts(model, dataset, test, device, recorded["limit"])
    pairs = zip(dataset.classes, recorded["n"], recorded["correct"], found["n"], found["correct"], strict=True)
    for name, n, correct, found_n, found_correct in pairs:
        if n != found_n or abs(correct - found_correct) > max(1, SLACK * n):
            raise CheckpointError(
                f"{uri} does not reproduce the clean accuracy that was published with it: class {name} has "
                f"{found_correct} of {found_n} right, and {correct} of {n} were published",
                "do not use it; ask who published it",
            )
    return "reproduced"


def require_sound_teacher(plan: Plan, test: Examples, team: Team = ALONE) -> None:
    """Refuse a published checkpoint that a defense names as its teacher and that does not reproduce, before it teaches.

    One of other classes or images is left to the training, which says so.

    Raises:
        CheckpointError: it cannot be fetched, is damaged, or does not reproduce its clean accuracy.
    """
    uri = plan.defense.named_teacher()
    if uri is None or not uri.startswith(SCHEME):
        return
    checkpoint = team.from_leader(lambda: pulled(address(uri)))
    found = rebuilt(checkpoint, plan.registry, plan.device)
    if (found.classes, found.shape) == (plan.dataset.classes, plan.dataset.shape):
        team.from_leader(lambda: reproduced(checkpoint, found.model, plan.dataset, test, plan.device, f"teacher {uri}"))
