"""DAFA: distance-aware fair adversarial training."""

from typing import Annotated, final

import torch
from pydantic import Field
from torch import Tensor

from cwbench.api import Progress, State, Task
from cwbench_fair.classwise import ClasswiseTRADES


@final
class DAFA(ClasswiseTRADES):
    """Lee et al. 2024: loss weight and margin move from easy classes to the hard ones that are similar to them.

    p_i(j) is the mean probability that adversarial training examples of class i are given for class j, over the last
    epoch of the warm-up. Of each two classes the harder, p_i(i) < p_j(j), takes p_i(j) p_j(j) from the easier:
    W_i = 1 + Σ_{j ≠ i} 1[p_i(i) < p_j(j)] p_i(j) p_j(j) − 1[p_i(i) > p_j(j)] p_j(i) p_i(i), and with λ the weight is
    1 + λ (W_i − 1), and not below 0, where a network nearly always names one class and the margin would turn round: the
    paper does not speak of that. From then on training minimises mean W_y CE(z, y) + β KL(p ‖ p′) within W_y ε.

    Probabilities are added up while the epoch is trained, so nothing is held out and no pass over the data is made for
    them.
    """

    name = "dafa"
    reference = "Lee et al. 2024, DAFA: Distance-Aware Fair Adversarial Training, ICLR"

    warmup: Annotated[float, Field(gt=0, lt=1)] = 70 / 110
    """The share of the training that is plain TRADES: 70 of 110 epochs."""
    scale: Annotated[float, Field(ge=0)] = 1.0
    """λ: 1 for CIFAR-10, 1.5 for CIFAR-100 and STL-10."""

    def prepare(self, task: Task) -> State:
        return {"weights": None}

    def epoch_begin(self, state: State, progress: Progress) -> State:
        warm = max(round(self.warmup * progress.epochs), 1)
        if progress.epoch != warm + 1 or not progress.tally:
            return state
        mean = progress.tally["probabilities"] / progress.tally["seen"].clamp_min(1)[:, None]
        return {"weights": weights_of(mean, self.scale).tolist()}

    def weights(self, state: State) -> tuple[list[float] | None, list[float] | None, list[float] | None]:
        return state["weights"], None, state["weights"]

    def tally(self, adversarial_logits: Tensor, y: Tensor) -> dict[str, Tensor]:
        k = adversarial_logits.shape[1]
        onehot = torch.nn.functional.one_hot(y, k).to(adversarial_logits)
        return {"probabilities": onehot.T @ adversarial_logits.softmax(1), "seen": onehot.sum(0)}


def weights_of(mean: Tensor, scale: float) -> Tensor:
    """Return 1 + λ (W_i − 1), at least 0, from p, (K, K) with the true class as row; (K,)."""
    own = mean.diag()
    harder = own[:, None] < own[None, :]
    taken = torch.where(harder, mean * own[None, :], 0)  # taken[i, j]: what i takes from j
    return (1 + scale * (taken.sum(1) - taken.sum(0))).clamp_min(0)
