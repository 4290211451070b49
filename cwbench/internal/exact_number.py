"""Numbers kept as they were written: ``8/255`` is not ``0.031``, and a report shows which one it was."""

import math
from fractions import Fraction
from typing import Annotated, Any

from pydantic import BeforeValidator, model_validator

from cwbench.internal.validation import Closed

ROUNDING = 1e-6
"""How far a float32 candidate may stray from ball and box by rounding; the harness clips this much and no more."""
LONGEST = 100


def parse_number(value: object) -> float:
    """Read ``8/255``, ``0.031`` or a number as a float; the quotient is computed exactly and rounded once.

    Raises:
        ValueError: not a number, a division by zero, NaN or infinite.
    """
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise ValueError(f"{value!r} is not a number")  # noqa: TRY004 - pydantic collects ValueErrors only
    try:
        # Only a quotient needs exact arithmetic, and an exponent in one could ask for a number of any length.
        exact = isinstance(value, str) and "/" in value and len(value) <= LONGEST
        number = float(Fraction(str(value))) if exact else float(value)
    except ZeroDivisionError:
        raise ValueError(f"{value!r} divides by zero") from None
    except (ValueError, OverflowError):
        raise ValueError(f"{value!r} is not a number such as 0.1 or 8/255") from None
    if not math.isfinite(number):
        raise ValueError(f"{value!r} is not finite")
    return number


Number = Annotated[float, BeforeValidator(parse_number)]
"""A float field that may also be written as a fraction, such as a plugin's ``step_size=2/255``."""


class Exact(Closed):
    """A number with the text it was written as.

    Two are equal as numbers when their ``value`` is: ``8/255`` and ``16/510`` are the same threat, ``0.031`` is not.
    """

    text: str
    """As the user wrote it, for example ``8/255``."""
    value: float
    """The nearest float64."""

    @model_validator(mode="before")
    @classmethod
    def _read(cls, data: Any) -> Any:
        if isinstance(data, Exact | dict):
            return data
        return {"text": str(data).strip(), "value": parse_number(data)}

    @model_validator(mode="after")
    def _agree(self) -> "Exact":
        if parse_number(self.text) != self.value:
            raise ValueError(f"text {self.text!r} and value {self.value!r} are different numbers")
        return self

    def __str__(self) -> str:
        return self.text
