import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest

from cwbench.report.intervals import holm, mcnemar, wilson


@given(st.integers(1, 10_000).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))), st.integers(1, 100))
def test_wilson_agrees_with_scipy(pair, comparisons):
    correct, n = pair
    level = 1 - 0.05 / comparisons
    expected = binomtest(correct, n).proportion_ci(confidence_level=level, method="wilson")
    assert wilson(correct, n, comparisons=comparisons) == pytest.approx((expected.low, expected.high), abs=1e-9)


def test_wilson_by_hand():
    """Newcombe 1998, table I: 81 of 263 gives 0.2553 to 0.3662, 0 of 20 gives 0 to 0.1611."""
    assert wilson(81, 263) == pytest.approx((0.2553, 0.3662), abs=5e-5)
    assert wilson(0, 20) == pytest.approx((0, 0.1611), abs=5e-5)


def test_no_examples_have_no_interval():
    assert wilson(0, 0) is None


def test_mcnemar_is_the_sign_test_on_the_discordant():
    assert mcnemar(0, 0) == 1.0
    assert mcnemar(0, 5) == pytest.approx(2 * 0.5**5)
    assert mcnemar(1, 9) == pytest.approx(2 * (1 + 10) / 2**10)
    assert mcnemar(3, 3) == 1.0


def test_holm_by_hand():
    """Sorted 0.01, 0.02, 0.04 times 3, 2, 1, each at least its predecessor."""
    assert holm([0.04, 0.01, 0.02]) == pytest.approx([0.04, 0.03, 0.04])
    assert holm([0.9, 0.8]) == pytest.approx([1.0, 1.0])
    assert holm([]) == []
