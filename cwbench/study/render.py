"""Writing a study down: JSON, figures, Markdown, and one page that tells it."""

import base64
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from tabulate import tabulate

from cwbench.internal.errors import CwbenchError
from cwbench.internal.files import write_atomically, writing_into
from cwbench.internal.text import plain
from cwbench.report.plots import rendered
from cwbench.study.figures import PIECES, Piece
from cwbench.study.findings.finding import Finding
from cwbench.study.record import PieceRecord, read_record
from cwbench.sweep.engine import Item

PAGE, MARKDOWN, FIGURES = "index.html", "study.md", "figures"


@dataclass(frozen=True)
class Studied:
    """What was written."""

    folder: Path
    records: tuple[PieceRecord, ...]
    """Of this call."""
    failed: tuple[Item, ...]

    @property
    def page(self) -> Path:
        return self.folder / PAGE


@dataclass(frozen=True)
class _Shown:
    """A finding as the page and the Markdown have it."""

    finding: Finding
    name: str
    """Of its figure's files."""
    images: dict[str, bytes] = field(default_factory=dict)
    """By format."""

    @property
    def image(self) -> str | None:
        """Return the figure as an address that holds all of it."""
        content = self.images.get("svg")
        return f"data:image/svg+xml;base64,{base64.b64encode(content).decode()}" if content else None

    @property
    def table(self) -> list[list[str]]:
        return self.finding.table()


def write(records: Sequence[PieceRecord], folder: Path, failed: Sequence[Item]) -> Studied:
    """Write the records, their figures, and Markdown and page of everything of the same scale that the folder holds.

    Raises:
        CwbenchError: the folder is not writable.
    """
    with writing_into(folder, "choose another with --out"):
        (folder / FIGURES).mkdir(parents=True, exist_ok=True)
    shown = {record.piece: _drawn(record) for record in records}
    for record in records:
        write_atomically(folder / f"{record.piece}.json", record.to_json().encode())
        for one in shown[record.piece]:
            for kind, content in one.images.items():
                write_atomically(folder / FIGURES / f"{one.name}.{kind}", content)
    every = {record.piece: record for record in _beside(records, folder)}
    told = [
        (piece, every[piece.name], shown.get(piece.name) or _drawn(every[piece.name]))
        for piece in PIECES
        if piece.name in every
    ]
    write_atomically(folder / MARKDOWN, _markdown(told).encode())
    write_atomically(folder / PAGE, _page(told).encode())
    return Studied(folder, tuple(records), tuple(failed))


def _beside(records: Sequence[PieceRecord], folder: Path) -> list[PieceRecord]:
    """Return the records, and those that lie in the folder already and are of the same scale."""
    names = {record.piece for record in records}
    others = [folder / f"{piece.name}.json" for piece in PIECES if piece.name not in names]
    kept = []
    for path in others:
        if path.is_file():
            try:
                record = read_record(path)
            except CwbenchError:
                continue  # of another version: it is written anew when its piece is
            if record.scale.shared == records[0].scale.shared:
                kept.append(record)
    return [*records, *kept]


def _drawn(record: PieceRecord) -> list[_Shown]:
    many = len(record.findings) > 1
    shown = []
    for number, finding in enumerate(record.findings, 1):
        name = f"{record.piece}-{number}" if many else record.piece
        figure = finding.figure()
        shown.append(_Shown(finding, name, rendered(figure) if figure else {}))
    return shown


_Told = Sequence[tuple[Piece, PieceRecord, list[_Shown]]]


def _markdown(told: _Told) -> str:
    first = told[0][1]
    lines = [f"# The study on {plain(_dataset(first), 'markdown')}", "", plain(_scale(first), "markdown"), ""]
    for piece, record, shown in told:
        lines += [f"## {_label(piece)}: {piece.heading}", "", f"*The study:* {piece.told}", ""]
        for one in shown:
            lines += [f"**{plain(one.finding.title, 'markdown')}.** {plain(one.finding.summary(), 'markdown')}", ""]
            if one.images:
                lines += [f"![{plain(one.finding.title, 'markdown')}]({FIGURES}/{one.name}.svg)", ""]
            lines += [_table(one.table), ""]
        for table in record.published:
            lines += [f"{plain(table.of, 'markdown')}:", "", _table(table.rows), ""]
        lines += [f"Missing: {plain(note, 'markdown')}\n" for note in record.notes]
        lines += [f"Warning: {plain(warning, 'markdown')}\n" for warning in record.warnings]
        lines += [f"<sub>{plain(_made(record), 'markdown')}</sub>", ""]
    return "\n".join(lines).rstrip() + "\n"


def _table(cells: list[list[str]]) -> str:
    rows = [[plain(cell, "markdown") for cell in row] for row in cells]
    return tabulate(rows[1:], rows[0], tablefmt="github", disable_numparse=True)


def _page(told: _Told) -> str:
    first = told[0][1]
    style = (resources.files(__package__) / "page.css").read_text(encoding="utf-8")
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    environment = Environment(
        loader=PackageLoader(__package__, "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template("page.html").render(
        dataset=_dataset(first),
        scale=_scale(first),
        told=told,
        label=_label,
        made=_made,
        style=Markup(style),  # noqa: S704 - our own file
        policy=f"default-src 'none'; style-src 'sha256-{digest}'; img-src data:; base-uri 'none'; form-action 'none'",
    )


def _label(piece: Piece) -> str:
    kind = piece.name.rstrip("0123456789")
    number = piece.name.removeprefix(kind)
    return f"{kind.capitalize()} {number}".strip()


def _made(record: PieceRecord) -> str:
    """Say when and with what a piece was found."""
    return f"{record.created:%Y-%m-%d}, cwbench {record.cwbench}, PyTorch {record.torch}, {record.device}"


def _dataset(record: PieceRecord) -> str:
    return record.findings[0].dataset if record.findings else str(record.scale.dataset)


def _scale(record: PieceRecord) -> str:
    """Say what all of it was done with."""
    scale = record.scale
    seeds = f"seed {scale.seeds[0]}" if len(scale.seeds) == 1 else f"seeds {', '.join(map(str, scale.seeds))}"
    parts = [f"recipe {scale.recipe or 'default'}", seeds]
    parts += [f"{scale.limit:,} test examples, evenly over the classes"] if scale.limit else ["the whole test split"]
    parts += [f"defenses {', '.join(map(str, scale.defenses))}"] if scale.defenses else []
    parts += [f"with {name} = {value}" for name, value in scale.set.items()]
    return f"{'; '.join(parts)}."
