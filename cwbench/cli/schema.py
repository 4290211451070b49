"""``cwbench schema``: the JSON schema of reports."""

from pathlib import Path
from typing import Annotated

import typer


def schema(
    write: Annotated[Path | None, typer.Option(help="Write it into this folder instead of printing it.")] = None,
) -> None:
    """Print the JSON schema of reports, or write it as report.v1.json."""
    import json

    from cwbench.errors import CwbenchError
    from cwbench.files import write_atomically
    from cwbench.report import SCHEMA_VERSION
    from cwbench.report import schema as report_schema

    text = json.dumps(report_schema(), indent=2) + "\n"
    if write is None:
        typer.echo(text, nl=False)
        return
    if not write.is_dir():
        raise CwbenchError(f"the folder {write} does not exist", "make it first")
    path = write / f"report.v{SCHEMA_VERSION}.json"
    write_atomically(path, text.encode())
    typer.echo(path)
