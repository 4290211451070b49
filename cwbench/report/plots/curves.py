"""Class-wise accuracy against eps, and against the epoch (figure 1 of the study)."""

from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from cwbench.report.plots.style import CLEAN, INK, axes, line_style, named
from cwbench.report.report import Report

MOST_CLASSES = 12
"""As many lines as figure 1 of the study shows; of more classes those at the edges of the ranking."""


def eps_curves(report: Report, attack: str) -> Figure:
    """Return accuracy as a function of eps for each class, under an attack for the smallest perturbation."""
    figure, drawn = axes(7, 4.2, f"{report.subject} on {report.dataset.name} under {attack}")
    by_class = report.class_accuracy_by_eps(attack)
    eps = list(report.accuracy_by_eps(attack))
    rows = [[share if share is not None else 0.0 for share in by_class[name].values()] for name in by_class]
    overall = [share or 0.0 for share in report.accuracy_by_eps(attack).values()]
    accuracy_lines(drawn, eps, rows, list(by_class), overall)
    drawn.axvline(report.threat.eps.value, color=INK, linewidth=0.8, linestyle=":")
    drawn.set_xlabel(f"eps ({report.threat.norm}); dotted: the threat's")
    return figure


def epoch_curves(report: Report) -> Figure:
    """Return robust accuracy of each class after each recorded epoch, the gap between best and worst class shaded."""
    assert report.training  # noqa: S101 - the caller looked
    curves = report.training.curves
    title = f"{report.subject} on {report.dataset.name} under {curves[0].attack}"
    figure, drawn = axes(7, 4.2, title)
    rows = [
        [point.robust[index] / point.n[index] if point.n[index] else 0.0 for point in curves]
        for index in range(len(report.dataset.classes))
    ]
    overall = [sum(point.robust) / max(sum(point.n), 1) for point in curves]
    accuracy_lines(drawn, [point.epoch for point in curves], rows, report.dataset.classes, overall)
    epoch_axis(drawn)
    return figure


def epoch_axis(drawn: Axes) -> None:
    """Mark whole epochs."""
    drawn.xaxis.set_major_locator(MaxNLocator(integer=True))
    drawn.set_xlabel("epoch")


def accuracy_lines(
    drawn: Axes, x: Sequence[float], rows: Sequence[Sequence[float]], names: Sequence[str], overall: Sequence[float]
) -> None:
    """Draw a line for each class, rows of shares over ``x``, and one for all, with the space between best and worst."""
    low, high = ([100 * end(column) for column in zip(*rows, strict=True)] for end in (min, max))
    drawn.fill_between(x, low, high, color=CLEAN, alpha=0.4, linewidth=0)
    ranked = sorted(range(len(rows)), key=lambda index: sum(rows[index]))
    half = MOST_CLASSES // 2
    shown = ranked if len(ranked) <= MOST_CLASSES else ranked[:half] + ranked[-half:]
    for number, index in enumerate(sorted(shown)):
        color, dashes = line_style(number)
        # A label that begins with an underscore would be left out of the legend, and dollars would set formulas.
        label = "\u200b" + named(names[index], longest=16).replace("$", r"\$")
        drawn.plot(x, [100 * share for share in rows[index]], linewidth=1.1, color=color, linestyle=dashes, label=label)
    drawn.plot(x, [100 * share for share in overall], color="black", linewidth=2.4, label="all classes")
    drawn.set_ylim(0, 100)
    drawn.set_ylabel("% correct")
    drawn.legend(loc="center left", bbox_to_anchor=(1.0, 0.5), frameon=False, fontsize=8)
