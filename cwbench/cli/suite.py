"""``cwbench suite``: run, status, plan."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cwbench.suite.run import Engine, Item
    from cwbench.suite.spec import SuiteSpec

app = typer.Typer(help="Grids of defense × attack × dataset × seed.", no_args_is_help=True)

FileArgument = Annotated[Path, typer.Argument(help="A suite file, for example suites/digits-60.yaml.")]
OutOption = Annotated[
    str, typer.Option(help="Where results are kept: a folder, or an address that fsspec reaches, such as s3://…")
]
OUT = "runs"


@app.command()
def run(
    file: FileArgument,
    out: OutOption = OUT,
    executor: Annotated[str, typer.Option(help="local or ray.")] = "local",
    workers: Annotated[
        int | None, typer.Option(min=1, max=4096, help="Local processes; by default as many as there are CPUs for.")
    ] = None,
    store: Annotated[
        str | None,
        typer.Option(help="Checkpoints that machines share; with ray OUT/checkpoints. A folder or an fsspec address."),
    ] = None,
) -> None:
    """Do every cell that is not finished. Interrupted or killed, the same command goes on."""
    from cwbench.allocator import keep_freed_memory
    from cwbench.registry import installed
    from cwbench.suite.check import checked_cells
    from cwbench.suite.run import run_all
    from cwbench.suite.spec import read_suite
    from cwbench.suite.table import live, summary

    keep_freed_memory()
    suite = read_suite(file)
    cells = checked_cells(suite, installed())
    engine = _engine(suite, out, executor, workers, store)
    with live() as watch:
        items = run_all([(cell.name, cell.spec) for cell in cells], engine, installed(), watch=watch)
    typer.echo(summary(items))
    typer.echo(f"reports: {engine.results.place.url}")
    leave(items)


@app.command()
def status(file: FileArgument, out: OutOption = OUT) -> None:
    """Tell which cells are finished, which failed and why, and which are to come."""
    from cwbench.registry import installed
    from cwbench.suite.check import checked_cells
    from cwbench.suite.run import survey
    from cwbench.suite.spec import read_suite
    from cwbench.suite.table import summary

    suite = read_suite(file)
    cells = checked_cells(suite, installed())
    typer.echo(
        summary(survey([(cell.name, cell.spec) for cell in cells], _engine(suite, out, "local", 1, None), installed()))
    )


@app.command()
def plan(
    file: FileArgument,
    out: OutOption = OUT,
    workers: Annotated[int | None, typer.Option(min=1, max=4096, help="How many cells are done at a time.")] = None,
    seconds: Annotated[float, typer.Option(min=1, max=3600, help="How long the networks are timed.")] = 60,
) -> None:
    """Estimate what the unfinished cells cost: passes, and hours from timing their networks on this machine."""
    import torch

    from cwbench.plan import choose_device
    from cwbench.registry import installed
    from cwbench.suite.check import checked_cells
    from cwbench.suite.cost import estimate
    from cwbench.suite.run import survey
    from cwbench.suite.spec import read_suite
    from cwbench.suite.table import cost_table

    suite = read_suite(file)
    cells = checked_cells(suite, installed())
    engine = _engine(suite, out, "local", workers, None)
    torch.set_num_threads(suite.resources.cpus)
    items = survey([(cell.name, cell.spec) for cell in cells], engine, installed())
    device = choose_device(cells[0].spec.device).type
    typer.echo(cost_table(estimate(items, installed(), seconds), device, engine.workers))


def _engine(suite: "SuiteSpec", out: str, executor: str, workers: int | None, store: str | None) -> "Engine":
    from cwbench.suite.run import Engine, known_executor, room

    return Engine(
        out=out,
        executor=known_executor(executor),
        workers=workers or room(suite.resources),
        resources=suite.resources,
        retries=suite.retries,
        shared=store,
    )


def leave(items: "Sequence[Item]", what: str = "cell") -> None:
    """End with exit code 1 where something met a bug, and with 2 where all that failed can be put right."""
    from cwbench.errors import CwbenchError
    from cwbench.suite.outcome import Failed

    failed = [item.outcome for item in items if isinstance(item.outcome, Failed)]
    if not failed:
        return
    if any(outcome.bug for outcome in failed):
        typer.echo(next((outcome.trace for outcome in failed if outcome.trace), ""), err=True)
        raise typer.Exit(1)
    raise CwbenchError(f"{len(failed)} of {len(items)} {what}s failed", "the same command tries them again")
