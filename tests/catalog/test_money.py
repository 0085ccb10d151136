"""Splitting amounts."""

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from catalog.pricing.money import split

CENT = Decimal("0.01")


def test_what_is_over_goes_to_the_largest_remainders_the_earlier_first() -> None:
    assert split(Decimal("20.00"), [Decimal(1)] * 3, CENT) == [Decimal("6.67"), Decimal("6.67"), Decimal("6.66")]
    assert split(Decimal("-10"), [Decimal(2), Decimal(1)], CENT) == [Decimal("-6.67"), Decimal("-3.33")]
    assert split(Decimal(1), [Decimal(0), Decimal(0)], Decimal(1)) == [1, 0]


def test_what_can_not_be_split_is_refused() -> None:
    with pytest.raises(ValueError, match="multiple"):
        split(Decimal("0.005"), [Decimal(1)], CENT)
    with pytest.raises(ValueError, match="nothing to split"):
        split(Decimal(1), [], CENT)
    assert split(Decimal(0), [], CENT) == []


@given(
    st.integers(-(10**9), 10**9),
    st.lists(st.decimals(0, 10**6, places=3), min_size=1, max_size=50),
    st.sampled_from([Decimal(1), CENT, Decimal("0.001")]),
)
def test_the_parts_sum_to_the_whole_and_none_is_a_step_away_from_its_share(
    units: int, weights: list[Decimal], step: Decimal
) -> None:
    total = units * step
    parts = split(total, weights, step)
    assert sum(parts) == total
    whole = sum(weights) or Decimal(len(weights))
    for part, weight in zip(parts, weights, strict=True):
        share = total * (weight if sum(weights) else 1) / whole
        assert abs(part - share) < step * Decimal("1.000001")
