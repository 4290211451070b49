"""What a cell is kept under, and which trainings it needs, before anything of it is done."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

from cwbench.api import Examples
from cwbench.datasets import splits
from cwbench.datasets.without_class import without
from cwbench.internal import digest
from cwbench.internal.errors import CwbenchError
from cwbench.pipeline.evaluation_digest import evaluation_digest
from cwbench.pipeline.open_checkpoint import locate_checkpoint
from cwbench.pipeline.runner import training_of
from cwbench.pipeline.session import Session
from cwbench.pipeline.substitutes import Substitutes
from cwbench.plan import EvaluationPlan, Plan, make_plan, plan_evaluation
from cwbench.spec import RunSpec
from cwbench.training.job import Job

Role = Literal["own", "teacher", "substitute", "without"]


@dataclass(frozen=True)
class Training:
    """A checkpoint that runs need, told so that any worker can train it."""

    key: str
    """Its digest."""
    spec: RunSpec
    role: Role
    """What it is to that run: the judged network, the teacher of RST, the substitute of a transfer attack, or the
    judged network trained without one class."""
    removed: int | None = None
    """The index of that class."""
    after: tuple[str, ...] = ()
    """Checkpoints that must be there before."""

    @property
    def name(self) -> str:
        what = {"own": str(self.spec.defense), "teacher": f"standard, to teach {self.spec.defense}"}
        what |= {"substitute": "standard, as a substitute", "without": f"{self.spec.defense} without {self.removed}"}
        return f"train {what[self.role]} on {self.spec.dataset}, seed {self.spec.seed}"


@dataclass(frozen=True)
class Identity:
    """What a cell is."""

    folder: str
    """Where it is kept: readable, with the digest of everything that determines its report."""
    trainings: tuple[Training, ...]
    """What it needs, each before those that need it."""


def identified(specs: Sequence[RunSpec], session: Session, threads: int) -> list[Identity | str]:
    """Return what each run is; instead of it a line where its data are missing or its parts do not fit.

    ``threads`` are those of the processes that will judge: results depend on them by rounding.
    """
    found: list[Identity | str] = []
    with splits.remembering():
        for spec in specs:
            try:
                found.append(identity_of(spec, session, threads))
            except CwbenchError as error:
                found.append(str(error))
    return found


def identity_of(spec: RunSpec, session: Session, threads: int) -> Identity:
    """Return what a run is.

    Raises:
        UsageError: its data are missing or damaged, or its parts do not fit.
    """
    plan: EvaluationPlan
    own: list[Training] = []
    if spec.checkpoint:
        located = locate_checkpoint(spec.checkpoint, spec.backbone, session.store)
        plan = plan_evaluation(spec, located.dataset_of(spec), session.registry)
        test = splits.open_split(plan.dataset, "test", plan.root)
        network = str(located.load(plan, test).identity)
    else:
        plan = make_plan(spec, session.registry)
        test = splits.open_split(plan.dataset, "test", plan.root)
        own = trainings_of(spec, plan, test)
        network = own[-1].key
    used, substitutes = _substitutes(spec, Substitutes(plan, test, session))
    key = digest.of_json(
        {
            "evaluation": evaluation_digest(plan, network, test, used, threads=threads),
            "save_examples": plan.save_examples,
            "recipe": plan.recipe_label if isinstance(plan, Plan) else None,
            "subject": str(spec.defense or spec.checkpoint),
        }
    )
    return Identity(f"{_readable(spec, plan)}-{key[:16]}", (*own, *substitutes))


def trainings_of(spec: RunSpec, plan: Plan, test: Examples, removed: int | None = None) -> list[Training]:
    """Return the training of a run's network, behind the one of its teacher if it has one.

    With ``removed`` it is the network trained without that class: see :mod:`cwbench.datasets.without_class`.
    """
    if removed is not None:
        job = Job.of(without_class(plan, removed))
    else:
        job, _ = training_of(plan, test)
    before = []
    if job.data.unlabelled is not None and plan.defense.named_teacher() is None:
        before = [Training(job.standard().digest, spec, "teacher")]
    role: Role = "own" if removed is None else "without"
    return [*before, Training(job.digest, spec, role, removed, tuple(training.key for training in before))]


def without_class(plan: Plan, removed: int) -> Plan:
    """Return the plan of the same training without one class, and without curves."""
    dataset = without(plan.dataset, removed, plan.root)
    return replace(plan, dataset=dataset, registry=plan.registry.including(dataset), every=None)


def _substitutes(spec: RunSpec, sources: Substitutes) -> tuple[dict[str | None, str], list[Training]]:
    """Return the digests of the networks that transfer attacks use, and the training of the one that is trained."""
    used: dict[str | None, str] = {uri: found.digest for uri, found in sources.named().items()}
    job = sources.job()
    if job is None:
        return used, []
    return used | {None: job.digest}, [Training(job.digest, spec, "substitute")]


def _readable(spec: RunSpec, plan: EvaluationPlan) -> str:
    attacks = "+".join(planned.label for planned in plan.attacks)
    parts = (str(spec.defense or spec.checkpoint), attacks, plan.dataset.name, f"seed{spec.seed}")
    return "-".join(re.sub(r"[^A-Za-z0-9=.+]+", "-", part)[:40].strip("-.") for part in parts)
