"""``cwbench verify``."""

from pathlib import Path
from typing import Annotated, Any

import typer

from cwbench.cli.options import OptionsOf, takes_options
from cwbench.spec import EvaluationSettings, RunSpec


@takes_options(OptionsOf(EvaluationSettings, only=["device"]), OptionsOf(RunSpec, only=["data"]))
def verify(
    options: dict[str, Any],
    report: Annotated[Path, typer.Argument(help="A report.json in the folder that its run wrote.")],
    checkpoint: Annotated[
        str | None,
        typer.Option(
            metavar="TEXT", help="The checkpoint's folder or digest; the one that the report names by default."
        ),
    ] = None,
    sample: Annotated[
        int | None,
        typer.Option(metavar="INTEGER", min=1, help="Attack this many examples again: 100, or 25 if theirs are saved."),
    ] = None,
    board: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Record it on this board, where the report is an entry.")
    ] = None,
) -> None:
    """Reproduce a report from its saved examples, or by attacking a random sample again."""
    from datetime import UTC, datetime

    import torch

    from cwbench import __version__
    from cwbench.checkpoints.store import Store
    from cwbench.leaderboard.layout import Place, entry_id
    from cwbench.leaderboard.verification import Verification, record, require_entry
    from cwbench.pipeline.session import Session
    from cwbench.pipeline.verify import verify as verified
    from cwbench.plan import data_root
    from cwbench.plugins.registry import installed
    from cwbench.report.report import read_report

    place = Place.existing(board) if board else None
    if place:
        require_entry(read_report(report), place)
    found = verified(
        report,
        Session(installed(), Store.default()),
        root=data_root(options.get("data")),
        device=options.get("device", "auto"),
        checkpoint=checkpoint,
        sample=sample,
    )
    how = "random examples attacked again"
    if found.means == "examples":
        how = f"saved examples and clean images predicted again and {found.attacked:,} {how}"
    typer.echo(f"{report}: reproduced, {found.examples:,} {how}, {found.differing:,} verdicts differ")
    for label in found.left_out:
        typer.echo(f"not run again: {label}, whose substitute is not stored here")
    if place:
        verification = Verification(
            entry=entry_id(found.report),
            digest=str(found.report.digest),
            means=found.means,
            examples=found.examples,
            differing=found.differing,
            attacks=list(found.attacks),
            created=datetime.now(UTC),
            cwbench=__version__,
            torch=torch.__version__,
        )
        typer.echo(record(verification, found.report, place))
