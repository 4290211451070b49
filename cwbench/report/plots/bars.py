"""Accuracy of each class, clean and in the worst case over the attacks."""

from matplotlib.figure import Figure

from cwbench.report.plots.style import ATTACKED, CLEAN, INK, axes, named
from cwbench.report.records import Accuracy
from cwbench.report.report import Report


def class_bars(report: Report) -> Figure:
    """Return a bar for each class with its 95 % Wilson interval, over the pale bar of its clean accuracy."""
    k = len(report.dataset.classes)
    worst = report.worst_case().classes if report.attacks else report.clean.figures.classes
    label = "worst case over the attacks" if report.attacks else "clean"
    figure, drawn = axes(7, 1.2 + 0.24 * k, f"{report.subject} on {report.dataset.name}, eps {report.threat.eps}")
    places = list(range(k))
    if report.attacks:
        drawn.barh(places, _shares(report.clean.figures.classes), color=CLEAN, height=0.8, label="clean")
    drawn.barh(places, _shares(worst), color=ATTACKED, height=0.5, label=label)
    for place, entry in zip(places, worst, strict=True):
        if entry.interval:
            drawn.plot([100 * end for end in entry.interval], [place, place], color=INK, linewidth=1.2, marker="|")
    drawn.set_yticks(places, [named(name) for name in report.dataset.classes], parse_math=False)
    drawn.invert_yaxis()
    drawn.set_xlim(0, 100)
    drawn.set_xlabel("% correct [95 % interval]")
    figure.legend(loc="outside lower center", ncols=2, frameon=False)
    return figure


def _shares(entries: list[Accuracy]) -> list[float]:
    return [100 * (entry.accuracy or 0.0) for entry in entries]
