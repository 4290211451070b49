"""How the cost of an evaluation grows with the number of examples and of classes: seconds and peak memory.

    python benchmarks/attack_scaling.py

Images (3×32×32) are made when they are asked for, as a streaming dataset does; kept, 10,000 of them would take 117
MiB. Each row is a fresh process. The model is a small convolutional network with random weights, the attack PGD-5.
"""

import json
import resource
import subprocess
import sys
import time

import torch
from torch import Tensor, nn

from cwbench.api import Examples, make_threat
from cwbench.attacks.pgd import PGD
from cwbench.evaluation.harness import evaluate
from cwbench.plan import PlannedAttack
from cwbench.report.counts import confusion
from cwbench.spec import EvaluationSettings

ROWS = [(1000, 10), (2000, 10), (5000, 10), (10_000, 10), (2000, 100), (2000, 1000)]


class Made(Examples):
    """Smooth images that depend on nothing but their number, labelled by the model itself."""

    def __init__(self, n: int, model: nn.Module) -> None:
        self.grid = torch.linspace(0, 6, 3 * 32 * 32)
        with torch.no_grad():
            self.labels = torch.cat([model(self.images(rows)).argmax(1) for rows in torch.arange(n).split(250)])

    def images(self, rows: Tensor) -> Tensor:
        return (0.5 + 0.5 * torch.sin(rows[:, None] + self.grid * (1 + rows[:, None] % 17))).reshape(-1, 3, 32, 32)


def measure(n: int, classes: int) -> dict[str, float]:
    """Evaluate once and return seconds and the growth of peak memory in MiB."""
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(3, 16, 3, stride=2),
        nn.ReLU(),
        nn.Conv2d(16, 32, 3, stride=2),
        nn.ReLU(),
        nn.Flatten(),
        nn.LazyLinear(classes),
    ).eval()
    examples = Made(n, model)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    began = time.perf_counter()
    outcomes = evaluate(
        model,
        examples,
        [PlannedAttack("pgd", PGD(steps=5, step_size=0.001, early_stop=False))],
        ids=torch.arange(n),
        classes=classes,
        threat=make_threat("Linf", "0.001"),
        settings=EvaluationSettings(device="cpu", batch_size=250, precision="fp32"),
    )
    counts = confusion(outcomes.labels, outcomes.attacks[0].predictions, classes)
    assert sum(map(sum, counts)) == n  # noqa: S101 - a benchmark of something wrong is none
    seconds = time.perf_counter() - began
    return {"seconds": seconds, "MiB": (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024}


def main() -> None:
    """Print the table."""
    if len(sys.argv) > 1:
        print(json.dumps(measure(int(sys.argv[1]), int(sys.argv[2]))))
        return
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads, PGD-5, batches of 250, median of 3")
    print("| examples | classes | seconds | milliseconds each | growth of peak memory, MiB |")
    print("| ---: | ---: | ---: | ---: | ---: |")
    for n, classes in ROWS:
        command = [sys.executable, __file__, str(n), str(classes)]
        runs = [
            json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout) for _ in range(3)
        ]
        seconds, memory = (sorted(run[key] for run in runs)[1] for key in ("seconds", "MiB"))
        print(f"| {n:,} | {classes:,} | {seconds:.2f} | {1000 * seconds / n:.2f} | {memory:.0f} |", flush=True)


if __name__ == "__main__":
    main()
