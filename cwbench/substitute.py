"""The networks that transfer attacks use in place of the target."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from cwbench import data
from cwbench.api import Attack, Dataset
from cwbench.checkpoints import Checkpoint, Store
from cwbench.defenses.standard import Standard
from cwbench.errors import CwbenchError, did_you_mean
from cwbench.model import Classifier
from cwbench.plan import PlannedAttack, dataset_threat
from cwbench.registry import Registry
from cwbench.spec import validated
from cwbench.training.fit import fit, load_classifier
from cwbench.training.job import Job


@dataclass(frozen=True)
class Substitutes:
    """Finds, or trains, what an attack asks for."""

    dataset: Dataset
    root: Path | None
    recipe_name: str
    seed: int
    """Of the run: the substitute is trained with the next one, lest it be the target itself."""
    device: torch.device
    registry: Registry
    store: Store

    def of(self, attacks: Sequence[PlannedAttack]) -> "dict[str | None, Substitute]":
        """Return the substitutes of all attacks that want one, by their field ``substitute``.

        Raises:
            CwbenchError: there is no such checkpoint, or it is of other classes or images.
        """
        wanted = dict.fromkeys(named(planned.attack) for planned in attacks if planned.attack.wants_substitute)
        return {uri: self._trained() if uri is None else self._opened(uri) for uri in wanted}

    def _trained(self) -> "Substitute":
        job = Job(
            dataset=self.dataset,
            examples=data.open_split(self.dataset, "train", self.root),
            backbone=validated(self.registry.backbone(self.dataset.backbone), {}, "the substitute's backbone"),
            defense=Standard(),
            recipe=self.dataset.recipes[self.recipe_name],
            threat=dataset_threat(self.dataset, None, None),
            inner_scale=1.0,
            seed=self.seed + 1,
            device=self.device,
            curves=None,
            registry=self.registry,
        )
        checkpoint = fit(job, self.store)
        return Substitute(checkpoint.digest, load_classifier(job, checkpoint))

    def _opened(self, uri: str) -> "Substitute":
        checkpoint = opened(uri, self.store)
        try:
            dataset = self.registry.dataset(checkpoint.identity["dataset"]["name"])
            body, training = (checkpoint.identity[kind] for kind in ("backbone", "defense"))
            backbone = validated(self.registry.backbone(body["name"]), body["fields"], f"backbone of {uri}")
            defense = validated(self.registry.defense(training["name"]), training["fields"], f"defense of {uri}")
        except (KeyError, TypeError) as error:
            raise CwbenchError(f"substitute {uri}: its description lacks {error}") from None
        if (dataset.classes, dataset.shape) != (self.dataset.classes, self.dataset.shape):
            raise CwbenchError(
                f"substitute {uri} was trained on {dataset.name}, and {self.dataset.name} has other classes or images"
            )
        with torch.random.fork_rng(devices=[]):
            features = backbone.build(channels=dataset.shape[0], size=dataset.shape[1])
            model = Classifier(features, defense.classifier(features.width, len(dataset.classes)))
        try:
            model.load_state_dict(dict(checkpoint.weights))
        except RuntimeError as error:
            raise CwbenchError(f"substitute {uri} does not fit {backbone.name}: {error}") from None
        return Substitute(checkpoint.digest, model.to(self.device).eval())


@dataclass(frozen=True)
class Substitute:
    """A network and the digest of the checkpoint that it came from."""

    digest: str
    model: Classifier


def named(attack: Attack) -> str | None:
    """Return which substitute an attack asks for; None for a standard-trained one."""
    uri: str | None = getattr(attack, "substitute", None)
    return uri


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
    if found is None:
        problem = "several checkpoints begin" if matches else "no checkpoint is a folder or has a digest that begins"
        raise CwbenchError(
            f"{problem} with {uri!r}", did_you_mean(uri, known) if matches else "see cwbench list checkpoints"
        )
    return found
