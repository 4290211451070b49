"""Training loops as the authors' scripts have them: what cwbench's trainer is timed against.

One file of PyTorch for each method, a loader with the usual transforms, images one by one, default memory layout.
What differs between the scripts is kept: TRADES computes its clean output anew at each inner step, HE and the common
ports of Madry take ``loss.backward()`` for the image's gradient and so pay for those of the weights, MART does not.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms

EPS, STEP = 0.031, 0.007


class Pictures(Dataset):
    """Bytes as PIL images through torchvision's transforms."""

    def __init__(self, x: Tensor, y: Tensor) -> None:
        self.x, self.y = x, y
        size = x.shape[-1]
        change = [transforms.RandomCrop(size, padding=4), transforms.RandomHorizontalFlip()] if x.shape[1] == 3 else []
        self.change = transforms.Compose([transforms.ToPILImage(), *change, transforms.ToTensor()])

    def __len__(self) -> int:
        return len(self.x)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return self.change(self.x[index]), int(self.y[index])


def loader(x: Tensor, y: Tensor, batch: int) -> DataLoader:
    """Return the loader that the scripts have."""
    return DataLoader(Pictures(x, y), batch_size=batch, shuffle=True, num_workers=1)


def pgd(model: nn.Module, x: Tensor, objective: object, *, steps: int, start: Tensor, weights: bool) -> Tensor:
    """Return the last iterate; with ``weights`` the gradient comes from ``backward``, for the weights, too."""
    adversarial = start.detach()
    for _ in range(steps):
        adversarial.requires_grad_()
        loss = objective(model, adversarial)
        if weights:
            loss.backward()
            gradient = adversarial.grad
        else:
            (gradient,) = torch.autograd.grad(loss, [adversarial])
        adversarial = adversarial.detach() + STEP * torch.sign(gradient.detach())
        adversarial = torch.min(torch.max(adversarial, x - EPS), x + EPS)
        adversarial = torch.clamp(adversarial, 0.0, 1.0)
    return adversarial.detach()


def near(x: Tensor) -> Tensor:
    return x + 0.001 * torch.randn(x.shape)


def standard_loss(model: nn.Module, x: Tensor, y: Tensor, steps: int) -> Tensor:
    del steps
    return F.cross_entropy(model(x), y)


def madry_loss(model: nn.Module, x: Tensor, y: Tensor, steps: int) -> Tensor:
    model.eval()
    start = x + torch.zeros_like(x).uniform_(-EPS, EPS)
    adversarial = pgd(model, x, lambda m, z: F.cross_entropy(m(z), y), steps=steps, start=start, weights=True)
    model.train()
    return F.cross_entropy(model(adversarial), y)


def fast_loss(model: nn.Module, x: Tensor, y: Tensor, steps: int) -> Tensor:
    del steps
    delta = torch.zeros_like(x).uniform_(-EPS, EPS).requires_grad_()
    F.cross_entropy(model(x + delta), y).backward()
    delta = torch.clamp(delta + 1.25 * EPS * torch.sign(delta.grad), -EPS, EPS).detach()
    model.zero_grad()
    return F.cross_entropy(model(torch.clamp(x + delta, 0, 1)), y)


def trades_loss(model: nn.Module, x: Tensor, y: Tensor, steps: int) -> Tensor:
    def objective(m: nn.Module, z: Tensor) -> Tensor:
        return F.kl_div(F.log_softmax(m(z), dim=1), F.softmax(m(x), dim=1), reduction="sum")

    model.eval()
    adversarial = pgd(model, x, objective, steps=steps, start=near(x), weights=False)
    model.train()
    natural = F.cross_entropy(model(x), y)
    robust = F.kl_div(F.log_softmax(model(adversarial), dim=1), F.softmax(model(x), dim=1), reduction="sum") / len(x)
    return natural + 6.0 * robust


def mart_loss(model: nn.Module, x: Tensor, y: Tensor, steps: int) -> Tensor:
    model.eval()
    adversarial = pgd(model, x, lambda m, z: F.cross_entropy(m(z), y), steps=steps, start=near(x), weights=False)
    model.train()
    logits, attacked = model(x), model(adversarial)
    probabilities, natural = F.softmax(attacked, dim=1), F.softmax(logits, dim=1)
    two = torch.argsort(probabilities, dim=1)[:, -2:]
    rival = torch.where(two[:, -1] == y, two[:, -2], two[:, -1])
    boosted = F.cross_entropy(attacked, y) + F.nll_loss(torch.log(1.0001 - probabilities + 1e-12), rival)
    true = torch.gather(natural, 1, y.unsqueeze(1)).squeeze()
    divergence = F.kl_div(torch.log(probabilities + 1e-12), natural, reduction="none").sum(dim=1)
    return boosted + 5.0 * (divergence * (1.0000001 - true)).mean()


def he_loss(model: nn.Module, x: Tensor, y: Tensor, steps: int) -> Tensor:
    model.eval()
    adversarial = pgd(model, x, lambda m, z: F.cross_entropy(m(z), y), steps=steps, start=near(x), weights=True)
    model.zero_grad()
    model.train()
    return F.cross_entropy(model(adversarial), y)


LOSSES = {
    "standard": standard_loss,
    "madry": madry_loss,
    "trades": trades_loss,
    "mart": mart_loss,
    "rst": trades_loss,
    "he": he_loss,
    "he-lis": he_loss,
    "he-cmp": he_loss,
    "fast": fast_loss,
}
"""By the name of the defense; RST's loop is TRADES's on other batches, and HE's schedules change a number an epoch."""


def epoch(model: nn.Module, optimizer: torch.optim.Optimizer, batches: DataLoader, defense: str, steps: int) -> None:
    """Train one epoch."""
    model.train()
    for x, y in batches:
        loss = LOSSES[defense](model, x, y, steps)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
