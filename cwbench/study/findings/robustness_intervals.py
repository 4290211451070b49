"""Figure 6 of the study: how many classes lie in each interval of robustness."""

from collections.abc import Sequence
from typing import Literal

from matplotlib.figure import Figure

from cwbench.internal.errors import ReportError
from cwbench.report.plots.style import ATTACKED, axes
from cwbench.report.records import Count
from cwbench.report.report import Report
from cwbench.report.worst_class import INTERVALS, Profile
from cwbench.study.findings.finding import Cells, Finding, class_estimates, of_seeds, points


class RobustnessIntervals(Finding):
    """Classes per tenth of robustness, the mean of the seeds."""

    finding: Literal["robustness-intervals"] = "robustness-intervals"
    subject: str
    attack: str
    seeds: int
    classes: list[Count]
    """How many lie in [0, 10), [10, 20), … [90, 100] %."""
    spread: float
    """Standard deviation of the class-wise robustness."""

    @property
    def title(self) -> str:
        return f"Classes per interval of robustness of {self.subject} on {self.dataset}"

    def summary(self) -> str:
        filled = sum(n > 0 for n in self.classes)
        total = sum(self.classes)
        return f"The {total} classes lie in {filled} of ten intervals; their spread is {points(self.spread)} points."

    def table(self) -> Cells:
        return [["robustness, %", *names()], ["classes", *map(str, self.classes)]]

    def figure(self) -> Figure:
        figure, drawn = axes(6, 3.4, f"{self.subject} on {self.dataset} under {self.attack}")
        drawn.bar(range(INTERVALS), self.classes, color=ATTACKED)
        for place, n in enumerate(self.classes):
            if n:
                drawn.annotate(str(n), (place, n), (0, 2), textcoords="offset points", ha="center", fontsize=9)
        drawn.set_xticks(range(INTERVALS), names(), rotation=45)
        drawn.set_xlabel("robustness, %")
        drawn.set_ylabel("classes")
        return figure


def names() -> list[str]:
    """Return what the intervals are called."""
    step = 100 // INTERVALS
    return [f"{low}–{low + step}" for low in range(0, 100, step)]


def robustness_intervals(reports: Sequence[Report], attack: str) -> RobustnessIntervals:
    """Return the finding for one training, or for the mean of several seeds.

    Raises:
        ReportError: the reports do not belong together, or no class has an example.
    """
    first = of_seeds(reports)
    profile = Profile.of(class_estimates(reports, attack))
    if profile is None:
        raise ReportError(f"{first.subject} was judged on no example", "judge at least one of each class")
    return RobustnessIntervals(
        dataset=first.dataset.name,
        subject=first.subject,
        attack=attack,
        seeds=len(reports),
        classes=list(profile.per_interval),
        spread=profile.spread,
    )
