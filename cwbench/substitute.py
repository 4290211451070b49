"""The networks that transfer attacks use in place of the target."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from cwbench import data
from cwbench.api import Dataset
from cwbench.checkpoints import Checkpoint, Store
from cwbench.defenses.standard import Standard
from cwbench.errors import CwbenchError
from cwbench.evaluation import Substitute
from cwbench.model import Classifier
from cwbench.plan import PlannedAttack, dataset_threat
from cwbench.registry import Registry
from cwbench.spec import validated
from cwbench.training.fit import fit, load_classifier
from cwbench.training.job import Job


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

    def named(self, attacks: Sequence[PlannedAttack]) -> dict[str | None, Substitute]:
        """Return the checkpoints that attacks name in their field ``substitute``.

        Raises:
            CwbenchError: there is no such checkpoint, or it is of other classes or images.
        """
        return {uri: self._opened(uri) for uri in _wanted(attacks) if uri is not None}

    def trained(self, attacks: Sequence[PlannedAttack]) -> dict[str | None, Substitute]:
        """Return the standard-trained network under None, trained or from the store, if an attack wants one."""
        return {None: self._trained(self.dataset)} if self.dataset and None in _wanted(attacks) else {}

    def _trained(self, dataset: Dataset) -> Substitute:
        job = Job(
            dataset=dataset,
            examples=data.open_split(dataset, "train", self.root),
            backbone=validated(self.registry.backbone(dataset.backbone), {}, "the substitute's backbone"),
            defense=Standard(),
            recipe=dataset.recipes[self.recipe_name],
            threat=dataset_threat(dataset, None, None),
            inner_scale=1.0,
            seed=self.seed + 1,
            device=self.device,
            curves=None,
            registry=self.registry,
        )
        checkpoint = fit(job, self.store)
        return Substitute(checkpoint.digest, load_classifier(job, checkpoint))

    def _opened(self, uri: str) -> Substitute:
        checkpoint = opened(uri, self.store)
        try:
            dataset = self.registry.dataset(checkpoint.identity["dataset"]["name"])
            body, training = (checkpoint.identity[kind] for kind in ("backbone", "defense"))
            backbone = validated(self.registry.backbone(body["name"]), body["fields"], f"backbone of {uri}")
            defense = validated(self.registry.defense(training["name"]), training["fields"], f"defense of {uri}")
        except (KeyError, TypeError) as error:
            raise CwbenchError(f"substitute {uri}: its description lacks {error}") from None
        channels, size = dataset.shape
        fits = (len(dataset.classes), (channels, size, size)) == (self.classes, self.shape)
        if not fits or (self.dataset and self.dataset.classes != dataset.classes):
            its = f"{len(dataset.classes)} classes, {channels}×{size}×{size} pixels"
            raise CwbenchError(
                f"substitute {uri} is for {dataset.name}: {its}",
                f"it must have these {self.classes} classes and images {'×'.join(map(str, self.shape))}",
            )
        with torch.random.fork_rng(devices=[]):
            features = backbone.build(channels=channels, size=size)
            model = Classifier(features, defense.classifier(features.width, len(dataset.classes)))
        try:
            model.load_state_dict(dict(checkpoint.weights))
        except RuntimeError as error:
            raise CwbenchError(f"substitute {uri} does not fit {backbone.name}: {error}") from None
        return Substitute(checkpoint.digest, model.to(self.device).eval())


def _wanted(attacks: Sequence[PlannedAttack]) -> list[str | None]:
    """Return which substitutes attacks ask for; None for a standard-trained one."""
    wanting = [planned.attack for planned in attacks if planned.attack.wants_substitute]
    return list(dict.fromkeys(getattr(attack, "substitute", None) for attack in wanting))


def opened(uri: str, store: Store) -> Checkpoint:
    """Return a checkpoint by its folder, its digest or the first eight characters of that or more.

    Raises:
        CwbenchError: there is none, several, or it is damaged.
    """
    folder = Path(uri)
    if folder.is_dir():
        found = Store(folder.resolve().parent).find(folder.resolve().name)
        if found:
            return found
    known = [entry.digest for entry in store.all()]
    matches = [digest for digest in known if digest.startswith(uri)] if len(uri) >= 8 else []
    found = store.find(matches[0]) if len(matches) == 1 else None
    if found is None and matches:
        raise CwbenchError(f"{len(matches)} checkpoints begin with {uri!r}", "give more of the digest")
    if found is None:
        raise CwbenchError(
            f"no checkpoint is a folder or has a digest that begins with {uri!r}",
            "see cwbench list checkpoints; eight characters are enough",
        )
    return found
