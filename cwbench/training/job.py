"""What determines a checkpoint, and its digest."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch

from cwbench import data, digest
from cwbench.api import Backbone, Dataset, Defense, Examples, Plugin
from cwbench.model import Classifier
from cwbench.plan import Plan
from cwbench.randomness import key
from cwbench.recipe import Inner, Recipe
from cwbench.registry import Registry
from cwbench.threat import Threat

NO_INFLUENCE = (
    "cwbench",
    *(f"cwbench.{room}" for room in ("checkpoints", "data", "digest", "errors", "files", "hookspecs", "plan")),
    *(f"cwbench.{room}" for room in ("plugins", "progress", "registry", "spec")),
)
"""Rooms that training imports and that cannot change the weights it arrives at: their code is not in the digest."""


@dataclass(frozen=True)
class Job:
    """One training, completely determined."""

    dataset: Dataset
    examples: Examples
    backbone: Backbone
    defense: Defense
    recipe: Recipe
    threat: Threat
    inner_scale: float
    seed: int
    device: torch.device
    curves: Mapping[str, Any] | None
    """What determines the curves that are recorded on the way, with ``every``; None without curves."""
    registry: Registry

    @classmethod
    def of(cls, plan: Plan, curves: Mapping[str, Any] | None = None) -> "Job":
        """Open the training split of a plan."""
        return cls(
            dataset=plan.dataset,
            examples=data.open_split(plan.dataset, "train", plan.root),
            backbone=plan.backbone,
            defense=plan.defense,
            recipe=plan.recipe,
            threat=plan.threat,
            inner_scale=plan.inner_scale,
            seed=plan.seed,
            device=plan.device,
            curves=curves,
            registry=plan.registry,
        )

    @cached_property
    def identity(self) -> dict[str, Any]:
        """Everything that determines the weights, as JSON."""
        return {
            "format": 1,
            "dataset": self._described(self.dataset) | {"train": data.digest(self.examples)},
            "backbone": self._described(self.backbone),
            "defense": self._described(self.defense),
            "recipe": self.recipe.model_dump(mode="json"),
            "threat": {"norm": self.threat.norm, "eps": self.threat.radius},
            "inner_scale": self.inner_scale,
            "seed": self.seed,
            "curves": self.curves,
            "device": self.device.type,
            "torch": torch.__version__,
            "code": digest.of_code("cwbench.training.fit", skip=NO_INFLUENCE),
        }

    @property
    def every(self) -> int | None:
        """After how many epochs a point of the curves is measured."""
        return self.curves["every"] if self.curves else None

    @cached_property
    def digest(self) -> str:
        return digest.of_json(self.identity)

    def inner_at(self, done: float) -> Inner:
        """Return the inner maximisation after ``done`` epochs, its step scaled with the eps in force."""
        stage = self.recipe.inner_at(done)
        scale = self.inner_scale * self.recipe.eps_share(done)
        return stage.model_copy(update={"step_size": stage.step_size * scale})

    def fresh_classifier(self) -> Classifier:
        """Build the network with weights drawn from this training's seed; the global random state stays as it is."""
        channels, size = self.dataset.shape
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(key(self.seed, "weights") >> 1)
            features = self.backbone.build(channels=channels, size=size)
            return Classifier(features, self.defense.classifier(features.width, len(self.dataset.classes)))

    def _described(self, plugin: Plugin) -> dict[str, Any]:
        origin = self.registry.origin(plugin)
        modules = [base.__module__ for base in type(plugin).__mro__ if issubclass(base, Plugin)]
        return {
            "name": plugin.name,
            "fields": plugin.model_dump(mode="json"),
            "distribution": origin.distribution,
            # cwbench's own version says less than the code below and would retrain everything with every release.
            "version": None if origin.distribution == "cwbench" else origin.version,
            "code": digest.of_code(*dict.fromkeys(modules), skip=NO_INFLUENCE),
        }
