"""The Python door: ``cwbench.run`` and ``cwbench.evaluate``."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import torch
from pydantic import BaseModel, ConfigDict, Field, model_validator
from torch import Tensor

from cwbench import data as splits
from cwbench import runner, sidecar
from cwbench.api import Attack, Backbone, Dataset, Defense, Examples, Plugin, TensorExamples
from cwbench.assemble import columns, dataset_record, report_of
from cwbench.checkpoints import Store
from cwbench.errors import CwbenchError
from cwbench.evaluation import Settings
from cwbench.evaluation import evaluate as judge
from cwbench.files import require_writable
from cwbench.model import Model, evaluating, placed
from cwbench.plan import DEFAULT_BATCH, choose_device, data_root, dataset_threat, default_attack, plan_attacks
from cwbench.recipe import Inner
from cwbench.records import DatasetRecord
from cwbench.registry import Registry, installed
from cwbench.report import Report
from cwbench.spec import PluginSpec, RunSpec, validated
from cwbench.substitute import Substitutes
from cwbench.threat import Threat, make_threat
from cwbench.verdict import refuse_unfit

AttackLike = str | Attack | PluginSpec
TENSOR_STEPS = 20
IMAGE_SUITE, VECTOR_SUITE = Dataset.suite, ("fgsm", "pgd", "cw-pgd", "tpgd", "apgd-ce", "apgd-t", "fab-t")
"""The standard suites of tensors: square, and autoattack with it, need images."""
UNKNOWN = 2**31  # how many classes tensors may have before the model has said how many it knows


def run(
    defense: str | Defense | PluginSpec | None = None,
    attacks: AttackLike | Sequence[AttackLike] = (),
    dataset: str | Dataset | PluginSpec | None = None,
    *,
    checkpoint: str | None = None,
    backbone: str | Backbone | PluginSpec | None = None,
    out: Path | str | None = None,
    **options: Any,
) -> Report:
    """Train a defense, or take it from the cache, and judge it; the same as ``cwbench run``.

    Instead of a defense ``checkpoint`` may name what is to be judged: a digest, ``hf://user/repo``, or a file of
    weights with ``backbone``. The dataset, if unset, is digits, or what one of cwbench's own checkpoints was trained
    for. Plugins may be given as text (``"pgd:steps=50"``) or as objects, also of classes that no distribution provides.
    ``options`` are the other fields of :class:`cwbench.spec.RunSpec`: data, recipe, set, norm, eps, seed, limit,
    device, batch_size, precision, cascade, every. Without ``out`` nothing but the cached checkpoint is written.

    Raises:
        CwbenchError: anything that the caller can put right.
    """
    given = [dataset, defense, backbone, *_many(attacks)]
    registry = installed().including(*[item for item in given if isinstance(item, Plugin)])
    content = options | {
        "checkpoint": checkpoint,
        "defense": _spec(defense) if defense else None,
        "attacks": [_spec(attack) for attack in _many(attacks)],
        "backbone": _spec(backbone) if backbone else None,
    }
    content |= {"dataset": _spec(dataset)} if dataset else {}
    spec = validated(RunSpec, content, "the run")
    report, _ = runner.run(spec, registry=registry, store=Store.default(), out=Path(out) if out else None)
    return report


def evaluate(
    model: Model,
    attacks: AttackLike | Sequence[AttackLike] = (),
    dataset: str | Dataset | PluginSpec | tuple[Tensor, Tensor] = "digits",
    *,
    data: Path | str | None = None,
    eps: str | float | None = None,
    norm: str | None = None,
    limit: int | None = None,
    seed: int = 0,
    device: str = "auto",
    batch_size: int | Literal["auto"] = "auto",
    precision: str = "auto",
    cascade: bool = False,
    classes: Sequence[str] | None = None,
    superclasses: Mapping[str, Sequence[int]] | None = None,
    subject: str | None = None,
    out: Path | str | None = None,
) -> Report:
    """Judge any model that maps images (N, C, H, W) in [0, 1] to logits (N, K).

    Args:
        model: an ``nn.Module`` or a function. It is judged in eval mode and left as it was.
        attacks: text such as ``"pgd:steps=50,restarts=10"`` or attack objects; the standard suite if empty.
        dataset: a name, or tensors (x, y): x (N, C, H, W) float in [0, 1], y (N,) int64. Tensors need ``eps``;
            attacks that leave steps unset take 20, of a quarter of eps.
        data: the folder with a named dataset.
        eps: the radius, for example ``"8/255"``; the dataset's by default.
        norm: ``"Linf"`` or ``"L2"``.
        limit: judge this many examples, dealt out evenly over the classes.
        seed: of the attacks' random starts.
        device: ``"auto"`` (CUDA where there is one), ``"cpu"``, ``"cuda"``; the model is moved there and back.
        batch_size: images in one forward pass; ``"auto"`` is 256. It is halved where memory runs out.
        precision: what attacks search in, ``"fp32"``, ``"bf16"`` or, measured, ``"auto"``; the verdict is always fp32.
        cascade: give each attack only what the ones before have left standing: the worst case for less.
        classes: names of the classes of tensors; the numbers 0 … K−1 by default.
        superclasses: groups of class indices of tensors, for example ``{"animals": [2, 3, 4]}``.
        subject: what to call the model in the report; the name of its class by default.
        out: a folder to write the report and its predictions into; nothing is written without.

    Raises:
        CwbenchError: anything that the caller can put right.
    """
    options = validated(
        _Options,
        {
            "limit": limit,
            "seed": seed,
            "batch_size": batch_size,
            "precision": precision,
            "cascade": cascade,
            "classes": classes,
            "superclasses": superclasses or {},
            "device": device,
            "norm": norm,
            "data": data,
            "out": out,
            "subject": subject or str(getattr(model, "__name__", type(model).__name__)),
        },
        "the evaluation",
    )
    if options.out:
        require_writable(options.out, runner.REPORT_ROOM)
    refuse_unfit(model)
    registry = installed().including(*[item for item in (dataset, *_many(attacks)) if isinstance(item, Plugin)])
    place = choose_device(options.device)
    if isinstance(dataset, tuple | list):
        target = _tensors(dataset, model, place, eps, options)
    elif classes is not None or superclasses is not None:
        raise CwbenchError("classes and superclasses are for tensors", "a named dataset has its own")
    else:
        target = _named(_spec(dataset), registry, eps, options)
    specs = tuple(_spec(attack) for attack in _many(attacks))
    planned = plan_attacks(specs, registry, target.threat, target.default, target.suite)
    sources = target.substitutes(registry, options, place)
    substitutes = sources.named(planned) | sources.trained(planned)
    outcomes = judge(
        model,
        target.examples,
        planned,
        ids=splits.chosen_rows(target.examples.labels, options.limit),
        classes=len(target.record.classes),
        threat=target.threat,
        settings=Settings(
            seed=options.seed,
            device=place,
            batch_size=DEFAULT_BATCH if options.batch_size == "auto" else options.batch_size,
            precision=options.precision,
            cascade=options.cascade,
            substitutes=substitutes,
        ),
    )
    content, predictions = sidecar.encode(columns(outcomes))
    report = report_of(
        outcomes,
        subject=options.subject,
        dataset=target.record.model_copy(update={"limit": options.limit}),
        threat=target.threat,
        registry=registry,
        device=place,
        seed=options.seed,
        predictions=predictions if options.out else None,
    )
    if options.out:
        runner.write_run(report, content, options.out)
    return report


class _Options(BaseModel):
    """What :func:`evaluate` takes besides model, attacks, data and threat."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    limit: Annotated[int, Field(ge=1)] | None
    seed: Annotated[int, Field(ge=0, lt=2**63)]
    batch_size: Annotated[int, Field(ge=1)] | Literal["auto"]
    precision: Literal["auto", "fp32", "bf16"]
    cascade: bool
    classes: list[str] | None
    superclasses: dict[str, list[int]]
    subject: str
    device: str
    norm: Literal["Linf", "L2"] | None
    data: Path | None
    out: Path | None

    @model_validator(mode="after")
    def _writable_text(self) -> "_Options":
        for text in (self.subject, *(self.classes or ())):
            text.encode()  # a lone surrogate cannot be written, and must not be found out after the evaluation
        return self

    @model_validator(mode="after")
    def _distinct(self) -> "_Options":
        groups: dict[str, Sequence[object]] = {"classes": self.classes or [], **self.superclasses}
        repeated = [name for name, members in groups.items() if len(set(members)) != len(members)]
        if repeated:
            raise ValueError(f"{repeated[0]} names one twice")
        return self


@dataclass(frozen=True)
class _Target:
    """What to judge on, and what attacks that leave things unset take."""

    examples: Examples
    record: DatasetRecord
    threat: Threat
    default: Inner
    suite: tuple[str, ...]
    dataset: Dataset | None
    """None for tensors."""

    def substitutes(self, registry: Registry, options: _Options, device: torch.device) -> Substitutes:
        """Return where transfer attacks on this dataset get their networks."""
        return Substitutes(
            dataset=self.dataset,
            classes=len(self.record.classes),
            shape=tuple(self.examples.images(torch.tensor([0])).shape[1:]),
            root=data_root(options.data),
            recipe_name=self.dataset.default_recipe if self.dataset else "",
            seed=options.seed,
            device=device,
            registry=registry,
            store=Store.default(),
        )


def _named(spec: PluginSpec, registry: Registry, eps: str | float | None, options: _Options) -> _Target:
    dataset = validated(registry.dataset(spec.name), spec.fields, f"dataset {spec.name}")
    threat = dataset_threat(dataset, options.norm, eps)
    examples = splits.open_split(dataset, "test", data_root(options.data))
    record = dataset_record(dataset, examples, registry, None)
    return _Target(examples, record, threat, default_attack(dataset, threat), dataset.suite, dataset)


def _tensors(
    pair: Sequence[Tensor], model: Model, device: torch.device, eps: str | float | None, options: _Options
) -> _Target:
    sound = [isinstance(part, Tensor) and part.layout == torch.strided and not part.is_meta for part in pair]
    if sound != [True, True] or pair[0].dim() < 2 or pair[1].dim() != 1:
        raise CwbenchError("examples must be two tensors (x, y)", "x (N, C, H, W) in [0, 1] and y (N,) int64")
    if eps is None:
        raise CwbenchError("tensors have no default eps", 'give one, for example eps="8/255"')
    threat = make_threat(options.norm or "Linf", eps)
    x, y = (part.detach() for part in pair)
    if len(x) != len(y) or not len(x):
        raise CwbenchError(f"{len(x)} images and {len(y)} labels do not make examples")
    examples = TensorExamples(x.float() if x.is_floating_point() else x, y)
    subject = "the given tensors"
    splits.check_examples(examples, classes=UNKNOWN, shape=None, subject=subject)
    names = options.classes or [str(index) for index in range(_width(model, x[:1], device))]
    splits.check_labels(y, classes=len(names), subject=subject)
    groups = options.superclasses
    if any(index not in range(len(names)) for group in groups.values() for index in group):
        raise CwbenchError(f"superclasses must hold indices from 0 to {len(names) - 1}")
    record = DatasetRecord(
        name="tensors",
        fields={},
        distribution="given",
        split="given",
        classes=names,
        superclasses=groups,
        digest=splits.digest(examples),
        n_available=len(x),
        limit=None,
        n_per_class=[0] * len(names),
    )
    default = Inner(steps=TENSOR_STEPS, step_size=threat.radius / 4)
    return _Target(examples, record, threat, default, IMAGE_SUITE if x.dim() == 4 else VECTOR_SUITE, None)


def _width(model: Model, x: Tensor, device: torch.device) -> int:
    """Return how many logits the model gives."""
    with placed(model, device), evaluating(model), torch.no_grad():
        try:
            logits = model(x.to(device, torch.float32, copy=True))
        except (RuntimeError, TypeError, ValueError, IndexError) as error:
            reason = " ".join(str(error).split())[:200]
            raise CwbenchError(f"the model failed on an image of shape {tuple(x.shape[1:])}: {reason}") from error
    if not isinstance(logits, Tensor) or logits.dim() != 2:
        raise CwbenchError(f"the model returned {type(logits).__name__} instead of logits (N, K)")
    return logits.shape[1]


def _many(attacks: AttackLike | Sequence[AttackLike] | None) -> list[AttackLike]:
    if attacks is None:
        return []
    if isinstance(attacks, str | Attack | PluginSpec | dict | type):
        return [attacks]  # a class is refused by _spec
    if not isinstance(attacks, Sequence):
        raise CwbenchError(f"attacks are {attacks!r}", 'give text such as "pgd:steps=50", an object, or a list of them')
    return list(attacks)


def _spec(given: str | Plugin | PluginSpec) -> PluginSpec:
    if isinstance(given, type):
        raise CwbenchError(f"{given.__name__} is a class", f"give an object: {given.__name__}()")
    if isinstance(given, Plugin):
        return PluginSpec(name=given.name, fields=given.model_dump(mode="json", exclude_unset=True))
    return given if isinstance(given, PluginSpec) else validated(PluginSpec, given, f"{given!r}")
