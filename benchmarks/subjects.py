"""The networks that the benchmarks attack, trained here because nothing can be downloaded.

    python benchmarks/subjects.py resnet18 adversarial --data ../shared/data --weights weights

``resnet18`` is CIFAR-shaped (3×3 stem, no pooling after it; 11.2 million weights) and learns from the 5,000 training
photographs of ``cifar10-jpeg``: by FGSM from a random start (Wong et al. 2020) at eps 8/255, or by plain training.
``mnist-cnn`` is the 4-layer CNN of TRADES on 12,000 images of MNIST, eps 0.3. Weights are kept and found again.
"""

import argparse
import time
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from cwbench.api import Classifier
from cwbench.backbones.mnist_cnn import MnistCNN


@dataclass(frozen=True)
class Recipe:
    """How a subject is trained, and the threat that it is judged under."""

    eps: float
    steps: int
    step_size: float
    epochs: dict[str, int]
    lr: float


RECIPES = {
    "resnet18": Recipe(8 / 255, 20, 2 / 255, {"adversarial": 16, "standard": 8}, 0.1),
    "mnist-cnn": Recipe(0.3, 40, 0.01, {"adversarial": 6, "standard": 1}, 2e-3),
}


def resnet18() -> nn.Module:
    """Return ResNet-18 with the stem that is customary for 32×32 pixels; normalises inside."""
    from torchvision.models import resnet18 as build  # noqa: PLC0415 - slow to import
    from torchvision.transforms import Normalize  # noqa: PLC0415

    network = build(num_classes=10)
    network.conv1 = nn.Conv2d(3, 64, 3, padding=1, bias=False)
    network.maxpool = nn.Identity()
    return nn.Sequential(Normalize((0.4914, 0.4822, 0.4465), (0.247, 0.243, 0.262)), network)


def mnist_cnn() -> nn.Module:
    """Return the 4-layer CNN of TRADES."""
    features = MnistCNN().build(channels=1, size=28)
    return Classifier(features, nn.Linear(features.width, 10))


def images(network: str, split: str, data: Path) -> tuple[Tensor, Tensor]:
    """Return all images (N, C, H, W) in [0, 1] and labels of a split, in a fixed order that mixes the classes."""
    if network == "mnist-cnn":
        from torchvision.datasets import MNIST  # noqa: PLC0415

        source = MNIST(data, train=split == "train")
        n = 12_000 if split == "train" else 10_000
        return source.data[:n, None].float() / 255, source.targets[:n]
    from torchvision.datasets import ImageFolder  # noqa: PLC0415
    from torchvision.transforms.functional import to_tensor  # noqa: PLC0415

    pairs = [(to_tensor(image), label) for image, label in ImageFolder(data / "cifar10-jpeg" / split)]
    order = torch.randperm(len(pairs), generator=torch.Generator().manual_seed(0))
    x, y = torch.stack([image for image, _ in pairs]), torch.tensor([label for _, label in pairs])
    return x[order], y[order]


def subject(network: str, training: str, *, data: Path, weights: Path) -> nn.Module:
    """Return a trained network in eval mode, from ``weights`` where it was kept there."""
    torch.manual_seed(0)
    model = {"resnet18": resnet18, "mnist-cnn": mnist_cnn}[network]()
    kept = weights / f"{network}-{training}.safetensors"
    if not kept.exists():
        train(model, *images(network, "train", data), RECIPES[network], training)
        weights.mkdir(parents=True, exist_ok=True)
        save_file({name: tensor.contiguous() for name, tensor in model.state_dict().items()}, kept)
    model.load_state_dict(load_file(kept))
    return model.eval()


def train(model: nn.Module, x: Tensor, y: Tensor, recipe: Recipe, training: str) -> None:
    """Train with a one-cycle rate, by SGD or, on MNIST, Adam; ``adversarial`` is FGSM from a uniform start."""
    photographs = x.shape[1] == 3
    epochs, batch = recipe.epochs[training], 128
    model.to(memory_format=torch.channels_last).train()
    if photographs:
        optimizer = torch.optim.SGD(model.parameters(), momentum=0.9, weight_decay=5e-4, nesterov=True, lr=recipe.lr)
    else:
        optimizer = torch.optim.Adam(model.parameters(), lr=recipe.lr)
    steps = epochs * (len(x) // batch)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, recipe.lr, total_steps=steps, pct_start=0.3)
    for epoch in range(epochs):
        began, losses = time.perf_counter(), []
        for rows in torch.randperm(len(x))[: len(x) // batch * batch].split(batch):
            clean = augmented(x[rows]) if photographs else x[rows]
            eps = recipe.eps * min(1.0, (epoch + 1) / max(1, epochs // 3))
            with torch.autocast("cpu", torch.bfloat16, enabled=photographs):
                inputs = clean if training == "standard" else fgsm(model, clean, y[rows], eps)
                loss = F.cross_entropy(model(inputs).float(), y[rows])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            losses.append(loss.item())
        mean = sum(losses) / len(losses)
        print(f"epoch {epoch + 1} of {epochs}: loss {mean:.3f}, {time.perf_counter() - began:.0f} s", flush=True)


def fgsm(model: nn.Module, x: Tensor, y: Tensor, eps: float) -> Tensor:
    """Return one step of 1.25 eps from a uniform point of the ball, projected (Wong et al. 2020)."""
    start = (x + eps * (2 * torch.rand_like(x) - 1)).clamp(0, 1).requires_grad_()
    (gradient,) = torch.autograd.grad(F.cross_entropy(model(start).float(), y), start)
    moved = start.detach() + 1.25 * eps * gradient.sign()
    return torch.minimum(torch.maximum(moved, x - eps), x + eps).clamp(0, 1)


def augmented(x: Tensor) -> Tensor:
    """Crop from four pixels of padding and flip, one draw for each image."""
    n, _, height, width = x.shape
    flipped = torch.where((torch.rand(n) < 0.5)[:, None, None, None], x.flip(3), x)
    padded = F.pad(flipped, (4, 4, 4, 4))
    down, right = (torch.randint(0, 9, (n,)) for _ in range(2))
    rows = (down[:, None] + torch.arange(height))[:, None, :, None]
    columns = (right[:, None] + torch.arange(width))[:, None, None, :]
    return padded[torch.arange(n)[:, None, None, None], torch.arange(x.shape[1])[None, :, None, None], rows, columns]


def main() -> None:
    """Train one subject and say how accurate it is."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("network", choices=RECIPES)
    parser.add_argument("training", choices=["adversarial", "standard"])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--weights", type=Path, default=Path("weights"))
    given = parser.parse_args()
    model = subject(given.network, given.training, data=given.data, weights=given.weights)
    x, y = images(given.network, "test", given.data)
    recipe = RECIPES[given.network]
    with torch.no_grad():
        clean = torch.cat([model(part).argmax(1) for part in x[:1000].split(100)]) == y[:1000]
    moved = torch.cat(
        [fgsm(model, a, b, recipe.eps) for a, b in zip(x[:1000].split(100), y[:1000].split(100), strict=True)]
    )
    with torch.no_grad():
        robust = torch.cat([model(part).argmax(1) for part in moved.split(100)]) == y[:1000]
    print(f"clean {clean.float().mean():.3f}, one step {(clean & robust).float().mean():.3f} of 1,000 test images")


if __name__ == "__main__":
    main()
