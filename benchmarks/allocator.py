"""How much keeping freed memory in the process is worth: input gradients per second with and without.

python benchmarks/allocator.py
"""

import statistics
import subprocess
import sys
import time

import torch

from cwbench.allocator import keep_freed_memory
from cwbench.backbones.mnist_cnn import MnistCNN
from cwbench.model import frozen

BATCH, SECONDS, ROUNDS = 256, 2.0, 5


def images_per_second() -> float:
    """Return the rate of forward and input-gradient passes of the 4-layer MNIST CNN, channels last."""
    network = MnistCNN().build(channels=1, size=28).to(memory_format=torch.channels_last).eval()
    x = torch.rand(BATCH, 1, 28, 28).requires_grad_()
    with frozen(network):
        torch.autograd.grad(network(x).sum(), x)
        began, passes = time.perf_counter(), 0
        while time.perf_counter() - began < SECONDS:
            torch.autograd.grad(network(x).sum(), x)
            passes += 1
        return passes * BATCH / (time.perf_counter() - began)


def main() -> None:
    """Alternate fresh processes with and without, and print the medians and their ratio."""
    if len(sys.argv) > 1:
        if sys.argv[1] == "kept":
            keep_freed_memory()
        print(images_per_second())
        return
    rates: dict[str, list[float]] = {"default": [], "kept": []}
    for _ in range(ROUNDS):
        for name, found in rates.items():
            result = subprocess.run([sys.executable, __file__, name], capture_output=True, text=True, check=True)
            found.append(float(result.stdout))
    medians = {name: statistics.median(found) for name, found in rates.items()}
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads, batch {BATCH}, {ROUNDS} rounds")
    print(f"images per second: default {medians['default']:.0f}, kept {medians['kept']:.0f}")
    print(f"ratio of medians: {medians['kept'] / medians['default']:.2f}")


if __name__ == "__main__":
    main()
