"""Figure 2 of the study: which class is taken for which under attack, and how often inside its superclass."""

from collections.abc import Mapping, Sequence
from typing import Literal, NamedTuple

import numpy as np
from matplotlib.figure import Figure
from scipy.stats import binomtest

from cwbench.internal.errors import ReportError
from cwbench.report.plots.confusion import confusion_image
from cwbench.report.records import Counts, Share
from cwbench.report.report import Report
from cwbench.study.findings.finding import Cells, Finding, of_seeds, points


class SuperclassErrors(Finding):
    """How many of the errors on a superclass stay inside it."""

    name: str
    errors: int
    """Misclassified examples of its classes under attack, over all seeds."""
    inside: int
    """Those of them that are taken for another class of the same superclass."""
    by_chance: Share
    """The share that would stay inside if every wrong class were as likely as any other."""

    @property
    def title(self) -> str:
        return self.name

    def summary(self) -> str:
        return f"{self.name}: {self.inside} of {self.errors} errors stay inside, {points(self.by_chance)} % by chance."

    def table(self) -> Cells:
        share = self.inside / self.errors if self.errors else None
        return [[self.name, str(self.errors), str(self.inside), points(share), points(self.by_chance)]]


class ConfusionBlocks(Finding):
    """Confusion counts under an attack, over all seeds, and what superclasses say of them."""

    finding: Literal["confusion-blocks"] = "confusion-blocks"
    subject: str
    attack: str
    seeds: int
    classes: list[str]
    confusion: Counts
    superclasses: dict[str, list[int]]
    blocks: list[SuperclassErrors]
    p_value: Share | None
    """That so many errors stay inside by chance, one-sided: of one seed, since seeds share their examples. None without
    superclasses."""

    @property
    def title(self) -> str:
        return f"Confusion of {self.subject} on {self.dataset} under {self.attack}"

    def summary(self) -> str:
        i, j = self.most_confused()
        most = f"Class {self.classes[i]} is most often taken for {self.classes[j]}, {self.confusion[i][j]} times."
        if not self.blocks:
            return f"{most} {self.dataset} has no superclasses, so there are no blocks."
        errors, inside = (sum(getattr(block, part) for block in self.blocks) for part in ("errors", "inside"))
        chance = sum(block.by_chance * block.errors for block in self.blocks) / max(errors, 1)
        return (
            f"{points(inside / errors if errors else None)} % of {errors} errors stay inside the superclass, where "
            f"{points(chance)} % would by chance (p {self.p_value:.2g}). {most}"
        )

    def most_confused(self) -> tuple[int, int]:
        """Return true and predicted class of the most frequent error, the first of them when several tie."""
        counts = np.array(self.confusion)
        np.fill_diagonal(counts, -1)
        i, j = np.unravel_index(int(counts.argmax()), counts.shape)
        return int(i), int(j)

    def table(self) -> Cells:
        if self.blocks:
            head = ["superclass", "errors", "inside", "% inside", "% by chance"]
            return [head] + [row for block in self.blocks for row in block.table()]
        return [["true \\ predicted", *self.classes]] + [
            [name, *map(str, row)] for name, row in zip(self.classes, self.confusion, strict=True)
        ]

    def figure(self) -> Figure:
        return confusion_image(
            self.confusion,
            self.classes,
            list(self.superclasses.values()),
            f"{self.subject} on {self.dataset}, {self.attack}",
        )


def confusion_blocks(
    reports: Sequence[Report], attack: str, superclasses: Mapping[str, Sequence[int]] | None = None
) -> ConfusionBlocks:
    """Return the confusion of one network under an attack, or of several seeds together.

    ``superclasses`` are the dataset's unless they are given: groups of class indices that share none.

    Raises:
        ReportError: the reports do not belong together, or the groups are none.
    """
    first = of_seeds(reports)
    names = first.dataset.classes
    groups = {name: list(group) for name, group in (superclasses or first.dataset.superclasses).items()}
    check_groups(groups, len(names))
    each = [np.array(report.confusion(attack)) for report in reports]
    counts = sum(each[1:], each[0])
    blocks, of_one = (
        [_block(first.dataset.name, name, group, of) for name, group in groups.items()] for of in (counts, each[0])
    )
    return ConfusionBlocks(
        dataset=first.dataset.name,
        subject=first.subject,
        attack=attack,
        seeds=len(reports),
        classes=names,
        confusion=counts.tolist(),
        superclasses=groups,
        blocks=blocks,
        p_value=inside_test(of_one).greater if blocks else None,
    )


def check_groups(groups: Mapping[str, Sequence[int]], classes: int) -> None:
    """Check that superclasses are groups of classes, none of which is in two.

    Raises:
        ReportError: they are not.
    """
    members = [index for group in groups.values() for index in group]
    if len(set(members)) != len(members) or any(index not in range(classes) for index in members):
        raise ReportError(
            f"superclasses must be groups of the classes 0 to {classes - 1}, each class in one",
            "for example --superclasses round=0,6,8,9 --superclasses straight=1,4,7",
        )


def _block(dataset: str, name: str, group: list[int], counts: np.ndarray) -> SuperclassErrors:
    rows = counts[group]
    inside = int(rows[:, group].sum() - np.trace(counts[np.ix_(group, group)]))
    errors = int(rows.sum() - np.trace(counts[np.ix_(group, group)]))
    return SuperclassErrors(
        dataset=dataset, name=name, errors=errors, inside=inside, by_chance=(len(group) - 1) / (len(counts) - 1)
    )


class InsideTest(NamedTuple):
    """Errors inside superclasses against chance."""

    excess: float
    """The share of errors inside minus that by chance."""
    greater: float
    """The p-value that so many stay inside by chance."""
    less: float


def inside_test(blocks: Sequence[SuperclassErrors]) -> InsideTest:
    """Test the errors inside, for the mean chance weighted by the errors of each superclass.

    Of binomials with different chances the sum varies less than one binomial with their mean, so the test is careful.
    """
    errors, inside = (sum(getattr(block, part) for block in blocks) for part in ("errors", "inside"))
    if not errors:
        return InsideTest(0.0, 1.0, 1.0)
    chance = sum(block.by_chance * block.errors for block in blocks) / errors
    tails = [float(binomtest(inside, errors, chance, alternative=side).pvalue) for side in ("greater", "less")]
    return InsideTest(inside / errors - chance, *tails)
