"""Tables 2 and 5 of the study: defenses × attacks × classes."""

from collections.abc import Mapping, Sequence
from typing import Literal

from matplotlib.figure import Figure

from cwbench.report.plots.style import panel_row
from cwbench.report.records import Share
from cwbench.report.report import Report
from cwbench.report.worst_class import Profile
from cwbench.study.findings.finding import Cells, Finding, class_estimates, listed, of_seeds, overall, points


class ClassRow(Finding):
    """One defense under one attack, the mean of the seeds."""

    subject: str
    attack: str
    access: str
    seeds: int
    overall: Share
    classes: list[Share | None]
    worst: Share
    interval: tuple[Share, Share]
    """Of the worst class, at 95 % for all classes at once."""
    gap: Share

    @property
    def title(self) -> str:
        return f"{self.subject} under {self.attack}"

    def summary(self) -> str:
        return f"{self.title}: {points(self.overall)} %, worst class {points(self.worst)} %."

    def table(self) -> Cells:
        low, high = self.interval
        worst = f"{points(self.worst)} [{points(low)}, {points(high)}]"
        cells = [points(self.overall), *map(points, self.classes), worst, points(self.gap)]
        return [[self.subject, self.attack, self.access, *cells]]


class ClassTable(Finding):
    """Robust accuracy, overall and for each class."""

    finding: Literal["class-table"] = "class-table"
    classes: list[str]
    rows: list[ClassRow]

    @property
    def title(self) -> str:
        return f"Class-wise robustness of {listed(row.subject for row in self.rows)} on {self.dataset}, %"

    def summary(self) -> str:
        falling = sorted(self.rows, key=lambda row: row.worst, reverse=True)
        hardest = {row.subject: row for row in falling}  # of each defense the last: the attack that leaves least
        best = max(hardest.values(), key=lambda row: row.worst)
        widest = max(self.rows, key=lambda row: row.gap)
        return (
            f"Gaps between the classes go up to {points(widest.gap)} points ({widest.title}). Each under the attack "
            f"that leaves least of its worst class, {best.subject} keeps most: {points(best.worst)} % ({best.attack})."
        )

    def table(self) -> Cells:
        head = ["defense", "attack", "access", "overall", *self.classes, "worst class [95 %]", "gap"]
        return [head] + [row for entry in self.rows for row in entry.table()]

    def figure(self) -> Figure:
        figure, panels = panel_row(1, 1.6 + 0.5 * (len(self.classes) + 1), 1.2 + 0.28 * len(self.rows))
        (drawn,) = panels
        shares = [[100 * (share or 0.0) for share in [row.overall, *row.classes]] for row in self.rows]
        drawn.imshow(shares, cmap="Blues", vmin=0, vmax=100, aspect="auto")
        for place, row in enumerate(shares):
            for column, value in enumerate(row):
                ink = "white" if value > 55 else "black"
                drawn.text(column, place, f"{value:.0f}", ha="center", va="center", fontsize=7, color=ink)
        drawn.set_xticks(range(len(self.classes) + 1), ["all", *(name[:10] for name in self.classes)], parse_math=False)
        drawn.set_yticks(range(len(self.rows)), [row.title[:40] for row in self.rows], fontsize=7, parse_math=False)
        drawn.set_title(self.title, fontsize=10, parse_math=False)
        return figure


def class_table(judged: Mapping[tuple[str, str], Sequence[Report]]) -> ClassTable:
    """Return the table from the reports, one for each seed, of each defense (first of the key) and attack."""
    rows = [_row(reports, attack) for (_, attack), reports in judged.items()]
    first = next(iter(judged.values()))[0]
    return ClassTable(dataset=first.dataset.name, classes=first.dataset.classes, rows=rows)


def _row(reports: Sequence[Report], attack: str) -> ClassRow:
    first = of_seeds(reports)
    estimates = class_estimates(reports, attack)
    profile = Profile.of(estimates)
    total = overall(reports, attack)
    assert profile  # noqa: S101 - there is an overall accuracy, so some class has examples
    return ClassRow(
        dataset=first.dataset.name,
        subject=first.subject,
        attack=attack,
        access=first.attack(attack).access,
        seeds=len(reports),
        overall=total,
        classes=[estimate.accuracy for estimate in estimates],
        worst=profile.accuracy,
        interval=profile.interval,
        gap=profile.gap,
    )
