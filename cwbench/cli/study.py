"""``cwbench study``."""

from pathlib import Path
from typing import Annotated, Any

import typer


def study(
    names: Annotated[
        list[str], typer.Argument(metavar="NAME...", help="figure1 … figure7, table2 … table5, claims, or all.")
    ],
    dataset: Annotated[str, typer.Option(help="NAME[:field=value,...]")] = "digits",
    recipe: Annotated[
        str | None, typer.Option(help="paper is the study's own; the dataset's default otherwise.")
    ] = None,
    defenses: Annotated[str | None, typer.Option(help="Which take part: madry,mart,he-lis; all by default.")] = None,
    attacks: Annotated[
        str | None, typer.Option(help="Of table 2, for example fgsm,pgd,cw; with recipe paper the study's by default.")
    ] = None,
    seeds: Annotated[str, typer.Option(help="0,1,2: trainings of each; figures are their means.")] = "0",
    limit: Annotated[
        int | None, typer.Option(min=1, help="Judge so many test examples, evenly over the classes.")
    ] = None,
    set_: Annotated[
        list[str] | None, typer.Option("--set", metavar="FIELD=VALUE", help="Change the recipe: recipe.epochs=2.")
    ] = None,
    homing: Annotated[
        str, typer.Option(help="Classes that figure 3 removes: all, most-confused, or indices such as 3,5.")
    ] = "all",
    example: Annotated[int | None, typer.Option(min=0, help="The test image of figure 5 b–d.")] = None,
    superclasses: Annotated[
        list[str] | None, typer.Option(metavar="NAME=0,1,...", help="A group of classes for figure 2.")
    ] = None,
    data: Annotated[Path | None, typer.Option(help="The folder with the data; also CWBENCH_DATA.")] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1, mps.")] = "auto",
    precision: Annotated[str, typer.Option(help="fp32, bf16, or auto, as for cwbench run.")] = "fp32",
    workers: Annotated[int | None, typer.Option(min=1, max=4096, help="Local processes; one a CPU by default.")] = None,
    out: Annotated[str, typer.Option(help="The folder where cells and study are kept.")] = "runs",
) -> None:
    """Draw the study's figures and tables for a dataset: train and judge what is missing, and write one page of it."""
    from cwbench.allocator import keep_freed_memory
    from cwbench.cli.suite import leave
    from cwbench.errors import CwbenchError
    from cwbench.plan import choose_device
    from cwbench.registry import installed
    from cwbench.spec import parse_changes, split_list, validated
    from cwbench.study.run import Study, machine_of
    from cwbench.study.run import study as done
    from cwbench.study.scale import Scale
    from cwbench.suite.outcome import Failed
    from cwbench.suite.run import Engine, room
    from cwbench.suite.spec import Resources
    from cwbench.suite.table import live

    keep_freed_memory()
    if not out.strip() or "://" in out:
        raise CwbenchError(f"--out {out!r} is no folder", "a study is written into one, such as --out runs")
    content: dict[str, Any] = {
        "dataset": dataset,
        "recipe": recipe,
        "defenses": None if defenses is None else split_list(defenses),
        "attacks": None if attacks is None else split_list(attacks),
        "seeds": split_list(seeds),
        "limit": limit,
        "set": parse_changes(set_),
        "homing": _removed(homing),
        "example": example,
        "superclasses": _groups(superclasses or []),
    }
    scale = validated(Scale, content, "the study")
    registry = installed()
    machine = machine_of(scale, registry, data=data, device=device, precision=precision)
    gpus = 1 if choose_device(device).type == "cuda" else 0
    resources = Resources(gpus=gpus)
    engine = Engine(out=out, workers=workers or room(resources), resources=resources)
    folder = Path(out) / "study" / scale.folder
    with live() as watch:
        found = done(Study(tuple(names), scale, machine, engine, folder), registry, watch)
    for record in found.records:
        for finding in record.findings:
            typer.echo(f"{record.piece}: {finding.summary()}")
        for note in record.notes:
            typer.echo(f"{record.piece}: missing: {note}")
        for warning in record.warnings:
            typer.echo(f"{record.piece}: warning: {warning}")
    for item in found.failed:
        if isinstance(item.outcome, Failed):
            typer.echo(f"failed: {item.name}: {item.outcome.reason}", err=True)
    typer.echo(f"\n{found.page}")
    leave(found.failed, "run or training")


def _removed(text: str) -> str | list[str]:
    from cwbench.errors import CwbenchError

    if text in ("all", "most-confused"):
        return text
    indices = [part.strip() for part in text.split(",")]
    if not all(index.isdecimal() for index in indices):
        raise CwbenchError(f"--homing {text!r} is not all, most-confused, or indices of classes", "such as 3,5")
    return indices


def _groups(texts: list[str]) -> dict[str, list[str]]:
    from cwbench.errors import CwbenchError

    groups: dict[str, list[str]] = {}
    for text in texts:
        name, equals, members = text.partition("=")
        if not equals or not name or not members or name in groups:
            wrong = "is there twice" if name in groups else "is not NAME=0,1,..."
            raise CwbenchError(f"--superclasses {text!r} {wrong}", "for example --superclasses round=0,6,8,9")
        groups[name] = members.split(",")
    return groups
