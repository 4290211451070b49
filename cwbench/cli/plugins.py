"""``cwbench plugins``: what is loaded, and what could not be."""

import typer

app = typer.Typer(help="Show which plugins are loaded, and which could not be and why.")


@app.callback(invoke_without_command=True)
def _default(context: typer.Context) -> None:
    if context.invoked_subcommand is None:
        list_()


@app.command("list")
def list_() -> None:
    """List the plugins with what they offer, and those that could not be loaded with the reason."""
    from tabulate import tabulate

    from cwbench.registry import installed

    discovery = installed().discovery
    rows = []
    for origin in discovery.origins:
        offered = [f"{offer.kind} {offer.cls.name}" for offer in discovery.offers if offer.origin == origin]
        rows.append([origin.plugin, origin.distribution, origin.version, ", ".join(offered) or "nothing"])
    typer.echo(tabulate(rows, ["plugin", "distribution", "version", "offers"], disable_numparse=True))
    if discovery.failures:
        typer.echo("\nnot usable:")
        for failure in discovery.failures:
            typer.echo(f"  {failure}")
