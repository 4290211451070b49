"""``cwbench list`` and ``cwbench show``: what there is."""

from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from cwbench.plugins.discovery import Offer


class Kind(StrEnum):
    """What can be listed."""

    ATTACKS = "attacks"
    DEFENSES = "defenses"
    DATASETS = "datasets"
    BACKBONES = "backbones"
    CHECKPOINTS = "checkpoints"


def list_(
    kind: Annotated[Kind | None, typer.Argument(help="One kind; all plugins without it.")] = None,
) -> None:
    """List attacks, defenses, datasets and backbones, or the cached checkpoints."""
    from tabulate import tabulate

    if kind is Kind.CHECKPOINTS:
        from cwbench.checkpoints.store import Store

        store = Store.default()
        known = [(entry.key, entry.identity, "pulled" if entry.published else "trained") for entry in store.all()]
        known += [
            (digest, partial.identity, f"unfinished after epoch {partial.content['epoch']}")
            for digest, partial in store.unfinished().items()
        ]
        rows = [
            [digest[:12], about["dataset"]["name"], about["defense"]["name"], about["seed"], state]
            for digest, about, state in known
        ]
        typer.echo(tabulate(rows, ["digest", "dataset", "defense", "seed", "state"], disable_numparse=True))
        return
    from cwbench.plugins.discovery import KINDS
    from cwbench.plugins.registry import installed

    kinds = [kind.value.removesuffix("s")] if kind else list(KINDS)
    rows = [
        [offer.kind, offer.cls.name, offer.origin.distribution, offer.cls.reference]
        for name in kinds
        for offer in installed().offers(name)
    ]
    typer.echo(tabulate(rows, ["kind", "name", "from", "reference"], disable_numparse=True))


def show(name: Annotated[str, typer.Argument(help="The name of a plugin, for example tpgd.")]) -> None:
    """Show what a plugin is, its fields, and for a dataset its classes and recipes."""
    from cwbench.internal.errors import UsageError, did_you_mean
    from cwbench.plugins.discovery import KINDS
    from cwbench.plugins.registry import installed

    registry = installed()
    offers = [offer for kind in KINDS for offer in registry.offers(kind)]
    found = [offer for offer in offers if offer.cls.name == name]
    if not found:
        broken = "".join(f"; {failure}" for failure in registry.failures)
        raise UsageError(f"nothing is named {name!r}", did_you_mean(name, {o.cls.name for o in offers}) + broken)
    typer.echo("\n\n".join(_described(offer) for offer in found))


def _described(offer: "Offer") -> str:
    from inspect import getdoc

    from cwbench.api import Attack, Dataset

    cls = offer.cls
    lines = [
        f"{offer.kind} {cls.name}, from {offer.origin.distribution} {offer.origin.version}",
        cls.reference,
        "",
    ]
    lines += [getdoc(cls) or "", "", "fields:" if cls.model_fields else "no fields"]
    for name, field in cls.model_fields.items():
        default = "required" if field.is_required() else f"default {field.default!r}"
        lines.append(f"  {name}: {default}. {field.description or ''}".rstrip())
    if issubclass(cls, Attack):
        lines += ["", f"access: {cls.access.value}", f"norms: {', '.join(cls.norms)}"]
    if issubclass(cls, Dataset):
        classes = "those of your files" if cls.classes_from_files else ", ".join(cls.classes)
        lines += ["", f"classes: {classes}", f"threat: {cls.norm} eps {cls.eps}"]
        lines += [f"standard suite: {', '.join(cls.suite)}"]
        lines += [f"recipe {name}: {recipe.model_dump_json()}" for name, recipe in cls.recipes.items()]
    return "\n".join(lines)
