"""``cwbench leaderboard``: submit, check, build, serve."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(no_args_is_help=True)

BoardOption = Annotated[Path, typer.Option("--board", metavar="DIR", help="The board's folder.")]
BOARD = Path("leaderboard")


@app.command()
def submit(
    reports: Annotated[list[Path], typer.Argument(help="report.json files, in the folders their runs wrote.")],
    board: BoardOption = BOARD,
) -> None:
    """Recount reports and make them entries of the board: all of them, or none."""
    from cwbench.leaderboard.layout import Place
    from cwbench.leaderboard.submit import submit as submitted

    for path in submitted(reports, Place(board)):
        typer.echo(path)


@app.command()
def check(board: BoardOption = BOARD) -> None:
    """Read and recount every entry, and tell each that may not stand on the board."""
    from cwbench.leaderboard.build import check as checked
    from cwbench.leaderboard.layout import Place

    with _each_problem():
        sound = checked(Place.existing(board))
    typer.echo(f"sound: {_counted(len(sound.entries), 'entry')}, {len(sound.verifications):,} of them verified")


@app.command()
def build(board: BoardOption = BOARD) -> None:
    """Check the board and render LEADERBOARD.md, leaderboard.json and site/."""
    from cwbench.leaderboard.build import build as built
    from cwbench.leaderboard.layout import PAGE, Place

    with _each_problem():
        found, changed = built(Place.existing(board))
    state = "" if changed else ", which was up to date"
    size = f"{_counted(found.entries, 'entry')} in {_counted(len(found.tables), 'table')}"
    typer.echo(f"{size}: {board / PAGE}{state}")


@app.command()
def serve(
    board: BoardOption = BOARD,
    port: Annotated[int, typer.Option(metavar="INTEGER", min=0, max=65535, help="0 takes any that is free.")] = 8000,
) -> None:
    """Serve the board's page on 127.0.0.1 until interrupted."""
    from cwbench.leaderboard.layout import Place
    from cwbench.leaderboard.serve import serving

    with serving(Place.existing(board), port) as server:
        typer.echo(f"http://127.0.0.1:{server.server_port}/ (ctrl-C ends it)")
        try:
            server.serve_forever()
        except KeyboardInterrupt:
            typer.echo("stopped", err=True)


@app.command()
def suites(
    dataset: Annotated[list[str] | None, typer.Argument(help="Datasets; all installed ones by default.")] = None,
) -> None:
    """Print which attacks the suites of datasets are made of, as a board's suites.json has them."""
    import json

    from cwbench.plugins.attack_suites import suites_of
    from cwbench.plugins.registry import installed

    typer.echo(json.dumps(suites_of(installed(), dataset or None), indent=1))


def _counted(n: int, noun: str) -> str:
    many = f"{noun[:-1]}ies" if noun.endswith("y") else f"{noun}s"
    return f"{n:,} {noun if n == 1 else many}"


@contextmanager
def _each_problem() -> Iterator[None]:
    """Tell every problem of a board before the last line says how many there are."""
    from cwbench.leaderboard.build import UnsoundError

    try:
        yield
    except UnsoundError as error:
        for problem in error.problems:
            typer.echo(str(problem), err=True)
        raise
