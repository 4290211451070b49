"""What the figures share."""

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from cwbench.internal.text import plain

CLEAN, ATTACKED, INK = "#b9c4d6", "#0072b2", "#333333"
CYCLE = ("#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00", "#f0e442")
"""Okabe & Ito 2008, Color universal design, without its black, which is for all classes together."""
DASHES = ("-", "--", "-.", ":")
"""Lines differ by more than their colour."""
LONGEST = 24


def axes(width: float, height: float, title: str) -> tuple[Figure, Axes]:
    """Return a figure of that many inches with one set of axes, without a window or any global state."""
    figure = Figure(figsize=(width, height), layout="constrained")
    drawn = figure.subplots()
    drawn.set_title(named(title, longest=90), fontsize=10, parse_math=False)
    for side in ("top", "right"):
        drawn.spines[side].set_visible(False)
    return figure, drawn


def panel_row(n: int, width: float, height: float) -> tuple[Figure, list[Axes]]:
    """Return a figure with ``n`` sets of axes beside each other, each of that many inches."""
    figure = Figure(figsize=(width * n, height), layout="constrained")
    panels = list(figure.subplots(1, n, squeeze=False)[0])
    for panel in panels:
        for side in ("top", "right"):
            panel.spines[side].set_visible(False)
    return figure, panels


def named(text: str, longest: int = LONGEST) -> str:
    """Return a name from a report as text for a figure: printable, and not too long."""
    shown = plain(text, "terminal")
    return shown if len(shown) <= longest else f"{shown[: longest - 1]}…"


def line_style(index: int) -> tuple[str, str]:
    """Return colour and dashes of the line with that number."""
    return CYCLE[index % len(CYCLE)], DASHES[(index // len(CYCLE)) % len(DASHES)]
