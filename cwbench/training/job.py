"""What determines a checkpoint, and its digest."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from cwbench.api import (
    Backbone,
    Classifier,
    Dataset,
    Defense,
    Examples,
    Inner,
    Plugin,
    Recipe,
    Threat,
    TrainingSet,
    hold_out,
    key,
)
from cwbench.datasets import splits
from cwbench.defenses.standard import Standard
from cwbench.internal import code_digest, digest
from cwbench.internal.distributed import ALONE, Team
from cwbench.internal.errors import UsageError
from cwbench.internal.exact_number import ROUNDING
from cwbench.plan import Plan, default_attack
from cwbench.plugins.registry import Registry

DECIDE_WEIGHTS = ("api", "attacks", "backbones", "datasets", "defenses", "training")
"""The packages whose code can change the weights that a training arrives at: what a checkpoint's digest holds of them
is what the training reaches from its own modules and those of its plugins. The other packages resolve names, keep files
or show progress."""


@dataclass(frozen=True)
class Job:
    """One training, completely determined."""

    dataset: Dataset
    data: TrainingSet
    """What is trained on."""
    held_out: Examples | None
    """What chooses the epoch instead, if the recipe holds something out."""
    backbone: Backbone
    defense: Defense
    recipe_name: str
    """What the user knows the recipe by; it determines nothing."""
    recipe: Recipe
    threat: Threat
    inner_scale: float
    seed: int
    device: torch.device
    mixed: bool
    """Whether layers compute in bfloat16 where autocast has them do so."""
    processes: int
    """How many train together: batch norm sees the share of a batch that one of them has."""
    curves: Mapping[str, Any] | None
    """What determines the curves that are recorded on the way, with ``every``; None without curves."""
    registry: Registry

    @classmethod
    def of(cls, plan: Plan, curves: Mapping[str, Any] | None = None, team: Team = ALONE) -> "Job":
        """Open the training split of a plan.

        Raises:
            UsageError: missing or damaged data, no unlabelled images for a defense that needs them, or a batch larger
                than the set.
        """
        split, held_out = splits.open_split(plan.dataset, "train", plan.root), None
        if plan.recipe.held_out is not None:
            split, held_out = hold_out(split, plan.recipe.held_out)
            if not len(held_out):
                raise UsageError(
                    f"recipe.held_out {plan.recipe.held_out:g} of {plan.dataset.name} is not one example of a class",
                    "hold out more",
                )
        training_set = plan.defense.training_set(plan.dataset, split, plan.root)
        _refuse_misfit_batches(plan.recipe, training_set, plan.dataset, team)
        return cls(
            dataset=plan.dataset,
            data=training_set,
            held_out=held_out,
            backbone=plan.backbone,
            defense=plan.defense,
            recipe_name=plan.recipe_label,
            recipe=plan.recipe,
            threat=plan.threat,
            inner_scale=plan.inner_scale,
            seed=plan.settings.seed,
            device=plan.device,
            mixed=plan.settings.precision == "bf16",
            processes=team.size,
            curves=curves,
            registry=plan.registry,
        )

    @cached_property
    def identity(self) -> dict[str, Any]:
        """Everything that determines the weights, as JSON."""
        unlabelled = self.data.unlabelled
        return {
            "format": 3,
            "dataset": self._described(self.dataset)
            | {
                "classes": list(self.dataset.classes),
                "shape": list(self.dataset.shape),
                "train": splits.digest(self.data.labelled),
                "unlabelled": None if unlabelled is None else splits.digest(unlabelled),
                "held_out": None if self.data.held_out is None else splits.digest(self.data.held_out),
            },
            "backbone": self._described(self.backbone),
            "defense": self._described(self.defense),
            "recipe": self.recipe.model_dump(mode="json"),
            "threat": {"norm": self.threat.norm, "eps": self.threat.radius, "rounding": ROUNDING},
            "inner_scale": self.inner_scale,
            "seed": self.seed,
            "selection": None
            if self.held_out is None
            else {"attack": self.selection_attack.model_dump(mode="json"), "examples": splits.digest(self.held_out)},
            "curves": self.curves,
            "precision": "bf16" if self.mixed else "fp32",
            "processes": self.processes,
            "device": self.device.type,
            "torch": torch.__version__,
            "libraries": {name: version(name) for name in ("torchvision", "pillow", *self.backbone.libraries)},
            "code": code_digest.of_code("cwbench.training.fit", packages=DECIDE_WEIGHTS),
        }

    @property
    def data_used(self) -> dict[str, int]:
        """How many examples are trained on, told by what is there and not by what the defense says of itself."""
        parts = (self.data.labelled, self.data.unlabelled, self.data.held_out, self.held_out)
        labelled, unlabelled, *aside = (0 if part is None else len(part) for part in parts)
        split = self.dataset.sizes["train"]
        return {"labelled": labelled, "unlabelled": unlabelled, "set_aside": sum(aside), "split": split}

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

    @property
    def selection_attack(self) -> Inner:
        """Return the steps of the attack that chooses an epoch on what is held out: the dataset's."""
        return default_attack(self.dataset, self.threat)

    def standard(self) -> "Job":
        """Return the training of a standard model on the labelled examples of this one, with the same seed."""
        # Its last epoch: a standard model has no robust accuracy to be chosen by, and what is held out stays unseen.
        return replace(self, defense=Standard(), data=TrainingSet(self.data.labelled), held_out=None, curves=None)

    def fresh_classifier(self) -> Classifier:
        """Build the network with weights drawn from this training's seed; the global random state stays as it is."""
        channels, size = self.dataset.shape
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(key(self.seed, "weights") >> 1)
            features = self.backbone.build(channels=channels, size=size)
            return Classifier(features, self.defense.classifier(features.width, len(self.dataset.classes)))

    def _described(self, plugin: Plugin) -> dict[str, Any]:
        origin = self.registry.origin(plugin)
        return {
            "name": plugin.name,
            # Where a dataset's files lie determines nothing: what is in them does, and its digest stands beside.
            "fields": {
                name: value
                for name, value in plugin.model_dump(mode="json").items()
                if not (isinstance(plugin, Dataset) and isinstance(getattr(plugin, name), Path))
            },
            "distribution": origin.distribution,
            # cwbench's own version says less than the code below and would retrain everything with every release.
            "version": None if origin.distribution == "cwbench" else origin.version,
            "code": code_digest.of_code(*plugin.defined_in(), packages=DECIDE_WEIGHTS),
        }


def _refuse_misfit_batches(recipe: Recipe, training_set: TrainingSet, dataset: Dataset, team: Team) -> None:
    sizes = [recipe.batch_size, *(stage.batch_size for stage in recipe.resolutions)]
    n = len(training_set.labelled)
    if max(sizes) > n:
        raise UsageError(
            f"a batch of {max(sizes):,} is larger than the {n:,} training examples of {dataset.name}",
            "set a smaller one: --set recipe.batch_size=..." + " and recipe.resolutions=..." * bool(recipe.resolutions),
        )
    parts = team.size * (1 if training_set.unlabelled is None else 2)
    if min(sizes) < parts:
        raise UsageError(
            f"a batch of {min(sizes)} cannot be shared by {team.size} processes"
            + (", half of it unlabelled" if parts > team.size else ""),
            f"set it to {parts} or more",
        )
