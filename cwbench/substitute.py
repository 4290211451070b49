"""The networks that transfer attacks use in place of the target."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from cwbench import data
from cwbench.api import Dataset, TrainingSet
from cwbench.checkpoints import Store
from cwbench.defenses.standard import Standard
from cwbench.errors import CwbenchError
from cwbench.evaluation import Substitute
from cwbench.parallel import ALONE, Team
from cwbench.plan import PlannedAttack, dataset_threat
from cwbench.registry import Registry
from cwbench.reproduced import reproduced
from cwbench.spec import validated
from cwbench.training.fit import fit
from cwbench.training.job import Job
from cwbench.training.rebuild import load_classifier, rebuilt


@dataclass(frozen=True)
class Substitutes:
    """Finds, or trains, what an attack asks for."""

    dataset: Dataset | None
    """None for tensors, which have no training data: there a checkpoint must be named."""
    classes: int
    shape: tuple[int, ...]
    """Of an image, (C, H, W)."""
    root: Path | None
    recipe_name: str
    seed: int
    """Of the run: the substitute is trained with the next one, lest it be the target itself."""
    device: torch.device
    registry: Registry
    store: Store
    team: Team = ALONE

    def named(self, attacks: Sequence[PlannedAttack]) -> dict[str | None, Substitute]:
        """Return the checkpoints that attacks name in their field ``substitute``.

        Raises:
            CwbenchError: there is no such checkpoint, it is of other classes or images, or it does not reproduce the
                clean accuracy that was published with it.
        """
        return {uri: self._opened(uri) for uri in _wanted(attacks) if uri is not None}

    def trained(self, attacks: Sequence[PlannedAttack]) -> dict[str | None, Substitute]:
        """Return the standard-trained network under None, trained or from the store, if an attack wants one."""
        return {None: self._trained(self.dataset)} if self.dataset and None in _wanted(attacks) else {}

    def job(self, attacks: Sequence[PlannedAttack]) -> Job | None:
        """Return the training of the network that :meth:`trained` gives, if an attack wants one."""
        return self._job(self.dataset) if self.dataset and None in _wanted(attacks) else None

    def _trained(self, dataset: Dataset) -> Substitute:
        job = self._job(dataset)
        checkpoint = fit(job, self.store, team=self.team)
        return Substitute(checkpoint.digest, load_classifier(job, checkpoint))

    def _job(self, dataset: Dataset) -> Job:
        return Job(
            dataset=dataset,
            data=TrainingSet(data.open_split(dataset, "train", self.root)),
            held_out=None,
            backbone=validated(self.registry.backbone(dataset.backbone), {}, "the substitute's backbone"),
            defense=Standard(),
            recipe_name=self.recipe_name,
            recipe=dataset.recipes[self.recipe_name],
            threat=dataset_threat(dataset, None, None),
            inner_scale=1.0,
            seed=self.seed + 1,
            device=self.device,
            mixed=False,
            processes=self.team.size,
            curves=None,
            registry=self.registry,
        )

    def _opened(self, uri: str) -> Substitute:
        checkpoint = self.team.from_leader(lambda: self.store.opened(uri))
        found = rebuilt(checkpoint, self.registry, self.device)
        channels, size = found.shape
        fits = (len(found.classes), (channels, size, size)) == (self.classes, self.shape)
        if not fits or (self.dataset and self.dataset.classes != found.classes):
            raise CwbenchError(
                f"substitute {uri} is {found}",
                f"it must have these {self.classes} classes and images {'×'.join(map(str, self.shape))}",
            )
        if self.dataset and checkpoint.published:
            dataset, test = self.dataset, data.open_split(self.dataset, "test", self.root)
            self.team.from_leader(
                lambda: reproduced(checkpoint, found.model, dataset, test, self.device, f"substitute {uri}")
            )
        return Substitute(checkpoint.key, found.model)


def _wanted(attacks: Sequence[PlannedAttack]) -> list[str | None]:
    """Return which substitutes attacks ask for; None for a standard-trained one."""
    wanting = [planned.attack for planned in attacks if planned.attack.wants_substitute]
    return list(dict.fromkeys(getattr(attack, "substitute", None) for attack in wanting))
