"""The Python door: ``cwbench.run`` and ``cwbench.evaluate``."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from cwbench import data as splits
from cwbench import runner, sidecar
from cwbench.api import Attack, Backbone, Dataset, Defense, Examples, Plugin, TensorExamples
from cwbench.assemble import columns, dataset_record, report_of
from cwbench.checkpoints import Store
from cwbench.errors import CwbenchError
from cwbench.evaluation import evaluate as judge
from cwbench.model import Model, evaluating, placed
from cwbench.plan import DEFAULT_BATCH, choose_device, data_root, dataset_threat, default_attack, plan_attacks
from cwbench.recipe import Inner
from cwbench.registry import Registry, installed
from cwbench.report import DatasetRecord, Report
from cwbench.spec import PluginSpec, RunSpec, validated
from cwbench.threat import Threat, make_threat

AttackLike = str | Attack | PluginSpec
TENSOR_STEPS = 20


def run(
    defense: str | Defense | PluginSpec,
    attacks: AttackLike | Sequence[AttackLike] = (),
    dataset: str | Dataset | PluginSpec = "digits",
    *,
    backbone: str | Backbone | PluginSpec | None = None,
    out: Path | str | None = None,
    **options: Any,
) -> Report:
    """Train a defense, or take it from the cache, and judge it; the same as ``cwbench run``.

    Plugins may be given as text (``"pgd:steps=50"``) or as objects, also of classes that no distribution provides.
    ``options`` are the other fields of :class:`cwbench.spec.RunSpec`: data, recipe, set, norm, eps, seed, limit,
    device, batch_size, every. Without ``out`` nothing but the cached checkpoint is written.

    Raises:
        CwbenchError: anything that the caller can put right.
    """
    given = [dataset, defense, backbone, *_many(attacks)]
    registry = installed().including(*[item for item in given if isinstance(item, Plugin)])
    content = options | {
        "defense": _spec(defense),
        "attacks": [_spec(attack) for attack in _many(attacks)],
        "dataset": _spec(dataset),
        "backbone": _spec(backbone) if backbone else None,
    }
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
    batch_size: int = DEFAULT_BATCH,
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
        batch_size: images in one forward pass.
        classes: names of the classes of tensors; the numbers 0 … K−1 by default.
        superclasses: groups of class indices of tensors, for example ``{"animals": [2, 3, 4]}``.
        subject: what to call the model in the report; the name of its class by default.
        out: a folder to write the report and its predictions into; nothing is written without.

    Raises:
        CwbenchError: anything that the caller can put right.
    """
    registry = installed().including(*[item for item in (dataset, *_many(attacks)) if isinstance(item, Plugin)])
    place = choose_device(device)
    if (limit is not None and limit < 1) or batch_size < 1:
        raise CwbenchError("limit and batch_size must be at least 1")
    if isinstance(dataset, tuple):
        target = _tensors(dataset, model, place, eps, norm, classes, superclasses)
    elif classes is not None or superclasses is not None:
        raise CwbenchError("classes and superclasses are for tensors", "a named dataset has its own")
    else:
        target = _named(_spec(dataset), registry, data, eps, norm)
    planned = plan_attacks(tuple(_spec(attack) for attack in _many(attacks) or target.suite), registry, target.default)
    outcomes = judge(
        model,
        target.examples,
        planned,
        ids=splits.chosen_rows(target.examples.labels, limit),
        classes=len(target.record.classes),
        threat=target.threat,
        seed=seed,
        device=place,
        batch_size=batch_size,
    )
    content, predictions = sidecar.encode(columns(outcomes))
    report = report_of(
        outcomes,
        subject=subject or str(getattr(model, "__name__", type(model).__name__)),
        dataset=target.record.model_copy(update={"limit": limit}),
        threat=target.threat,
        registry=registry,
        device=place,
        seed=seed,
        batch_size=batch_size,
        predictions=predictions if out else None,
    )
    if out:
        runner.write_run(report, content, Path(out))
    return report


@dataclass(frozen=True)
class _Target:
    """What to judge on, and what attacks that leave things unset take."""

    examples: Examples
    record: DatasetRecord
    threat: Threat
    default: Inner
    suite: tuple[str, ...]


def _named(
    spec: PluginSpec, registry: Registry, data: Path | str | None, eps: str | float | None, norm: str | None
) -> _Target:
    dataset = validated(registry.dataset(spec.name), spec.fields, f"dataset {spec.name}")
    threat = dataset_threat(dataset, norm, eps)
    examples = splits.open_split(dataset, "test", data_root(Path(data) if data else None))
    record = dataset_record(dataset, examples, registry, None)
    return _Target(examples, record, threat, default_attack(dataset, threat), dataset.suite)


def _tensors(
    pair: tuple[Tensor, Tensor],
    model: Model,
    device: torch.device,
    eps: str | float | None,
    norm: str | None,
    classes: Sequence[str] | None,
    superclasses: Mapping[str, Sequence[int]] | None,
) -> _Target:
    if eps is None:
        raise CwbenchError("tensors have no default eps", 'give one, for example eps="8/255"')
    threat = make_threat(norm or "Linf", eps)
    x, y = pair
    if len(x) != len(y) or not len(x):
        raise CwbenchError(f"{len(x)} images and {len(y)} labels do not make examples")
    names = list(classes) if classes else [str(index) for index in range(_width(model, x[:1], device))]
    groups = {name: list(group) for name, group in (superclasses or {}).items()}
    if any(index not in range(len(names)) for group in groups.values() for index in group):
        raise CwbenchError(f"superclasses must hold indices from 0 to {len(names) - 1}")
    examples = TensorExamples(x.detach(), y.detach())
    splits.check_examples(examples, classes=len(names), shape=None, subject="the given tensors")
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
    return _Target(examples, record, threat, default, Dataset.suite)


def _width(model: Model, x: Tensor, device: torch.device) -> int:
    """Return how many logits the model gives."""
    with placed(model, device), evaluating(model), torch.no_grad():
        logits = model(x.to(device, torch.float32))
    if not isinstance(logits, Tensor) or logits.dim() != 2:
        raise CwbenchError(f"the model returned {type(logits).__name__} instead of logits (N, K)")
    return logits.shape[1]


def _many(attacks: AttackLike | Sequence[AttackLike]) -> list[AttackLike]:
    return [attacks] if isinstance(attacks, str | Attack | PluginSpec) else list(attacks)


def _spec(given: str | Plugin | PluginSpec) -> PluginSpec:
    if isinstance(given, Plugin):
        return PluginSpec(name=given.name, fields=given.model_dump(mode="json", exclude_unset=True))
    return given if isinstance(given, PluginSpec) else validated(PluginSpec, given, f"{given!r}")
