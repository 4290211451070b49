"""WAT: worst-class adversarial training."""

from typing import Annotated, final

import torch
from pydantic import Field

from cwbench.api import Progress, State, Task
from cwbench_fair.classwise import ClasswiseTRADES, HeldOutDefense, measured


@final
class WAT(HeldOutDefense, ClasswiseTRADES):
    """Li & Liu 2023: min over networks of the max over classes of the robust loss, by no-regret dynamics.

    The maximiser plays Hedge over K + 1 choices, the loss of each class and the mean over classes: after epoch t the
    weight of choice k is w_k ∝ exp(η Σ_{s ≤ t} L_k(f_s)), with L_k the mean of CE(z, y) + β KL(p ‖ p′) over the
    held-out examples of class k. The network minimises Σ_k w_k L_k + w_mean (1/K) Σ_k L_k, which over examples of
    balanced classes is the mean of (K w_y + w_mean)(CE + β KL). The first epoch weighs all alike, as equal losses do.
    """

    name = "wat"
    reference = "Li & Liu 2023, WAT: Improve the Worst-class Robustness in Adversarial Training, AAAI"

    eta: Annotated[float, Field(ge=0)] = 0.1
    """η."""

    def prepare(self, task: Task) -> State:
        return {"losses": [0.0] * (len(task.classes) + 1), "weights": [1.0] * len(task.classes)}

    def epoch_begin(self, state: State, progress: Progress) -> State:
        if progress.epoch == 1:
            return state
        found = measured(progress, objective="kl")
        losses = found.clean_loss + self.beta * found.moved
        total = torch.tensor(state["losses"], dtype=torch.float64) + torch.cat([losses, losses.mean()[None]])
        weights, k = torch.softmax(self.eta * total, 0), len(losses)
        return {"losses": total.tolist(), "weights": (k * weights[:k] + weights[k]).tolist()}

    def weights(self, state: State) -> tuple[list[float] | None, list[float] | None, list[float] | None]:
        return state["weights"], state["weights"], None
