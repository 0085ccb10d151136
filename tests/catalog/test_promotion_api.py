"""Promotions and coupons through their service, on a real database."""

import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import pytest
import sqlalchemy as sa

from catalog.promotion.domain import _WORDS, Promotion, normal_code, stage_of
from catalog.promotion.store import PromotionBook
from catalog.promotion.values import Stage
from chassis import calls
from chassis.calls import Call
from chassis.db import Database
from chassis.errors import Aborted, DomainError, FailedPrecondition, InvalidArgument, NotFound
from chassis.types import new_id
from svyaz.catalog.v1 import catalog_pb2, pricing_pb2, promotion_pb2
from svyaz.type.v1 import requests_pb2, values_pb2
from tests.catalog.conftest import Client

P = promotion_pb2


def criteria(parameter: str = "quantity", operator: str = ">=", value: str = "1", **more: Any) -> P.PromotionCriteria:
    return P.PromotionCriteria(criteria_parameter=parameter, criteria_operator=operator, criteria_value=value, **more)


def pattern(action: P.PromotionAction, *conditions: P.PromotionCriteria) -> P.PromotionPattern:
    return P.PromotionPattern(
        action=[action], criteria_group=[P.PromotionCriteriaGroup(criteria=conditions or [criteria()])]
    )


def off(value: str = "10", kind: str = "orderPercentage", **more: Any) -> P.PromotionAction:
    return P.PromotionAction(action_type=kind, action_value=value, **more)


def a_promotion(*patterns: P.PromotionPattern, **more: Any) -> P.Promotion:
    return P.Promotion(name="spring", pattern=patterns or [pattern(off())], **more)


def a_coupon(promotion: P.Promotion, code: str, **more: Any) -> P.Coupon:
    return P.Coupon(code=code, promotion=values_pb2.EntityRef(id=promotion.id), **more)


def refused(action: Callable[[], object], kind: type[DomainError], reason: str) -> DomainError:
    with pytest.raises(kind) as refusal:
        action()
    assert refusal.value.reason == reason, refusal.value
    return refusal.value


@pytest.fixture
def released(manager: Client) -> Iterator[Callable[..., Any]]:
    """Releases a promotion for the time of the test."""
    made = []

    def release(*patterns: P.PromotionPattern, **more: Any) -> Any:
        made.append(manager.create(a_promotion(*patterns, lifecycle_status="release", **more)))
        return made[-1]

    yield release
    for promotion in made:
        shown = manager.get(promotion)
        if stage_of(shown.lifecycle_status) in (Stage.RELEASE, Stage.SUSPEND):
            move(manager, promotion, "retirement")


def move(client: Client, promotion: Any, *statuses: str) -> Any:
    for status in statuses:
        promotion = client.update(P.Promotion(id=promotion.id, lifecycle_status=status), "lifecycle_status")
    return promotion


# --- lifecycle -------------------------------------------------------------------------------------------------------


def test_a_promotion_goes_its_way_and_no_other(manager: Client) -> None:
    made = manager.create(a_promotion())
    assert (made.lifecycle_status, made.HasField("priority"), list(made.edited_by)) == ("draft", False, ["developer"])
    shown = move(manager, made, "test", "draft", "waitForApproval", "release", "suspend", "released")
    assert (shown.lifecycle_status, list(shown.edited_by)) == ("released", [])
    assert shown.priority
    error = refused(lambda: move(manager, made, "draft"), FailedPrecondition, "BAD_TRANSITION")
    assert (error.metadata["from"], error.metadata["to"]) == ("release", "draft")
    refused(lambda: manager.delete(made), FailedPrecondition, "WAS_RELEASED")
    move(manager, made, "retirement")
    refused(lambda: move(manager, made, "release"), FailedPrecondition, "BAD_TRANSITION")


def test_any_word_is_kept_as_a_status_and_means_a_draft(manager: Client) -> None:
    made = manager.create(a_promotion(lifecycle_status="brainstorming"))
    assert made.lifecycle_status == "brainstorming"
    manager.delete(made)
    refused(lambda: manager.get(made), NotFound, "NOT_FOUND")


def test_the_database_knows_the_same_words_as_the_domain(manager: Client, database: Database) -> None:
    made = manager.create(a_promotion())
    table = sa.table("promotion", sa.column("id"), sa.column("lifecycle_status"), sa.column("released"))
    words = [*_WORDS, "In Test", "wait_for-approval", "RELEASED!", " Launched ", "", "релиз", "draft"]
    with calls.using(Call.background("catalog", "test", branches=("*",))):
        for word in words:
            with database.unit() as unit:
                unit.session.execute(sa.update(table).where(table.c.id == made.id).values(lifecycle_status=word))
                known = unit.session.scalar(sa.select(table.c.released).where(table.c.id == made.id))
                assert known is (stage_of(word) is Stage.RELEASE), word
                unit.close()


def test_what_a_released_promotion_grants_stays(manager: Client, released: Callable[..., Any]) -> None:
    made = released()
    manager.update(P.Promotion(id=made.id, description="for the summer too"), "description")
    error = refused(
        lambda: manager.update(P.Promotion(id=made.id, exclusive=True), "exclusive"),
        FailedPrecondition,
        "PROMOTION_RELEASED",
    )
    assert [violation.field for violation in error.violations] == ["exclusive"]
    move(manager, made, "suspend")
    assert manager.update(P.Promotion(id=made.id, exclusive=True), "exclusive").exclusive


def test_what_isnt_understood_is_kept_but_not_released(manager: Client) -> None:
    patterns = [
        pattern(off("5", "SMS"), criteria("moonPhase"), criteria("product", ">"), criteria("quantity", "=", "many")),
        pattern(off("101"), criteria("categoryTotal", value="10")),
        pattern(off("100", "unitAmount"), criteria("segment", "=", "")),
        pattern(off(price_type="usage", category=[values_pb2.EntityRef(id="c")])),
        pattern(
            off(
                action_entity_ref=values_pb2.EntityRef(id="x", at_referred_type="PartyAccount"),
                application_duration=values_pb2.Duration(amount=0, units="month"),
            )
        ),
    ]
    patterns[3].criteria_group_logical_relationship = "xor"
    made = manager.create(a_promotion(*patterns))
    assert made.pattern[0].action[0].action_type == "SMS"
    error = refused(lambda: move(manager, made, "release"), FailedPrecondition, "NOT_RELEASABLE")
    assert [violation.field for violation in error.violations] == [
        "pattern[0].criteria_group[0].criteria[0].criteria_parameter",
        "pattern[0].criteria_group[0].criteria[1].criteria_operator",
        "pattern[0].criteria_group[0].criteria[2].criteria_value",
        "pattern[0].action[0].action_type",
        "pattern[1].criteria_group[0].criteria[0].criteria_entity_ref",
        "pattern[1].action[0].action_value",
        "pattern[2].criteria_group[0].criteria[0].criteria_value",
        "currency",
        "pattern[2].action[0].price_type",
        "pattern[3].criteria_group_logical_relationship",
        "pattern[3].action[0].price_type",
        "pattern[4].action[0].action_entity_ref",
        "pattern[4].action[0].application_duration",
    ]
    empty = manager.create(P.Promotion(name="empty"))
    error = refused(lambda: move(manager, empty, "release"), FailedPrecondition, "NOT_RELEASABLE")
    assert [violation.field for violation in error.violations] == ["pattern"]


def test_a_list_price_doesnt_depend_on_the_cart(manager: Client) -> None:
    listed = a_promotion(pattern(off()), on_list_price=True)
    error = refused(lambda: move(manager, manager.create(listed), "release"), FailedPrecondition, "NOT_RELEASABLE")
    assert [violation.field for violation in error.violations] == [
        "pattern[0].criteria_group[0].criteria[0].criteria_parameter",
        "pattern[0].action[0].action_type",
    ]


def test_what_would_never_apply_is_refused_and_what_it_names_stays(
    manager: Client, released: Callable[..., Any]
) -> None:
    nowhere = pattern(
        off(product_offering=[values_pb2.EntityRef(id="nowhere")]), criteria("category", "=", "no category")
    )
    error = refused(lambda: released(nowhere), FailedPrecondition, "UNRESOLVED_REFERENCE")
    assert [violation.field for violation in error.violations] == [
        "pattern[0].action[0].product_offering[0]",
        "pattern",
    ]
    offering = manager.create(catalog_pb2.ProductOffering(name="named"))
    category = manager.create(catalog_pb2.Category(name="shelf"))
    released(
        pattern(off(product_offering=[values_pb2.EntityRef(id=offering.id)]), criteria("category", "=", category.id))
    )
    for thing in (offering, category):
        error = refused(partial(manager.delete, thing), FailedPrecondition, "REFERENCED")
        assert "Promotion" in error.message


def test_no_two_released_promotions_have_the_same_priority(manager: Client, released: Callable[..., Any]) -> None:
    one = released(priority=7)
    other = manager.create(a_promotion(priority=7))
    error = refused(lambda: move(manager, other, "release"), FailedPrecondition, "PRIORITY_TAKEN")
    assert one.id in error.message
    # Those that never meet may.
    past = values_pb2.TimePeriod()
    past.end_date_time.FromJsonString("2020-01-01T00:00:00Z")
    later = values_pb2.TimePeriod()
    later.start_date_time.FromJsonString("2020-01-01T00:00:00Z")
    first = released(priority=9, valid_for=past)
    second = released(priority=9, valid_for=later)
    assert (first.priority, second.priority) == (9, 9)
    refused(lambda: manager.update(P.Promotion(id=first.id), "valid_for"), FailedPrecondition, "PRIORITY_TAKEN")
    assert released().priority == 10


def test_of_two_released_at_a_time_with_one_priority_one_is_refused(manager: Client) -> None:
    drafts = [manager.create(a_promotion(priority=77)) for _ in range(4)]

    def release(draft: Any) -> str:
        try:
            move(manager, draft, "release")
        except FailedPrecondition as error:
            return error.reason
        return "released"

    with ThreadPoolExecutor(4) as pool:
        ends = sorted(pool.map(release, drafts))
    assert ends == ["PRIORITY_TAKEN"] * 3 + ["released"]
    for draft in drafts:
        if manager.get(draft).lifecycle_status == "release":
            move(manager, draft, "retirement")


@pytest.mark.parametrize(
    ("action", "large"),
    [
        (off("49.99"), False),
        (off("50"), True),
        (off("999", "unitAmount", price_type="oneTime"), False),
        (off("1000", "orderAmount", price_type="recurring", recurring_charge_period="monthly"), True),
    ],
    ids=str,
)
def test_a_large_discount_needs_a_second_person(
    manager: Client, client_for: Callable[..., Client], action: P.PromotionAction, large: bool
) -> None:
    second = client_for(["catalog-manager"], subject="second")
    made = manager.create(a_promotion(pattern(action), currency="KGS"))
    second.update(P.Promotion(id=made.id, description="let me see"), "description")
    third = client_for(["catalog-manager"], subject="third")
    if large:
        for editor in (manager, second):
            error = refused(partial(move, editor, made, "release"), FailedPrecondition, "SECOND_PERSON_REQUIRED")

            assert [violation.field for violation in error.violations] == ["lifecycle_status"]
            assert error.metadata["edited_by"] == "developer, second"
        refused(
            lambda: manager.create(a_promotion(pattern(action), currency="KGS", lifecycle_status="release")),
            FailedPrecondition,
            "SECOND_PERSON_REQUIRED",
        )
        # Nobody may change and release it in one go.
        both = P.Promotion(id=made.id, lifecycle_status="release", description="mine")
        refused(
            lambda: third.update(both, "lifecycle_status", "description"), FailedPrecondition, "SECOND_PERSON_REQUIRED"
        )
        shown = move(third, made, "release")
    else:
        shown = move(manager, made, "release")
    assert list(shown.edited_by) == []
    move(manager, made, "suspend")
    if large:
        # Nobody has changed it since.
        move(manager, made, "release")
    move(manager, made, "retirement")


def test_what_several_actions_come_to_is_what_counts(manager: Client) -> None:
    def once(value: str, kind: str = "unitAmount") -> P.PromotionAction:
        return off(value, kind, price_type="oneTime")

    yearly = off("600", "unitAmount", price_type="recurring", recurring_charge_period="year")
    for actions, large in (
        # 30 % and 20 % of what is left are 44 %; of units, 50 %.
        ((off("30"), off("20")), False),
        ((off("30", "unitPercentage"), off("20", "unitPercentage")), True),
        ((off("30"), off("30")), True),
        ((off("30", price_type="oneTime"), off("30", price_type="recurring")), False),
        ((off("30", price_type="recurring"), off("30", recurring_charge_period="month")), True),
        ((off("30"), off("30", "deliveryPercentage")), False),
        ((once("600"), once("400", "orderAmount")), True),
        ((once("600"), yearly), False),
    ):
        apart = [pattern(action) for action in actions]
        together = P.PromotionPattern(action=actions, criteria_group=apart[0].criteria_group)
        for patterns in (apart, [together]):
            draft = manager.create(a_promotion(*patterns, currency="KGS"))
            if large:
                refused(partial(move, manager, draft, "release"), FailedPrecondition, "SECOND_PERSON_REQUIRED")
            else:
                move(manager, draft, "release", "retirement")


def test_a_large_discount_isnt_granted_for_longer_by_one_person(
    manager: Client, client_for: Callable[..., Client], released: Callable[..., Any]
) -> None:
    def until(year: int) -> values_pb2.TimePeriod:
        period = values_pb2.TimePeriod()
        period.end_date_time.FromJsonString(f"{year}-01-01T00:00:00Z")
        return period

    def valid(client: Client, promotion: Any, year: int, *more: str, **fields: Any) -> Any:
        return client.update(P.Promotion(id=promotion.id, valid_for=until(year), **fields), "valid_for", *more)

    second = client_for(["catalog-manager"], subject="second")
    large = manager.create(a_promotion(pattern(off("60")), valid_for=until(2031)))
    move(second, large, "release")
    for client in (manager, second):
        error = refused(partial(valid, client, large, 2032), FailedPrecondition, "SECOND_PERSON_REQUIRED")
        assert [violation.field for violation in error.violations] == ["valid_for"]
    refused(lambda: manager.update(P.Promotion(id=large.id), "valid_for"), FailedPrecondition, "SECOND_PERSON_REQUIRED")
    valid(manager, large, 2030)
    # Nor by suspending it in the same breath.
    valid(manager, large, 2032, "lifecycle_status", lifecycle_status="suspend")
    refused(partial(move, manager, large, "release"), FailedPrecondition, "SECOND_PERSON_REQUIRED")
    move(second, large, "release", "retirement")
    small = released(valid_for=until(2031))
    valid(manager, small, 2032)


def test_an_amount_is_one_that_can_be_paid_and_says_how_often(manager: Client) -> None:
    for currency, value, kind, more, field in (
        ("KGS", "10.005", "orderAmount", {"price_type": "oneTime"}, "action_value"),
        ("KGS", "0.005", "unitAmount", {"price_type": "oneTime"}, "action_value"),
        ("JPY", "0.5", "unitAmount", {"price_type": "oneTime"}, "action_value"),
        ("KGS", "1E+99", "orderAmount", {"price_type": "oneTime"}, "action_value"),
        ("KGS", "10", "orderAmount", {"price_type": "recurring"}, "recurring_charge_period"),
        ("KGS", "10", "unitAmount", {"price_type": "recurring"}, "recurring_charge_period"),
    ):
        made = manager.create(a_promotion(pattern(off(value, kind, **more)), currency=currency))
        error = refused(partial(move, manager, made, "release"), FailedPrecondition, "NOT_RELEASABLE")
        assert [violation.field for violation in error.violations] == [f"pattern[0].action[0].{field}"]
    odd = values_pb2.Duration(amount=3, units="moons")
    made = manager.create(a_promotion(pattern(off(application_duration=odd))))
    error = refused(partial(move, manager, made, "release"), FailedPrecondition, "NOT_RELEASABLE")
    assert [violation.field for violation in error.violations] == ["pattern[0].action[0].application_duration"]


def test_the_book_has_what_is_released_and_forgets_what_isnt(
    manager: Client, database: Database, released: Callable[..., Any]
) -> None:
    book = PromotionBook()

    def ids() -> set[str]:
        with calls.using(Call.background("catalog", "test", branches=("*",))):
            return {terms.promotion.id for terms in book.on_offer(database)}

    made = released()
    assert made.id in ids()
    first = ids()
    move(manager, made, "suspend")
    assert ids() == first - {made.id}
    manager.update(P.Promotion(id=made.id, name="renamed"), "name")
    move(manager, made, "release")
    with calls.using(Call.background("catalog", "test", branches=("*",))):
        assert {t.promotion.name for t in book.on_offer(database) if t.promotion.id == made.id} == {"renamed"}


# --- coupons ---------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def agent(client_for: Callable[..., Client]) -> Client:
    """Who takes orders, and what carries them on."""
    return client_for(["agent", "service"])


@pytest.fixture
def opened(released: Callable[..., Any]) -> Any:
    """A promotion that needs a coupon."""
    return released(coupon_required=True)


def redeem(client: Client, code: str, order: str, customer: str = "c") -> Any:
    return client.call("RedeemCoupon", P.RedeemCouponRequest(code=code, order_id=order, customer_id=customer))


def release(client: Client, order: str) -> list[str]:
    return [one.code for one in client.call("ReleaseCoupons", P.ReleaseCouponsRequest(order_id=order)).redemption]


def a_code() -> str:
    return f"CODE-{new_id()}".upper()


def test_a_code_is_one_whatever_case_it_is_typed_in(manager: Client, agent: Client, opened: Any) -> None:
    code = a_code()
    made = manager.create(a_coupon(opened, f" {code.lower()} "))
    assert (made.code, made.redeemed) == (code, 0)
    error = refused(lambda: manager.create(a_coupon(opened, code.title())), FailedPrecondition, "CODE_TAKEN")
    assert [violation.field for violation in error.violations] == ["code"]
    assert redeem(agent, code.lower(), new_id()).coupon_id == made.id
    assert normal_code("Ｓummer ") == "SUMMER"


def test_a_coupon_opens_a_promotion_that_needs_one(manager: Client, released: Callable[..., Any]) -> None:
    refused(lambda: manager.create(a_coupon(P.Promotion(id="nowhere"), a_code())), InvalidArgument, "UNKNOWN_PROMOTION")
    refused(lambda: manager.create(a_coupon(released(), a_code())), FailedPrecondition, "COUPON_NOT_NEEDED")
    for wrong in ({"usage_limit": 0}, {"customer_usage_limit": -1}):
        refused(
            partial(manager.create, a_coupon(P.Promotion(id="x"), "c", **wrong)),
            InvalidArgument,
            "CONTRADICTION",
        )
    refused(lambda: manager.create(a_coupon(P.Promotion(id="x"), "two words")), InvalidArgument, "CONTRADICTION")


def test_code_and_promotion_of_a_coupon_stay(manager: Client, opened: Any) -> None:
    made = manager.create(a_coupon(opened, a_code(), usage_limit=1))
    refused(lambda: manager.update(P.Coupon(id=made.id, code="OTHER"), "code"), InvalidArgument, "IMMUTABLE")
    assert manager.update(P.Coupon(id=made.id, usage_limit=5), "usage_limit").usage_limit == 5
    draft = manager.create(a_promotion(coupon_required=True))
    manager.create(a_coupon(draft, a_code()))
    refused(lambda: manager.delete(draft), FailedPrecondition, "REFERENCED")


def test_generated_codes_are_many_different_and_asked_for_again_the_same(manager: Client, opened: Any) -> None:
    request = P.GenerateCouponsRequest(
        request_id=new_id(), promotion_id=opened.id, count=1000, prefix="may-", usage_limit=1
    )
    made = manager.call("GenerateCoupons", request).items
    codes = {coupon.code for coupon in made}
    assert len(codes) == 1000
    assert all(code.startswith("MAY-") and len(code) == 16 for code in codes)
    assert {coupon.code for coupon in manager.call("GenerateCoupons", request).items} == codes
    listed = manager.call("ListCoupons", requests_pb2.ListRequest(filter=[_equals("promotion.id", opened.id)]))
    assert {coupon.code for coupon in listed.items} == codes
    for count in (0, 1001):
        refused(
            partial(manager.call, "GenerateCoupons", P.GenerateCouponsRequest(promotion_id=opened.id, count=count)),
            InvalidArgument,
            "INVALID_COUNT",
        )


def _equals(path: str, value: str) -> requests_pb2.Filter:
    return requests_pb2.Filter(path=path, operator=requests_pb2.Filter.OPERATOR_EQ, value=[value])


def test_an_order_uses_a_coupon_once_and_gives_it_back(manager: Client, agent: Client, opened: Any) -> None:
    code, order = a_code(), new_id()
    made = manager.create(a_coupon(opened, code, usage_limit=1))
    used = redeem(agent, code, order)
    assert (used.promotion_id, used.order_id, used.customer_id, used.branch) == (opened.id, order, "c", "bishkek")
    assert redeem(agent, code, order) == used
    assert manager.get(made).redeemed == 1
    error = refused(lambda: redeem(agent, code, new_id()), InvalidArgument, "COUPON_EXHAUSTED")
    assert error.metadata["code"] == code
    refused(lambda: manager.delete(made), FailedPrecondition, "COUPON_USED")
    assert release(agent, order) == [code]
    assert release(agent, order) == []
    assert manager.get(made).redeemed == 0
    redeem(agent, code, new_id())


def test_a_customer_uses_a_coupon_as_often_as_allowed(manager: Client, agent: Client, opened: Any) -> None:
    code, orders = a_code(), [new_id() for _ in range(4)]
    manager.create(a_coupon(opened, code, customer_usage_limit=2))
    refused(lambda: redeem(agent, code, orders[0], ""), InvalidArgument, "CUSTOMER_REQUIRED")
    redeem(agent, code, orders[0])
    redeem(agent, code, orders[1])
    refused(lambda: redeem(agent, code, orders[2]), InvalidArgument, "COUPON_EXHAUSTED")
    redeem(agent, code, orders[2], "another")
    assert release(agent, orders[0]) == [code]
    redeem(agent, code, orders[3])


def test_what_cant_be_used_says_why(manager: Client, agent: Client, opened: Any) -> None:
    past, future = values_pb2.TimePeriod(), values_pb2.TimePeriod()
    past.end_date_time.FromJsonString("2020-01-01T00:00:00Z")
    future.start_date_time.FromJsonString("2120-01-01T00:00:00Z")
    old, early, idle = a_code(), a_code(), a_code()
    manager.create(a_coupon(opened, old, valid_for=past))
    manager.create(a_coupon(opened, early, valid_for=future))
    manager.create(a_coupon(manager.create(a_promotion(coupon_required=True)), idle))
    refused(lambda: redeem(agent, "nothing", "o"), InvalidArgument, "COUPON_UNKNOWN")
    refused(lambda: redeem(agent, old, "o"), InvalidArgument, "COUPON_EXPIRED")
    refused(lambda: redeem(agent, early, "o"), FailedPrecondition, "COUPON_NOT_YET_VALID")
    refused(lambda: redeem(agent, idle, "o"), FailedPrecondition, "PROMOTION_NOT_RELEASED")
    refused(lambda: redeem(agent, old, ""), InvalidArgument, "REQUIRED")


def _all_at_once(attempts: Sequence[Callable[[], Any]], threads: int) -> list[Any]:
    """The answers, or reasons of refusals, of attempts that begin together."""
    start = threading.Barrier(threads)

    def run(share: Sequence[Callable[[], Any]]) -> list[Any]:
        start.wait()
        ends = []
        for attempt in share:
            try:
                ends.append(attempt())
            except Aborted:
                raise
            except DomainError as error:
                ends.append(error.reason)
        return ends

    with ThreadPoolExecutor(threads) as pool:
        return [end for ends in pool.map(run, [attempts[i::threads] for i in range(threads)]) for end in ends]


def test_limits_hold_however_many_redeem_at_a_time(manager: Client, agent: Client, opened: Any) -> None:
    code = a_code()
    made = manager.create(a_coupon(opened, code, usage_limit=25, customer_usage_limit=3))
    # 12 customers, 5 orders each: by customer at most 36, of which 25.
    attempts = [partial(redeem, agent, code, new_id(), f"customer {n % 12}") for n in range(60)]
    ends = _all_at_once(attempts, 12)
    used = [end for end in ends if not isinstance(end, str)]
    assert len(used) == 25
    assert {end for end in ends if isinstance(end, str)} == {"COUPON_EXHAUSTED"}
    by_customer = [sum(one.customer_id == f"customer {n}" for one in used) for n in range(12)]
    assert max(by_customer) <= 3
    assert manager.get(made).redeemed == 25
    assert len({one.order_id for one in used}) == 25


def test_one_order_at_once_from_everywhere_is_one_use(manager: Client, agent: Client, opened: Any) -> None:
    code, order = a_code(), new_id()
    made = manager.create(a_coupon(opened, code, usage_limit=1))
    ends = _all_at_once([lambda: redeem(agent, code, order)] * 16, 8)
    assert len({end.id for end in ends}) == 1
    assert manager.get(made).redeemed == 1
    given_back = _all_at_once([lambda: release(agent, order)] * 16, 8)
    assert sorted(given_back) == [[]] * 15 + [[code]]
    assert manager.get(made).redeemed == 0


def test_uses_come_and_go_at_a_time_and_add_up(manager: Client, agent: Client, opened: Any) -> None:
    codes = [a_code() for _ in range(3)]
    coupons = [manager.create(a_coupon(opened, code)) for code in codes]
    orders = [new_id() for _ in range(16)]

    def both(order: str, ways: list[str]) -> Callable[[], Any]:
        def use() -> None:
            for code in ways:
                redeem(agent, code, order)
            release(agent, order)
            redeem(agent, ways[0], order)

        return use

    _all_at_once([both(order, codes if n % 2 else codes[::-1]) for n, order in enumerate(orders)], 8)
    assert [manager.get(coupon).redeemed for coupon in coupons] == [8, 0, 8]


def test_another_branch_neither_sees_nor_releases_a_use(
    manager: Client, agent: Client, client_for: Callable[..., Client], opened: Any, database: Database
) -> None:
    code, order = a_code(), new_id()
    made = manager.create(a_coupon(opened, code))
    redeem(agent, code, order)
    assert release(client_for(["service"], ["osh"]), order) == []
    assert manager.get(made).redeemed == 1
    with calls.using(Call.background("catalog", "test", branches=("osh",))), database.unit() as unit:
        assert unit.session.execute(sa.text("SELECT count(*) FROM coupon_redemption")).scalar() == 0
    assert release(agent, order) == [code]


def test_an_order_that_is_priced_again_has_its_own_use(manager: Client, agent: Client, opened: Any) -> None:
    price = manager.create(
        catalog_pb2.ProductOfferingPrice(
            name="fee",
            lifecycle_status=catalog_pb2.LIFECYCLE_STATUS_ACTIVE,
            price_type="oneTime",
            price=values_pb2.Money(unit="KGS", units=500),
        )
    )
    offering = manager.create(
        catalog_pb2.ProductOffering(
            name="connection",
            lifecycle_status=catalog_pb2.LIFECYCLE_STATUS_LAUNCHED,
            product_offering_price=[catalog_pb2.ProductOfferingPriceRefOrValue(id=price.id)],
        )
    )
    code, other, order = a_code(), a_code(), new_id()
    manager.create(a_coupon(opened, code, usage_limit=1))
    manager.create(a_coupon(opened, other, customer_usage_limit=1))
    for one in (code, other):
        redeem(agent, one, order)

    def priced(*codes: str, **context: str) -> int:
        wanted = pricing_pb2.PriceRequestItem(id="1", product_offering_id=offering.id)
        answer = agent.price(wanted, coupon=codes, customer_id="c", **context)
        return int(answer.item[0].component[0].amount.units)

    assert priced(code, other, order_id=order) == 450
    for one in (code, other):
        refused(partial(priced, one), InvalidArgument, "COUPON_EXHAUSTED")
        refused(partial(priced, one, order_id=new_id()), InvalidArgument, "COUPON_EXHAUSTED")


def test_promotion_is_an_aggregate_whose_editors_nobody_sets(manager: Client) -> None:
    made = manager.create(a_promotion(edited_by=["nobody"]))
    assert list(made.edited_by) == ["developer"]
    manager.update(P.Promotion(id=made.id, edited_by=["nobody"]), "edited_by")
    assert list(manager.get(made).edited_by) == ["developer"]
    assert Promotion.STATE == "lifecycle_status"
