"""Figure 3 of the study: adversarial examples that become robust when the class they are taken for is removed."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from matplotlib.figure import Figure
from scipy.stats import binomtest
from torch import Tensor

from cwbench.api import Examples, Model
from cwbench.datasets.without_class import Relabelled
from cwbench.evaluation.harness import evaluate
from cwbench.evaluation.outcomes import Tools
from cwbench.internal.errors import ReportError
from cwbench.plan import EvaluationPlan, PlannedAttack
from cwbench.report.plots.style import ATTACKED, CLEAN, axes, named
from cwbench.report.predictions import Columns, column
from cwbench.report.records import Count, Share
from cwbench.study.findings.finding import Cells, Finding, points


class ClassHoming(Finding):
    """What removing one confound class does, and what removing another one does instead."""

    removed: str
    misclassified: Count
    """Examples of other classes that are taken for this one under attack; as in the study's figure 3, those that are
    taken for it without an attack, too, are among them."""
    homing: Count
    """Those of them that are robust when the network is trained again without this class."""
    control: str | None
    """The class that was removed instead, drawn at random."""
    control_misclassified: Count
    """The same examples without those of the control's own class, which has no label there."""
    control_robust: Count
    """Those of them that are robust without the control."""

    @property
    def title(self) -> str:
        return f"without {self.removed}"

    def summary(self) -> str:
        return (
            f"Of {self.misclassified} examples taken for {self.removed}, {self.homing} are robust without it; without "
            f"{self.control} instead {self.control_robust} of {self.control_misclassified}."
        )

    def table(self) -> Cells:
        share = self.homing / self.misclassified if self.misclassified else None
        other = self.control_robust / self.control_misclassified if self.control_misclassified else None
        cells = [self.removed, str(self.misclassified), str(self.homing), points(share), self.control or "–"]
        return [[*cells, str(self.control_misclassified), str(self.control_robust), points(other)]]


class Homing(Finding):
    """The homing experiment over some or all confound classes."""

    finding: Literal["homing"] = "homing"
    subject: str
    attack: str
    seed: int
    removed: list[ClassHoming]
    p_value: Share | None
    """That removing the confound class makes no more examples robust than removing another: a one-sided sign test on
    examples that have both verdicts and are robust in one alone; None without a control."""

    @property
    def title(self) -> str:
        return f"Homing property of {self.subject} on {self.dataset} under {self.attack}"

    def totals(self) -> tuple[int, int, int, int]:
        """Return misclassified and homing examples, and those of the controls, over all removed classes."""
        parts = ("misclassified", "homing", "control_misclassified", "control_robust")
        first, second, third, fourth = (sum(getattr(entry, part) for entry in self.removed) for part in parts)
        return first, second, third, fourth

    def summary(self) -> str:
        wrong, homing, other, robust = self.totals()
        test = "" if self.p_value is None else f" (sign test on pairs, p {self.p_value:.2g})"
        shares = [points(part / whole if whole else None) for part, whole in ((homing, wrong), (robust, other))]
        return (
            f"Of {wrong} examples that are misclassified under attack {shares[0]} % become robust when the class "
            f"they are taken for is removed, and {shares[1]} % of {other} when a random other one is{test}."
        )

    def table(self) -> Cells:
        head = ["removed", "taken for it", "robust without", "%", "control", "taken", "robust without control", "%"]
        return [head] + [row for entry in self.removed for row in entry.table()]

    def figure(self) -> Figure:
        figure, drawn = axes(7, 1.4 + 0.4 * len(self.removed), self.title)
        places = np.arange(len(self.removed))
        wrong = [entry.misclassified for entry in self.removed]
        drawn.barh(places, wrong, color=CLEAN, height=0.8, label="taken for the class")
        homing = [entry.homing for entry in self.removed]
        drawn.barh(places, homing, color=ATTACKED, height=0.45, label="robust without the class")
        controls = [
            entry.misclassified * entry.control_robust / entry.control_misclassified
            if entry.control_misclassified
            else 0
            for entry in self.removed
        ]
        drawn.plot(
            controls, places, "k|", markersize=14, clip_on=False, label="the same share, without a random other class"
        )
        drawn.set_yticks(places, [named(entry.removed) for entry in self.removed], parse_math=False)
        drawn.invert_yaxis()
        drawn.set_xlabel("examples misclassified under attack")
        figure.legend(loc="outside lower center", ncols=3, frameon=False, fontsize=8)
        return figure


@dataclass(frozen=True)
class Removal:
    """A class that is removed, the network without it, and the class that is removed instead as a control."""

    index: int
    control: int | None


def removals(classes: int, wanted: Sequence[int], seed: int) -> list[Removal]:
    """Return each wanted class with a random other one as its control.

    A control is one of the wanted classes where there are two or more of them: it has to be trained anyway.
    """
    draw = np.random.default_rng(seed)
    pool = list(wanted) if len(wanted) > 1 else list(range(classes))
    return [Removal(index, int(draw.choice([other for other in pool if other != index]))) for index in wanted]


def homing(
    plan: EvaluationPlan,
    attack: PlannedAttack,
    test: Examples,
    columns: Columns,
    subject: str,
    wanted: Sequence[Removal],
    without: Mapping[int, Model],
) -> Homing:
    """Return how many adversarial examples become robust without the class that they are taken for (definition 3).

    ``columns`` are the predictions of the whole network under ``attack`` on ``test``, and ``without`` the networks that
    were trained without a class, by its index. An example is robust if such a network classifies it correctly, clean
    and under the same attack.

    Raises:
        ReportError: the network without a class is missing.
    """
    names = plan.dataset.classes
    ids, labels = torch.from_numpy(columns["ids"]), torch.from_numpy(columns["labels"])
    under = torch.from_numpy(columns[column(attack.label)])
    missing = [r for removal in wanted for r in (removal.index, removal.control) if r is not None and r not in without]
    if missing:
        raise ReportError(f"there is no network without class {names[missing[0]]}", "train it first")

    def taken(confound: int, removed: int) -> Tensor:
        """Return which examples were taken for a class and have a label in a network without ``removed``."""
        return ids[(under == confound) & (labels != confound) & (labels != removed)]

    found, only_home, only_control = [], 0, 0
    for removal in wanted:
        rows = taken(removal.index, removal.index)
        home = _robust(plan, attack, test, rows, removal.index, without[removal.index])
        other, stays = torch.zeros(0, dtype=torch.int64), torch.zeros(0, dtype=torch.bool)
        if removal.control is not None:
            other = taken(removal.index, removal.control)
            stays = _robust(plan, attack, test, other, removal.control, without[removal.control])
            both = home[torch.isin(rows, other)]  # the same examples, in the same order
            only_home, only_control = only_home + int((both & ~stays).sum()), only_control + int((stays & ~both).sum())
        found.append(
            ClassHoming(
                dataset=plan.dataset.name,
                removed=names[removal.index],
                misclassified=len(rows),
                homing=int(home.sum()),
                control=None if removal.control is None else names[removal.control],
                control_misclassified=len(other),
                control_robust=int(stays.sum()),
            )
        )
    apart = only_home + only_control
    p_value = float(binomtest(only_home, apart, alternative="greater").pvalue) if apart else None
    return Homing(
        dataset=plan.dataset.name,
        subject=subject,
        attack=attack.label,
        seed=plan.settings.seed,
        removed=found,
        p_value=p_value,
    )


def _robust(
    plan: EvaluationPlan, attack: PlannedAttack, test: Examples, rows: Tensor, removed: int, model: Model
) -> Tensor:
    """Return which of some examples a network without a class classifies correctly, clean and under attack."""
    if not len(rows):
        return torch.zeros(0, dtype=torch.bool)
    kept = (test.labels != removed).nonzero().squeeze(1)
    places = torch.full((len(test),), -1).scatter(0, kept, torch.arange(len(kept)))[rows]
    outcomes = evaluate(
        model,
        Relabelled(test.part(kept), removed),
        [attack],
        ids=places,
        classes=len(plan.dataset.classes) - 1,
        threat=plan.threat,
        settings=plan.settings.model_copy(update={"precision": "fp32"}),
        tools=Tools(look_for_masking=False),
    )
    return torch.from_numpy(outcomes.attacks[0].predictions == outcomes.labels)
