"""What a sweep will cost: passes that are counted, times seconds a pass that are measured."""

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import torch

from cwbench.api import Backbone, Classifier
from cwbench.checkpoints.store import Store
from cwbench.defenses.standard import Standard
from cwbench.plan import EvaluationPlan, Plan, make_plan, plan_evaluation
from cwbench.plugins.registry import Registry
from cwbench.spec import RunSpec
from cwbench.sweep.count_passes import Passes, attack_passes, training_passes
from cwbench.sweep.engine import Item
from cwbench.sweep.outcome import Done
from cwbench.training.rebuild import moved_to

MINUTE = 60.0
BATCH = 64
Network = tuple[str, tuple[int, int], int]
"""Backbone as text, shape of the images, and classes."""


@dataclass(frozen=True)
class Line:
    """A part of the cost."""

    name: str
    count: int
    passes: Passes
    seconds: float


@dataclass(frozen=True)
class Speed:
    """Seconds that one image takes."""

    forward: float
    inputs: float
    """Forward and the gradient of the image."""
    weights: float
    """Forward and the gradient of the weights."""

    def seconds(self, passes: Passes) -> float:
        """Return how long passes take: each gradient has a forward pass of its own, which is counted, too."""
        backward = passes.inputs * (self.inputs - self.forward) + passes.weights * (self.weights - self.forward)
        return passes.forward * self.forward + max(backward, 0.0)


def estimate(items: Sequence[Item], registry: Registry, calibration: float = MINUTE) -> list[Line]:
    """Return the cost of what is not finished: a line for each defense's trainings and for each attack.

    Networks are timed on this machine's device, all of them together for about ``calibration`` seconds. Attacks are
    counted as if they broke nothing, which is the most they can cost; curves, and what defenses do between epochs, are
    left out.

    Raises:
        UsageError: the parts of a cell do not fit.
    """
    open_items = [item for item in items if not isinstance(item.outcome, Done)]
    plans = [(item, _plan(item.spec, registry)) for item in open_items]
    store = Store.default()
    speeds = _measured({_network(plan): plan for _, plan in plans}, calibration)
    trained: dict[str, tuple[str, Passes, float]] = {}
    attacked: list[tuple[str, Passes, float]] = []
    for item, plan in plans:
        speed = speeds[_network(plan)]
        if isinstance(plan, Plan):
            for key, name, training in _trainings(item, plan, store):
                passes = training_passes(training)
                trained[key] = (name, passes, speed.seconds(passes))
        n = min(plan.settings.limit or plan.dataset.sizes["test"], plan.dataset.sizes["test"])
        for planned in plan.attacks:
            passes = attack_passes(planned.attack, plan.threat, plan.dataset.shape, len(plan.dataset.classes)) * n
            passes += Passes(forward=2.0 * n)  # clean, and the verdict
            attacked.append((f"{planned.label} on {plan.dataset.name}", passes, speed.seconds(passes)))
    return [*_lines(trained.values()), *_lines(attacked)]


def _trainings(item: Item, plan: Plan, store: Store) -> Iterator[tuple[str, str, Plan]]:
    """Yield key, name and plan of what has to be trained for a cell; where its data are missing, its own network."""
    on = plan.dataset.name
    if item.identity is None:
        yield f"{item.spec.defense} {item.spec.dataset} {item.spec.seed}", f"train {item.spec.defense} on {on}", plan
        return
    for training in item.identity.trainings:
        if not store.holds(training.key):
            own = training.role == "own"
            name = str(item.spec.defense) if own else f"standard as {training.role}"
            # Teachers and substitutes are standard networks; that of a substitute may be another backbone.
            yield training.key, f"train {name} on {on}", plan if own else replace(plan, defense=Standard(), every=None)


def _plan(spec: RunSpec, registry: Registry) -> EvaluationPlan:
    return make_plan(spec, registry) if spec.defense else plan_evaluation(spec, spec.dataset, registry)


def _lines(parts: Iterable[tuple[str, Passes, float]]) -> list[Line]:
    lines: dict[str, Line] = {}
    for name, passes, seconds in parts:
        before = lines.get(name, Line(name, 0, Passes(), 0.0))
        lines[name] = Line(name, before.count + 1, before.passes + passes, before.seconds + seconds)
    return list(lines.values())


def _backbone(plan: EvaluationPlan) -> Backbone:
    """Return the network of a plan; of a checkpoint, which may bring any, the dataset's default."""
    if isinstance(plan, Plan):
        return plan.backbone
    return plan.registry.backbone(plan.dataset.backbone)()


def _network(plan: EvaluationPlan) -> Network:
    backbone = _backbone(plan)
    return f"{backbone.name} {backbone.model_dump_json()}", plan.dataset.shape, len(plan.dataset.classes)


def _measured(networks: Mapping[Network, EvaluationPlan], calibration: float) -> dict[Network, Speed]:
    share = calibration / max(len(networks), 1) / 3
    return {network: _speed(plan, share) for network, plan in networks.items()}


def _speed(plan: EvaluationPlan, seconds: float) -> Speed:
    """Time the three kinds of passes of a network, each for so many seconds or three batches."""
    (channels, size), classes = plan.dataset.shape, len(plan.dataset.classes)
    with torch.random.fork_rng(devices=[]):
        features = _backbone(plan).build(channels=channels, size=size)
        model = moved_to(Classifier(features, torch.nn.Linear(features.width, classes)), plan.device)
        x = torch.rand(BATCH, channels, size, size, device=plan.device)
    parameters = list(model.parameters())

    def forward() -> None:
        with torch.no_grad():
            model.eval()(x)

    def inputs() -> None:
        leaf = x.clone().requires_grad_()
        model.eval().requires_grad_(False)
        torch.autograd.grad(model(leaf).sum(), leaf)
        model.requires_grad_(True)

    def weights() -> None:
        torch.autograd.grad(model.train()(x).sum(), parameters)

    timed = [_time(work, seconds, plan.device) / BATCH for work in (forward, inputs, weights)]
    return Speed(*timed)


def _time(work: Callable[[], None], seconds: float, device: torch.device) -> float:
    """Return the median time of a batch after one that warms up."""
    times: list[float] = []
    work()
    _wait(device)
    began = time.perf_counter()
    while len(times) < 3 or time.perf_counter() - began < seconds:
        before = time.perf_counter()
        work()
        _wait(device)
        times.append(time.perf_counter() - before)
    return sorted(times)[len(times) // 2]


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
