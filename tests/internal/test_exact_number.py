import math
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from cwbench.internal.exact_number import Exact, parse_number


@given(st.integers(-(10**6), 10**6), st.integers(1, 10**6))
def test_a_fraction_is_the_nearest_float_and_keeps_its_text(top: int, bottom: int):
    exact = Exact.model_validate(f"{top}/{bottom}")
    assert exact.text == f"{top}/{bottom}"
    assert exact.value == float(Fraction(top, bottom))


def test_8_255_and_0_031_stay_apart():
    assert Exact.model_validate("8/255").value == 8 / 255
    assert Exact.model_validate("0.031").value == 0.031
    assert Exact.model_validate("8/255").value != Exact.model_validate("0.031").value


@pytest.mark.parametrize(
    "bad",
    [
        "8/0",
        "nan",
        "inf",
        "-inf",
        "eight",
        "",
        "1/2/3",
        "1e400",
        "-1e99999999",
        "1/" + "9" * 200,
        "0x10",
        math.nan,
        math.inf,
        True,
        None,
        [],
    ],
)
def test_what_is_no_finite_number_is_refused(bad: object):
    with pytest.raises(ValueError, match=r"number|finite|zero"):
        parse_number(bad)


def test_text_and_value_that_disagree_are_refused():
    with pytest.raises(ValidationError, match="different numbers"):
        Exact.model_validate({"text": "8/255", "value": 0.031})


def test_it_survives_json():
    exact = Exact.model_validate("8/255")
    assert Exact.model_validate_json(exact.model_dump_json()) == exact
