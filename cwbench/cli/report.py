"""``cwbench report``: show, validate, plot and compare."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(no_args_is_help=True)

Files = Annotated[list[Path], typer.Argument(help="report.json files.")]


class Style(StrEnum):
    """How tables are written."""

    TERMINAL = "terminal"
    MARKDOWN = "markdown"


StyleOption = Annotated[Style, typer.Option("--format", help="terminal or markdown.")]


@app.command()
def show(files: Files, style: StyleOption = Style.TERMINAL) -> None:
    """Print the class-wise table of each report."""
    from cwbench.report.report import read_report
    from cwbench.report.tables import report_table

    typer.echo("\n\n".join(report_table(read_report(file), style) for file in files))


@app.command()
def validate(files: Files) -> None:
    """Check version, schema, that all counts add up, and the predictions beside each report."""
    from cwbench.report.predictions import read_predictions
    from cwbench.report.report import read_report

    for file in files:
        report = read_report(file)
        columns = read_predictions(report, file.parent)
        beside = "predictions agree" if columns is not None else "no predictions beside it"
        typer.echo(f"{file}: valid, schema version {report.schema_version}, {beside}")


@app.command()
def plot(
    files: Files,
    out: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="The folder to write into; figures/ beside the report by default."),
    ] = None,
) -> None:
    """Draw class bars, confusion, accuracy against eps and epoch curves, as PNG and SVG."""
    from cwbench.internal.errors import UsageError
    from cwbench.report.plots import write_figures
    from cwbench.report.report import read_report

    if out and len(files) > 1:
        raise UsageError("several reports would overwrite each other's figures", "leave --out away")
    for file, report in [(file, read_report(file)) for file in files]:
        for path in write_figures(report, out or file.parent / "figures"):
            typer.echo(path)


@app.command()
def compare(
    first: Annotated[Path, typer.Argument(help="A report.")],
    second: Annotated[Path, typer.Argument(help="Another report on the same classes.")],
    condition: Annotated[
        str | None,
        typer.Option(metavar="TEXT", help="clean, or an attack that both have; all that both have by default."),
    ] = None,
    style: StyleOption = Style.TERMINAL,
) -> None:
    """Compare two reports class by class, with an exact paired test where both judged the same examples."""
    from cwbench.report.compare import compare as compared
    from cwbench.report.compare import shared_conditions
    from cwbench.report.predictions import read_predictions
    from cwbench.report.report import read_report
    from cwbench.report.tables import comparison_table

    reports = read_report(first), read_report(second)
    columns = read_predictions(reports[0], first.parent), read_predictions(reports[1], second.parent)
    tables = []
    paired = True
    for name in [condition] if condition else shared_conditions(*reports):
        rows = compared(*reports, condition=name, columns=columns)
        paired = paired and rows[0].p_value is not None
        tables.append(f"{name}, % correct\n\n{comparison_table(rows, (reports[0].subject, reports[1].subject), style)}")
    typer.echo("\n\n".join(tables))
    if not paired:
        typer.echo("\nno paired test: they judged different examples, or predictions do not lie beside both")
    left_out = {*reports[0].labels(), *reports[1].labels()} - set(shared_conditions(*reports))
    if left_out and not condition:
        typer.echo(f"\nnot in both under one threat and one setting: {', '.join(sorted(left_out))}")
