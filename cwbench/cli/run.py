"""``cwbench run``."""

from pathlib import Path
from typing import Annotated, Any

import typer


def run(
    defense: Annotated[str | None, typer.Option(help="NAME[:field=value,...], for example mart:beta=6.")] = None,
    checkpoint: Annotated[
        str | None,
        typer.Option(help="Judge this instead: a digest, hf://user/repo[@revision][/FILE], FILE.safetensors or .pt."),
    ] = None,
    attack: Annotated[
        list[str] | None,
        typer.Option(help="NAME[:field=value,...]; may be given several times. Without it: the standard suite."),
    ] = None,
    dataset: Annotated[str | None, typer.Option(help="NAME[:field=value,...]; digits by default.")] = None,
    data: Annotated[Path | None, typer.Option(help="The folder with the data; also CWBENCH_DATA.")] = None,
    backbone: Annotated[str | None, typer.Option(help="NAME[:field=value,...]; the dataset's by default.")] = None,
    recipe: Annotated[str | None, typer.Option(help="paper or quick; the dataset's default otherwise.")] = None,
    set_: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="FIELD=VALUE", help="Change the recipe: recipe.epochs=2."),
    ] = None,
    norm: Annotated[str | None, typer.Option(help="Linf or L2; the dataset's by default.")] = None,
    eps: Annotated[str | None, typer.Option(help="Radius, kept exactly: 8/255. The dataset's by default.")] = None,
    seed: Annotated[str | None, typer.Option(help="0 by default.")] = None,
    limit: Annotated[str | None, typer.Option(help="Judge so many test examples, evenly over the classes.")] = None,
    device: Annotated[str | None, typer.Option(help="auto, cpu, cuda, cuda:1, mps.")] = None,
    batch_size: Annotated[str | None, typer.Option(help="Images in one forward pass: auto or a number.")] = None,
    precision: Annotated[
        str | None,
        typer.Option(help="auto, fp32, or bf16: what attacks search and training computes in. The verdict is fp32."),
    ] = None,
    cascade: Annotated[
        bool, typer.Option("--cascade", help="Attack only what still stands: the worst case for less.")
    ] = False,
    save_examples: Annotated[
        bool, typer.Option("--save-examples", help="Keep what attacks return, for cwbench verify.")
    ] = False,
    resume: Annotated[
        str | None, typer.Option(help="Go on with this unfinished training, and refuse if anything changed.")
    ] = None,
    every: Annotated[str | None, typer.Option(help="Record class-wise accuracy after every so many epochs.")] = None,
    out: Annotated[Path, typer.Option(help="Where the run's folder is made.")] = Path("runs"),
    config: Annotated[Path | None, typer.Option(help="YAML with the same fields; options override it.")] = None,
    json_: Annotated[bool, typer.Option("--json", help="Print the report as JSON and nothing else.")] = False,
) -> None:
    """Train a defense, or take it from the cache, or open a checkpoint; attack it and report it class by class."""
    from cwbench.allocator import keep_freed_memory
    from cwbench.checkpoints import Store
    from cwbench.parallel import joined
    from cwbench.registry import installed
    from cwbench.runner import run as do_run
    from cwbench.spec import RunSpec, parse_changes, read_config, validated
    from cwbench.stdout import kept_for_results
    from cwbench.tables import report_table

    options: dict[str, Any] = {
        "defense": defense,
        "checkpoint": checkpoint,
        "attacks": attack or None,
        "dataset": dataset,
        "data": data,
        "backbone": backbone,
        "recipe": recipe,
        "set": parse_changes(set_) or None,
        "norm": norm,
        "eps": eps,
        "seed": seed,
        "limit": limit,
        "device": device,
        "batch_size": batch_size,
        "precision": precision,
        "cascade": cascade or None,
        "save_examples": save_examples or None,
        "every": every,
        "resume": resume,
    }
    content = read_config(config) if config else {}
    if isinstance(content.get("set"), dict):
        options["set"] = content["set"] | (options["set"] or {})
    content |= {name: value for name, value in options.items() if value is not None}
    keep_freed_memory()
    spec = validated(RunSpec, content, str(config or "the run"))
    with joined() as team, kept_for_results():
        report, path = do_run(spec, registry=installed(), store=Store.default(), out=out, team=team)
    if not team.leads:
        return
    if json_:
        typer.echo(report.to_json(), nl=False)
    else:
        typer.echo(report_table(report))
        typer.echo(f"\n{path}")
