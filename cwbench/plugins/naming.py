"""How plugins are named: ``pgd:steps=50,restarts=10``, as text or as a mapping, and what such a name makes."""

import json
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any, TypeVar

from pydantic import JsonValue, model_validator

from cwbench.internal.errors import CwbenchError, UsageError
from cwbench.internal.validation import Closed, validated

if TYPE_CHECKING:  # the command line reads names without loading PyTorch
    from cwbench.api import Plugin

P = TypeVar("P", bound="Plugin")


class PluginSpec(Closed):
    """A name with the fields that were set: ``pgd:steps=50,restarts=10``."""

    name: str
    fields: dict[str, JsonValue] = {}

    @model_validator(mode="before")
    @classmethod
    def _read(cls, data: Any) -> Any:
        if isinstance(data, str):
            return parse_plugin(data)
        if isinstance(data, dict) and "name" in data and not set(data) <= {"name", "fields"}:
            return {"name": data["name"], "fields": {key: data[key] for key in data if key != "name"}}
        if not isinstance(data, dict | PluginSpec):
            raise ValueError("write a name such as pgd:steps=50")  # noqa: TRY004 - pydantic's
        return data

    def __str__(self) -> str:
        """Return the text that parses to this spec, fields sorted by name."""
        parts = [f"{key}={_written(value)}" if key else _written(value) for key, value in sorted(self.fields.items())]
        fields = ",".join(parts)
        return f"{self.name}:{fields}" if fields else self.name


def parse_plugin(text: str) -> dict[str, Any]:
    """Read ``name:field=value,...``; values are JSON where they parse as JSON, and text otherwise.

    A first part that is no ``field=value`` is kept under the empty name: the plugin says which field it is.

    Raises:
        ValueError: a field without a value or set twice.
    """
    name, _, rest = text.strip().partition(":")
    fields: dict[str, JsonValue] = {}
    for number, part in enumerate(_split(rest)):
        key, equals, value = part.partition("=")
        key = key.strip()
        if not number and not equals:
            fields[""] = read_value(part.strip())
            continue
        if not equals or not key or not value.strip():
            raise ValueError(f"{part!r} in {text!r} is not field=value")
        if key in fields:
            raise ValueError(f"{key!r} is set twice in {text!r}")
        fields[key] = read_value(value.strip())
    return {"name": name.strip(), "fields": fields}


def split_list(text: str) -> list[str]:
    """Split ``madry,mart:beta=6,trades`` at the commas before a name: those before a ``field=value`` belong to it."""
    parts: list[str] = []
    for part in _split(text):
        if parts and "=" in part and ":" not in part.partition("=")[0] and ":" in parts[-1]:
            parts[-1] += f",{part}"
        else:
            parts.append(part.strip())
    return parts


def read_value(text: str) -> JsonValue:
    """Return the JSON value that ``text`` spells, or the text itself, such as ``8/255`` or a path."""
    try:
        value: JsonValue = json.loads(text, parse_constant=lambda constant: constant)
    except ValueError:
        return text
    return value


def _written(value: JsonValue) -> str:
    plain = isinstance(value, str) and value == value.strip() != "" and not set(value) & set(',[]{}"')
    return str(value) if plain and read_value(str(value)) == value else json.dumps(value, separators=(",", ":"))


def _split(text: str) -> list[str]:
    """Split at commas outside brackets and quotes: a list is one value."""
    parts, depth, quoted, escaped = [""], 0, False, False
    for letter in text:
        if letter == '"' and not escaped:
            quoted = not quoted
        escaped = letter == "\\" and quoted and not escaped
        depth += (letter in "[{") - (letter in "]}") if not quoted else 0
        if letter == "," and not depth and not quoted:
            parts.append("")
        else:
            parts[-1] += letter
    return [part for part in parts if part.strip()]


def build_plugin(cls: type[P], spec: PluginSpec, kind: str) -> P:
    """Return the plugin of a class with the fields of a spec.

    Raises:
        UsageError: an unknown field, or a value out of range.
    """
    fields = dict(spec.fields)
    if "" in fields:
        if cls.main_field is None or cls.main_field in fields:
            raise UsageError(f"{fields['']!r} in {str(spec)!r} is not field=value", "for example pgd:steps=50")
        fields[cls.main_field] = fields.pop("")
    return validated(cls, fields, f"{kind} {spec.name}")


def wrong_names(kind: str, find: "Callable[[str], type[Plugin]]", specs: Iterable[PluginSpec]) -> Iterator[str]:
    """Yield what is wrong with the names and fields of plugins of a kind, which ``find`` looks up."""
    for spec in specs:
        try:
            build_plugin(find(spec.name), spec, kind)
        except CwbenchError as error:
            yield str(error)
