"""``cwbench verify``."""

from pathlib import Path
from typing import Annotated

import typer


def verify(
    report: Annotated[Path, typer.Argument(help="A report.json in the folder that its run wrote.")],
    checkpoint: Annotated[
        str | None, typer.Option(help="The checkpoint's folder or digest; the one that the report names by default.")
    ] = None,
    data: Annotated[Path | None, typer.Option(help="The folder with the data; also CWBENCH_DATA.")] = None,
    sample: Annotated[
        int | None,
        typer.Option(min=1, help="Attack so many examples again: 100, or 25 if theirs are saved."),
    ] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1, mps.")] = "auto",
    board: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Record it on this board, where the report is an entry.")
    ] = None,
) -> None:
    """Reproduce a report: predict its saved examples again, or run its attacks again on a random sample."""
    from datetime import UTC, datetime

    import torch

    from cwbench import __version__
    from cwbench.checkpoints import Store
    from cwbench.leaderboard.place import Place, entry_id
    from cwbench.leaderboard.verification import Verification, record, require_entry
    from cwbench.plan import choose_device, data_root
    from cwbench.registry import installed
    from cwbench.report import read_report
    from cwbench.verify import verify as verified

    place = Place.existing(board) if board else None
    if place:
        require_entry(read_report(report), place)
    found = verified(
        report,
        registry=installed(),
        store=Store.default(),
        root=data_root(data),
        device=choose_device(device),
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
