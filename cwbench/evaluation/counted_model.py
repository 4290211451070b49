"""The model as attacks see it: images in, logits out, every pass counted and every gradient looked at."""

from typing import final

import torch
from torch import Tensor, nn

from cwbench.api import Model, global_random_state, no_gradient
from cwbench.internal.errors import CwbenchError
from cwbench.internal.out_of_memory import out_of_memory

WATCHED = 8
"""In how many passes of a pool a model is watched for draws: looking costs more than a small network's pass."""


@final
class CountedModel(nn.Module):
    """Counts the images that pass forward and backward."""

    def __init__(self, model: Model) -> None:
        super().__init__()
        self.model = model
        self.forward_passes = 0
        self.backward_passes = 0
        self.watch()
        self.training = False

    def forward(self, x: Tensor) -> Tensor:
        self.forward_passes += len(x)
        before = global_random_state(x.device) if self.watched_passes else None
        logits = self._logits(x)
        if before is not None:
            self.watched_passes -= 1
            self.draws_global_randomness |= global_random_state(x.device) != before
        if x.requires_grad and torch.is_grad_enabled() and isinstance(logits, Tensor):
            if not logits.requires_grad:
                raise no_gradient("does the model detach, round or run under no_grad?")
            logits.register_hook(self._count_backward)
            x.register_hook(_refuse_bad_gradient)
        return logits

    def _logits(self, x: Tensor) -> Tensor:
        try:
            # A clone, because a model may work in place, and these are the attack's iterates or the caller's images.
            return self.model(x.clone())
        except (RuntimeError, TypeError, NotImplementedError) as error:
            # It has judged the clean images, so what it cannot do is follow the gradient: .numpy() is such a step.
            if out_of_memory(error) or not (x.requires_grad and torch.is_grad_enabled()):
                raise
            raise no_gradient(error) from error

    def watch(self) -> None:
        """Look anew whether the model draws from the global random state, for which the attack is not to blame."""
        self.draws_global_randomness = False
        self.watched_passes = WATCHED

    def _count_backward(self, gradient: Tensor) -> None:
        self.backward_passes += len(gradient)

    @property
    def passes(self) -> tuple[int, int]:
        """Images sent forward and backward so far."""
        return self.forward_passes, self.backward_passes


def _refuse_bad_gradient(gradient: Tensor) -> None:
    # The sign of NaN is 0: a signed attack would stand still, and its failure would pass for robustness.
    bad = ~gradient.flatten(1).isfinite().all(1)
    if bad.any():
        raise CwbenchError(
            f"the model's gradient is not finite for {int(bad.sum())} of {len(bad)} images in a batch",
            "a gradient of NaN or infinity makes an attack fail and looks like robustness",
        )
