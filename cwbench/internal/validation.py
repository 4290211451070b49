"""Pydantic models without room for surprises: their configuration, their schemas, and their complaints in one line."""

from typing import Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from cwbench.internal.errors import UsageError, did_you_mean

M = TypeVar("M", bound=BaseModel)


BRANCHES = ("constrained-int", "constrained-str", "int", "float", "str", "tuple", "list")


class Closed(BaseModel):
    """A frozen model without room for unknown fields, NaN or infinity; the docstring of a field is its description."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, use_attribute_docstrings=True)


def json_schema(
    model: type[BaseModel], title: str, mode: Literal["serialization", "validation"] = "serialization"
) -> dict[str, Any]:
    """Return the JSON schema of what a model writes, or with ``validation`` reads, with the dialect and a title."""
    head = {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": title}
    return head | model.model_json_schema(mode=mode) | head


def validated(model: type[M], data: Any, subject: str) -> M:
    """Validate ``data`` and turn pydantic's complaint into one line.

    Args:
        model: the class of the result.
        data: what was given, usually a mapping.
        subject: what it is called in the message, such as ``attack pgd``.

    Raises:
        UsageError: names the subject, the field and what is wrong with it.
    """
    try:
        return model.model_validate(data)
    except ValidationError as error:
        raise explained(error, model, subject) from None


def explained(error: ValidationError, model: type[BaseModel], subject: str) -> UsageError:
    """Return pydantic's first complaint as one line with a hint."""
    # An unknown field is the likely cause of a missing one, so it is told first.
    first = min(error.errors(), key=lambda entry: entry["type"] != "extra_forbidden")
    # pydantic also names the branch of a union that it tried, such as constrained-int: users have never seen it.
    where = ".".join(str(part) for part in first["loc"] if part not in BRANCHES)
    if first["type"] == "extra_forbidden":
        known = model.model_fields if len(first["loc"]) == 1 else ()
        unknown = str(first["loc"][-1])
        whole = f'{first["loc"][0]} may have to be set as a whole, as {{"kind": ...}}'
        return UsageError(f"{subject} has no field {where!r}", did_you_mean(unknown, known) if known else whole)
    if first["type"] == "missing":
        return UsageError(f"{subject} needs {where!r}")
    reason = first["msg"].removeprefix("Value error, ")
    given = first["input"]
    shown = f", not {given!r}" if isinstance(given, int | float | str) and repr(given) not in reason else ""
    return UsageError(f"{subject}: {where + ': ' if where else ''}{reason}{shown}")
