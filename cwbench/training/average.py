"""Weights averaged over a training."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from cwbench.api import EMA, Averaging, EpochEMA, Mean


class Average:
    """A running mean of weights and of batch norm's statistics; other buffers, such as a temperature, are the last."""

    def __init__(self, kind: Averaging | None, epochs: int) -> None:
        self.kind = kind
        self.epochs = epochs
        self.tensors: dict[str, Tensor] = {}
        self.taken = 0
        """How many models the mean is of."""

    def after_step(self, model: nn.Module) -> None:
        if isinstance(self.kind, EMA):
            # Bias of the first steps: the plain mean until it has seen as many as the decay remembers.
            self._take(model, max(1 - self.kind.decay, 1 / (self.taken + 1)))

    def wants(self, epoch: int) -> bool:
        """Tell whether it is one over epochs, and has begun at this one."""
        return isinstance(self.kind, Mean | EpochEMA) and epoch > self.kind.after * self.epochs

    def after_epoch(self, model: nn.Module) -> None:
        """Take the end of an epoch that it wants."""
        decay = self.kind.decay if isinstance(self.kind, EpochEMA) and self.taken else self.taken / (self.taken + 1)
        self._take(model, 1 - decay)

    def weights(self, model: nn.Module) -> Mapping[str, Tensor]:
        """Return the state to judge: the mean if there is one, else that of the model itself."""
        return {name: self.tensors.get(name, tensor).clone() for name, tensor in model.state_dict().items()}

    @torch.no_grad()
    def _take(self, model: nn.Module, share: float) -> None:
        averaged = _averaged(model)
        if self.taken:
            torch._foreach_lerp_([self.tensors[name] for name in averaged], list(averaged.values()), share)
        else:
            self.tensors = {name: tensor.clone() for name, tensor in averaged.items()}
        self.taken += 1


def running_statistics(model: nn.Module) -> dict[str, Tensor]:
    """Return the means and variances that batch norm has seen, by their names in the model's state."""
    norms = [(name, m) for name, m in model.named_modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
    found = {f"{name}.{kind}": getattr(m, kind) for name, m in norms for kind in ("running_mean", "running_var")}
    return {name: tensor for name, tensor in found.items() if tensor is not None}


def _averaged(model: nn.Module) -> dict[str, Tensor]:
    weights = {name: parameter.detach() for name, parameter in model.named_parameters()}
    return weights | running_statistics(model)
