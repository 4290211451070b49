"""The command line: one file for each group of commands, and the one that was asked for is imported."""

import sys
from collections.abc import Sequence
from importlib import import_module
from typing import NoReturn

import typer

from cwbench.internal.errors import CwbenchError

INTERRUPTED = 130
COMMANDS = {
    "run": ("run:run", "Train a defense or open a checkpoint, attack it, and report its robustness class by class."),
    "list": ("catalogue:list_", "List attacks, defenses, datasets and backbones, or the cached checkpoints."),
    "show": ("catalogue:show", "Show what a plugin is, its fields, and for a dataset its classes and recipes."),
    "verify": ("verify:verify", "Reproduce a report from its saved examples, or by attacking a random sample again."),
    "study": ("study:study", "Draw the paper's figures and tables for a dataset, and write one page of them."),
    "schema": ("schema:schema", "Print the JSON schema of reports, or write those of all files."),
    "report": ("report:app", "Show, validate, plot and compare reports."),
    "leaderboard": ("leaderboard:app", "Submit to a leaderboard that anyone can check, check it, build it, serve it."),
    "plugins": ("plugins:app", "Show which plugins are loaded and which could not be, check one, begin a new one."),
    "hub": ("hub:app", "Fetch checkpoints from the Hugging Face hub, and publish them there."),
    "sweep": ("sweep:app", "Run grids of defense × attack × dataset × seed."),
}
"""Where each command is, and its help: to import all of them takes as long as a short run."""


def main() -> None:
    """Run the command line. Exit codes: 0 done, 1 a bug, 2 something the user can put right, 130 interrupted."""
    try:
        code = _app(sys.argv[1:])(prog_name="cwbench", standalone_mode=False)
    except CwbenchError as error:
        _refuse(str(error))
    except typer.TyperException as error:
        _refuse_usage(error)
    except typer.Abort:
        code = INTERRUPTED
    if code == INTERRUPTED:  # Typer turns ctrl-C into this, silently
        typer.echo(
            "cwbench: interrupted; finished epochs and chunks are kept, the same command goes on from there", err=True
        )
    sys.exit(code)


def _app(arguments: Sequence[str]) -> typer.Typer:
    """Return the command line with the command that the arguments name, and the others by their help alone."""
    app = typer.Typer(
        name="cwbench",
        help="How robust is an image classifier for each class?",
        no_args_is_help=True,
        add_completion=False,
        pretty_exceptions_enable=False,
        rich_markup_mode=None,
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    app.callback(invoke_without_command=True)(_options)
    asked = next((argument for argument in arguments if not argument.startswith("-")), None)
    for name, (place, summary) in COMMANDS.items():
        module, _, attribute = place.partition(":")
        command = getattr(import_module(f"cwbench.cli.{module}"), attribute) if name == asked else _not_asked
        if isinstance(command, typer.Typer):
            app.add_typer(command, name=name, help=summary)
        else:
            app.command(name, help=summary)(command)
    return app


def _options(version: bool = typer.Option(False, "--version", help="Print the version and exit.")) -> None:
    if version:
        from cwbench import __version__

        typer.echo(f"cwbench {__version__}")
        raise typer.Exit


def _not_asked() -> None:
    raise AssertionError("a command that was not asked for is only listed")


def _refuse_usage(error: typer.TyperException) -> NoReturn:
    """Tell a mistake on the command line in one line; where nothing was asked for, show the help."""
    message = error.format_message()
    if message.startswith("Usage:"):  # no command was given: the message is the help
        typer.echo(message, err=True)
        sys.exit(2)
    message = " ".join(message.split())
    context = getattr(error, "ctx", None)  # Typer's errors about options have one, others do not
    _refuse(f"{message.rstrip('.')} (see {context.command_path} --help)" if context else message)


def _refuse(message: str) -> NoReturn:
    from cwbench.internal.text import plain

    # Reports and files of others name things as they like: nothing of them may steer a terminal or make a new line.
    typer.echo(f"cwbench: {plain(message, 'terminal')}", err=True)
    sys.exit(2)
