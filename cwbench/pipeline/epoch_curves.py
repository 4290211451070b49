"""Class-wise accuracy on the test split while a network is trained: the study's figure 1."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from cwbench.api import Classifier, Examples
from cwbench.datasets import splits
from cwbench.evaluation.distributed import evaluate_together
from cwbench.evaluation.outcomes import Tools
from cwbench.internal import code_digest
from cwbench.internal.distributed import ALONE, Team
from cwbench.pipeline.evaluation_digest import DECIDE_VERDICTS
from cwbench.plan import Plan, PlannedAttack, default_attack, plan_attacks
from cwbench.plugins.naming import PluginSpec
from cwbench.report.counts import per_class, right_under


@dataclass(frozen=True)
class EpochCurves:
    """Measures a classifier between two epochs, clean and under the dataset's PGD; no epoch is chosen by it."""

    plan: Plan
    test: Examples
    attack: PlannedAttack
    team: Team = ALONE

    @classmethod
    def of(cls, plan: Plan, test: Examples, team: Team = ALONE) -> "EpochCurves":
        (attack,) = plan_attacks(
            (PluginSpec(name="pgd"),), plan.registry, plan.threat, default_attack(plan.dataset, plan.threat)
        )
        return cls(plan, test, attack, team)

    @property
    def identity(self) -> dict[str, Any]:
        """What the curves depend on besides the weights: it is part of what a checkpoint with curves is kept under."""
        return {
            "every": self.plan.every,
            "limit": self.plan.settings.limit,
            "test": splits.digest(self.test),
            "attack": self.attack.attack.model_dump(mode="json"),
            "code": code_digest.of_code(__name__, *self.attack.attack.defined_in(), packages=DECIDE_VERDICTS),
            "batch_size": self.plan.settings.images_per_pass,
        }

    def measure(self, model: Classifier) -> Mapping[str, Any]:
        """Return the counts of each class: judged, correct when clean, correct under attack."""
        plan, k = self.plan, len(self.plan.dataset.classes)
        outcomes = evaluate_together(
            model,
            self.test,
            [self.attack],
            ids=splits.chosen_rows(self.test.labels, plan.settings.limit),
            classes=k,
            threat=plan.threat,
            settings=plan.settings.model_copy(update={"precision": "fp32"}),
            tools=Tools(look_for_masking=False),
            team=self.team,
        )
        (attack,) = outcomes.attacks
        return {
            "attack": self.attack.label,
            "n": per_class(outcomes.labels, k),
            "clean": right_under(outcomes.labels, [outcomes.clean], k),
            "robust": right_under(outcomes.labels, [attack.predictions], k),
        }
