"""How fast attacks are, beside other tools in one run: seconds, passes per example, and robust accuracy.

    pip install -e '.[peers]'
    python benchmarks/attack_speed.py pgd --network resnet18 --training adversarial --data ../shared/data
    python benchmarks/attack_speed.py autoattack --network mnist-cnn --n 40 --data ../shared/data
    python benchmarks/attack_speed.py nattack --network mnist-cnn --n 8 --data ../shared/data
    python benchmarks/attack_speed.py arithmetic --network resnet18 --data ../shared/data

Every tool attacks the same images, all of them classified correctly, in batches of the same size, and the tools take
turns; what is printed are medians over the rounds and ratios of medians. Times of the peers are those of the attack
and one pass to judge what it returns, ours those of the whole evaluation with its clean pass, checks and verdict.
"""

import argparse
import copy
import statistics
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import torch
from subjects import RECIPES, images, subject
from torch import Tensor, nn

from cwbench.api import (
    Attack,
    Budget,
    ExampleStreams,
    TensorExamples,
    evaluating,
    frozen,
    make_threat,
    value_and_gradient,
)
from cwbench.attacks.autoattack import AutoAttack
from cwbench.attacks.nattack import NAttack
from cwbench.attacks.pgd import PGD
from cwbench.evaluation.counted_model import CountedModel
from cwbench.evaluation.harness import evaluate
from cwbench.evaluation.outcomes import Tools
from cwbench.evaluation.search_copy import make_search_copy
from cwbench.internal.malloc import keep_freed_memory
from cwbench.plan import PlannedAttack
from cwbench.spec import EvaluationSettings

STEPS, RELATIVE_STEP = 20, 0.25  # of eps
Tool = Callable[[nn.Module, Tensor, Tensor], float]
"""Attacks images and returns robust accuracy."""


class Counted(nn.Module):
    """A model that counts the images that pass forward and backward."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model
        self.forward_passes = self.backward_passes = 0

    def forward(self, x: Tensor) -> Tensor:
        self.forward_passes += len(x)
        logits: Tensor = self.model(x)
        if logits.requires_grad and x.requires_grad:
            logits.register_hook(self.count)
        return logits

    def count(self, gradient: Tensor) -> None:
        self.backward_passes += len(gradient)


def ours(attack: Attack, eps: float, batch: int, precision: str) -> Tool:
    """Evaluate with cwbench."""

    def run(model: nn.Module, x: Tensor, y: Tensor) -> float:
        outcomes = evaluate(
            model.model,  # it counts by itself
            TensorExamples(x, y),
            [PlannedAttack(attack.name, attack)],
            ids=torch.arange(len(x)),
            classes=10,
            threat=make_threat("Linf", eps),
            settings=EvaluationSettings(device="cpu", batch_size=batch, precision=precision),
            tools=Tools(look_for_masking=False),
        )
        cost = outcomes.attacks[0].cost
        model.forward_passes += cost.forward + len(x) + cost.examples  # the clean pass and the verdict
        model.backward_passes += cost.backward
        return float((outcomes.attacks[0].predictions == outcomes.labels).mean())

    return run


def judged(candidates: Callable[[nn.Module, Tensor, Tensor], Tensor], batch: int) -> Tool:
    """Run a peer batch by batch, as its documentation does, and judge what it returns."""

    def run(model: nn.Module, x: Tensor, y: Tensor) -> float:
        found = torch.cat([candidates(model, a, b) for a, b in zip(x.split(batch), y.split(batch), strict=True)])
        with torch.no_grad():
            right = [model(a).argmax(1) == b for a, b in zip(found.split(batch), y.split(batch), strict=True)]
        return float(torch.cat(right).double().mean())

    return run


def pgd_tools(eps: float, batch: int) -> dict[str, Tool]:
    """PGD-20 from a random start: ours as it is and as the textbook has it, and three peers."""
    import foolbox  # noqa: PLC0415
    import torchattacks  # noqa: PLC0415
    from art.attacks.evasion import ProjectedGradientDescentPyTorch  # noqa: PLC0415
    from art.estimators.classification import PyTorchClassifier  # noqa: PLC0415

    step = RELATIVE_STEP * eps

    def by_torchattacks(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
        found: Tensor = torchattacks.PGD(model, eps=eps, alpha=step, steps=STEPS)(x, y)
        return found

    def by_foolbox(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
        wrapped = foolbox.PyTorchModel(model, bounds=(0, 1), device="cpu")
        found: Tensor = foolbox.attacks.LinfPGD(abs_stepsize=step, steps=STEPS)(wrapped, x, y, epsilons=eps)[1]
        return found

    def by_art(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
        classifier = PyTorchClassifier(
            model, nn.CrossEntropyLoss(), tuple(x.shape[1:]), 10, clip_values=(0, 1), device_type="cpu"
        )
        attack = ProjectedGradientDescentPyTorch(
            classifier, eps=eps, eps_step=step, max_iter=STEPS, num_random_init=1, batch_size=batch, verbose=False
        )
        return torch.from_numpy(attack.generate(x.numpy(), y.numpy()))

    attack, textbook = (PGD(steps=STEPS, step_size=step, early_stop=early) for early in (True, False))
    return {
        "cwbench fp32": ours(attack, eps, batch, "fp32"),
        "cwbench bf16": ours(attack, eps, batch, "bf16"),
        "cwbench fp32, early_stop=false": ours(textbook, eps, batch, "fp32"),
        "torchattacks": judged(by_torchattacks, batch),
        "foolbox": judged(by_foolbox, batch),
        "ART": judged(by_art, batch),
    }


def autoattack_tools(eps: float, batch: int) -> dict[str, Tool]:
    """The cascade of four at the official settings."""
    import pyautoattack  # noqa: PLC0415

    def by_authors(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
        attack = pyautoattack.AutoAttack(model, norm="Linf", eps=eps, version="standard", seed=0, device="cpu")
        found = attack.run_standard_evaluation(x, y, batch_size=batch)
        return found[0] if isinstance(found, tuple) else found

    return {
        "cwbench fp32": ours(AutoAttack(), eps, batch, "fp32"),
        "cwbench bf16": ours(AutoAttack(), eps, batch, "bf16"),
        "pyautoattack": judged(by_authors, 10**9),  # it splits by itself
    }


def nattack_tools(eps: float, batch: int) -> dict[str, Tool]:
    """N Attack with 30 iterations, and a loop over single examples with the same queries, as the authors' script is."""
    attack = NAttack(iterations=30)

    def one_by_one(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
        return torch.cat([single(model, image, label) for image, label in zip(x, y.tolist(), strict=True)])

    def single(model: nn.Module, x: Tensor, y: int) -> Tensor:
        centre = torch.atanh((2 * x - 1) * (1 - 1e-6))
        mean = 0.001 * torch.randn_like(x)
        with torch.no_grad():
            for _ in range(attack.iterations):
                noise = torch.randn(attack.population, *x.shape)
                people = (torch.tanh(centre + mean + attack.sigma * noise) + 1) / 2
                people = torch.minimum(torch.maximum(people, x - eps), x + eps).clamp(0, 1)
                logits = model(people)
                truth = logits[:, y].clone()
                logits[:, y] = -torch.inf
                reward = logits.amax(1) - truth
                if reward.max() > 0:
                    return people[reward.argmax()][None]
                fitness = (reward - reward.mean()) / (reward.std(correction=0) + 1e-7)
                mean += attack.learning_rate / attack.sigma * (fitness[:, None, None, None] * noise).mean(0)
        return people[:1]

    return {
        "cwbench fp32": ours(attack, eps, batch, "fp32"),
        "cwbench bf16": ours(attack, eps, batch, "bf16"),
        "one example at a time": judged(one_by_one, 10**9),
    }


TOOLS = {"pgd": pgd_tools, "autoattack": autoattack_tools, "nattack": nattack_tools}


def compare(tools: dict[str, Tool], model: nn.Module, x: Tensor, y: Tensor, rounds: int) -> None:
    """Let the tools take turns, and print what each spent and reached."""
    seconds: dict[str, list[float]] = {name: [] for name in tools}
    passes: dict[str, tuple[float, float]] = {}
    robust: dict[str, float] = {}
    for number in range(rounds):
        for name, tool in tools.items():
            # A copy of its own: some tools switch modes, and batch norm would learn from adversarial examples.
            counted = Counted(copy.deepcopy(model)).eval()
            began = time.perf_counter()
            robust[name] = tool(counted, x, y)
            seconds[name].append(time.perf_counter() - began)
            passes[name] = counted.forward_passes / len(x), counted.backward_passes / len(x)
            print(f"round {number + 1}: {name}: {seconds[name][-1]:.1f} s", flush=True)
    base = statistics.median(seconds["cwbench fp32"])
    print("\n| tool | seconds, median | as many times cwbench fp32 | forward, backward each | robust accuracy |")
    print("| --- | ---: | ---: | ---: | ---: |")
    for name, found in seconds.items():
        median, (forward, backward) = statistics.median(found), passes[name]
        shares = f"{forward:,.1f}, {backward:,.1f} | {100 * robust[name]:.1f} %"
        print(f"| {name} | {median:.1f} | {median / base:.2f} | {shares} |")


def arithmetic(model: nn.Module, x: Tensor, y: Tensor, eps: float, batch: int, rounds: int) -> None:
    """Compare the attack's rate of forward and gradient passes with that of a bare loop over the same network."""
    threat = make_threat("Linf", eps)
    x, y = x[:batch].repeat(2, 1, 1, 1), y[:batch].repeat(2)
    attack = PGD(steps=STEPS, step_size=RELATIVE_STEP * eps, early_stop=False)
    with evaluating(model), frozen(model):
        search = make_search_copy(model, x, y, threat, "fp32").model
        streams = ExampleStreams.of(0, torch.arange(len(x)))
        rates: dict[str, list[float]] = {"bare, the given model": [], "bare, the prepared copy": [], "attack": []}
        for _ in range(rounds):
            for name, network in (("bare, the given model", model), ("bare, the prepared copy", search)):
                began = time.perf_counter()
                for _ in range(STEPS):
                    value_and_gradient(network, lambda z, rows: z.amax(1), x[:batch], torch.arange(batch))
                rates[name].append(STEPS * batch / (time.perf_counter() - began))
            began = time.perf_counter()
            attack.perturb(CountedModel(search), x, y, threat=threat, streams=streams, budget=Budget(batch))
            rates["attack"].append(STEPS * len(x) / (time.perf_counter() - began))
    base = statistics.median(rates["bare, the prepared copy"])
    for name, found in rates.items():
        median = statistics.median(found)
        print(f"{name}: {median:,.0f} images forward and backward per second, {median / base:.2f}")


def main() -> None:
    """Run one comparison."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=[*TOOLS, "arithmetic"])
    parser.add_argument("--network", choices=RECIPES, default="resnet18")
    parser.add_argument("--training", choices=["adversarial", "standard"], default="adversarial")
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--weights", type=Path, default=Path("weights"))
    parser.add_argument("--eps", type=float)
    parser.add_argument("--n", type=int, default=100)
    parser.add_argument("--batch", type=int, default=100)
    parser.add_argument("--rounds", type=int, default=3)
    given = parser.parse_args()
    warnings.simplefilter("ignore")  # the peers'
    keep_freed_memory()  # for all of them alike
    eps = given.eps or RECIPES[given.network].eps
    model = subject(given.network, given.training, data=given.data, weights=given.weights)
    model = model.to(memory_format=torch.contiguous_format).requires_grad_(requires_grad=False)
    x, y = (part[:1000] for part in images(given.network, "test", given.data))
    with torch.no_grad():
        right = torch.cat([model(part).argmax(1) for part in x.split(given.batch)]) == y
    x, y = x[right][: given.n], y[right][: given.n]
    print(
        f"{given.what}: {given.training} {given.network}, clean {100 * right.double().mean():.1f} %, eps {eps:.4g}, "
        f"{len(x)} images that it classifies correctly, "
        f"batches of {given.batch}, {given.rounds} rounds, torch {torch.__version__}, {torch.get_num_threads()} threads"
    )
    if given.what == "arithmetic":
        arithmetic(model, x, y, eps, given.batch, given.rounds)
    else:
        compare(TOOLS[given.what](eps, given.batch), model, x, y, given.rounds)


if __name__ == "__main__":
    main()
