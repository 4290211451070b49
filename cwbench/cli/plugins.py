"""``cwbench plugins``: what is loaded, what could not be, whether it keeps its contract, and the start of a new one."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer()


class Kind(StrEnum):
    """What a plugin can be."""

    ATTACK = "attack"
    DEFENSE = "defense"
    DATASET = "dataset"
    BACKBONE = "backbone"


@app.callback(invoke_without_command=True)
def _default(context: typer.Context) -> None:
    if context.invoked_subcommand is None:
        list_()


@app.command("list")
def list_() -> None:
    """List the plugins with what they offer, and those that could not be loaded with the reason."""
    from tabulate import tabulate

    from cwbench.plugins.registry import installed

    discovery = installed().discovery
    rows = []
    for origin in discovery.origins:
        offered = [f"{offer.kind} {offer.cls.name}" for offer in discovery.offers if offer.origin == origin]
        offered += [hook.removeprefix("cwbench_").replace("_", " ") for hook in discovery.hooks_of(origin)]
        rows.append([origin.plugin, origin.distribution, origin.version, ", ".join(offered) or "nothing"])
    typer.echo(tabulate(rows, ["plugin", "distribution", "version", "offers"], disable_numparse=True))
    if discovery.failures:
        typer.echo("\nnot usable:")
        for failure in discovery.failures:
            typer.echo(f"  {failure}")


@app.command("new")
def new(
    name: Annotated[str, typer.Argument(help="What users will type: lower-case letters, digits, hyphens.")],
    kind: Annotated[Kind, typer.Option(help="What it is.")],
    into: Annotated[Path, typer.Option("--into", metavar="PATH", help="Where its folder is made.")] = Path(),
) -> None:
    """Begin a plugin: a distribution of its own with one module, one test that checks its contract, and a README."""
    from cwbench.plugins.scaffold import create

    folder = create(name, kind.value, into)
    typer.echo(f"{folder}: install it with `pip install -e {folder}`, check it with `cwbench plugins check {name}`")


@app.command("check")
def check(
    plugin: Annotated[
        str,
        typer.Argument(
            metavar="NAME[:FIELD=VALUE,...]", help="An attack, defense, dataset or backbone, or a whole distribution."
        ),
    ],
    data: Annotated[Path | None, typer.Option(metavar="PATH", help="For a dataset: the folder with its data.")] = None,
) -> None:
    """Check that a plugin keeps the rules of cwbench.api, and say in words where it does not."""
    from cwbench.internal.errors import UsageError
    from cwbench.internal.validation import validated
    from cwbench.plan import data_root
    from cwbench.plugins.contract.named import check_offer, find_plugins
    from cwbench.plugins.naming import PluginSpec
    from cwbench.plugins.registry import installed

    spec = validated(PluginSpec, plugin, "the plugin")
    matches = find_plugins(spec, installed())
    broken = []
    for offer in matches.offers:
        found = check_offer(offer, spec.fields, data_root(data))
        if found.unchecked and matches.named:
            raise UsageError(f"{found.subject}: not checked whole: {found.unchecked.message}", found.unchecked.hint)
        typer.echo(found)
        broken += [f"{found.kind} {found.broken}"] if found.broken else []
    for hook in matches.hooks:
        typer.echo(f"hook {hook}: its name and arguments are right")
    if matches.failures:
        raise UsageError("; ".join([*map(str, matches.failures), *broken]))
    if broken:
        raise UsageError("; ".join(broken), "docs/plugins.md has the rules")
