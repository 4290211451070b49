"""What the user asked for: names and parameters, from the command line, YAML or JSON, through one parser."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

import yaml
from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    JsonValue,
    ValidationError,
    model_validator,
)

from cwbench.errors import CwbenchError, did_you_mean
from cwbench.exact import Exact

M = TypeVar("M", bound=BaseModel)


class PluginSpec(BaseModel):
    """A name with the fields that were set: ``pgd:steps=50,restarts=10``."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    fields: dict[str, JsonValue] = {}

    @model_validator(mode="before")
    @classmethod
    def _read(cls, data: Any) -> Any:
        if isinstance(data, str):
            return parse_plugin(data)
        if isinstance(data, dict) and "name" in data and not set(data) <= {"name", "fields"}:
            return {"name": data["name"], "fields": {key: data[key] for key in data if key != "name"}}
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


def parse_changes(texts: Sequence[str] | None) -> dict[str, JsonValue]:
    """Read ``recipe.epochs=2`` and the like, as the command line has them.

    Raises:
        CwbenchError: one is no FIELD=VALUE.
    """
    changes: dict[str, JsonValue] = {}
    for text in texts or []:
        name, equals, value = text.partition("=")
        if not equals or not value:
            raise CwbenchError(f"--set {text!r} is not FIELD=VALUE", "for example --set recipe.epochs=2")
        changes[name] = read_value(value)
    return changes


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


def _one_or_many(value: Any) -> Any:
    return [value] if isinstance(value, str | dict | PluginSpec) else value


class RunSpec(BaseModel):
    """One run, as asked for. Fields left at None take the dataset's defaults."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    defense: PluginSpec | None = None
    """What to train; a run names either this or a checkpoint."""
    checkpoint: str | None = None
    """What to judge instead: a digest or folder of cwbench's own, ``hf://user/repo``, a file with ``backbone``, or
    whatever a plugin opens."""
    attacks: Annotated[tuple[PluginSpec, ...], BeforeValidator(_one_or_many)] = ()
    """Empty: the dataset's standard suite."""
    dataset: PluginSpec = PluginSpec(name="digits")
    data: Path | None = None
    """The folder with the data; None for the environment variable CWBENCH_DATA, or the user's cache."""
    backbone: PluginSpec | None = None
    recipe: str | None = None
    set: dict[str, JsonValue] = {}
    """Changes to the recipe, such as ``{"recipe.epochs": 2}``."""
    norm: Literal["Linf", "L2"] | None = None
    eps: Exact | None = None
    seed: Annotated[int, Field(ge=0, lt=2**63)] = 0
    limit: Annotated[int, Field(ge=1)] | None = None
    """Judge this many test examples only, evenly over the classes."""
    device: str = "auto"
    batch_size: Annotated[int, Field(ge=1, le=1_000_000_000)] | Literal["auto"] = "auto"
    """Examples in one forward pass of the evaluation."""
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    """What attacks search in; the verdict is always fp32. ``auto`` takes bf16 where it is measured to be faster and no
    weaker. Training is in fp32 unless ``bf16`` asks for mixed precision."""
    cascade: bool = False
    """Each attack gets only what the ones before have left standing: the worst case for less."""
    save_examples: bool = False
    """Keep what the attacks return beside the report, for ``cwbench verify``."""
    every: Annotated[int, Field(ge=1)] | None = None
    """Record class-wise accuracy after every so many epochs of training."""
    resume: str | None = None
    """Go on with the unfinished training of this digest, and refuse if this run would train something else. Without it
    a run goes on with its own unfinished training, if there is one."""

    @model_validator(mode="after")
    def _one_subject(self) -> "RunSpec":
        if (self.defense is None) == (self.checkpoint is None):
            given = "both a defense and a checkpoint" if self.defense else "neither a defense nor a checkpoint"
            raise ValueError(f"it names {given}: give --defense NAME to train, or --checkpoint URI to judge one")
        training = [name for name in ("recipe", "set", "every", "resume") if getattr(self, name)]
        if self.checkpoint and training:
            raise ValueError(f"{training[0]!r} is for training, and a checkpoint is trained already: leave it out")
        return self


def validated(model: type[M], data: Any, subject: str) -> M:
    """Validate ``data`` and turn pydantic's complaint into one line.

    Raises:
        CwbenchError: names the subject, the field and what is wrong with it.
    """
    try:
        return model.model_validate(data)
    except ValidationError as error:
        raise explained(error, model, subject) from None


def explained(error: ValidationError, model: type[BaseModel], subject: str) -> CwbenchError:
    """Return pydantic's first complaint as one line with a hint."""
    # An unknown field is the likely cause of a missing one, so it is told first.
    first = min(error.errors(), key=lambda entry: entry["type"] != "extra_forbidden")
    where = ".".join(str(part) for part in first["loc"])
    if first["type"] == "extra_forbidden":
        known = model.model_fields if len(first["loc"]) == 1 else ()
        unknown = str(first["loc"][-1])
        whole = f'{first["loc"][0]} may have to be set as a whole, as {{"kind": ...}}'
        return CwbenchError(f"{subject} has no field {where!r}", did_you_mean(unknown, known) if known else whole)
    if first["type"] == "missing":
        return CwbenchError(f"{subject} needs {where!r}")
    reason = first["msg"].removeprefix("Value error, ")
    given = first["input"]
    shown = f", not {given!r}" if isinstance(given, int | float | str) and repr(given) not in reason else ""
    return CwbenchError(f"{subject}: {where + ': ' if where else ''}{reason}{shown}")


def read_config(path: Path, example: str = "defense: mart") -> dict[str, Any]:
    """Read a file of YAML whose keys are fields, one of them as in ``example``: of :class:`RunSpec` or of a suite.

    Raises:
        CwbenchError: the file cannot be read, is no YAML or no mapping, or sets a key twice.
    """
    try:
        content = yaml.load(path.read_text(encoding="utf-8"), Loader=_UniqueKeys)  # noqa: S506 - a SafeLoader
    except OSError as error:
        raise CwbenchError(f"cannot read {path}: {error.strerror}", "name a file that can be read") from None
    except UnicodeDecodeError as error:
        raise CwbenchError(f"cannot read {path}: {error}", "save it as UTF-8") from None
    except yaml.MarkedYAMLError as error:
        line = f"line {error.problem_mark.line + 1}: " if error.problem_mark else ""
        told = ", ".join(part for part in (error.context, error.problem) if part)
        raise CwbenchError(f"{path} is not valid YAML: {line}{told}", "mend it there") from None
    except yaml.YAMLError as error:
        raise CwbenchError(f"{path} is not valid YAML: {' '.join(str(error).split())}") from None
    if not isinstance(content, Mapping):
        raise CwbenchError(f"{path} must hold a mapping such as {example!r}")
    return dict(content)


class _UniqueKeys(yaml.SafeLoader):
    """YAML's safe loader, except that a key given twice is an error and not the last one's win."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys = [self.construct_object(key, deep=True) for key, _ in node.value]
        for position, key in enumerate(keys):
            if key in keys[:position]:
                where = node.value[position][0].start_mark
                raise yaml.constructor.ConstructorError(None, None, f"{key!r} is set twice", where)
        return super().construct_mapping(node, deep)
