"""Options of the command line that are made from the fields of models: name, type, default and help come from there."""

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import typer
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from cwbench.internal.exact_number import Exact
from cwbench.plugins.naming import PluginSpec

TYPES: dict[Any, tuple[Any, str]] = {
    int: (int, "INTEGER"),
    float: (float, "NUMBER"),
    str: (str, "TEXT"),
    Path: (Path, "PATH"),
    Exact: (str, "NUMBER"),
    PluginSpec: (str, "NAME[:FIELD=VALUE,...]"),
    dict: (list[str], "FIELD=VALUE"),
}
"""What an option of a field's type reads, and how its help shows it."""


@dataclass(frozen=True)
class OptionsOf:
    """Some fields of a model as options."""

    model: type[BaseModel]
    only: Sequence[str] | None = None
    """The fields to take; all of them by default."""
    without: Sequence[str] = ()
    """Fields to leave out."""
    defaults: Mapping[str, object] = field(default_factory=dict)
    """What the command takes where the model has another default, for the help."""

    def fields(self) -> dict[str, FieldInfo]:
        """Return the chosen fields by name."""
        known = self.model.model_fields
        return {n: f for n, f in known.items() if n not in self.without and (self.only is None or n in self.only)}


def takes_options(*sources: OptionsOf) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Give a command an option for each of some fields; those that were given arrive in its ``options``, by field.

    A field of several values, such as ``attacks``, becomes an option in the singular that may be given several times.
    The command's own parameters follow in the help.
    """

    def decorate(function: Callable[..., None]) -> Callable[..., None]:
        signature = inspect.signature(function, eval_str=True)
        own = [parameter for name, parameter in signature.parameters.items() if name != "options"]
        made: dict[str, inspect.Parameter] = {}
        fields: dict[str, str] = {}
        for source in sources:
            for name, info in source.fields().items():
                option = _option_name(name, info)
                made[option] = _parameter(option, info, source.defaults.get(name, info.default))
                fields[option] = name

        def command(**given: Any) -> None:
            # Typer gives None, an empty list or False for what was not on the command line; 0 was.
            told = {
                name: value for name, value in given.items() if not (value is None or value is False or value == [])
            }
            options = {fields[name]: value for name, value in told.items() if name in fields}
            function(options, **{name: value for name, value in given.items() if name not in fields})

        parameters = [*made.values(), *(each.replace(kind=inspect.Parameter.KEYWORD_ONLY) for each in own)]
        command.__name__, command.__doc__ = function.__name__, function.__doc__
        command.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
        command.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
        return command

    return decorate


def _option_name(name: str, info: FieldInfo) -> str:
    several = any(get_origin(kind) is tuple for kind in _kinds(info.annotation))
    return name.removesuffix("s") if several else name


def _parameter(name: str, info: FieldInfo, default: object) -> inspect.Parameter:
    text = " ".join((info.description or "").split())
    if isinstance(default, int | str | PluginSpec) and not isinstance(default, bool):
        text = f"{text}  [default: {default}]"
    kinds = _kinds(info.annotation)
    flag = f"--{name.replace('_', '-')}"
    if kinds == [bool]:
        option: Any = Annotated[bool, typer.Option(flag, help=text)]
        return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=False, annotation=option)
    read, metavar = _read_as(kinds)
    option = Annotated[read | None, typer.Option(flag, metavar=metavar, help=text, show_default=False)]
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=option)


def _read_as(kinds: list[Any]) -> tuple[Any, str]:
    """Return what Typer reads for some types, and the word for it in the help."""
    if len(kinds) == 1 and get_origin(kinds[0]) is tuple:
        element, metavar = _read_as(_kinds(get_args(kinds[0])[0]))
        return list[element], metavar  # type: ignore[valid-type]
    words = [value for kind in kinds if get_origin(kind) is Literal for value in get_args(kind)]
    others = [TYPES[get_origin(kind) or kind] for kind in kinds if get_origin(kind) is not Literal]
    if not words:
        return others[0]
    metavar = "|".join([*(word for _, word in others), *words])
    return str, metavar if others else f"[{metavar}]"


def _kinds(annotation: Any) -> list[Any]:
    """Return the types of an annotation without None and without what only pydantic looks at."""
    if get_origin(annotation) is Annotated:
        return _kinds(get_args(annotation)[0])
    if get_origin(annotation) in (Union, UnionType):
        return [kind for part in get_args(annotation) for kind in _kinds(part) if kind is not NoneType]
    return [annotation]
