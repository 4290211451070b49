"""Calling an attack, and refusing what it returns or leaves behind that it must not."""

from dataclasses import dataclass

import torch
from torch import Tensor

from cwbench.api import Attack, Budget, ExampleStreams, Threat, global_random_state, modules
from cwbench.evaluation.counted_model import CountedModel
from cwbench.evaluation.verdict import Judge
from cwbench.internal.errors import CwbenchError
from cwbench.internal.progress import Ticks
from cwbench.plan import PlannedAttack


@dataclass(frozen=True)
class Networks:
    """What an attack may look at."""

    target: CountedModel
    """The model, or the copy of it that is searched on."""
    substitute: CountedModel | None
    """What a transfer attack uses in its place."""
    substitute_digest: str | None

    @property
    def counted(self) -> list[CountedModel]:
        """Those whose passes the attack pays for; the target comes first."""
        return [self.target, *([self.substitute] if self.substitute else [])]


@dataclass
class AttackGuard:
    """Owns what an attack is given, and looks at the model before and after."""

    judge: Judge
    threat: Threat
    seed: int
    device: torch.device
    confirmed: int = 0
    """Images that were passed to confirm what attacks claimed."""

    def perturb(
        self, planned: PlannedAttack, x: Tensor, y: Tensor, ids: Tensor, networks: Networks, ticks: Ticks
    ) -> Tensor:
        """Return an attack's candidates for some images, checked against ball and box.

        Args:
            planned: the attack.
            x: images (n, C, H, W) on the device.
            y: labels (n,) on the device.
            ids: the numbers of the examples in the split, (n,): their random numbers belong to them.
            networks: what the attack may look at.
            ticks: the progress of this pool.

        Raises:
            CwbenchError: the attack changes the model or the global random state, or returns something else than images
                of ball and box.
        """
        attack, target = planned.attack, networks.target
        budget = Budget(self.judge.batch_size, ticks if attack.pooled else _no_tick, self._confirm, networks.substitute)
        streams = ExampleStreams.of(self.seed, ids).child("attack", attack.name)
        before, randomness = self._state(networks), global_random_state(self.device)
        target.watch()
        candidates = attack.perturb(target, x.clone(), y.clone(), threat=self.threat, streams=streams, budget=budget)
        self._refuse_changes(attack, before, self._state(networks))
        if not target.draws_global_randomness and global_random_state(self.device) != randomness:
            raise CwbenchError(
                f"attack {attack.name} changed the global random state", "an attack must draw from its streams"
            )
        if not attack.pooled:
            ticks(len(x))
        return self.judge.checked(planned, candidates, x, ids)

    def _confirm(self, x: Tensor) -> Tensor:
        """Return the verdict on candidates of an attack under way, on their device."""
        self.confirmed += len(x)
        return self.judge.confirm(x)

    def _state(self, networks: Networks) -> "_State":
        reached = [module for root in (self.judge.model, *networks.counted) for module in modules(root)]
        parameters = [parameter for module in reached for parameter in module.parameters(recurse=False)]
        buffers = [buffer for module in reached for buffer in module.buffers(recurse=False)]
        return _State(
            modes=[module.training for module in reached],
            requires_grad=[parameter.requires_grad for parameter in parameters],
            weights=[tensor._version for tensor in (*parameters, *buffers)],
        )

    @staticmethod
    def _refuse_changes(attack: Attack, before: "_State", after: "_State") -> None:
        changed = [name for name, old in vars(before).items() if old != getattr(after, name)]
        if changed:
            raise CwbenchError(
                f"attack {attack.name} changed the model's {' and '.join(changed)}",
                "an attack may look at the model, and must leave it as it is",
            )


@dataclass(frozen=True)
class _State:
    """What an attack must not change."""

    modes: list[bool]
    requires_grad: list[bool]
    weights: list[int]
    """PyTorch's own counters of changes in place."""


def _no_tick(finished: int) -> None:
    del finished
