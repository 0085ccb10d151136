"""Who can have what: each rule refuses by its name, and what isn't known refuses nothing."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from catalog.product.domain import LifecycleStatus
from catalog.product.values import ProductOfferingRelationship, ProductOfferingTerm
from catalog.qualification.eligibility import (
    Held,
    Obstacle,
    Reason,
    Restrictions,
    Situation,
    Verdict,
    current_versions,
    judge,
    later,
)
from chassis.types import Duration, EntityRef, TimePeriod
from tests.catalog.things import AFTER, BEFORE, NOW, parts, since, until


class Around(NamedTuple):
    """What is there beside an offering."""

    held: Sequence[Held]
    beside: Sequence[str]


def an_offering(id: str, **more: Any) -> Restrictions:
    return Restrictions(id=id, name=more.pop("name", id), status=more.pop("status", LifecycleStatus.LAUNCHED), **more)


def related(**kinds: str) -> tuple[ProductOfferingRelationship, ...]:
    """`related(requires="a b", requires_box="c d")`: after the underscore the role."""
    return tuple(
        ProductOfferingRelationship(
            id=key, relationship_type=kind.partition("_")[0], role=kind.partition("_")[2] or None
        )
        for kind, ids in kinds.items()
        for key in ids.split()
    )


def named(*ids: str) -> tuple[EntityRef, ...]:
    return tuple(EntityRef(id=key, name=f"name of {key}") for key in ids)


def holding(*ids: str, **more: Any) -> list[Held]:
    return [Held(product_id=f"product of {key}", product_offering_id=key, **more) for key in ids]


def verdict(*offerings: Restrictions, held: Sequence[Held] = (), beside: Sequence[str] = (), **more: Any) -> Verdict:
    """About the first of them."""
    known = {name: more.pop(name) for name in ("branch", "channel", "place", "market_segment") if name in more}
    book = {offering.id: offering for offering in offerings}
    return judge(offerings[0].id, book, Situation(at=NOW, **known), held, beside, **more)


def obstacles(found: Verdict) -> list[Obstacle]:
    return [reason.obstacle for reason in found.reasons]


def test_what_nothing_restricts_anybody_can_have() -> None:
    found = verdict(an_offering("o"))
    assert found.eligible
    assert found == Verdict("o", ())


@pytest.mark.parametrize(
    ("offering", "obstacle"),
    [
        (an_offering("o", status=LifecycleStatus.IN_DESIGN), Obstacle.NOT_ON_SALE),
        (an_offering("o", status=LifecycleStatus.RETIRED), Obstacle.NOT_ON_SALE),
        (an_offering("o", is_sellable=False), Obstacle.NOT_SOLD_ALONE),
        (an_offering("o", valid_for=until(NOW)), Obstacle.NOT_VALID_NOW),
        (an_offering("o", valid_for=since(AFTER)), Obstacle.NOT_VALID_NOW),
        (an_offering("o", eligible_branch=("osh",)), Obstacle.WRONG_BRANCH),
        (an_offering("o", place=named("osh")), Obstacle.WRONG_PLACE),
        (an_offering("o", channel=named("web")), Obstacle.WRONG_CHANNEL),
        (an_offering("o", market_segment=named("business")), Obstacle.WRONG_SEGMENT),
    ],
)
def test_each_restriction_refuses_by_its_name(offering: Restrictions, obstacle: Obstacle) -> None:
    found = verdict(offering, branch="bishkek", place=("house", "bishkek"), channel=("shop",), market_segment=("home",))
    assert obstacles(found) == [obstacle]
    assert found.reasons[0].label()
    assert found.reasons[0].label("ru") != found.reasons[0].label("en")


def test_place_channel_and_segment_are_met_by_id_or_name() -> None:
    offering = an_offering("o", place=named("osh", "bishkek"), channel=named("web"), market_segment=named("business"))
    found = verdict(offering, place=("house 7", "bishkek"), channel=("name of web",), market_segment=("x", "business"))
    assert found.eligible
    assert found.unknown == ()


def test_what_is_not_known_does_not_refuse_but_is_said() -> None:
    offering = an_offering(
        "o", place=named("osh"), channel=named("web"), market_segment=named("business"), eligible_branch=("osh",)
    )
    found = verdict(offering)
    assert found.eligible
    assert found.unknown == ("branch", "place", "channel", "marketSegment")
    assert verdict(offering, place=("osh",)).unknown == ("branch", "channel", "marketSegment")


def test_a_required_offering_is_held_or_ordered_beside_it() -> None:
    tv = an_offering("tv", relationship=related(requires="net"))
    net = an_offering("net")
    missing = verdict(tv, net)
    assert obstacles(missing) == [Obstacle.REQUIREMENT_MISSING]
    assert missing.reasons[0].related == ("net",)
    assert verdict(tv, net, held=holding("net")).eligible
    assert verdict(tv, net, beside=["net"]).eligible


def test_requirements_of_one_role_are_alternatives() -> None:
    tv = an_offering("tv", relationship=related(requires_access="fibre dsl", requires="box"))
    assert obstacles(verdict(tv)) == [Obstacle.REQUIREMENT_MISSING] * 2
    assert verdict(tv).reasons[0].related == ("fibre", "dsl")
    assert obstacles(verdict(tv, held=holding("dsl"))) == [Obstacle.REQUIREMENT_MISSING]
    assert verdict(tv, held=holding("fibre", "box")).eligible
    assert not verdict(tv, held=holding("fibre", "dsl")).eligible


def test_excluding_counts_in_both_directions() -> None:
    a, b = an_offering("a", relationship=related(excludes="b")), an_offering("b")
    for one, other in ((a, b), (b, a)):
        for around in (Around(holding(other.id), ()), Around((), (other.id,))):
            found = verdict(one, other, held=around.held, beside=around.beside)
            assert obstacles(found) == [Obstacle.EXCLUDED]
            assert found.reasons[0].related == (other.id,)


def test_one_offering_of_a_group_at_a_time_but_that_one_more_than_once() -> None:
    small, large = (an_offering(key, exclusion_group=("tariff",)) for key in ("small", "large"))
    other = an_offering("other", exclusion_group=("option",))
    assert obstacles(verdict(large, small, other, held=holding("small", "other"))) == [Obstacle.GROUP_OCCUPIED]
    assert verdict(small, large, held=holding("small")).eligible


def test_what_goes_excludes_nothing() -> None:
    small = an_offering("small", exclusion_group=("tariff",))
    large = an_offering("large", exclusion_group=("tariff",), relationship=related(upgrades="small", excludes="small"))
    found = verdict(large, small, held=holding("small"))
    assert found.eligible
    assert (found.replaces, found.upgrade) == (("product of small",), True)
    # At a sale somebody must have said that it goes.
    assert not verdict(large, small, held=holding("small"), in_place_of_what_is_held=False).eligible
    other = an_offering("other", exclusion_group=("tariff",))
    assert obstacles(verdict(large, small, other, held=holding("small", "other"))) == [Obstacle.GROUP_OCCUPIED]


def test_a_running_term_can_be_upgraded_but_not_replaced() -> None:
    year = (ProductOfferingTerm(name="year", duration=Duration(amount=12, units="month")),)
    old = an_offering("old", term=year)
    young = holding("old", term="year", started_at=datetime(2025, 6, 1, tzinfo=UTC))
    ended = holding("old", term="year", started_at=datetime(2025, 2, 1, tzinfo=UTC))
    instead = an_offering("instead", relationship=related(replaces="old"))
    better = an_offering("better", relationship=related(upgrades="old"))
    assert obstacles(verdict(instead, old, held=young)) == [Obstacle.COMMITMENT_RUNNING]
    assert verdict(instead, old, held=ended).eligible
    assert verdict(instead, old, held=holding("old")).eligible
    assert verdict(better, old, held=young).eligible


def test_a_term_is_offered_in_its_time() -> None:
    terms = (
        ProductOfferingTerm(name="year", valid_for=until(NOW)),
        ProductOfferingTerm(name="two years", valid_for=since(BEFORE)),
    )
    offering = an_offering("o", term=terms)
    assert verdict(offering, term="two years").eligible
    for name in ("year", "three years"):
        assert obstacles(verdict(offering, term=name)) == [Obstacle.TERM_NOT_OFFERED]


def test_parts_of_a_bundle_follow_the_same_rules_and_meet_each_others_needs() -> None:
    net = an_offering("net", is_sellable=False)
    tv = an_offering("tv", relationship=related(requires="net"), place=named("osh"))
    home = an_offering("home", part=parts(net=1, tv=1))
    book = (home, net, tv)
    assert verdict(*book, place=("osh",)).eligible
    away = verdict(*book, place=("bishkek",))
    assert [(r.obstacle, r.product_offering_id) for r in away.reasons] == [(Obstacle.WRONG_PLACE, "tv")]
    # A part that isn't in it by default is no part of it yet.
    assert verdict(an_offering("home", part=parts(net=1, tv=0)), net, tv, place=("bishkek",)).eligible
    retired = an_offering("net", status=LifecycleStatus.IN_TEST)
    assert [r.product_offering_id for r in verdict(home, retired, tv, place=("osh",)).reasons] == ["net"]
    # What is inside an ordered bundle is there as well.
    assert verdict(tv, home, net, beside=["home"]).eligible


def test_versions_of_a_series_are_the_same_offering() -> None:
    first, second = an_offering("v1"), an_offering("v2", series="v1")
    needs, hates = (
        an_offering("a", relationship=related(requires="v1")),
        an_offering("b", relationship=related(excludes="v1")),
    )
    assert verdict(needs, first, second, held=holding("v2")).eligible
    assert obstacles(verdict(hates, first, second, held=holding("v2"))) == [Obstacle.EXCLUDED]
    assert obstacles(verdict(second, first, hates, held=holding("b"))) == [Obstacle.EXCLUDED]
    upgrade = an_offering("c", relationship=related(upgrades="v1"))
    assert verdict(upgrade, first, second, held=holding("v2")).replaces == ("product of v2",)


def test_a_relationship_counts_in_its_time() -> None:
    past = ProductOfferingRelationship(id="net", relationship_type="requires", valid_for=until(NOW))
    assert verdict(an_offering("tv", relationship=(past,))).eligible


def test_an_offering_that_does_not_exist_cannot_be_had() -> None:
    assert judge("x", {}, Situation(at=NOW)).reasons == (Reason(Obstacle.UNKNOWN_OFFERING, "x", ""),)


def test_the_latest_version_that_is_sold_is_the_current_one() -> None:
    first = an_offering("v1", valid_for=since(BEFORE))
    second = an_offering("v2", series="v1", valid_for=since(datetime(2026, 1, 1, tzinfo=UTC)))
    third = an_offering("v3", series="v1", valid_for=since(AFTER))
    draft = an_offering("v4", series="v1", status=LifecycleStatus.IN_TEST)
    assert current_versions([third, first, draft, second], NOW) == {"v1": second}
    assert current_versions([third, first, draft, second], AFTER)["v1"] is third
    assert current_versions([draft], NOW)["v1"] is draft


def test_a_month_later_is_the_same_day_or_the_last() -> None:
    start = datetime(2026, 1, 31, tzinfo=UTC)
    assert later(start, Duration(amount=1, units="months")) == datetime(2026, 2, 28, tzinfo=UTC)
    assert later(start, Duration(amount=13, units="month")) == datetime(2027, 2, 28, tzinfo=UTC)
    assert later(start, Duration(amount=2, units="years")) == datetime(2028, 1, 31, tzinfo=UTC)
    assert later(start, Duration(amount=2, units="weeks")) == datetime(2026, 2, 14, tzinfo=UTC)
    assert later(start, Duration(amount=2, units="moons")) is None


IDS = ("a", "b", "c", "d")
_ids = st.lists(st.sampled_from(IDS), max_size=2, unique=True)
_books = st.fixed_dictionaries(
    {
        key: st.builds(
            lambda name, kinds, group, place: an_offering(
                name,
                relationship=related(
                    **{kind: " ".join(o for o in others if o != name) for kind, others in kinds.items()}
                ),
                exclusion_group=group,
                place=named(*place),
            ),
            st.just(key),
            st.dictionaries(st.sampled_from(("requires", "excludes", "upgrades", "replaces")), _ids, max_size=2),
            st.sampled_from(((), ("g",), ("h",))),
            st.sampled_from(((), ("osh",))),
        )
        for key in IDS
    }
)


@given(_books, _ids, _ids)
def test_more_knowledge_never_turns_a_refusal_into_a_sale(book: Any, held: list[str], beside: list[str]) -> None:
    for key in IDS:
        unknown = judge(key, book, Situation(at=NOW), holding(*held), beside)
        away = judge(key, book, Situation(at=NOW, place=("bishkek",)), holding(*held), beside)
        assert set(unknown.reasons) <= set(away.reasons)
        assert not away.unknown


@given(_books, _ids)
def test_two_that_exclude_each_other_cannot_be_ordered_together(book: Any, held: list[str]) -> None:
    at = Situation(at=NOW)
    for one in IDS:
        for other in IDS:
            excluded = any(
                reason.obstacle in (Obstacle.EXCLUDED, Obstacle.GROUP_OCCUPIED) and other in reason.related
                for reason in judge(one, book, at, beside=[other]).reasons
            )
            mirrored = any(
                reason.obstacle in (Obstacle.EXCLUDED, Obstacle.GROUP_OCCUPIED) and one in reason.related
                for reason in judge(other, book, at, beside=[one]).reasons
            )
            assert excluded == mirrored


def test_a_period_is_open_at_its_ends() -> None:
    assert verdict(an_offering("o", valid_for=TimePeriod())).eligible
