"""Publishing a checkpoint on the hub: its weights, its description, its report and a model card, in one commit."""

import json
from dataclasses import dataclass
from pathlib import Path

import torch
from huggingface_hub import CommitOperationAdd, HfApi
from safetensors.torch import save

from cwbench.checkpoints.hub.address import Address
from cwbench.checkpoints.hub.client import UnreachableError, call
from cwbench.checkpoints.store import FORMAT, PUBLISHED_DESCRIPTION, PUBLISHED_WEIGHTS, Checkpoint
from cwbench.datasets import splits
from cwbench.internal import digest
from cwbench.internal.errors import CheckpointError, CwbenchError
from cwbench.internal.validation import validated
from cwbench.pipeline.clean_accuracy import checked_limit, clean_counts
from cwbench.plugins.registry import Registry
from cwbench.report.model_card import card
from cwbench.report.report import Report, read_report
from cwbench.training.rebuild import rebuilt


@dataclass(frozen=True)
class Bundle:
    """What a push uploads."""

    files: dict[str, bytes]
    summary: str
    """Of the commit, in one line."""


def reports_of(checkpoint: Checkpoint, runs: Path) -> list[Path]:
    """Return the reports below a folder that are of a checkpoint: the one with most attacks last, then the newest."""
    found = []
    for path in sorted(runs.glob("*/report.json")):
        try:
            report = read_report(path)
        except CwbenchError:
            continue
        if report.training and report.training.checkpoint == checkpoint.digest:
            found.append((len(report.attacks), report.provenance.created, path))
    return [path for *_, path in sorted(found)]


def bundle(
    checkpoint: Checkpoint,
    report_path: Path,
    at: Address,
    *,
    registry: Registry,
    root: Path | None,
    device: torch.device,
) -> Bundle:
    """Prepare what is uploaded, with the clean accuracy that every later load has to reproduce.

    Raises:
        CheckpointError: the report is of another checkpoint or of other data, or the parts are not installed.
    """
    report = read_report(report_path)
    if report.training is None or report.training.checkpoint != checkpoint.digest:
        raise CheckpointError(
            f"{report_path} is of another checkpoint than {checkpoint.digest[:12]}", "name its own with --report"
        )
    described = checkpoint.identity["dataset"]
    dataset = validated(registry.dataset(described["name"]), described["fields"], f"dataset {described['name']}")
    test = splits.open_split(dataset, "test", root)
    if splits.digest(test) != report.dataset.digest:
        raise CheckpointError(f"{report_path} is of another test split of {dataset.name} than the one here")
    model = rebuilt(checkpoint, registry, device).model
    weights = save(dict(checkpoint.weights), metadata={"format": "pt"})
    config = {
        "library_name": "cwbench",
        "format": FORMAT,
        **checkpoint.described(weights),
        "clean": clean_counts(model, dataset, test, device, checked_limit(dataset, test)),
    }
    files = {
        PUBLISHED_WEIGHTS: weights,
        PUBLISHED_DESCRIPTION: (json.dumps(config, indent=1) + "\n").encode(),
        "report.json": report_path.read_bytes(),
        "README.md": card(report, at.repo).encode(),
    }
    predictions = report.predictions
    beside = report_path.parent / predictions.file if predictions else None
    if predictions and beside and beside.is_file() and digest.of_file(beside) == predictions.sha256:
        files[predictions.file] = beside.read_bytes()
    return Bundle(files, _summary(report))


def push(prepared: Bundle, at: Address, *, private: bool) -> str:
    """Upload everything in one commit, making the repository where there is none, and return the commit's address.

    Raises:
        CheckpointError: no access, or the hub cannot be reached; nothing is in the repository then that was not before.
    """
    api = HfApi()
    operations = [CommitOperationAdd(name, content) for name, content in sorted(prepared.files.items())]
    try:
        call(lambda: api.create_repo(at.repo, private=private, exist_ok=True), at, "create")
        found = call(
            lambda: api.create_commit(at.repo, operations, commit_message=prepared.summary, revision=at.revision),
            at,
            "write",
        )
    except UnreachableError as error:
        raise CheckpointError(f"the hub cannot be reached: {error}", "nothing was published; try again") from None
    return f"hf://{at.repo}@{found.oid}"


def _summary(report: Report) -> str:
    return f"{report.subject} on {report.dataset.name}, {report.threat.norm} eps {report.threat.eps}"
