"""``cwbench hub``: checkpoints from and to the Hugging Face hub."""

from pathlib import Path
from typing import Annotated, Any

import typer

from cwbench.cli.options import OptionsOf, takes_options
from cwbench.spec import EvaluationSettings, RunSpec

app = typer.Typer(no_args_is_help=True)


@app.command("pull")
def pull(uri: Annotated[str, typer.Argument(help="hf://user/repo[@revision], or one file of it.")]) -> None:
    """Fetch a checkpoint, check it, and keep it, so that it can be judged offline."""
    from cwbench.checkpoints.hub.address import address
    from cwbench.checkpoints.hub.fetch import fetch
    from cwbench.checkpoints.store import Store, pulled

    at = address(uri)
    if at.file:
        found = fetch(at, [at.file])
        typer.echo(f"{at} at commit {found.commit}: {found.files[at.file]}")
        typer.echo(f"judge it with: cwbench run --checkpoint {at} --backbone NAME --dataset NAME")
        return
    checkpoint, store = pulled(at), Store.default()
    if not store.holds(checkpoint.key):
        store.save(checkpoint)
    about, commit = checkpoint.identity, checkpoint.published and checkpoint.published.commit
    typer.echo(
        f"{at} at commit {commit}: {about['defense']['name']} on {about['dataset']['name']}, "
        f"kept as {checkpoint.key[:12]}"
    )
    typer.echo(f"judge it with: cwbench run --checkpoint {checkpoint.key[:12]}")


@app.command("push")
@takes_options(OptionsOf(RunSpec, only=["data"]), OptionsOf(EvaluationSettings, only=["device"]))
def push(
    options: dict[str, Any],
    checkpoint: Annotated[str, typer.Argument(help="A digest or folder; see cwbench list checkpoints.")],
    repo: Annotated[str, typer.Argument(help="user/repo, or user/repo@branch.")],
    report: Annotated[
        Path | None,
        typer.Option(metavar="PATH", help="Its report.json; the one with most attacks below --runs by default."),
    ] = None,
    runs: Annotated[Path, typer.Option(metavar="PATH", help="Where to look for its reports.")] = Path("runs"),
    private: Annotated[bool, typer.Option("--private", help="Make the repository private, if it is new.")] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
) -> None:
    """Publish a checkpoint: weights, description, report and a model card with the class-wise table."""
    import sys

    from cwbench.checkpoints.hub.address import address
    from cwbench.checkpoints.store import Store
    from cwbench.internal.errors import UsageError
    from cwbench.pipeline import publish
    from cwbench.plan import choose_device, data_root
    from cwbench.plugins.registry import installed

    at = address(repo)
    if at.file:
        raise UsageError(f"{repo!r} names a file", "name a repository: user/repo")
    found = Store.default().opened(checkpoint)
    reports = [report] if report else publish.reports_of(found, runs)
    if not reports:
        raise UsageError(
            f"no report below {runs} is of checkpoint {found.key[:12]}",
            f"judge it first, cwbench run --checkpoint {found.key[:12]}, or name one with --report",
        )
    bundle = publish.bundle(
        found,
        reports[-1],
        at,
        registry=installed(),
        root=data_root(options.get("data")),
        device=choose_device(options.get("device", "auto")),
    )
    typer.echo(f"to {at}, {'private' if private else 'public'} if it is new, in one commit ({bundle.summary}):")
    for name, content in bundle.files.items():
        typer.echo(f"  {name}  {len(content):,} bytes")
    typer.echo(f"  (the report is {reports[-1]})")
    if not yes:
        if not sys.stdin.isatty():
            raise UsageError("nothing was uploaded: nobody is there to ask", "give --yes to upload without asking")
        if not typer.confirm("upload?"):
            typer.echo("nothing was uploaded")
            return
    typer.echo(publish.push(bundle, at, private=private))
