"""Which class is taken for which (figure 2 of the study)."""

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure

from cwbench.report.plots.style import INK, axes, named
from cwbench.report.report import Report

MOST_NUMBERS, MOST_NAMES = 20, 50
"""From more classes on cells have no numbers, and ticks no names."""


def confusion_matrix(report: Report, condition: str) -> Figure:
    """Return the share of each true class (row) that is predicted as each class, in blocks of superclasses."""
    data = report.dataset
    title = "" if condition == "clean" else f"under {condition}"
    return confusion_image(
        report.confusion(condition),
        data.classes,
        list(data.superclasses.values()),
        f"{report.subject} on {data.name} {title}".strip(),
    )


def confusion_image(
    confusion: Sequence[Sequence[int]], classes: Sequence[str], groups: Sequence[Sequence[int]], title: str
) -> Figure:
    """Return confusion counts as shares of each true class (row), classes of a group beside each other."""
    grouped = [index for group in groups for index in group]
    order = grouped + [index for index in range(len(classes)) if index not in set(grouped)]
    counts = np.array(confusion)[np.ix_(order, order)]
    shares = 100 * counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    k = len(order)
    size = min(12.0, 2.6 + 0.42 * k)
    figure, drawn = axes(size + 1, size, title)
    # One hue: lightness alone carries the number.
    image = drawn.imshow(shares, cmap="Blues", vmin=0, vmax=100)
    figure.colorbar(image, ax=drawn, shrink=0.8, label="% of the true class")
    if k <= MOST_NAMES:
        names = [named(classes[index], longest=16) for index in order]
        drawn.set_xticks(range(k), names, rotation=90 if max(map(len, names)) > 2 else 0, parse_math=False)
        drawn.set_yticks(range(k), names, parse_math=False)
    if k <= MOST_NUMBERS:
        for (row, column), count in np.ndenumerate(counts):
            if count:
                ink = "white" if shares[row, column] > 55 else "black"
                drawn.text(column, row, str(count), ha="center", va="center", fontsize=7, color=ink)
    for edge in np.cumsum([len(group) for group in groups])[: -1 if len(grouped) == k else None]:
        drawn.axhline(edge - 0.5, color=INK, linewidth=1.2)
        drawn.axvline(edge - 0.5, color=INK, linewidth=1.2)
    drawn.set_xlabel("predicted class")
    drawn.set_ylabel("true class")
    return figure
