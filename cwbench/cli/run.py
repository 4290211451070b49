"""``cwbench run``."""

from pathlib import Path
from typing import Annotated, Any

import typer

from cwbench.cli.options import OptionsOf, takes_options
from cwbench.spec import EvaluationSettings, RunSpec


@takes_options(OptionsOf(RunSpec, without=list(EvaluationSettings.model_fields)), OptionsOf(EvaluationSettings))
def run(
    options: dict[str, Any],
    out: Annotated[Path, typer.Option(metavar="PATH", help="Where the run's folder is made.")] = Path("runs"),
    config: Annotated[
        Path | None, typer.Option(metavar="PATH", help="YAML with the same fields; options override it.")
    ] = None,
    json_: Annotated[bool, typer.Option("--json", help="Print the report as JSON and nothing else.")] = False,
) -> None:
    """Train a defense or open a checkpoint, attack it, and report its robustness class by class."""
    from cwbench.checkpoints.store import Store
    from cwbench.internal.distributed import joined
    from cwbench.internal.malloc import keep_freed_memory
    from cwbench.internal.stdout import kept_for_results
    from cwbench.internal.validation import validated
    from cwbench.pipeline.runner import run as do_run
    from cwbench.pipeline.session import Session
    from cwbench.plugins.registry import installed
    from cwbench.report.tables import report_table
    from cwbench.spec import parse_changes, read_config

    content = read_config(config) if config else {}
    if "set" in options:
        before = content["set"] if isinstance(content.get("set"), dict) else {}
        options["set"] = before | parse_changes(options["set"])
    keep_freed_memory()
    spec = validated(RunSpec, content | options, str(config or "the run"))
    with joined() as team, kept_for_results():
        report, path = do_run(spec, Session(installed(), Store.default(), out=out, team=team))
    if not team.leads:
        return
    if json_:
        typer.echo(report.to_json(), nl=False)
    else:
        typer.echo(report_table(report))
        typer.echo(f"\n{path}")
