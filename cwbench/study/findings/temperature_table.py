"""Tables 3 and 4 of the study: what Temperature-PGD takes more than PGD, overall and from each class."""

from collections.abc import Mapping, Sequence
from typing import Literal

from matplotlib.figure import Figure

from cwbench.report.plots.style import DASHES, axes, line_style, named
from cwbench.report.records import Share
from cwbench.report.report import Report
from cwbench.study.findings.finding import Cells, Finding, class_estimates, listed, of_seeds, overall, points

PGD, TPGD = "pgd", "tpgd"


class TemperatureRow(Finding):
    """One defense at one temperature, the mean of the seeds."""

    subject: str
    inverse_temperature: float
    seeds: int
    overall: float
    """Robust accuracy under Temperature-PGD minus that under PGD."""
    robust: Share
    """Under Temperature-PGD."""
    classes: list[float | None]

    @property
    def title(self) -> str:
        return f"{self.subject}, 1/T = {self.inverse_temperature:g}"

    def summary(self) -> str:
        return f"{self.title}: {points(self.overall, signed=True)} points to {points(self.robust)} %."

    def table(self) -> Cells:
        total = f"{points(self.overall, signed=True)} ({points(self.robust)})"
        return [[self.subject, f"{self.inverse_temperature:g}", total, *(points(c, signed=True) for c in self.classes)]]


class TemperatureTable(Finding):
    """Temperature-PGD minus PGD, in points."""

    finding: Literal["temperature-table"] = "temperature-table"
    classes: list[str]
    rows: list[TemperatureRow]

    @property
    def title(self) -> str:
        inverses = listed(f"{row.inverse_temperature:g}" for row in self.rows)
        return f"Temperature-PGD at 1/T = {inverses} minus PGD on {self.dataset}, points"

    def summary(self) -> str:
        return " ".join(row.summary() for row in sorted(self.rows, key=lambda row: row.overall))

    def table(self) -> Cells:
        head = ["defense", "1/T", "overall (to %)", *self.classes]
        return [head] + [row for entry in self.rows for row in entry.table()]

    def _keys(self) -> list[tuple[str, float]]:
        return [(row.subject, row.inverse_temperature) for row in self.rows]

    def figure(self) -> Figure:
        figure, drawn = axes(7, 3.8, self.title)
        subjects, inverses = (list(dict.fromkeys(part)) for part in zip(*self._keys(), strict=True))
        for row, (subject, inverse) in zip(self.rows, self._keys(), strict=True):
            color, _ = line_style(subjects.index(subject))
            dashes = DASHES[inverses.index(inverse) % len(DASHES)]
            label = row.title.replace("$", r"\$")
            heights = [100 * (change or 0.0) for change in row.classes]
            drawn.plot(range(len(heights)), heights, marker="o", color=color, linestyle=dashes, label=label)
        drawn.axhline(0, color="black", linewidth=0.8)
        drawn.set_xticks(range(len(self.classes)), [named(name, 12) for name in self.classes], parse_math=False)
        drawn.set_ylabel("points")
        drawn.set_xlabel("class")
        figure.legend(loc="outside lower center", ncols=3, frameon=False, fontsize=8, handlelength=4)
        return figure


def temperature_table(
    judged: Mapping[tuple[str, float], tuple[Sequence[Report], Sequence[Report]]],
) -> TemperatureTable:
    """Return the table from the reports under Temperature-PGD and under PGD, by defense and 1/T."""
    rows = [_row(inverse, hot, plain) for (_, inverse), (hot, plain) in judged.items()]
    first = next(iter(judged.values()))[0][0]
    return TemperatureTable(dataset=first.dataset.name, classes=first.dataset.classes, rows=rows)


def _row(inverse: float, hot: Sequence[Report], plain: Sequence[Report]) -> TemperatureRow:
    first = of_seeds(hot)
    of_seeds(plain)
    pairs = zip(class_estimates(hot, TPGD), class_estimates(plain, PGD), strict=True)
    robust = overall(hot, TPGD)
    return TemperatureRow(
        dataset=first.dataset.name,
        subject=first.subject,
        inverse_temperature=inverse,
        seeds=len(hot),
        overall=robust - overall(plain, PGD),
        robust=robust,
        classes=[None if a.accuracy is None or b.accuracy is None else a.accuracy - b.accuracy for a, b in pairs],
    )
