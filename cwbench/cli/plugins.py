"""``cwbench plugins``: what is loaded, what could not be, whether it keeps its contract, and the start of a new one."""

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pydantic import JsonValue

    from cwbench.api import Plugin
    from cwbench.errors import CwbenchError
    from cwbench.plugins import Offer

app = typer.Typer(help="Show which plugins are loaded and which could not be, check one, begin a new one.")


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

    from cwbench.registry import installed

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
    into: Annotated[Path, typer.Option("--into", help="Where its folder is made.")] = Path(),
) -> None:
    """Begin a plugin: a distribution of its own with one module, one test that checks its contract, and a README."""
    from cwbench.scaffold import create

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
    data: Annotated[Path | None, typer.Option(help="For a dataset: the folder with its data.")] = None,
) -> None:
    """Check that a plugin keeps the rules of cwbench.api, and say in words where it does not."""
    from cwbench.errors import CwbenchError, did_you_mean
    from cwbench.plan import data_root
    from cwbench.plugins import KINDS
    from cwbench.registry import installed
    from cwbench.spec import PluginSpec, validated

    spec = validated(PluginSpec, plugin, "the plugin")
    name = spec.name
    registry = installed()
    offers = [offer for kind in KINDS for offer in registry.offers(kind)]
    named = [o for o in offers if o.cls.name == name]
    found = named or [o for o in offers if name in (o.origin.distribution, o.origin.plugin)]
    failed = [
        f for f in registry.failures if name in (f.origin.plugin, f.origin.distribution) or repr(name) in f.reason
    ]
    hooks = [
        hook
        for origin in registry.discovery.origins
        if name in (origin.plugin, origin.distribution)
        for hook in registry.discovery.hooks_of(origin)
    ]
    if not found and not failed and not hooks:
        known = {offer.cls.name for offer in offers} | {offer.origin.distribution for offer in offers}
        others = "".join(f"; {failure}" for failure in registry.failures)
        hint = f"{did_you_mean(name, known)}; `cwbench plugins` lists them"
        raise CwbenchError(f"no plugin is named {name!r}", hint + others)
    if spec.fields and not named and not failed:
        raise CwbenchError(f"{name} is a distribution and has no fields", "check its plugins one by one to set theirs")
    broken: list[str] = []
    for offer in found:
        subject = f"{offer.kind} {offer.cls.name}, from {offer.origin.distribution}"
        needed = ",".join(f"{field}=VALUE" for field, info in offer.cls.model_fields.items() if info.is_required())
        if needed and not spec.fields:
            advice = f"check it as {offer.cls.name}:{needed}"
            if named:
                raise CwbenchError(f"{subject}: it cannot be checked by its name alone", advice)
            typer.echo(f"{subject}: not checked, {advice}")
            continue
        problem, absent = _checked(offer, spec.fields, data_root(data))
        if absent and named:
            raise CwbenchError(f"{subject}: not checked whole: {absent.message}", absent.hint)
        typer.echo(f"{subject}: {problem or (f'not checked whole: {absent}' if absent else 'keeps the contract')}")
        broken += [f"{offer.kind} {problem}"] if problem else []
    for hook in hooks:
        typer.echo(f"hook {hook}: its name and arguments are right")
    if failed:
        raise CwbenchError("; ".join([*map(str, failed), *broken]))
    if broken:
        raise CwbenchError("; ".join(broken), "docs/plugins.md has the rules")


def _checked(
    offer: "Offer", fields: "Mapping[str, JsonValue]", root: Path | None
) -> "tuple[str | None, CwbenchError | None]":
    """Return which rule of the contract a plugin breaks, and why the data of a dataset cannot be loaded; None if not.

    Raises:
        CwbenchError: fields that were given are none of the plugin's.
    """
    from cwbench.errors import CwbenchError
    from cwbench.plan import build
    from cwbench.plugins import one_line
    from cwbench.spec import PluginSpec
    from cwbench.testing import ContractError
    from cwbench.testing import check as check_contract

    absent = None
    try:
        plugin = build(offer.cls, PluginSpec(name=offer.cls.name, fields=dict(fields)), offer.kind)
        absent = _missing_data(plugin, root)
        check_contract(plugin, root=root, load=absent is None)
    except ContractError as error:
        return str(error), None
    except CwbenchError as error:
        if fields and not absent:
            raise
        return (None, absent) if absent else (f"{offer.cls.name}: {error}", None)
    except Exception as error:  # noqa: BLE001 - somebody else's code raises anything
        import traceback

        place = traceback.extract_tb(error.__traceback__)[-1]
        return f"{offer.cls.name}: it raised {one_line(error)} ({Path(place.filename).name}:{place.lineno})", None
    return None, absent


def _missing_data(plugin: "Plugin", root: Path | None) -> "CwbenchError | None":
    """Return why a dataset cannot be loaded here, which is no fault of its plugin."""
    from cwbench.api import Dataset
    from cwbench.errors import CwbenchError

    if isinstance(plugin, Dataset):
        try:
            plugin.load("test", root)
        except CwbenchError as error:
            return error
    return None
