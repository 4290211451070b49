"""The command line: one file per group of commands, each importing what it needs only when it runs."""

import sys
from typing import Any, NoReturn

import typer

from cwbench.cli import catalogue, hub, leaderboard, plugins, report, run, schema, study, suite, verify
from cwbench.errors import CwbenchError

INTERRUPTED = 130

app = typer.Typer(
    name="cwbench",
    help="How robust is an image classifier for each class?",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command("run")(run.run)
app.command("list")(catalogue.list_)
app.command("show")(catalogue.show)
app.command("verify")(verify.verify)
app.command("study")(study.study)
app.command("schema")(schema.schema)
app.add_typer(report.app, name="report")
app.add_typer(leaderboard.app, name="leaderboard")
app.add_typer(plugins.app, name="plugins")
app.add_typer(hub.app, name="hub")
app.add_typer(suite.app, name="suite")


@app.callback(invoke_without_command=True)
def _options(version: bool = typer.Option(False, "--version", help="Print the version and exit.")) -> None:
    if version:
        from cwbench import __version__

        typer.echo(f"cwbench {__version__}")
        raise typer.Exit


_UsageError: type[Any] = typer.BadParameter.__bases__[0]  # Typer does not export it, and moved it between versions


def main() -> None:
    """Run the command line. Exit codes: 0 done, 1 a bug, 2 something the user can put right, 130 interrupted."""
    try:
        code = app(standalone_mode=False)
    except CwbenchError as error:
        _refuse(str(error))
    except _UsageError as error:
        message = error.format_message()
        if type(error).__name__ == "NoArgsIsHelpError":  # nothing was asked for: its message is the help
            error.show()
            sys.exit(2)
        message = " ".join(message.split())
        _refuse(f"{message.rstrip('.')} (see {error.ctx.command_path} --help)" if error.ctx else message)
    except typer.Abort:
        code = INTERRUPTED
    if code == INTERRUPTED:  # Typer turns ctrl-C into this, silently
        typer.echo(
            "cwbench: interrupted; finished epochs and chunks are kept, the same command goes on from there", err=True
        )
    sys.exit(code)


def _refuse(message: str) -> NoReturn:
    from cwbench.tables import plain

    # Reports and files of others name things as they like: nothing of them may steer a terminal or make a new line.
    typer.echo(f"cwbench: {plain(message, 'terminal')}", err=True)
    sys.exit(2)
