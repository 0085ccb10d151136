"""Who pays more or less: what is compared, over which branches, and that grouping gives what pricing singly gives."""

import json
import random
from bisect import bisect_right
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any, NoReturn

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from catalog.holding import store as holdings
from catalog.holding.domain import Holding, SoldAlteration, SoldPrice
from catalog.preview import job, store
from catalog.preview.ages import endings, sold_over, turning_points
from catalog.preview.difference import Change, Move, compared, difference, paid
from catalog.preview.domain import Amount, PreviewOutcome, Subscription
from catalog.preview.job import STEP, Previews
from catalog.pricing.offers import Offer
from catalog.product.values import OfferingPhase
from chassis.convert import from_money, to_money, to_timestamp
from chassis.db import Database
from chassis.errors import FailedPrecondition, InvalidArgument, NotFound, PermissionDenied
from chassis.types import Characteristic, Duration, Json, Money, new_id
from svyaz.catalog.v1 import catalog_pb2 as pb
from svyaz.catalog.v1 import preview_pb2
from svyaz.orders.v1 import inventory_pb2, orders_pb2
from svyaz.type.v1 import requests_pb2, values_pb2
from tests.catalog import things
from tests.catalog.conftest import Client
from tests.catalog.test_api import IN_DESIGN, a_monthly_price, an_offering, bundled, refused, som
from tests.catalog.test_holding import START, a_product, as_of, heard

MORE, LESS, SAME = preview_pb2.PREVIEW_OUTCOME_MORE, preview_pb2.PREVIEW_OUTCOME_LESS, preview_pb2.PREVIEW_OUTCOME_SAME
KEPT, REFUSED = preview_pb2.PREVIEW_OUTCOME_KEPT, preview_pb2.PREVIEW_OUTCOME_REFUSED
# Later than any clock that this runs by.
AT = datetime(2056, 6, 1, tzinfo=UTC)


# --- the pure part ----------------------------------------------------------------------------------------------------


class LookedUp(dict[str, Offer]):
    """Offers of which each call may look at its own, and not at all."""

    def __iter__(self) -> Iterator[str]:
        raise AssertionError("all offers are gone through")

    def values(self) -> NoReturn:
        raise AssertionError("all offers are gone through")

    items = keys = values


def test_a_group_is_priced_by_what_it_holds_however_much_the_change_touches() -> None:
    offers = things.compiled(
        [
            things.an_offering("phone", *things.refs("fee")),
            things.an_offering("family", bundled_product_offering=things.parts(phone=2)),
        ],
        [things.a_price("fee", "100 KGS")],
    )
    change = Change({"family": Move("family", AT)}, LookedUp(offers), LookedUp(offers))
    held = Subscription(branch="bishkek", product_offering_id="family", sold=(sold("150"),))
    told = difference(held, change)
    assert (told.outcome, [one.after for one in told.difference]) == (PreviewOutcome.MORE, [kgs("200")])


def sold(net: str, period: str = "month", *alterations: SoldAlteration, **more: Any) -> SoldPrice:
    return SoldPrice(
        price_type="recurring", period=period, currency="KGS", net=Decimal(net), alteration=alterations, **more
    )


def kgs(net: str, gross: str | None = None) -> Amount:
    return Amount(Decimal(net), Decimal(gross or net))


def test_what_is_paid_is_what_was_sold() -> None:
    once = SoldPrice(price_type="oneTime", currency="KGS", net=Decimal(500))
    prices = [sold("990", gross=Decimal("1108.8"), tax_rate=Decimal(12)), sold("10", tax_rate=Decimal(12)), once]
    assert paid(prices, None, AT) == {("KGS", "month"): kgs("1000", "1120.00")}
    assert paid([sold("1", "quarterly")], None, AT) == {("KGS", "3 month"): kgs("1")}


@pytest.mark.parametrize(("since", "net"), [(AT - timedelta(days=40), "900"), (AT - timedelta(days=100), "1000")])
def test_a_discount_that_has_ended_is_paid_no_longer(since: datetime, net: str) -> None:
    discount = SoldAlteration(net=Decimal(-100), duration=3, units="month")
    price = sold("900", "month", discount, gross=Decimal(1008), tax_rate=Decimal(12))
    amount = paid([price], since, AT)["KGS", "month"]
    assert (amount.net, amount.gross) == (Decimal(net), Decimal(net) * Decimal("1.12"))


@pytest.mark.parametrize(("left", "net"), [(timedelta(seconds=1), "900"), (timedelta(0), "1000")])
def test_a_discount_that_an_order_has_carried_over_ends_when_it_would_have(left: timedelta, net: str) -> None:
    discount = SoldAlteration(net=Decimal(-100), until=AT + left)
    amount = paid([sold("900", "month", discount)], AT - timedelta(days=40), AT)["KGS", "month"]
    assert amount == kgs(net)


@pytest.mark.parametrize(
    ("before", "then", "outcome"),
    [
        ({"month": "100"}, {"month": "100"}, "same"),
        ({"month": "100"}, {"month": "101"}, "more"),
        ({}, {}, "same"),
        ({"month": "100"}, {}, "less"),
        ({"month": "100"}, {"year": "1200"}, "same"),
        ({"month": "100"}, {"year": "1199"}, "less"),
        ({"month": "100"}, {"3 month": "301"}, "more"),
        ({"month": "100"}, {"moon": "100"}, "refused"),
    ],
)
def test_periods_are_compared_by_the_year(before: dict[str, str], then: dict[str, str], outcome: str) -> None:
    now, later = ({("KGS", period): kgs(amount) for period, amount in one.items()} for one in (before, then))
    assert compared(now, later).outcome == outcome


def test_other_currencies_are_not_compared() -> None:
    assert compared({("KGS", "month"): kgs("1")}, {("USD", "month"): kgs("1")}).reason == "INCOMPARABLE"


def in_phases(*lasting: Duration | None) -> Offer:
    """An offer with phases of those durations, and a discount of three months in each."""
    phases = tuple(OfferingPhase(name=str(number), duration=one) for number, one in enumerate(lasting))
    offering = things.an_offering("o", *things.refs("p"), phase=phases)
    off = things.a_discount("off", "10")
    off.application_duration = Duration(amount=3, units="month")
    return things.compiled([offering], [things.a_price("p", "10 KGS", pop_relationship=things.altered_by("off")), off])[
        "o"
    ]


MONTH, FORTNIGHT, YEAR = (Duration(amount=n, units=u) for n, u in ((1, "month"), (14, "day"), (1, "year")))
PHASED = in_phases(MONTH, FORTNIGHT, YEAR, Duration(amount=36, units="hour"), None)


# Each example is up to two hundred products.
@settings(max_examples=50, deadline=None)
@given(
    later=st.timedeltas(timedelta(0), timedelta(days=4_000)),
    ages=st.lists(st.timedeltas(timedelta(0), timedelta(days=600)), min_size=2, max_size=200),
)
def test_between_two_turning_points_all_are_as_old(later: timedelta, ages: list[timedelta]) -> None:
    at = START + later
    found = list(endings(PHASED, at).values())
    assert len(found) == 4 + 5
    points = turning_points(found, at)
    told: dict[int, tuple[bool, ...]] = {}
    for age in ages:
        same = tuple(one(at - age) for one in found)
        assert told.setdefault(bisect_right(points, at - age), same) == same


def test_a_turning_point_is_where_something_is_over_for_the_first_time() -> None:
    at = datetime(2026, 2, 28, 12, tzinfo=UTC)
    microsecond = timedelta(microseconds=1)
    # The last days of January are all a month before the 28th of February: of each the morning.
    points = turning_points([lambda since: sold_over(1, "monthly", since, at)], at)
    days = [datetime(2026, 1, day, tzinfo=UTC) for day in (28, 29, 30, 31)]
    mornings = [end for day in days for end in (day, day + timedelta(hours=12) + microsecond)]
    assert points == mornings[1:]
    assert turning_points([lambda _: True, lambda _: False], at) == []
    assert not sold_over(1, "moon", START, AT)


# --- the whole -------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def previews(database: Database) -> Previews:
    return Previews(database)


@pytest.fixture
def worked_out(database: Database, previews: Previews) -> Callable[..., preview_pb2.ChangePreview]:
    """The preview of a change, as its maker sees it when all its steps are done."""

    def work(client: Client, *drafts: pb.ProductOffering, **fields: Any) -> preview_pb2.ChangePreview:
        request = preview_pb2.PreviewChangeRequest(product_offering_id=[one.id for one in drafts], **fields)
        made: preview_pb2.ChangePreview = client.call("PreviewChange", request)
        assert made.state == preview_pb2.PREVIEW_STATE_RUNNING
        steps(database, previews, made.id)
        return seen(client, made)

    return work


def steps(database: Database, previews: Previews, preview_id: str) -> int:
    """Takes the preview's steps until there is none left; how many there were."""
    taken = 0
    while True:
        with as_of(database, "*") as unit:
            due = unit.cursor().execute(
                "DELETE FROM timer WHERE aggregate_id = %s AND purpose = %s RETURNING branch", (preview_id, STEP)
            )
            row = due.fetchone()
        if row is None:
            return taken
        with as_of(database, row[0]) as unit:
            previews.step(preview_id, unit)
        taken += 1


def seen(client: Client, made: preview_pb2.ChangePreview) -> preview_pb2.ChangePreview:
    found: preview_pb2.ChangePreview = client.call("GetChangePreview", requests_pb2.GetRequest(id=made.id))
    return found


def counts(preview: preview_pb2.ChangePreview) -> dict[int, int]:
    return {one.outcome: one.products for one in preview.count}


def products(client: Client, made: preview_pb2.ChangePreview, **fields: Any) -> list[preview_pb2.PreviewedProduct]:
    """All pages."""
    found: list[preview_pb2.PreviewedProduct] = []
    token = ""
    while True:
        request = preview_pb2.ListPreviewedProductsRequest(id=made.id, page_token=token, **fields)
        page = client.call("ListPreviewedProducts", request)
        assert len(page.items) <= (request.limit or 1_000)
        found += page.items
        token = page.next_page_token
        if not token:
            return found


def paying(amount: str, price: str = "", alterations: Any = (), period: str = "month") -> Any:
    return inventory_pb2.ProductPrice(
        price_type="recurring",
        recurring_charge_period=period,
        product_offering_price=values_pb2.EntityRef(id=price),
        price=values_pb2.Price(duty_free_amount=to_money(Money(unit="KGS", value=Decimal(amount)))),
        product_price_alteration=alterations,
    )


def holder(
    database: Database, offering: pb.ProductOffering, *prices: Any, branch: str = "bishkek", **more: Any
) -> inventory_pb2.Product:
    started = more.pop("started_at", START)
    quantity = more.pop("quantity", 1)
    product = a_product(offering.id, more.pop("customer", new_id()), product_price=prices, **more)
    if started is not None:
        product.start_date.FromDatetime(started)
    heard(database, product, branch=branch)
    item = orders_pb2.OrderedItem(
        id=new_id(),
        product_id=product.id,
        item=orders_pb2.ProductOrderItem(action=orders_pb2.ORDER_ITEM_ACTION_ADD, quantity=quantity),
    )
    heard(database, item, branch=branch, time=started or START)
    return product


@pytest.fixture(scope="module")
def head_office(client_for: Callable[..., Client]) -> Client:
    return client_for(["catalog-manager"], ["*"])


def migrating(at: datetime | None = AT) -> pb.ExistingSubscribers:
    policy = pb.ExistingSubscribers(policy=pb.EXISTING_SUBSCRIBERS_POLICY_MIGRATE)
    if at is not None:
        policy.effective_date.CopyFrom(to_timestamp(at))
    return policy


def a_version(manager: Client, of: pb.ProductOffering, *prices: pb.ProductOfferingPrice, **more: Any) -> Any:
    return manager.create(
        an_offering(
            *prices,
            **{
                "version": "2",
                "series": of.series or of.id,
                "lifecycle_status": IN_DESIGN,
                "existing_subscribers": migrating(),
                **more,
            },
        )
    )


def test_a_new_version_for_those_who_hold_the_old_one(
    database: Database, manager: Client, worked_out: Callable[..., preview_pb2.ChangePreview]
) -> None:
    old = manager.create(an_offering(manager.create(a_monthly_price(500))))
    new = a_version(manager, old, manager.create(a_monthly_price(600, lifecycle_status=IN_DESIGN)))
    dear = holder(database, old, paying("700"), customer="c-dear", started_at=AT + timedelta(days=3))
    cheap = [holder(database, old, paying("500")) for _ in range(3)]
    many = holder(database, old, paying("1200"), quantity=2)
    unpriced = holder(database, old)
    ended = holder(database, old, paying("500"), status=inventory_pb2.PRODUCT_STATUS_TERMINATED)

    preview = worked_out(manager, new)
    assert preview.state == preview_pb2.PREVIEW_STATE_DONE
    assert (preview.products, preview.products_priced, preview.groups) == (6, 6, 4)
    assert counts(preview) == {MORE: 4, LESS: 1, SAME: 1}
    (total,) = preview.total
    assert (total.recurring_charge_period, total.products) == ("month", 6)
    assert [from_money(one).value for one in (total.before, total.after)] == [3900, 4200]
    assert [(getattr(one, "from").units, one.to.units, one.products) for one in preview.histogram] == [
        (-100, -50, 1),
        (100, 200, 4),
    ]

    shown = {one.product_id: one for one in products(manager, preview)}
    assert shown.keys() == {dear.id, many.id, unpriced.id, *(one.id for one in cheap)}
    assert ended.id not in shown
    one = shown[dear.id]
    assert (one.customer_id, one.branch, one.outcome) == ("c-dear", "bishkek", LESS)
    assert (one.product_offering_id, one.new_product_offering_id) == (old.id, new.id)
    assert one.effective_at.ToDatetime(UTC) == AT + timedelta(days=3), "not before it begins"
    assert shown[cheap[0].id].effective_at.ToDatetime(UTC) == AT
    (change,) = one.difference
    assert (change.before.units, change.after.units) == (700, 600)
    assert {one.product_id for one in products(manager, preview, outcome=[MORE], limit=1)} == {
        unpriced.id,
        *(one.id for one in cheap),
    }


def test_those_who_keep_what_they_bought(
    database: Database, manager: Client, worked_out: Callable[..., preview_pb2.ChangePreview]
) -> None:
    old = manager.create(an_offering(manager.create(a_monthly_price(500))))
    keep = pb.ExistingSubscribers(policy=pb.EXISTING_SUBSCRIBERS_POLICY_KEEP)
    new = a_version(manager, old, manager.create(a_monthly_price(900)), existing_subscribers=keep)
    held = [holder(database, old, paying("500")) for _ in range(2)]
    preview = worked_out(manager, new)
    assert (counts(preview), len(preview.total)) == ({KEPT: 2}, 0)
    shown = products(manager, preview)
    assert [one.outcome for one in shown] == [KEPT, KEPT]
    assert sorted(one.product_id for one in shown) == sorted(one.id for one in held)
    assert not shown[0].HasField("effective_at")


def test_a_version_moves_those_of_older_ones_and_not_before_it_is_sold(
    database: Database, manager: Client, worked_out: Callable[..., preview_pb2.ChangePreview]
) -> None:
    def beginning(at: datetime) -> values_pb2.TimePeriod:
        return values_pb2.TimePeriod(start_date_time=to_timestamp(at))

    monthly = manager.create(a_monthly_price(500))
    old = manager.create(an_offering(monthly))
    later = a_version(
        manager,
        old,
        monthly,
        version="3",
        lifecycle_status=pb.LIFECYCLE_STATUS_ACTIVE,
        valid_for=beginning(AT + timedelta(days=90)),
        existing_subscribers=migrating(None),
    )
    begins = AT + timedelta(days=30)
    dearer = manager.create(a_monthly_price(600))
    between = a_version(manager, old, dearer, valid_for=beginning(begins), existing_subscribers=migrating(None))
    of_old, _ = holder(database, old, paying("500")), holder(database, later, paying("500"))
    preview = worked_out(manager, between, at=to_timestamp(AT))
    (shown,) = products(manager, preview)
    assert (shown.product_id, shown.outcome) == (of_old.id, MORE), "who has a later version isn't moved back"
    assert shown.effective_at.ToDatetime(UTC) == begins


def test_an_empty_base(manager: Client, worked_out: Callable[..., preview_pb2.ChangePreview]) -> None:
    old = manager.create(an_offering(manager.create(a_monthly_price(500))))
    preview = worked_out(manager, a_version(manager, old, manager.create(a_monthly_price(600))))
    assert preview.state == preview_pb2.PREVIEW_STATE_DONE
    assert (preview.products, preview.groups, len(preview.total), len(preview.histogram)) == (0, 0, 0, 0)
    assert products(manager, preview) == []


def test_a_price_that_several_offerings_share(
    database: Database, manager: Client, worked_out: Callable[..., preview_pb2.ChangePreview]
) -> None:
    shared, other = (manager.create(a_monthly_price(amount)) for amount in (500, 70))
    plain = manager.create(an_offering(shared))
    both = manager.create(an_offering(shared, other))
    without = manager.create(an_offering(other))
    bundle = manager.create(pb.ProductOffering(name="All", is_bundle=True, bundled_product_offering=bundled(plain)))
    manager.move(bundle, pb.LIFECYCLE_STATUS_IN_TEST, pb.LIFECYCLE_STATUS_ACTIVE)
    held = {one.id: holder(database, one, paying(amount)) for one, amount in ((plain, "500"), (both, "570"))}
    holder(database, without, paying("70"))
    whole = holder(database, bundle)
    inside = inventory_pb2.ProductRelationship(
        relationship_type="bundledIn", product=inventory_pb2.ProductRefOrValue(id=whole.id)
    )
    part = holder(database, plain, paying("450"), product_relationship=[inside])

    changed = pb.ProductOfferingPrice(id=shared.id)
    changed.CopyFrom(shared)
    changed.price.units = 550
    preview = worked_out(manager, product_offering_price=[changed], at=to_timestamp(AT))
    assert counts(preview) == {MORE: 3}
    shown = {one.product_id: one for one in products(manager, preview)}
    assert shown.keys() == {whole.id, *(one.id for one in held.values())}, "a part is priced with its bundle"
    assert part.id not in shown
    amounts = {key: (one.difference[0].before.units, one.difference[0].after.units) for key, one in shown.items()}
    assert amounts == {held[plain.id].id: (500, 550), held[both.id].id: (570, 620), whole.id: (450, 550)}
    assert manager.get(shared).price.units == 500, "nothing has changed"


def test_who_cannot_be_priced_is_told_with_the_reason(
    database: Database, manager: Client, worked_out: Callable[..., preview_pb2.ChangePreview]
) -> None:
    old = manager.create(an_offering(manager.create(a_monthly_price(500))))
    dollars = a_monthly_price(9)
    dollars.price.unit = "USD"
    new = a_version(manager, old, manager.create(dollars))
    held = holder(database, old, paying("500"))
    preview = worked_out(manager, new)
    assert counts(preview) == {REFUSED: 1}
    (warning,) = preview.warning
    assert (warning.field, warning.products, warning.product_offering_id) == ("NO_PRICE_IN_CURRENCY", 1, old.id)
    (shown,) = products(manager, preview)
    assert (shown.product_id, shown.reason) == (held.id, "NO_PRICE_IN_CURRENCY")


def test_what_would_never_apply_is_told(
    database: Database, manager: Client, worked_out: Callable[..., preview_pb2.ChangePreview]
) -> None:
    monthly = manager.create(a_monthly_price(500))
    old = manager.create(an_offering(monthly))
    of_a_phase = manager.create(a_monthly_price(100, phase=["first year"], lifecycle_status=IN_DESIGN))
    early = migrating(AT - timedelta(days=400))
    new = a_version(
        manager,
        old,
        manager.create(a_monthly_price(600)),
        of_a_phase,
        existing_subscribers=early,
        valid_for=values_pb2.TimePeriod(start_date_time=to_timestamp(AT - timedelta(days=30))),
    )
    holder(database, old, paying("500"))
    request = preview_pb2.PreviewChangeRequest(product_offering_id=[new.id], at=to_timestamp(AT))
    at_once = manager.call("PreviewChange", request)
    preview = worked_out(manager, new, at=to_timestamp(AT))
    *idle, refused_ones = preview.warning
    assert idle == list(at_once.warning)
    assert [(one.product_offering_id, one.field) for one in idle] == [
        (new.id, "existing_subscribers.effective_date"),
        (new.id, "product_offering_price[1].phase[0]"),
    ]
    assert (refused_ones.field, refused_ones.products) == ("OFFERING_NOT_SELLABLE", 1), "and it can't be priced so"

    # Of a price that replaces another: what it says itself, and what becomes of the offerings that use it.
    changed = pb.ProductOfferingPrice()
    changed.CopyFrom(monthly)
    changed.phase[:] = ["trial"]
    changed.valid_for.end_date_time.CopyFrom(to_timestamp(AT - timedelta(days=1)))
    preview = worked_out(manager, product_offering_price=[changed], at=to_timestamp(AT))
    told = {(one.product_offering_id, one.field) for one in preview.warning if not one.products}
    assert ("", "product_offering_price[0].valid_for.end_date_time") in told
    assert (old.id, "product_offering_price[0].phase[0]") in told
    assert not [one for one in told if one[0] == new.id], "the draft doesn't use it"
    unchanged = worked_out(manager, product_offering_price=[monthly], at=to_timestamp(AT))
    assert list(unchanged.warning) == []


def test_a_preview_is_cancelled(
    database: Database, manager: Client, client_for: Callable[..., Client], previews: Previews
) -> None:
    old = manager.create(an_offering(manager.create(a_monthly_price(500))))
    new = a_version(manager, old, manager.create(a_monthly_price(600)))
    holder(database, old, paying("500"))
    made = manager.call("PreviewChange", preview_pb2.PreviewChangeRequest(product_offering_id=[new.id]))
    request = preview_pb2.CancelChangePreviewRequest(id=made.id)
    elsewhere = client_for(["catalog-manager"], ["osh"])
    refused(PermissionDenied, "BRANCH_FORBIDDEN", lambda: elsewhere.call("CancelChangePreview", request))
    cancelled = manager.call("CancelChangePreview", request)
    assert cancelled.state == preview_pb2.PREVIEW_STATE_CANCELLED
    assert cancelled.HasField("ended_at")
    assert steps(database, previews, made.id) == 0
    with as_of(database, "bishkek") as unit:
        # As the step that was under way, or whose timer was taken already.
        previews.step(made.id, unit)
    found = seen(manager, made)
    assert (found.state, found.products, products(manager, made)) == (preview_pb2.PREVIEW_STATE_CANCELLED, 0, [])
    assert manager.call("CancelChangePreview", request).state == preview_pb2.PREVIEW_STATE_CANCELLED

    done = manager.call("PreviewChange", preview_pb2.PreviewChangeRequest(product_offering_id=[new.id]))
    steps(database, previews, done.id)
    request.id = done.id
    refused(FailedPrecondition, "NOT_RUNNING", lambda: manager.call("CancelChangePreview", request))


def test_what_is_cancelled_while_it_is_grouped_keeps_nothing(
    database: Database, manager: Client, previews: Previews, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = manager.create(an_offering(manager.create(a_monthly_price(500))))
    new = a_version(manager, old, manager.create(a_monthly_price(600)))
    holder(database, old, paying("500"))
    made = manager.call("PreviewChange", preview_pb2.PreviewChangeRequest(product_offering_id=[new.id]))
    group = store.group

    def meanwhile(*args: Any) -> None:
        group(*args)
        manager.call("CancelChangePreview", preview_pb2.CancelChangePreviewRequest(id=made.id))

    monkeypatch.setattr(store, "group", meanwhile)
    assert steps(database, previews, made.id) <= 1
    found = seen(manager, made)
    assert (found.state, found.products) == (preview_pb2.PREVIEW_STATE_CANCELLED, 0)


def test_what_is_not_there_is_refused(manager: Client) -> None:
    def asked(**fields: Any) -> Callable[[], object]:
        return lambda: manager.call("PreviewChange", preview_pb2.PreviewChangeRequest(**fields))

    refused(InvalidArgument, "REQUIRED", asked())
    error = refused(InvalidArgument, "UNKNOWN_OFFERING", asked(product_offering_id=["nothing"]))
    assert [violation.field for violation in error.violations] == ["product_offering_id[0]"]
    price = a_monthly_price(5)
    refused(InvalidArgument, "INVALID_ARGUMENT", asked(product_offering_price=[price]))
    price.id = "nothing"
    refused(InvalidArgument, "UNKNOWN_PRICE", asked(product_offering_price=[price]))
    refused(NotFound, "NOT_FOUND", lambda: manager.call("GetChangePreview", requests_pb2.GetRequest(id="nothing")))
    listing = preview_pb2.ListPreviewedProductsRequest(id="nothing", page_token="?")
    refused(InvalidArgument, "INVALID_ARGUMENT", lambda: manager.call("ListPreviewedProducts", listing))


def test_a_branch_sees_its_own(
    database: Database,
    manager: Client,
    head_office: Client,
    client_for: Callable[..., Client],
    worked_out: Callable[..., preview_pb2.ChangePreview],
) -> None:
    old = manager.create(an_offering(manager.create(a_monthly_price(500))))
    new = a_version(manager, old, manager.create(a_monthly_price(600)))
    for branch in ("bishkek", "osh", "osh"):
        holder(database, old, paying("500"), branch=branch)
    osh = client_for(["catalog-manager"], ["osh"])
    ours = worked_out(manager, new)
    assert (counts(ours), len(products(manager, ours))) == ({MORE: 1}, 1)
    assert (counts(seen(osh, ours)), products(osh, ours)) == ({}, []), "it doesn't cover them"
    everybodys = worked_out(head_office, new)
    assert (counts(everybodys), everybodys.total[0].products) == ({MORE: 3}, 3)
    assert len(products(head_office, everybodys, branch="osh")) == 2
    for client, own in ((manager, 1), (osh, 2)):
        found = seen(client, everybodys)
        assert (found.products, counts(found), found.total[0].products, found.histogram[0].products) == (
            own,
            {MORE: own},
            own,
            own,
        )
        assert len(products(client, everybodys)) == own
        assert len(products(client, everybodys, branch="osh")) == (2 if client is osh else 0)


def test_a_preview_begins_anew_when_its_catalog_changes_meanwhile(
    database: Database, manager: Client, previews: Previews
) -> None:
    old = manager.create(an_offering(manager.create(a_monthly_price(500))))
    price = manager.create(a_monthly_price(600, lifecycle_status=IN_DESIGN))
    new = a_version(manager, old, price)
    holder(database, old, paying("500"))
    made = manager.call("PreviewChange", preview_pb2.PreviewChangeRequest(product_offering_id=[new.id]))
    with as_of(database, "bishkek") as unit:
        plan = previews.plan(unit, store.row_of(unit, made.id))
        assert previews.plan(unit, store.row_of(unit, made.id)) is plan, "as long as nothing has changed"
    manager.update(pb.ProductOfferingPrice(id=price.id, price=som(480)), "price")
    steps(database, previews, made.id)
    assert counts(seen(manager, made)) == {LESS: 1}
    manager.update(pb.ProductOfferingPrice(id=price.id, price=som(490)), "price")
    listing = preview_pb2.ListPreviewedProductsRequest(id=made.id)
    with pytest.raises(Exception, match="the catalog has changed"):
        manager.call("ListPreviewedProducts", listing)


def discounted(months: int) -> inventory_pb2.PriceAlteration:
    return inventory_pb2.PriceAlteration(
        price_type="recurring",
        application_duration=months,
        price=values_pb2.Price(duty_free_amount=som(-100)),
    )


def test_who_reads_it_makes_no_difference_to_what_it_is_grouped_by(
    database: Database,
    manager: Client,
    head_office: Client,
    client_for: Callable[..., Client],
    previews: Previews,
    worked_out: Callable[..., preview_pb2.ChangePreview],
) -> None:
    old = manager.create(an_offering(manager.create(a_monthly_price(500))))
    new = a_version(manager, old, manager.create(a_monthly_price(600)))
    for branch, months in (("bishkek", 3), ("osh", 7)):
        for days in (10, 150, 400):
            start = AT - timedelta(days=days)
            holder(database, old, paying("500", "p", [discounted(months)]), branch=branch, started_at=start)
    made = worked_out(head_office, new)
    # As if another replica answered: of Osh's discounts a manager of Bishkek sees nothing.
    previews._plans.clear()
    ours = products(manager, made)
    assert (len(ours), {one.outcome for one in ours} & {preview_pb2.PREVIEW_OUTCOME_OUTDATED}) == (3, set())
    previews._plans.clear()
    assert len(products(client_for(["catalog-manager"], ["osh"]), made)) == 3
    assert len(products(head_office, made)) == 6


def test_a_product_that_has_changed_since_is_said_to_have(
    database: Database, manager: Client, worked_out: Callable[..., preview_pb2.ChangePreview]
) -> None:
    old = manager.create(an_offering(manager.create(a_monthly_price(500))))
    new = a_version(manager, old, manager.create(a_monthly_price(600)))
    holder(database, old, paying("500"))
    made = worked_out(manager, new)
    late = holder(database, old, paying("444"))
    outdated = preview_pb2.PREVIEW_OUTCOME_OUTDATED
    (shown,) = products(manager, made, outcome=[outdated])
    assert (shown.product_id, shown.outcome, list(shown.difference)) == (late.id, outdated, [])
    assert not shown.HasField("effective_at")
    assert sorted(one.outcome for one in products(manager, made)) == sorted([MORE, outdated])


def test_groups_are_priced_some_at_a_time(
    database: Database,
    manager: Client,
    head_office: Client,
    worked_out: Callable[..., preview_pb2.ChangePreview],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(job, "BATCH", 1)
    old = manager.create(an_offering(manager.create(a_monthly_price(500))))
    new = a_version(manager, old, manager.create(a_monthly_price(600)))
    for amount, branch in (("500", "osh"), ("500", "naryn"), ("700", "osh"), ("500", "bishkek"), ("500", "osh")):
        holder(database, old, paying(amount), branch=branch)
    made = worked_out(head_office, new)
    assert (counts(made), made.groups, made.total[0].products) == ({MORE: 4, LESS: 1}, 4, 5)
    keep = pb.ExistingSubscribers(policy=pb.EXISTING_SUBSCRIBERS_POLICY_KEEP)
    kept = a_version(manager, old, manager.create(a_monthly_price(900)), existing_subscribers=keep)
    assert counts(worked_out(head_office, kept)) == {KEPT: 5}


def test_a_price_of_one_branch_only(
    database: Database,
    manager: Client,
    head_office: Client,
    worked_out: Callable[..., preview_pb2.ChangePreview],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(job, "BATCH", 2)
    of_osh = pb.PriceCondition(subject="branch", operator=pb.CONDITION_OPERATOR_EQ, value=b'"osh"')
    old = manager.create(an_offering(manager.create(a_monthly_price(500))))
    new = a_version(
        manager, old, manager.create(a_monthly_price(500)), manager.create(a_monthly_price(50, condition=[of_osh]))
    )
    held = {branch: holder(database, old, paying("500"), branch=branch) for branch in ("bishkek", "naryn", "osh")}
    made = worked_out(head_office, new)
    assert counts(made) == {SAME: 2, MORE: 1}
    assert [one.product_id for one in products(head_office, made, outcome=[MORE])] == [held["osh"].id]


def test_a_value_that_is_not_there_is_not_alike_one_that_is_nothing(
    database: Database, manager: Client, worked_out: Callable[..., preview_pb2.ChangePreview]
) -> None:
    said = pb.PriceCondition(subject="characteristic.speed", operator=pb.CONDITION_OPERATOR_NE, value=b'"slow"')
    old = manager.create(an_offering(manager.create(a_monthly_price(500))))
    new = a_version(manager, old, manager.create(a_monthly_price(600, condition=[said])))
    for speed in (None, b"null", b'""', b"1"):
        stated = [] if speed is None else [values_pb2.Characteristic(name="speed", value=speed)]
        holder(database, old, paying("500"), product_characteristic=stated)
    assert worked_out(manager, new).groups == 4


def test_what_goes_on_failing_ends_with_the_reason(
    database: Database, manager: Client, previews: Previews, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = manager.create(an_offering(manager.create(a_monthly_price(500))))
    new = a_version(manager, old, manager.create(a_monthly_price(600)))
    holder(database, old, paying("500"))
    made = manager.call("PreviewChange", preview_pb2.PreviewChangeRequest(product_offering_id=[new.id]))

    def too_long(*args: Any, **more: Any) -> None:
        raise TimeoutError("it took too long")

    monkeypatch.setattr(store, "group", too_long)
    for _ in range(job.ATTEMPTS - 1):
        with pytest.raises(TimeoutError), as_of(database, "bishkek") as unit:
            previews.step(made.id, unit)
    with as_of(database, "bishkek") as unit:
        previews.step(made.id, unit)
    found = seen(manager, made)
    assert found.state == preview_pb2.PREVIEW_STATE_FAILED
    assert "it took too long" in found.error


def test_who_has_no_branch_has_no_subscribers_to_preview(manager: Client, client_for: Callable[..., Client]) -> None:
    old = manager.create(an_offering(manager.create(a_monthly_price(500))))
    new = a_version(manager, old, manager.create(a_monthly_price(600)))
    nobody = client_for(["catalog-manager"], [])
    request = preview_pb2.PreviewChangeRequest(product_offering_id=[new.id])
    refused(PermissionDenied, "BRANCH_FORBIDDEN", lambda: nobody.call("PreviewChange", request))


def test_what_is_due_once_is_shown_when_it_would_be_charged(
    database: Database, manager: Client, worked_out: Callable[..., preview_pb2.ChangePreview]
) -> None:
    old = manager.create(an_offering(manager.create(a_monthly_price(500))))
    connection = a_monthly_price(1000)
    connection.price_type = "oneTime"
    connection.ClearField("recurring_charge_period_type")
    new = a_version(manager, old, manager.create(a_monthly_price(500)), manager.create(connection))
    holder(database, old, paying("500"))
    behind = worked_out(manager, new)
    assert (counts(behind), [one.recurring_charge_period for one in behind.total]) == ({SAME: 1}, ["month"])
    due = worked_out(manager, new, charge_one_time=True)
    assert counts(due) == {MORE: 1}
    once, monthly = due.total
    assert (once.recurring_charge_period, once.before.units, once.after.units) == ("", 0, 1000)
    assert (monthly.recurring_charge_period, monthly.after.units) == ("month", 500)


def test_the_same_price_proposed_differently_is_not_mixed_up(
    database: Database, manager: Client, worked_out: Callable[..., preview_pb2.ChangePreview]
) -> None:
    price = manager.create(a_monthly_price(500))
    holder(database, manager.create(an_offering(price)), paying("500"))
    for amount, outcome in ((550, MORE), (450, LESS)):
        price.price.units = amount
        assert counts(worked_out(manager, product_offering_price=[price], at=to_timestamp(AT))) == {outcome: 1}


def test_a_preview_is_forgotten(database: Database, manager: Client, previews: Previews) -> None:
    old = manager.create(an_offering(manager.create(a_monthly_price(500))))
    holder(database, old, paying("500"))
    new = a_version(manager, old, manager.create(a_monthly_price(600)))
    made = manager.call("PreviewChange", preview_pb2.PreviewChangeRequest(product_offering_id=[new.id]))
    steps(database, previews, made.id)
    with as_of(database, "bishkek") as unit:
        previews.forget(made.id, unit)
    refused(NotFound, "NOT_FOUND", lambda: seen(manager, made))
    with as_of(database, "*") as unit:
        for table in ("preview_group", "preview_difference"):
            query = f"SELECT count(*) FROM {table} WHERE preview_id = %s"  # noqa: S608
            assert unit.cursor().execute(query, (made.id,)).fetchone() == (0,)
        previews.step(made.id, unit)


# --- singly ----------------------------------------------------------------------------------------------------------


def singly(held: Holding) -> Subscription:
    """The product by itself, with all that is known of it."""
    return Subscription(
        branch=held.branch,
        product_offering_id=held.product_offering_id or "",
        quantity=held.quantity,
        characteristic=tuple(
            Characteristic(name=name, value=Json(json.dumps(value)))
            for name, value in json.loads(held.characteristic.text).items()
        ),
        term=held.term,
        place=held.place,
        agreement_id=held.agreement_id or "",
        market_segment=held.market_segment,
        customer_id=held.customer_id or "",
        started_at=held.started_at,
        ordered_at=held.ordered_at,
        sold=held.sold,
    )


def a_base(database: Database, manager: Client, chance: random.Random, number: int) -> Iterator[pb.ProductOffering]:
    """Offerings with versions, and so many random products of them; the drafts of the next versions."""
    fast = pb.PriceCondition(subject="characteristic.speed", operator=pb.CONDITION_OPERATOR_GTE, value=b"100")
    series = []
    for _ in range(4):
        first = manager.create(an_offering(manager.create(a_monthly_price(chance.randrange(300, 900)))))
        second = a_version(
            manager,
            first,
            manager.create(a_monthly_price(chance.randrange(300, 900))),
            lifecycle_status=pb.LIFECYCLE_STATUS_ACTIVE,
        )
        series.append((first, second))
        yield a_version(
            manager,
            first,
            manager.create(a_monthly_price(chance.randrange(300, 900))),
            manager.create(a_monthly_price(chance.randrange(50, 100), condition=[fast])),
            version="3",
            existing_subscribers=migrating(AT + timedelta(days=chance.randrange(60))),
        )
    for _ in range(number):
        discount = inventory_pb2.PriceAlteration(
            price_type="recurring",
            application_duration=chance.choice([0, 1, 3, 12]),
            price=values_pb2.Price(duty_free_amount=som(-chance.choice([50, 100]))),
        )
        if chance.random() < 0.2:
            # Carried over from an order of before, with what was left of it.
            ends = AT + timedelta(days=chance.randrange(-60, 120))
            discount.valid_for.CopyFrom(values_pb2.TimePeriod(end_date_time=to_timestamp(ends)))
        alterations = [discount] if chance.random() < 0.5 else []
        prices = [paying(str(chance.choice([300, 500, 700])), "p", alterations)] if chance.random() < 0.9 else []
        holder(
            database,
            chance.choice(chance.choice(series)),
            *prices,
            branch=chance.choice(["bishkek", "osh", "naryn"]),
            customer=f"customer-{chance.randrange(300)}",
            quantity=chance.choice([1, 1, 1, 2, 5]),
            started_at=chance.choice(
                [None, AT - timedelta(days=chance.randrange(800), seconds=chance.randrange(9999))]
            ),
            product_characteristic=[
                values_pb2.Characteristic(name="speed", value=str(chance.choice([50, 100])).encode()),
                values_pb2.Characteristic(name="serial", value=str(chance.random()).encode()),
            ],
            product_term=[inventory_pb2.ProductTerm(name=chance.choice(["12 months", "24 months"]))]
            if chance.random() < 0.3
            else [],
        )


def test_a_thousand_products_priced_singly_come_to_the_same(
    database: Database,
    manager: Client,
    head_office: Client,
    previews: Previews,
    worked_out: Callable[..., preview_pb2.ChangePreview],
) -> None:
    chance = random.Random(20260601)
    drafts = list(a_base(database, manager, chance, 1_000))
    preview = worked_out(head_office, *drafts)
    assert (preview.products, preview.products_priced) == (1_000, 1_000)
    assert preview.groups < 1_000, "equal inputs are priced once"
    shown = {one.product_id: one for one in products(head_office, preview, limit=137)}
    assert len(shown) == 1_000
    with as_of(database, "*") as unit:
        change = previews.plan(unit, store.row_of(unit, preview.id)).change
        base = [
            one
            for number in range(300)
            for one in holdings.holdings_of(unit, f"customer-{number}")
            if one.product_offering_id in change.moves
        ]
    assert len(base) == 1_000
    totals = [Decimal(0), Decimal(0)]
    for held in base:
        expected = difference(singly(held), change)
        found = shown[held.id]
        assert (found.branch, found.customer_id) == (held.branch, held.customer_id)
        name = preview_pb2.PreviewOutcome.Name(found.outcome).removeprefix("PREVIEW_OUTCOME_")
        assert PreviewOutcome[name] is expected.outcome, held
        assert [
            (one.recurring_charge_period, from_money(one.before).value, from_money(one.after_tax_included).value)
            for one in found.difference
        ] == [(one.period, one.before.net, one.after.gross) for one in expected.difference]
        move = change.moves[held.product_offering_id or ""]
        assert move.at is not None
        assert found.effective_at.ToDatetime(UTC) == max(move.at, held.started_at or move.at)
        totals = [
            totals[0] + sum(one.before.gross for one in expected.difference),
            totals[1] + sum(one.after.gross for one in expected.difference),
        ]
    (total,) = preview.total
    assert [from_money(total.before_tax_included).value, from_money(total.after_tax_included).value] == totals
