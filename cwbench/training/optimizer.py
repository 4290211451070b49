"""The optimisers that a recipe can name, and their state as plain tensors."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from cwbench.api import SGD, Recipe


def make_optimizer(recipe: Recipe, model: nn.Module) -> torch.optim.Optimizer:
    """Build the optimiser of a recipe over all parameters; the learning rate is set before each step."""
    kind = recipe.optimizer
    if isinstance(kind, SGD):
        return torch.optim.SGD(
            model.parameters(),
            lr=recipe.lr,
            momentum=kind.momentum,
            weight_decay=kind.weight_decay,
            nesterov=kind.nesterov,
        )
    return torch.optim.Adam(model.parameters(), lr=recipe.lr, weight_decay=kind.weight_decay)


def state_of(optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """Return the optimiser's tensors under names such as ``3.momentum_buffer``."""
    return {
        f"{index}.{name}": tensor
        for index, entry in optimizer.state_dict()["state"].items()
        for name, tensor in entry.items()
        if isinstance(tensor, Tensor)
    }


def restore(optimizer: torch.optim.Optimizer, tensors: Mapping[str, Tensor]) -> None:
    """Put back what :func:`state_of` returned."""
    state: dict[int, dict[str, Tensor]] = {}
    for path, tensor in tensors.items():
        index, _, name = path.partition(".")
        state.setdefault(int(index), {})[name] = tensor
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})
