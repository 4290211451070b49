"""Class-wise accuracy on the test split while a network is trained: the study's figure 1."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from cwbench import data, digest
from cwbench.api import Examples
from cwbench.evaluation import Settings
from cwbench.model import Classifier
from cwbench.parallel import ALONE, Team
from cwbench.plan import Plan, PlannedAttack, default_attack, plan_attacks
from cwbench.sharded import evaluate_together
from cwbench.spec import PluginSpec
from cwbench.summarise import per_class, standing
from cwbench.training.job import NO_INFLUENCE


@dataclass(frozen=True)
class Curves:
    """Measures a classifier between two epochs, clean and under the dataset's PGD; no epoch is chosen by it."""

    plan: Plan
    test: Examples
    attack: PlannedAttack
    team: Team = ALONE

    @classmethod
    def of(cls, plan: Plan, test: Examples, team: Team = ALONE) -> "Curves":
        (attack,) = plan_attacks(
            (PluginSpec(name="pgd"),), plan.registry, plan.threat, default_attack(plan.dataset, plan.threat)
        )
        return cls(plan, test, attack, team)

    @property
    def identity(self) -> dict[str, Any]:
        """What the curves depend on besides the weights: it is part of what a checkpoint with curves is kept under."""
        return {
            "every": self.plan.every,
            "limit": self.plan.limit,
            "test": data.digest(self.test),
            "attack": self.attack.attack.model_dump(mode="json"),
            "code": digest.of_code(__name__, type(self.attack.attack).__module__, skip=NO_INFLUENCE),
            "batch_size": self.plan.batch_size,
        }

    def measure(self, model: Classifier) -> Mapping[str, Any]:
        """Return the counts of each class: judged, correct when clean, correct under attack."""
        plan, k = self.plan, len(self.plan.dataset.classes)
        outcomes = evaluate_together(
            model,
            self.test,
            [self.attack],
            ids=data.chosen_rows(self.test.labels, plan.limit),
            classes=k,
            threat=plan.threat,
            settings=Settings(plan.seed, plan.device, plan.batch_size, probing=False),
            team=self.team,
        )
        (attack,) = outcomes.attacks
        return {
            "attack": self.attack.label,
            "n": per_class(outcomes.labels, k),
            "clean": standing(outcomes.labels, [outcomes.clean], k),
            "robust": standing(outcomes.labels, [attack.predictions], k),
        }
