"""Figures of a report: class bars, confusion, accuracy against eps, epochs; none of them needs colours told apart."""

import io
import re
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path

import matplotlib as mpl
from matplotlib.figure import Figure

from cwbench.internal.files import write_atomically, writing_into
from cwbench.report.plots.bars import class_bars
from cwbench.report.plots.confusion import confusion_matrix
from cwbench.report.plots.curves import epoch_curves, eps_curves
from cwbench.report.report import Report

FORMATS = ("png", "svg")
DPI = 150


def figures(report: Report) -> Iterator[tuple[str, Figure]]:
    """Yield name and figure of everything that the report has numbers for."""
    yield "classes", class_bars(report)
    names = _file_names(["clean", *report.labels()])
    for name, file in names.items():
        yield f"confusion-{file}", confusion_matrix(report, name)
    for attack in report.attacks:
        if attack.eps_curve:
            yield f"eps-{names[attack.label]}", eps_curves(report, attack.label)
    if report.training and report.training.curves:
        yield "epochs", epoch_curves(report)


def write_figures(report: Report, folder: Path) -> list[Path]:
    """Write every figure as PNG and SVG; return the files. The same report gives the same bytes.

    Raises:
        ReportError: the folder is not writable.
    """
    written = []
    with writing_into(folder, "choose another with --out"):
        folder.mkdir(parents=True, exist_ok=True)
    for name, figure in figures(report):
        for kind, content in rendered(figure).items():
            path = folder / f"{name}.{kind}"
            write_atomically(path, content)
            written.append(path)
    return written


def rendered(figure: Figure) -> dict[str, bytes]:
    """Return a figure as PNG and SVG, by format. The same figure gives the same bytes."""
    images = {}
    with mpl.rc_context({"svg.hashsalt": "cwbench"}), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph", UserWarning)  # a name in letters that the font lacks
        for kind in FORMATS:
            content = io.BytesIO()
            figure.savefig(content, format=kind, dpi=DPI, metadata={"Date": None} if kind == "svg" else None)
            images[kind] = content.getvalue()
    return images


def _file_names(labels: Sequence[str]) -> dict[str, str]:
    """Return a name for the file of each label; those that would share one get a number."""
    names: dict[str, str] = {}
    for label in labels:
        plain = _file_name(label)
        taken = sum(_file_name(other) == plain for other in names)
        names[label] = f"{plain}-{taken + 1}" if taken else plain
    return names


def _file_name(label: str) -> str:
    return re.sub(r"[^A-Za-z0-9=.-]+", "-", label)[:80].strip(".-") or "attack"
