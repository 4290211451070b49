"""How fast each defense trains: cwbench's trainer beside a plain loop, in the same run.

    python -m benchmarks.train_speed --backbone mnist-cnn --steps 10 --batch 128 --batches 3 --rounds 3
    python -m benchmarks.train_speed --backbone resnet18 --steps 5 --batch 32 --batches 1 --rounds 2

Prints, for each defense, images per second of the plain loop, ratios of medians for cwbench in fp32 and, where the
processor multiplies bfloat16, bf16; then the time of an epoch over that of standard training, beside the 1 + K that K
inner steps allow, and the share that the inner maximisation has of it.
"""

import argparse
import statistics
import tempfile
import time
from pathlib import Path
from unittest.mock import patch

import torch

from benchmarks import plain_loops
from cwbench.api import (
    SGD,
    ByteExamples,
    CropFlip,
    Dataset,
    Inner,
    Linf,
    MultiStep,
    Recipe,
    TrainingSet,
    adversarial_defense,
)
from cwbench.checkpoints.store import Store
from cwbench.datasets.cifar10 import CIFAR10
from cwbench.datasets.mnist import MNIST
from cwbench.defenses import fast
from cwbench.internal.distributed import ALONE
from cwbench.internal.malloc import keep_freed_memory
from cwbench.plugins.registry import installed
from cwbench.training.fit import Training
from cwbench.training.job import Job

DEVICE = torch.device("cpu")


def trained(dataset: Dataset, examples: ByteExamples, args: argparse.Namespace, defense: str, mixed: bool) -> Training:
    """Return cwbench's training before its first epoch."""
    registry = installed()
    recipe = Recipe(
        epochs=1000,
        batch_size=args.batch,
        lr=1e-3,
        optimizer=SGD(weight_decay=2e-4),
        schedule=MultiStep(),
        inner=(Inner(steps=args.steps, step_size=plain_loops.STEP),),
        augment=CropFlip() if dataset.shape[0] == 3 else None,
    )
    plugin = registry.defense(defense)()
    unlabelled = examples if defense == "rst" else None
    job = Job(
        dataset=dataset,
        data=TrainingSet(examples, unlabelled),
        held_out=None,
        backbone=registry.backbone(args.backbone)(),
        defense=plugin,
        recipe=recipe,
        threat=Linf(eps=str(plain_loops.EPS)),
        inner_scale=1.0,
        seed=0,
        device=DEVICE,
        mixed=mixed,
        processes=1,
        curves=None,
        registry=registry,
    )
    labels = torch.zeros(len(examples), dtype=torch.int64)
    with patch.object(type(plugin), "pseudo_labels", lambda *_, **__: labels):  # a teacher is not what is timed
        return Training.begun(job, Store(Path(tempfile.mkdtemp())), ALONE, None)


def seconds(work: object) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def inner_share(training: Training) -> float:
    """Return the share of an epoch that the inner maximisation takes."""
    spent, real = [0.0], adversarial_defense.ascend

    def timed(*args: object, **options: object) -> torch.Tensor:
        began = time.perf_counter()
        found = real(*args, **options)
        spent[0] += time.perf_counter() - began
        return found

    with patch.object(adversarial_defense, "ascend", timed), patch.object(fast, "ascend", timed):
        whole = seconds(training.run_epoch)
    return spent[0] / whole


def main() -> None:
    """Time every defense and print the ratios."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--backbone", default="mnist-cnn")
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--batches", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--defenses", nargs="*", default=list(plain_loops.LOSSES))
    args = parser.parse_args()
    keep_freed_memory()
    dataset = MNIST() if args.backbone == "mnist-cnn" else CIFAR10()
    channels, size = dataset.shape
    n = args.batch * args.batches
    x = torch.randint(0, 256, (n, channels, size, size), dtype=torch.uint8)
    y = torch.arange(n) % 10
    bf16 = torch.cpu._is_avx512_bf16_supported()
    kinds = ["plain", "fp32", *(["bf16"] if bf16 else [])]
    print(
        f"torch {torch.__version__}, {torch.get_num_threads()} threads, {args.backbone}, batch {args.batch}, ", end=""
    )
    print(f"{args.steps} inner steps, {args.batches} batches an epoch, {args.rounds} rounds after one to warm up\n")
    print(f"{'defense':9} {'plain img/s':>11} {'fp32':>6} {'bf16':>6} {'over standard':>14} {'1 + K':>6} {'inner':>6}")
    standard = None
    for defense in args.defenses:
        ours = {
            mixed: trained(dataset, ByteExamples(x, y), args, defense, mixed) for mixed in (False, True)[: 1 + bf16]
        }
        network = ours[False].job.fresh_classifier()
        optimizer = torch.optim.SGD(network.parameters(), lr=1e-3, momentum=0.9, weight_decay=2e-4)
        batches = plain_loops.loader(x, y, args.batch)
        work = {
            "plain": lambda: plain_loops.epoch(network, optimizer, batches, defense, args.steps),  # noqa: B023
            "fp32": ours[False].run_epoch,
            **({"bf16": ours[True].run_epoch} if bf16 else {}),
        }
        found = {kind: [] for kind in kinds}
        for number in range(args.rounds + 1):
            for kind in kinds:
                spent = seconds(work[kind])
                if number:
                    found[kind].append(spent)
        medians = {kind: statistics.median(values) for kind, values in found.items()}
        standard = medians["fp32"] if defense == "standard" else standard
        ratios = [
            f"{medians['plain'] / medians[kind]:6.2f}" if kind in medians else "     -" for kind in ("fp32", "bf16")
        ]
        allowed = 1 if defense == "standard" else 2 if defense == "fast" else 1 + args.steps
        share = inner_share(ours[False]) if defense != "standard" else 0.0
        over = f"{medians['fp32'] / standard:14.1f}" if standard else f"{'-':>14}"
        print(f"{defense:9} {n / medians['plain']:11.1f} {' '.join(ratios)} {over} ", end="")
        print(f"{allowed:6} {share:6.0%}", flush=True)


if __name__ == "__main__":
    main()
