"""Reports as tables, for a terminal and for Markdown."""

import re
from collections.abc import Sequence

from tabulate import tabulate

from cwbench.report.compare import Row
from cwbench.report.records import Accuracy, AttackRecord, Figures, SourceRecord
from cwbench.report.report import Report

CURVE_STRIDE = 2
ABREAST = 5
"""How many conditions fit beside each other in a terminal."""
FORMATS = {"terminal": "simple", "markdown": "github"}


def report_table(report: Report, style: str = "terminal") -> str:
    """Return the class-wise table of a report: accuracy in percent with its 95 % interval."""
    columns: list[tuple[str, Figures]] = [("clean", report.clean.figures)]
    columns += [(attack.label, attack.figures) for attack in report.attacks]
    if len(report.attacks) > 1:
        columns.append(("worst case", report.worst_case()))
    rows = [
        [
            name,
            report.dataset.n_per_class[index],
            *(_accuracy(figures.classes[index]) for _, figures in columns),
        ]
        for index, name in enumerate(report.dataset.classes)
    ]
    for name in report.dataset.superclasses:
        members = [figures.superclasses[name] for _, figures in columns]
        rows.append([name, members[0].n, *map(_accuracy, members)])
    overall = report.clean.figures.overall
    rows.append(["overall", overall.n, *(_accuracy(figures.overall) for _, figures in columns)])
    rows.append(["worst class", "", *(_worst(figures) for _, figures in columns)])
    names = [name for name, _ in columns]
    profiles = [found for name in names if (found := report.profile(name))]  # of all or, with no example, of none
    rows.append(["… corrected", "", *(percent(report.corrected_worst_class(name)) for name in names)])
    if any(profile.worst_tenth is not None for profile in profiles):
        rows.append(["worst tenth", "", *(percent(profile.worst_tenth) for profile in profiles)])
    rows.append(["gap", "", *(percent(figures.gap) for _, figures in columns)])
    rows.append(["spread", "", *(percent(profile.spread) for profile in profiles)])
    headers = ["class", "n", *(name for name, _ in columns)]
    parts = [title(report), *_side_by_side(rows, headers, style)]
    parts += [_curve_table(report, attack, style) for attack in report.attacks if attack.eps_curve]
    parts += [cost_table(report, style)] if report.attacks else []
    parts += ["\n".join(line) for line in (_notes(report, style), _warnings(report, style)) if line]
    return "\n\n".join(parts)


def _side_by_side(rows: list[list[object]], headers: list[str], style: str) -> list[str]:
    """Return one table, or for a terminal several of at most five conditions each, so that lines do not wrap."""
    step = len(headers) if style == "markdown" else ABREAST
    parts = [slice(first, first + step) for first in range(2, max(len(headers), 3), step)]
    return [_table([row[:2] + row[part] for row in rows], headers[:2] + headers[part], style) for part in parts]


def cost_table(report: Report, style: str = "terminal") -> str:
    """Return what each attack spent: passes and queries per attacked example, and seconds."""
    rows = []
    for attack in report.attacks:
        cost = attack.cost
        spent = (cost.forward, cost.backward, cost.queries)
        each = ["–" if n is None or not cost.examples else f"{n / cost.examples:,.1f}" for n in spent]
        rows.append([attack.label, attack.access, cost.examples, *each, f"{cost.seconds:.1f}"])
    headers = ["attack", "access", "attacked", "forward each", "backward each", "queries each", "seconds"]
    return _table(rows, headers, style)


def _curve_table(report: Report, attack: AttackRecord, style: str) -> str:
    """Return accuracy as a function of eps at every second point of the curve."""
    assert attack.eps_curve  # noqa: S101 - the caller looked
    points = list(zip(attack.eps_curve.eps, attack.eps_curve.correct, strict=True))[::CURVE_STRIDE]
    counts = [*zip(report.dataset.classes, report.dataset.n_per_class, strict=True)]
    rows: list[list[object]] = [
        [name, *(percent(row[index] / n if n else None) for _, row in points)] for index, (name, n) in enumerate(counts)
    ]
    total = sum(report.dataset.n_per_class)
    rows.append(["overall", *(percent(sum(row) / total if total else None) for _, row in points)])
    headers = [f"{attack.label}: eps", *(f"{eps:.4g}" for eps, _ in points)]
    return _table(rows, headers, style)


def _notes(report: Report, style: str) -> list[str]:
    lines = _origin(report.source) if report.source else []
    lines += [f"note: {attack.label}: {note}" for attack in report.attacks for note in attack.notes]
    if report.cascade:
        lines.append(
            "note: a cascade: each attack got what stood after those before it; its column is of all so far, and a "
            "curve over eps begins where they ended"
        )
    if report.provenance.precision != "fp32":
        lines.append(f"note: gradients were searched in {report.provenance.precision}; every verdict is fp32")
    return [plain(line, style) for line in lines]


def _origin(source: SourceRecord) -> list[str]:
    """Say where a checkpoint came from, and what others published of it."""
    commit = f", commit {source.revision[:12]}" if source.revision else ""
    clean = {"reproduced": ", its published clean accuracy reproduced", "other data": ", judged on other data"}
    lines = [f"checkpoint: {source.uri}{commit}, sha256 {source.sha256[:12]}{clean.get(source.clean, '')}"]
    lines += [f"note: {note}" for note in source.notes]
    return lines + [f"external: {entry.name} {percent(entry.value)} % ({entry.source})" for entry in source.external]


def _warnings(report: Report, style: str) -> list[str]:
    return [plain(f"warning: {entry.name}: {entry.message}", style) for entry in report.warnings]


def title(report: Report) -> str:
    """Return one line that says what was judged on what under which threat."""
    judged = sum(report.dataset.n_per_class)
    share = f"{judged:,} of {report.dataset.n_available:,}" if report.dataset.limit else f"{judged:,}"
    text = (
        f"{report.subject} on {report.dataset.name}, {report.threat.norm} eps {report.threat.eps}: "
        f"% correct of {share} examples [95 % interval]"
    )
    return plain(text, "terminal")


def comparison_table(rows: Sequence[Row], names: tuple[str, str], style: str = "terminal") -> str:
    """Return two reports side by side: accuracy in percent, difference in points, p-value."""
    cells = [
        [
            row.name,
            percent(row.first),
            percent(row.second),
            "–" if row.difference is None else f"{100 * row.difference:+.1f}",
            "–" if row.p_value is None else f"{row.p_value:.3g}",
        ]
        for row in rows
    ]
    return _table(cells, ["class", *names, "difference", "p (McNemar, Holm)"], style)


def _table(rows: Sequence[Sequence[object]], headers: Sequence[str], style: str) -> str:
    # Numbers arrive formatted; tabulate must not parse a class called "1e3" or "007" as one.
    aligned = ["left", *["right"] * (len(headers) - 1)]
    rows = [[plain(cell, style) for cell in row] for row in rows]
    headers = [plain(header, style) for header in headers]
    return tabulate(rows, headers, tablefmt=FORMATS[style], disable_numparse=True, colalign=aligned)


def plain(cell: object, style: str) -> str:
    """Return text that cannot steer a terminal or break out of a Markdown cell: names come from whoever wrote them."""
    text = "".join(letter if letter.isprintable() else "\ufffd" for letter in str(cell))
    return re.sub(r"([\\`*_<>|]|(?<=\])\()", r"\\\1", text) if style == "markdown" else text


def percent(share: float | None) -> str:
    return "–" if share is None else f"{100 * share:.1f}"


def _accuracy(entry: Accuracy) -> str:
    if entry.accuracy is None or entry.interval is None:
        return "–"
    low, high = entry.interval
    return f"{100 * entry.accuracy:.1f} [{100 * low:.1f}, {100 * high:.1f}]"


def _worst(figures: Figures) -> str:
    worst = figures.worst_class
    if worst is None:
        return "–"
    low, high = worst.interval
    return f"{worst.name}: {100 * worst.accuracy:.1f} [{100 * low:.1f}, {100 * high:.1f}]"
