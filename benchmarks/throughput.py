"""What two settings of cwbench are worth: keeping freed memory in the process, and channels last.

    python benchmarks/throughput.py

Input gradients per second of the 4-layer MNIST CNN, each of the four combinations in fresh processes, in turn.
"""

import statistics
import subprocess
import sys
import time
from itertools import product

import torch

from cwbench.api import frozen
from cwbench.backbones.mnist_cnn import MnistCNN
from cwbench.internal.malloc import keep_freed_memory

BATCH, SECONDS, ROUNDS = 256, 2.0, 5
VARIANTS = list(product(("default", "kept"), ("contiguous", "channels_last")))


def images_per_second(layout: str) -> float:
    """Return the rate of forward and input-gradient passes."""
    network = MnistCNN().build(channels=1, size=28).eval()
    if layout == "channels_last":
        network = network.to(memory_format=torch.channels_last)
    x = torch.rand(BATCH, 1, 28, 28).requires_grad_()
    with frozen(network):
        torch.autograd.grad(network(x).sum(), x)
        began, passes = time.perf_counter(), 0
        while time.perf_counter() - began < SECONDS:
            torch.autograd.grad(network(x).sum(), x)
            passes += 1
        return passes * BATCH / (time.perf_counter() - began)


def main() -> None:
    """Print the medians and their ratio to the first variant."""
    if len(sys.argv) > 1:
        if sys.argv[1] == "kept":
            keep_freed_memory()
        print(images_per_second(sys.argv[2]))
        return
    rates: dict[tuple[str, str], list[float]] = {variant: [] for variant in VARIANTS}
    for _ in range(ROUNDS):
        for variant in VARIANTS:
            result = subprocess.run([sys.executable, __file__, *variant], capture_output=True, text=True, check=True)
            rates[variant].append(float(result.stdout))
    base = statistics.median(rates[VARIANTS[0]])
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads, batch {BATCH}, {ROUNDS} rounds")
    for (memory, layout), found in rates.items():
        median = statistics.median(found)
        print(f"memory {memory}, {layout}: {median:.0f} images per second, ratio of medians {median / base:.2f}")


if __name__ == "__main__":
    main()
