"""The board as one static page: no network, no framework, and nothing in it runs but its own script."""

import base64
import hashlib
import json
from collections.abc import Sequence
from functools import cache
from importlib import resources
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from cwbench.internal.text import percent
from cwbench.leaderboard.board import Board, Row, Standing, Table
from cwbench.leaderboard.entry import Entry
from cwbench.leaderboard.markdown import VERIFIED

COLUMNS = (
    ("rank", "rank", "number"),
    ("ranks", "ranks", "wide"),
    ("subject", "defense", ""),
    ("backbone", "backbone", "wide"),
    ("data", "extra data", "wide"),
    ("seeds", "seeds", "number wide"),
    ("clean", "clean", "number wide"),
    ("robust", "robust", "number"),
    ("worst", "worst class", "number"),
    ("low", "interval", "wide"),
    ("name", "which", "wide"),
    ("corrected", "corrected", "number wide"),
    ("gap", "gap", "number wide"),
    ("verified", "verified", "wide"),
)
"""Key, label and style of the columns of a ranking, after the box that picks a row."""
DIGITS = 8
"""Decimals of a share: few enough for a small page, and enough that a percentage is rounded as everywhere else."""


def page(board: Board, entries: Sequence[Entry]) -> str:
    """Return the HTML of a board.

    Text of entries reaches the page in two ways: escaped by the template, and as JSON that the script only ever turns
    into text. The policy allows the page's own script and style by their digests and nothing else: no request, no
    other script, also if one were smuggled in.
    """
    script, style = _asset("page.js"), _asset("page.css")
    policy = (
        f"default-src 'none'; script-src '{_hash(script)}'; style-src '{_hash(style)}'; img-src data:; "
        "base-uri 'none'; form-action 'none'"
    )
    return (
        _environment()
        .get_template("page.html")
        .render(
            board=board,
            columns=COLUMNS,
            policy=policy,
            script=Markup(script),  # noqa: S704 - our own file
            style=Markup(style),  # noqa: S704 - our own file
            data=Markup(_script_safe(_payload(board, entries))),  # noqa: S704 - escaped for where it stands
        )
    )


def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("cwbench.leaderboard", "static"), autoescape=True, undefined=StrictUndefined
    )
    environment.filters |= {
        "percent": percent,
        "interval": lambda pair: "–" if pair is None else f"[{percent(pair[0])}, {percent(pair[1])}]",
        "means": lambda means: ", ".join(dict.fromkeys(VERIFIED[found] for found in means)),
    }
    return environment


@cache
def _asset(name: str) -> str:
    return resources.files("cwbench.leaderboard").joinpath("static", name).read_text(encoding="utf-8")


def _hash(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def _script_safe(text: str) -> str:
    """Escape what could end a script element or begin a comment in it; JSON reads the same."""
    for letter in "<>&\u2028\u2029":
        text = text.replace(letter, f"\\u{ord(letter):04x}")
    return text


def _payload(board: Board, entries: Sequence[Entry]) -> str:
    places = {
        entry: (t, r)
        for t, table in enumerate(board.tables)
        for r, row in enumerate(table.rows)
        for entry in row.entries
    }
    tables = json.dumps([_table(table) for table in board.tables], ensure_ascii=False, separators=(",", ":"))
    parts = []
    for entry in sorted(entries, key=lambda entry: entry.id):
        table, row = places[entry.id]
        head = {"id": entry.id, "table": table, "row": row, "seed": entry.seed, "correct": entry.correct}
        opening = json.dumps(head, ensure_ascii=False, separators=(",", ":"))[:-1]
        parts.append(f'"{entry.id}":{opening},{entry.detail[1:]}')
    return f'{{"tables":{tables},"entries":{{{",".join(parts)}}}}}'


def _table(table: Table) -> dict[str, Any]:
    return {
        "dataset": table.dataset,
        "norm": table.norm,
        "eps": float(f"{table.eps:.6g}"),
        "suite": table.suite,
        "classes": table.classes,
        "superclasses": table.superclasses,
        "n_per_class": table.n_per_class,
        "attacks": [{"label": attack.label, "access": attack.access} for attack in table.attacks],
        "rows": [_row(row) for row in table.rows],
    }


def _row(row: Row) -> dict[str, Any]:
    content = row.model_dump(mode="json", exclude={"conditions", "backbone", "corrected"})
    return content | {
        "backbone": row.backbone["name"] if row.backbone else None,
        "corrected": _short(row.corrected),
        "conditions": {name: _standing(standing) for name, standing in row.conditions.items()},
    }


def _standing(standing: Standing) -> dict[str, Any]:
    return {
        "overall": _short(standing.overall),
        "worst": _short(standing.worst),
        "worst_class": standing.worst_class,
        "interval": standing.worst_interval and [_short(end) for end in standing.worst_interval],
        "gap": _short(standing.gap),
        "spread": _short(standing.spread),
        "tenth": _short(standing.worst_tenth),
        "per_interval": standing.per_interval,
        "classes": [_short(share) for share in standing.classes],
        "superclasses": {name: _short(share) for name, share in standing.superclasses.items()},
    }


def _short(share: float | None) -> float | None:
    return None if share is None else round(share, DIGITS)
