"""The board as Markdown: one table of rows for each data, threat and suite."""

from tabulate import tabulate

from cwbench.internal.text import percent, plain
from cwbench.leaderboard.board import Board, Row, Table
from cwbench.leaderboard.entry import CLEAN, WORST_CASE

VERIFIED = {"examples": "examples", "sample": "sample", None: "–"}


def markdown(board: Board) -> str:
    """Return the text of LEADERBOARD.md."""
    parts = [
        "# Leaderboard",
        f"{board.entries:,} entries. Written by `cwbench leaderboard build`; digest `{board.digest[:12]}`.",
        "Ranked by the accuracy of the worst class in the worst case over all attacks of the suite, in % [95 % "
        "interval for all classes at once]. *Ranks* are those that the intervals leave possible: rows that share one "
        "cannot be told apart. *Corrected* removes the bias of having picked the lowest class. With several seeds "
        "figures are means. *Verified*: the saved adversarial examples were predicted again, or attacks ran again on a "
        "random sample.",
    ]
    for table in board.tables:
        parts += [f"## {plain(title(table), 'markdown')}", _table(table)]
    return "\n\n".join(parts) + "\n"


def title(table: Table) -> str:
    """Return what a table is about."""
    return f"{table.dataset}, {table.norm} eps {table.eps:.6g}, suite {table.suite}"


def _table(table: Table) -> str:
    attacks = ", ".join(f"`{plain(attack.label, 'markdown')}`" for attack in table.attacks)
    n = sum(table.n_per_class)
    about = f"{n:,} examples in {len(table.classes):,} classes, split `{table.digest[:12]}`; attacks: {attacks}."
    headers = ["rank", "ranks", "defense", "backbone", "extra data", "seeds", "clean", "robust", "worst class"]
    headers += ["corrected", "gap", "verified"]
    cells = [[plain(cell, "markdown") for cell in _cells(row, table)] for row in table.rows]
    aligned = ["right", "left", "left", "left", "left", "right", "right", "right", "left", "right", "right", "left"]
    return f"{about}\n\n" + tabulate(cells, headers, tablefmt="github", disable_numparse=True, colalign=aligned)


def _cells(row: Row, table: Table) -> list[str]:
    clean, worst = row.conditions[CLEAN], row.conditions[WORST_CASE]
    low, high = worst.worst_interval or (0.0, 1.0)
    name = "–" if worst.worst_class is None else table.classes[worst.worst_class]
    return [
        f"{row.rank}",
        f"{row.best_rank}–{row.last_rank}",
        row.subject,
        str(row.backbone["name"]) if row.backbone else "–",
        row.data,
        f"{len(row.seeds)}",
        percent(clean.overall),
        percent(worst.overall),
        f"{name}: {percent(worst.worst)} [{100 * low:.1f}, {100 * high:.1f}]",
        percent(row.corrected),
        percent(worst.gap),
        ", ".join(dict.fromkeys(VERIFIED[means] for means in row.verified)),
    ]
