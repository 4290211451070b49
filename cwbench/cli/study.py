"""``cwbench study``."""

from pathlib import Path
from typing import Annotated, Any

import typer

from cwbench.cli.options import OptionsOf, takes_options
from cwbench.spec import EvaluationSettings, RunSpec
from cwbench.study.settings import Scale

SPELLED = ("homing", "superclasses")
"""Fields of a scale that the command line spells in its own way."""
OWN = ("seed", "limit", "cascade")
"""Settings that are the scale's, or mean nothing here: a cell has one attack."""
PRECISION = "fp32"


@takes_options(
    OptionsOf(Scale, without=SPELLED),
    OptionsOf(RunSpec, only=["data"]),
    OptionsOf(EvaluationSettings, without=OWN, defaults={"precision": PRECISION}),
)
def study(
    options: dict[str, Any],
    names: Annotated[
        list[str], typer.Argument(metavar="NAME...", help="figure1 … figure7, table2 … table5, claims, or all.")
    ],
    homing: Annotated[
        str,
        typer.Option(metavar="TEXT", help="Classes that figure 3 removes: all, most-confused, or indices such as 3,5."),
    ] = "all",
    superclasses: Annotated[
        list[str] | None, typer.Option(metavar="NAME=0,1,...", help="A group of classes for figure 2.")
    ] = None,
    workers: Annotated[
        int | None,
        typer.Option(metavar="INTEGER", min=1, max=4096, help="Local processes; one for each CPU by default."),
    ] = None,
    out: Annotated[str, typer.Option(metavar="TEXT", help="The folder where runs and study are kept.")] = "runs",
) -> None:
    """Draw the paper's figures and tables for a dataset, and write one page of them."""
    from cwbench.cli.sweep import leave
    from cwbench.internal.errors import UsageError
    from cwbench.internal.malloc import keep_freed_memory
    from cwbench.internal.validation import validated
    from cwbench.plan import choose_device
    from cwbench.plugins.registry import installed
    from cwbench.spec import parse_changes
    from cwbench.study.run import Study, machine_of
    from cwbench.study.run import study as done
    from cwbench.sweep.engine import Engine, room
    from cwbench.sweep.grid import Resources
    from cwbench.sweep.outcome import Failed
    from cwbench.sweep.progress_table import live

    keep_freed_memory()
    if not out.strip() or "://" in out:
        raise UsageError(f"--out {out!r} is not a folder", "a study is written into one, such as --out runs")
    content = {name: value for name, value in options.items() if name in Scale.model_fields}
    content |= {"homing": _removed(homing), "superclasses": _groups(superclasses or [])}
    if "set" in content:
        content["set"] = parse_changes(content["set"])
    scale = validated(Scale, content, "the study")
    given = {name: value for name, value in options.items() if name in EvaluationSettings.model_fields}
    own = {name: value for name, value in given.items() if name not in OWN}
    settings = validated(EvaluationSettings, {"precision": PRECISION} | own, "the study")
    registry = installed()
    machine = machine_of(scale, registry, options.get("data"), settings)
    resources = Resources(gpus=1 if choose_device(settings.device).type == "cuda" else 0)
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
    from cwbench.internal.errors import UsageError

    if text in ("all", "most-confused"):
        return text
    indices = [part.strip() for part in text.split(",")]
    if not all(index.isdecimal() for index in indices):
        raise UsageError(f"--homing {text!r} is not all, most-confused, or indices of classes", "such as 3,5")
    return indices


def _groups(texts: list[str]) -> dict[str, list[str]]:
    from cwbench.internal.errors import UsageError

    groups: dict[str, list[str]] = {}
    for text in texts:
        name, equals, members = text.partition("=")
        if not equals or not name or not members or name in groups:
            wrong = "is there twice" if name in groups else "is not NAME=0,1,..."
            raise UsageError(f"--superclasses {text!r} {wrong}", "for example --superclasses round=0,6,8,9")
        groups[name] = members.split(",")
    return groups
