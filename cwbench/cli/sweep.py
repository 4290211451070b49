"""``cwbench sweep``: run, status, plan."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cwbench.sweep.engine import Engine, Item
    from cwbench.sweep.grid import SweepSpec

app = typer.Typer(no_args_is_help=True)

FileArgument = Annotated[Path, typer.Argument(help="A sweep file, for example sweeps/digits-60.yaml.")]
OutOption = Annotated[
    str,
    typer.Option(
        metavar="TEXT", help="Where results are kept: a folder, or an address that fsspec reaches, such as s3://…"
    ),
]
OUT = "runs"


@app.command()
def run(
    file: FileArgument,
    out: OutOption = OUT,
    executor: Annotated[str, typer.Option(metavar="TEXT", help="local or ray.")] = "local",
    workers: Annotated[
        int | None,
        typer.Option(
            metavar="INTEGER", min=1, max=4096, help="Local processes; by default as many as there are CPUs for."
        ),
    ] = None,
    store: Annotated[
        str | None,
        typer.Option(
            metavar="TEXT",
            help="Checkpoints that machines share; with ray OUT/checkpoints. A folder or an fsspec address.",
        ),
    ] = None,
) -> None:
    """Do every cell that is not finished. Interrupted or killed, the same command goes on."""
    from cwbench.internal.malloc import keep_freed_memory
    from cwbench.plugins.registry import installed
    from cwbench.sweep.check import checked_cells
    from cwbench.sweep.engine import run_all
    from cwbench.sweep.grid import read_sweep
    from cwbench.sweep.progress_table import live, summary

    keep_freed_memory()
    sweep = read_sweep(file)
    cells = checked_cells(sweep, installed())
    engine = _engine(sweep, out, executor, workers, store)
    with live() as watch:
        items = run_all([(cell.name, cell.spec) for cell in cells], engine, installed(), watch=watch)
    typer.echo(summary(items))
    typer.echo(f"reports: {engine.results.place.url}")
    leave(items)


@app.command()
def status(file: FileArgument, out: OutOption = OUT) -> None:
    """Tell which cells are finished, which failed and why, and which are to come."""
    from cwbench.plugins.registry import installed
    from cwbench.sweep.check import checked_cells
    from cwbench.sweep.engine import survey
    from cwbench.sweep.grid import read_sweep
    from cwbench.sweep.progress_table import summary

    sweep = read_sweep(file)
    cells = checked_cells(sweep, installed())
    typer.echo(
        summary(survey([(cell.name, cell.spec) for cell in cells], _engine(sweep, out, "local", 1, None), installed()))
    )


@app.command()
def plan(
    file: FileArgument,
    out: OutOption = OUT,
    workers: Annotated[
        int | None, typer.Option(metavar="INTEGER", min=1, max=4096, help="How many cells are done at a time.")
    ] = None,
    seconds: Annotated[
        float, typer.Option(metavar="NUMBER", min=1, max=3600, help="How long the networks are timed.")
    ] = 60,
) -> None:
    """Estimate what the unfinished cells cost: passes, and hours from timing their networks on this machine."""
    import torch

    from cwbench.plan import choose_device
    from cwbench.plugins.registry import installed
    from cwbench.sweep.check import checked_cells
    from cwbench.sweep.cost import estimate
    from cwbench.sweep.engine import survey
    from cwbench.sweep.grid import read_sweep
    from cwbench.sweep.progress_table import cost_table

    sweep = read_sweep(file)
    cells = checked_cells(sweep, installed())
    engine = _engine(sweep, out, "local", workers, None)
    torch.set_num_threads(sweep.resources.cpus)
    items = survey([(cell.name, cell.spec) for cell in cells], engine, installed())
    device = choose_device(cells[0].spec.device).type
    typer.echo(cost_table(estimate(items, installed(), seconds), device, engine.workers))


def _engine(sweep: "SweepSpec", out: str, executor: str, workers: int | None, store: str | None) -> "Engine":
    from cwbench.sweep.engine import Engine, known_executor, room

    return Engine(
        out=out,
        executor=known_executor(executor),
        workers=workers or room(sweep.resources),
        resources=sweep.resources,
        retries=sweep.retries,
        shared=store,
    )


def leave(items: "Sequence[Item]", what: str = "cell") -> None:
    """End with exit code 1 where something met a bug, and with 2 where all that failed can be put right."""
    from cwbench.internal.errors import UsageError
    from cwbench.sweep.outcome import Failed

    failed = [item.outcome for item in items if isinstance(item.outcome, Failed)]
    if not failed:
        return
    if any(outcome.bug for outcome in failed):
        typer.echo(next((outcome.trace for outcome in failed if outcome.trace), ""), err=True)
        raise typer.Exit(1)
    raise UsageError(f"{len(failed)} of {len(items)} {what}s failed", "the same command tries them again")
