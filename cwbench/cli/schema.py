"""``cwbench schema``: the JSON schemas of what cwbench writes."""

from pathlib import Path
from typing import Annotated

import typer


def schema(
    write: Annotated[
        Path | None, typer.Option(metavar="PATH", help="Write all schemas into this folder instead.")
    ] = None,
) -> None:
    """Print the JSON schema of reports, or write those of all files."""
    import json

    from cwbench.internal.errors import UsageError
    from cwbench.internal.files import write_atomically
    from cwbench.leaderboard import board
    from cwbench.report.report import SCHEMA_VERSION
    from cwbench.report.report import schema as report_schema
    from cwbench.study.record import schema as study_schema
    from cwbench.sweep.grid import schema as sweep_schema

    texts = {
        f"{name}.json": json.dumps(content, indent=2) + "\n"
        for name, content in {
            f"report.v{SCHEMA_VERSION}": report_schema(),
            f"leaderboard.v{board.SCHEMA_VERSION}": board.schema(),
            "study.v1": study_schema(),
            "sweep": sweep_schema(),
        }.items()
    }
    if write is None:
        typer.echo(next(iter(texts.values())), nl=False)
        return
    if not write.is_dir():
        raise UsageError(f"the folder {write} does not exist", "make it first")
    for name, text in texts.items():
        write_atomically(write / name, text.encode())
        typer.echo(write / name)
