"""The way through the house: spec → plan → checkpoint → outcomes → report."""

import shutil
import tempfile
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from cwbench import data, digest, sidecar
from cwbench.api import Examples
from cwbench.assemble import columns, dataset_record, report_of, training_record
from cwbench.checkpoints import Store
from cwbench.errors import CwbenchError
from cwbench.evaluation import evaluate
from cwbench.files import require_writable, write_atomically
from cwbench.model import Classifier
from cwbench.plan import Plan, default_attack, make_plan, plan_attacks
from cwbench.registry import Registry
from cwbench.report import Report
from cwbench.spec import PluginSpec, RunSpec
from cwbench.summarise import per_class, standing
from cwbench.training.fit import Probe, fit, load_classifier
from cwbench.training.job import Job

REPORT_ROOM = 16 << 20
"""Bytes that must be free for reports and predictions before training begins."""


def run(spec: RunSpec, *, registry: Registry, store: Store, out: Path | None) -> tuple[Report, Path | None]:
    """Do a run and return its report and, with ``out``, the file that it was written to.

    Raises:
        CwbenchError: anything the user can put right; nothing is written then.
    """
    plan = make_plan(spec, registry)
    if out:
        require_writable(out, REPORT_ROOM)
    job = Job.of(plan)
    require_writable(store.root, 8 * _weights_size(job))
    test = data.open_split(plan.dataset, "test", plan.root)
    checkpoint = fit(job, store, _probe(plan, test))
    outcomes = evaluate(
        load_classifier(job, checkpoint),
        test,
        plan.attacks,
        ids=data.chosen_rows(test.labels, plan.limit),
        classes=len(plan.dataset.classes),
        threat=plan.threat,
        seed=plan.seed,
        device=plan.device,
        batch_size=plan.batch_size,
    )
    content, predictions = sidecar.encode(columns(outcomes))
    report = report_of(
        outcomes,
        subject=str(spec.defense),
        dataset=dataset_record(plan.dataset, test, registry, plan.limit),
        threat=plan.threat,
        registry=registry,
        device=plan.device,
        seed=plan.seed,
        batch_size=plan.batch_size,
        defense=plan.defense,
        backbone=plan.backbone,
        training=training_record(plan, checkpoint),
        predictions=predictions if out else None,
    )
    return report, write_run(report, content, out) if out else None


def write_run(report: Report, predictions: bytes, out: Path) -> Path:
    """Write a report and its predictions into a new folder below ``out``, whole or not at all; return its path.

    Raises:
        CwbenchError: the folder is not writable or the disk is full.
    """
    stamp = datetime.now(UTC).strftime("%Y%m%d-%H%M%S")
    name = f"{stamp}-{report.dataset.name}-{digest.of_bytes(report.to_json().encode())[:8]}"
    try:
        out.mkdir(parents=True, exist_ok=True)
        draft = Path(tempfile.mkdtemp(dir=out, prefix=".new-"))
        try:
            sidecar.write(draft, predictions)
            write_atomically(draft / "report.json", report.to_json().encode())
            draft.chmod(0o755)
            draft.rename(out / name)
        finally:
            shutil.rmtree(draft, ignore_errors=True)
    except OSError as error:
        raise CwbenchError(f"cannot write into {out}: {error.strerror}", "choose another folder with --out") from None
    return out / name / "report.json"


def _weights_size(job: Job) -> int:
    return sum(tensor.nbytes for tensor in job.fresh_classifier().state_dict().values())


def _probe(plan: Plan, test: Examples) -> Probe:
    """Measure class-wise accuracy on the test split, clean and under the dataset's PGD: the study's figure 1."""
    (pgd,) = plan_attacks((PluginSpec(name="pgd"),), plan.registry, default_attack(plan.dataset, plan.threat))
    ids = data.chosen_rows(test.labels, plan.limit)
    k = len(plan.dataset.classes)

    def measure(model: Classifier) -> Mapping[str, Any]:
        outcomes = evaluate(
            model,
            test,
            [pgd],
            ids=ids,
            classes=k,
            threat=plan.threat,
            seed=plan.seed,
            device=plan.device,
            batch_size=plan.batch_size,
        )
        (attack,) = outcomes.attacks
        return {
            "attack": pgd.label,
            "n": per_class(outcomes.labels, k),
            "clean": standing(outcomes.labels, [outcomes.clean], k),
            "robust": standing(outcomes.labels, [attack.predictions], k),
        }

    return measure
