"""The functions for Python: ``cwbench.run`` and ``cwbench.evaluate``."""

import inspect
import re
import textwrap
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, TypeVar

import torch
from pydantic import model_validator
from torch import Tensor

from cwbench.api import (
    Attack,
    Backbone,
    Dataset,
    Defense,
    Model,
    Plugin,
    TensorExamples,
    evaluating,
    make_threat,
    placed,
)
from cwbench.checkpoints.store import Store
from cwbench.datasets import splits
from cwbench.datasets.given_tensors import GivenTensors
from cwbench.evaluation.verdict import refuse_unfit
from cwbench.internal.errors import UsageError, reason_of
from cwbench.internal.validation import Closed, validated
from cwbench.pipeline import runner
from cwbench.pipeline.evaluate_and_report import evaluate_and_report, open_test_split, refuse_early
from cwbench.pipeline.session import Session
from cwbench.pipeline.subject import Subject
from cwbench.pipeline.substitutes import Substitutes
from cwbench.plan import EvaluationPlan, choose_device, data_root, dataset_threat, plan_on
from cwbench.plugins.naming import PluginSpec, build_plugin
from cwbench.plugins.registry import Registry, installed
from cwbench.report.report import Report
from cwbench.spec import EvaluationSettings, RunSpec

AttackLike = str | Attack | PluginSpec
F = TypeVar("F", bound=Callable[..., Any])
DOCUMENT_WIDTH = 120
UNKNOWN = 2**31  # how many classes tensors may have before the model has said how many it knows


def takes_fields_of(model: type[Closed], *given: str) -> Callable[[F], F]:
    """Let a function with ``**settings`` show the fields of a model as its keywords, with their documentation.

    Args:
        model: whose fields they are; those in ``given`` are parameters already.
        given: names of fields that are left out.
    """

    def decorate(function: F) -> F:
        fields = {name: field for name, field in model.model_fields.items() if name not in given}
        signature = inspect.signature(function)
        own = [each for each in signature.parameters.values() if each.kind is not inspect.Parameter.VAR_KEYWORD]
        shown = [
            inspect.Parameter(
                name, inspect.Parameter.KEYWORD_ONLY, default=field.get_default(), annotation=field.annotation
            )
            for name, field in fields.items()
        ]
        function.__signature__ = signature.replace(parameters=[*own, *shown])  # type: ignore[attr-defined]
        lines = [
            textwrap.fill(
                f"{name}: {' '.join((field.description or '').split())}",
                width=DOCUMENT_WIDTH,
                initial_indent=" " * 8,
                subsequent_indent=" " * 12,
            )
            for name, field in fields.items()
        ]
        listed = "\n".join(lines).replace("\\", r"\\")
        function.__doc__ = re.sub(r" *\*\*settings: .*", listed, function.__doc__ or "")
        return function

    return decorate


@takes_fields_of(RunSpec, "defense", "attacks", "dataset", "checkpoint", "backbone")
def run(
    defense: str | Defense | PluginSpec | None = None,
    attacks: AttackLike | Sequence[AttackLike] = (),
    dataset: str | Dataset | PluginSpec | None = None,
    *,
    checkpoint: str | None = None,
    backbone: str | Backbone | PluginSpec | None = None,
    out: Path | str | None = None,
    **settings: Any,
) -> Report:
    """Train a defense, or take it from the cache, and evaluate it; the same as ``cwbench run``.

    Plugins may be given as text (``"pgd:steps=50"``) or as objects, also of classes that no distribution provides.

    Args:
        defense: what to train.
        attacks: the dataset's standard suite if empty.
        dataset: digits if unset, or what one of cwbench's own checkpoints was trained for.
        checkpoint: what to evaluate instead of a defense: a digest, ``hf://user/repo``, or a file of weights with
            ``backbone``.
        backbone: the network; the dataset's if unset.
        out: a folder to write the report and its predictions into; without it only the cached checkpoint is written.
        **settings: the other fields of :class:`cwbench.spec.RunSpec`.

    Returns:
        The report.

    Raises:
        CwbenchError: anything that the caller can put right.
    """
    plugins = [item for item in (dataset, defense, backbone, *_many(attacks)) if isinstance(item, Plugin)]
    content = settings | {
        "checkpoint": checkpoint,
        "defense": _spec(defense) if defense else None,
        "attacks": [_spec(attack) for attack in _many(attacks)],
        "backbone": _spec(backbone) if backbone else None,
    }
    content |= {"dataset": _spec(dataset)} if dataset else {}
    spec = validated(RunSpec, content, "the run")
    session = Session(installed().including(*plugins), Store.default(), out=Path(out) if out else None)
    report, _ = runner.run(spec, session)
    return report


@takes_fields_of(EvaluationSettings)
def evaluate(
    model: Model,
    attacks: AttackLike | Sequence[AttackLike] = (),
    dataset: str | Dataset | PluginSpec | tuple[Tensor, Tensor] = "digits",
    *,
    data: Path | str | None = None,
    eps: str | float | None = None,
    norm: str | None = None,
    classes: Sequence[str] | None = None,
    superclasses: Mapping[str, Sequence[int]] | None = None,
    subject: str | None = None,
    out: Path | str | None = None,
    **settings: Any,
) -> Report:
    """Evaluate any model that maps images (N, C, H, W) in [0, 1] to logits (N, K).

    Args:
        model: an ``nn.Module`` or a function. It is evaluated in eval mode and left as it was.
        attacks: text such as ``"pgd:steps=50,restarts=10"`` or attack objects; the standard suite if empty.
        dataset: a name, or tensors (x, y): x (N, C, H, W) float in [0, 1], y (N,) int64. Tensors need ``eps``;
            attacks that leave steps unset take 20, of a quarter of eps.
        data: the folder with a named dataset.
        eps: the radius, for example ``"8/255"``; the dataset's by default.
        norm: ``"Linf"`` or ``"L2"``.
        classes: names of the classes of tensors; the numbers 0 … K−1 by default.
        superclasses: groups of class indices of tensors, for example ``{"animals": [2, 3, 4]}``.
        subject: what to call the model in the report; the name of its class by default.
        out: a folder to write the report and its predictions into; nothing is written without.
        **settings: the fields of :class:`cwbench.spec.EvaluationSettings`.

    Returns:
        The report.

    Raises:
        CwbenchError: anything that the caller can put right.
    """
    chosen = validated(EvaluationSettings, settings, "the evaluation")
    about = validated(
        _About,
        {
            "classes": classes,
            "superclasses": superclasses or {},
            "norm": norm,
            "data": data,
            "out": out,
            "subject": subject or str(getattr(model, "__name__", type(model).__name__)),
        },
        "the evaluation",
    )
    plugins = [item for item in (dataset, *_many(attacks)) if isinstance(item, Plugin)]
    session = Session(installed().including(*plugins), Store.default(), out=about.out, observed=False)
    refuse_unfit(model)
    specs = tuple(_spec(attack) for attack in _many(attacks))
    if isinstance(dataset, tuple | list):
        on: Dataset = _tensors(dataset, model, choose_device(chosen.device), eps, about)
        threat = dataset_threat(on, None, None)
    elif classes is not None or superclasses is not None:
        raise UsageError("classes and superclasses are for tensors", "a named dataset has its own")
    else:
        on = _named(_spec(dataset), session.registry)
        threat = dataset_threat(on, about.norm, eps)
    plan = plan_on(on, threat, specs, chosen, registry=session.registry, root=data_root(about.data))
    return _evaluated(model, plan, about.subject, session)


def _evaluated(model: Model, plan: EvaluationPlan, name: str, session: Session) -> Report:
    refuse_early(plan, session)
    test = open_test_split(plan, session)
    sources = Substitutes(plan, test, session)
    substitutes = sources.named() | sources.trained()
    announcements = session.announce(plan, name)
    report, _ = evaluate_and_report(plan, Subject(model, name), test, substitutes, session, announcements)
    return report


class _About(Closed):
    """What :func:`evaluate` is told besides the model, the examples, the attacks and the settings."""

    classes: list[str] | None
    superclasses: dict[str, list[int]]
    subject: str
    norm: Literal["Linf", "L2"] | None
    data: Path | None
    out: Path | None

    @model_validator(mode="after")
    def _writable_text(self) -> "_About":
        for text in (self.subject, *(self.classes or ())):
            text.encode()  # a lone surrogate cannot be written, and must not be found out after the evaluation
        return self

    @model_validator(mode="after")
    def _distinct(self) -> "_About":
        groups: dict[str, Sequence[object]] = {"classes": self.classes or [], **self.superclasses}
        repeated = [name for name, members in groups.items() if len(set(members)) != len(members)]
        if repeated:
            raise ValueError(f"{repeated[0]} names one twice")
        return self


def _named(spec: PluginSpec, registry: Registry) -> Dataset:
    dataset: Dataset = build_plugin(registry.dataset(spec.name), spec, "dataset")
    return dataset


def _tensors(
    pair: Sequence[Tensor], model: Model, device: torch.device, eps: str | float | None, about: _About
) -> GivenTensors:
    """Return tensors as a dataset, checked, with as many classes as the model knows or the caller names."""
    sound = [isinstance(part, Tensor) and part.layout == torch.strided and not part.is_meta for part in pair]
    if sound != [True, True] or pair[0].dim() < 2 or pair[1].dim() != 1:
        raise UsageError("examples must be two tensors (x, y)", "x (N, C, H, W) in [0, 1] and y (N,) int64")
    if eps is None:
        raise UsageError("tensors have no default eps", 'give one, for example eps="8/255"')
    threat = make_threat(about.norm or "Linf", eps)
    x, y = (part.detach() for part in pair)
    if len(x) != len(y) or not len(x):
        raise UsageError(f"{len(x)} images and {len(y)} labels do not make examples")
    examples = TensorExamples(x.float() if x.is_floating_point() else x, y)
    subject = "the given tensors"
    splits.check_examples(examples, classes=UNKNOWN, shape=None, subject=subject)
    names = about.classes or [str(index) for index in range(_width(model, x[:1], device))]
    splits.check_labels(y, classes=len(names), subject=subject)
    groups = {name: tuple(group) for name, group in about.superclasses.items()}
    if any(index not in range(len(names)) for group in groups.values() for index in group):
        raise UsageError(f"superclasses must hold indices from 0 to {len(names) - 1}")
    return GivenTensors.of(examples, tuple(names), groups, threat)


def _width(model: Model, x: Tensor, device: torch.device) -> int:
    """Return how many logits the model gives."""
    with placed(model, device), evaluating(model), torch.no_grad():
        try:
            logits = model(x.to(device, torch.float32, copy=True))
        except (RuntimeError, TypeError, ValueError, IndexError) as error:
            raise UsageError(
                f"the model failed on an image of shape {tuple(x.shape[1:])}: {reason_of(error)}"
            ) from error
    if not isinstance(logits, Tensor) or logits.dim() != 2:
        raise UsageError(f"the model returned {type(logits).__name__} instead of logits (N, K)")
    return logits.shape[1]


def _many(attacks: AttackLike | Sequence[AttackLike] | None) -> list[AttackLike]:
    if attacks is None:
        return []
    if isinstance(attacks, str | Attack | PluginSpec | dict | type):
        return [attacks]  # a class is refused by _spec
    if not isinstance(attacks, Sequence):
        raise UsageError(f"attacks are {attacks!r}", 'give text such as "pgd:steps=50", an object, or a list of them')
    return list(attacks)


def _spec(given: str | Plugin | PluginSpec) -> PluginSpec:
    if isinstance(given, type):
        raise UsageError(f"{given.__name__} is a class", f"give an object: {given.__name__}()")
    if isinstance(given, Plugin):
        return PluginSpec(name=given.name, fields=given.model_dump(mode="json", exclude_unset=True))
    return given if isinstance(given, PluginSpec) else validated(PluginSpec, given, f"{given!r}")
