"""What determines a checkpoint, and its digest."""

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

CODE = (
    "cwbench.ascent",
    "cwbench.model",
    "cwbench.randomness",
    "cwbench.recipe",
    "cwbench.threat",
    "cwbench.training.fit",
    "cwbench.training.optimizer",
)
"""The modules whose code decides what weights a training arrives at."""


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
    every: int | None
    registry: Registry

    @classmethod
    def of(cls, plan: Plan) -> "Job":
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
            every=plan.every,
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
            "every": self.every,
            "device": self.device.type,
            "torch": torch.__version__,
            "code": digest.of_modules(*CODE),
        }

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
        base = next(base for base in (Dataset, Backbone, Defense) if isinstance(plugin, base))
        return {
            "name": plugin.name,
            "fields": plugin.model_dump(mode="json"),
            "distribution": self.registry.origin(plugin).distribution,
            "code": digest.of_code(type(plugin), stop=(base,)),
        }
