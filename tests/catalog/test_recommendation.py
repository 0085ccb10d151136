"""What is offered next and at what discount: only with a reason, and only what the data supports."""

from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from catalog.recommendation.recommendation import (
    MINIMUM_LIFT,
    MINIMUM_SUPPORT,
    Candidate,
    CoHolding,
    discount_of,
    recommend,
    recommend_discounts,
)


def a_candidate(id: str, monthly: str | None = None, today: str | None = None, **more: Any) -> Candidate:
    return Candidate(
        product_offering_id=id,
        name=f"Name of {id}",
        currency="KGS",
        monthly=Decimal(monthly) if monthly else None,
        monthly_today=Decimal(today) if today else None,
        replaces=more.pop("replaces", ("product",) if today else ()),
        **more,
    )


def together(other: str, both: int, held: int = 100, holders: int = 100, held_id: str = "mine") -> CoHolding:
    return CoHolding(held_id=held_id, other_id=other, both=both, held=held, other=holders, held_name="Mine")


def test_what_nothing_speaks_for_is_not_recommended() -> None:
    assert recommend([a_candidate("a"), a_candidate("b", "100")], [], 1000) == []


def test_what_replaces_is_recommended_when_it_is_cheaper_and_says_by_how_much() -> None:
    (found,) = recommend([a_candidate("a", "800", "1000"), a_candidate("b", "1000", "1000")], [], 0)
    assert (found.candidate.product_offering_id, found.saving) == ("a", Decimal("200.00"))
    (why,) = found.reasons
    assert (why.code, why.weight) == ("CHEAPER", Decimal("0.200"))
    assert "200.00 KGS a month less" in why.label
    assert "200.00 KGS в месяц меньше" in why.label_ru
    # It doesn't matter what others bought: nobody wants to pay more for the like.
    assert recommend([a_candidate("b", "1200", "1000")], [together("b", 90)], 1000) == []


def test_an_upgrade_is_recommended_at_any_price_and_first() -> None:
    found = recommend(
        [
            a_candidate("popular"),
            a_candidate("cheap", "500", "1000"),
            a_candidate("better", "1200", "1000", upgrade=True),
            a_candidate("cheaper", "400", "1000"),
            a_candidate("better and cheaper", "900", "1000", upgrade=True),
            a_candidate("unknown", replaces=("product",), upgrade=True),
        ],
        [together("popular", 50)],
        1000,
    )
    assert [one.candidate.product_offering_id for one in found] == [
        "better and cheaper",
        "better",
        "unknown",
        "cheaper",
        "cheap",
        "popular",
    ]
    assert [one.saving for one in found][:3] == [Decimal("100.00"), Decimal("-200.00"), None]


def test_what_is_held_together_speaks_by_its_lift() -> None:
    candidates = [a_candidate(key) for key in ("often", "by chance", "rarely", "by all")]
    pairs = [
        # Of 1,000 customers 100 have mine: 40 of them this one, which 200 have in all.
        together("often", 40, 100, 200),
        together("by chance", 20, 100, 200),
        together("rarely", MINIMUM_SUPPORT - 1, 100, 10),
        together("by all", 100, 100, 1000),
    ]
    (found,) = recommend(candidates, pairs, 1000)
    assert found.candidate.product_offering_id == "often"
    (why,) = found.reasons
    assert (why.code, why.weight) == ("BOUGHT_TOGETHER", Decimal("2.000"))
    assert why.label == "40 % of those who have Mine have it too"


def test_no_more_than_ten_are_recommended() -> None:
    found = recommend([a_candidate(f"{i:02}", "1", "2") for i in range(20)], [], 0)
    assert [one.candidate.product_offering_id for one in found] == [f"{i:02}" for i in range(10)]


_pairs = st.lists(
    st.builds(
        together,
        st.sampled_from("abcd"),
        st.integers(0, 50),
        st.integers(50, 99),
        st.integers(50, 500),
        st.just("mine"),
    ),
    max_size=6,
)


@given(_pairs, st.integers(500, 2000), st.randoms())
def test_every_recommendation_has_its_support_whatever_the_order(pairs: Any, customers: int, chance: Any) -> None:
    candidates = [a_candidate(key) for key in "abcd"]
    found = recommend(candidates, pairs, customers)
    for one in found:
        speaking = [
            pair
            for pair in pairs
            if pair.other_id == one.candidate.product_offering_id
            and pair.both >= MINIMUM_SUPPORT
            and Decimal(pair.both * customers) >= MINIMUM_LIFT * pair.held * pair.other
        ]
        assert speaking
    chance.shuffle(candidates)
    assert [one.candidate for one in recommend(candidates, pairs, customers)] == [one.candidate for one in found]


# --- discounts -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("net", "alterations", "discount"),
    [
        ("900", ["-100"], "10.00"),
        ("1000", [], "0.00"),
        ("1100", ["100"], "0.00"),
        ("800", ["-150", "-50"], "20.00"),
        ("0", ["-100"], "100.00"),
        ("0", [], None),
        ("200", ["-100"], "33.33"),
    ],
)
def test_a_discount_is_what_was_taken_off_the_list_price(
    net: str, alterations: list[str], discount: str | None
) -> None:
    expected = None if discount is None else Decimal(discount)
    assert discount_of(Decimal(net), map(Decimal, alterations)) == expected


def test_half_of_a_segment_accepted_what_is_recommended() -> None:
    home = [Decimal(d) for d in (0, 0, 5, 10, 10, 10, 15, 20)]
    found = recommend_discounts({"home": home, "business": [Decimal(50)] * 7}, minimum=8)
    business, homes = found
    assert (homes.market_segment, homes.observations, homes.recommended_percentage) == ("home", 8, Decimal(10))
    assert (homes.lower_quartile, homes.upper_quartile) == (Decimal(0), Decimal(10))
    assert [(int(b.at_least), int(b.less_than), b.observations) for b in homes.band] == [
        (0, 5, 2),
        (5, 10, 1),
        (10, 15, 3),
        (15, 20, 1),
        (20, 25, 1),
    ]
    # Seven sales say too little.
    assert business.recommended_percentage is None
    assert business.refused == "7 sales are known; at least 8 are needed"
    assert business.band[0].observations == 7


_discounts = st.lists(st.decimals(0, 100, places=2), min_size=1, max_size=60)


@given(_discounts)
def test_at_least_half_bought_at_the_recommended_discount_or_less(accepted: list[Decimal]) -> None:
    (found,) = recommend_discounts({"s": accepted}, minimum=1)
    assert found.recommended_percentage is not None
    assert found.lower_quartile is not None
    assert found.upper_quartile is not None
    at_most = sum(discount <= found.recommended_percentage for discount in accepted)
    assert 2 * at_most >= len(accepted)
    assert found.lower_quartile <= found.recommended_percentage <= found.upper_quartile
    assert sum(band.observations for band in found.band) == len(accepted)


def test_no_segment_without_a_minimum_has_an_answer() -> None:
    (found,) = recommend_discounts({"": []}, minimum=0)
    assert found.refused
