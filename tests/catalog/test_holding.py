"""What customers hold, as the inventory's events tell it: kept, counted over all branches, shown to its own."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import psycopg
import pytest

from catalog.holding import store
from catalog.holding.domain import HoldingStatus
from catalog.holding.events import orders_changed
from catalog.holding.heard import heard_again
from chassis import calls
from chassis.cloudevents import ReceivedEvent
from chassis.convert import to_timestamp
from chassis.db import Database
from chassis.errors import PermissionDenied
from chassis.types import Json, new_id
from chassis.unit import Unit
from svyaz.catalog.v1 import holding_pb2
from svyaz.operations.v1 import operations_pb2
from svyaz.orders.v1 import inventory_pb2, orders_pb2
from svyaz.type.v1 import values_pb2
from tests.catalog.conftest import Client

ACTIVE, SUSPENDED = inventory_pb2.PRODUCT_STATUS_ACTIVE, inventory_pb2.PRODUCT_STATUS_SUSPENDED
TERMINATED, CANCELLED = inventory_pb2.PRODUCT_STATUS_TERMINATED, inventory_pb2.PRODUCT_STATUS_CANCELLED
START = datetime(2026, 1, 15, 9, tzinfo=UTC)


@contextmanager
def as_of(database: Database, *branches: str) -> Iterator[Unit]:
    with calls.using(calls.Call.background("catalog", "test", branches=branches)), database.unit() as unit:
        yield unit


def a_product(offering: str = "o", customer: str = "c", **more: Any) -> inventory_pb2.Product:
    return inventory_pb2.Product(
        id=more.pop("id", None) or new_id(),
        status=more.pop("status", ACTIVE),
        product_offering=values_pb2.EntityRef(id=offering),
        related_party=[values_pb2.RelatedParty(id=customer, role="Customer", at_referred_type="Customer")],
        **more,
    )


def heard(
    database: Database,
    message: Any,
    version: int = 1,
    *,
    branch: str = "bishkek",
    what: str = "StateChange",
    **more: Any,
) -> None:
    """Handles an event about a product or an ordered item."""
    kind = "Product" if isinstance(message, inventory_pb2.Product) else "ProductOrderItem"
    event = ReceivedEvent(
        id=new_id(),
        source="svyaz/orders",
        type=f"{kind}{what}Event",
        time=more.get("time", START),
        aggregate_type=kind,
        aggregate_id=message.id,
        version=version,
        branch=branch,
        key=message.id,
        actor="somebody",
        on_behalf_of=None,
        schema_revision=1,
        data_type=message.DESCRIPTOR.full_name,
        data=message.SerializeToString(),
        subject="",
        headers={},
        epoch=more.get("epoch", 1),
    )
    with as_of(database, branch) as unit:
        orders_changed(event, unit)


def of_customer(database: Database, customer: str, *branches: str, **more: Any) -> list[Any]:
    with as_of(database, *(branches or ("bishkek",))) as unit:
        return store.holdings_of(unit, customer, **more)


def holders(database: Database, *offerings: str) -> dict[str, int]:
    with as_of(database, "nowhere") as unit:
        return store.live_holders(unit, offerings)


def quantity_of(database: Database, id: str) -> int:
    with as_of(database, "bishkek") as unit:
        found = unit.cursor().execute("SELECT quantity FROM holding WHERE id = %s", (id,)).fetchone()
    assert found
    return int(found[0])


def test_a_holding_has_all_that_pricing_it_again_needs(database: Database) -> None:
    product = a_product(
        "fibre",
        "whole",
        billing_account=values_pb2.EntityRef(id="a-1"),
        product_specification=values_pb2.ProductSpecificationRef(id="spec"),
        product_characteristic=[
            values_pb2.Characteristic(name="speed", value=b"100"),
            values_pb2.Characteristic(name='static "ip"', value=b"437011234567890123.10"),
        ],
        product_term=[inventory_pb2.ProductTerm(name="12 months")],
        place=[inventory_pb2.RelatedPlaceRefOrValue(id="house"), inventory_pb2.RelatedPlaceRefOrValue(name="unknown")],
        agreement=[inventory_pb2.AgreementItemRef(id="frame")],
        product_relationship=[
            inventory_pb2.ProductRelationship(
                relationship_type="bundledIn", product=inventory_pb2.ProductRefOrValue(id="the-bundle")
            )
        ],
        extensions=b'{"marketSegment": [{"id": "s-1", "name": "soho"}, "vip"]}',
        product_price=[
            inventory_pb2.ProductPrice(
                price_type="recurring",
                recurring_charge_period="month",
                product_offering_price=values_pb2.EntityRef(id="p-1"),
                price=values_pb2.Price(
                    duty_free_amount=values_pb2.Money(unit="KGS", units=890, nanos=500_000_000),
                    tax_included_amount=values_pb2.Money(unit="KGS", units=997, nanos=360_000_000),
                    tax_rate="12",
                ),
                product_price_alteration=[
                    inventory_pb2.PriceAlteration(
                        price_type="recurring",
                        application_duration=3,
                        product_offering_price=values_pb2.EntityRef(id="d-1"),
                        price=values_pb2.Price(duty_free_amount=values_pb2.Money(unit="KGS", units=-100)),
                    ),
                    inventory_pb2.PriceAlteration(
                        price_type="recurring",
                        application_duration=3,
                        price=values_pb2.Price(duty_free_amount=values_pb2.Money(unit="KGS", units=-50)),
                        valid_for=values_pb2.TimePeriod(end_date_time=to_timestamp(START + timedelta(days=20))),
                    ),
                ],
            )
        ],
    )
    product.start_date.FromDatetime(START)
    heard(database, product, what="Create")
    (held,) = of_customer(database, "whole")
    assert (held.id, held.branch, held.version, held.status) == (product.id, "bishkek", 1, HoldingStatus.ACTIVE)
    assert (held.product_offering_id, held.product_specification_id) == ("fibre", "spec")
    assert (held.billing_account_id, held.bundle_id, held.agreement_id) == ("a-1", "the-bundle", "frame")
    assert (held.term, held.place, held.market_segment) == ("12 months", ("house",), ("s-1", "soho", "vip"))
    assert (held.started_at, held.characteristic) == (
        START,
        Json('{"speed": 100, "static \\"ip\\"": 437011234567890123.10}'),
    )
    (sold,) = held.sold
    assert (sold.price_id, sold.price_type, sold.period, sold.currency) == ("p-1", "recurring", "month", "KGS")
    assert (sold.net, sold.gross, sold.tax_rate) == (Decimal("890.5"), Decimal("997.36"), 12)
    alteration, carried_over = sold.alteration
    assert (carried_over.net, carried_over.duration, carried_over.until) == (-50, None, START + timedelta(days=20))
    assert alteration.until is None
    assert (alteration.price_id, alteration.net, alteration.duration, alteration.units) == ("d-1", -100, 3, "month")


@pytest.mark.parametrize("item_first", [True, False])
def test_how_many_it_is_comes_from_the_item_whichever_is_heard_first(database: Database, item_first: bool) -> None:
    product = a_product("many", f"counted-{item_first}")
    item = orders_pb2.OrderedItem(
        id=new_id(),
        product_id=product.id,
        item=orders_pb2.ProductOrderItem(action=orders_pb2.ORDER_ITEM_ACTION_ADD, quantity=7),
    )
    for message in (item, product) if item_first else (product, item):
        heard(database, message)
    assert quantity_of(database, product.id) == 7
    heard(database, product, 2)
    assert quantity_of(database, product.id) == 7
    (held,) = of_customer(database, f"counted-{item_first}")
    assert (held.version, held.quantity) == (2, 7)

    later = START + timedelta(days=1)
    item = orders_pb2.OrderedItem(
        id=new_id(),
        product_id=product.id,
        state=orders_pb2.PRODUCT_ORDER_ITEM_STATE_IN_PROGRESS,
        item=orders_pb2.ProductOrderItem(
            action=orders_pb2.ORDER_ITEM_ACTION_MODIFY, quantity=9, product_offering=values_pb2.EntityRef(id="many")
        ),
    )
    heard(database, item, time=later)
    assert quantity_of(database, product.id) == 7, "it isn't modified yet"
    item.state = orders_pb2.PRODUCT_ORDER_ITEM_STATE_COMPLETED
    heard(database, item, 2, time=later)
    assert quantity_of(database, product.id) == 9
    item.item.quantity = 8
    heard(database, item, 3, time=START)
    assert quantity_of(database, product.id) == 9, "an older order says nothing any more"


def test_an_item_without_its_product_is_nothing_held(database: Database) -> None:
    item = orders_pb2.OrderedItem(
        id=new_id(),
        product_id=new_id(),
        item=orders_pb2.ProductOrderItem(
            action=orders_pb2.ORDER_ITEM_ACTION_ADD, quantity=2, product_offering=values_pb2.EntityRef(id="early")
        ),
    )
    heard(database, item)
    assert holders(database, "early") == {}


def test_holders_are_counted_in_all_branches_and_shown_in_ones_own(database: Database) -> None:
    for branch in ("bishkek", "osh", "osh"):
        heard(database, a_product("everywhere", "roaming"), branch=branch)
    suspended = a_product("everywhere", "roaming", status=SUSPENDED)
    heard(database, suspended)
    for status in (TERMINATED, CANCELLED):
        heard(database, a_product("everywhere", "roaming", status=status))
    assert holders(database, "everywhere", "nothing") == {"everywhere": 4}
    assert holders(database) == {}
    assert len(of_customer(database, "roaming", "bishkek")) == 2
    assert len(of_customer(database, "roaming", "bishkek", live_only=False)) == 4
    assert len(of_customer(database, "roaming", "osh")) == 2
    assert of_customer(database, "roaming", "naryn") == []
    suspended.status = TERMINATED
    heard(database, suspended, 2)
    assert holders(database, "everywhere") == {"everywhere": 3}


def test_a_deleted_product_is_forgotten(database: Database) -> None:
    product = a_product("gone", "leaver")
    heard(database, product)
    heard(database, product, 2, what="Delete")
    assert (holders(database, "gone"), of_customer(database, "leaver", live_only=False)) == ({}, [])


def test_counting_over_branches_leaves_no_way_to_their_rows(database: Database) -> None:
    heard(database, a_product("theirs", "them"), branch="osh")
    with as_of(database, "bishkek") as unit:
        assert store.live_holders(unit, ["theirs"]) == {"theirs": 1}
        assert unit.cursor().execute("SELECT count(*) FROM holding WHERE branch = 'osh'").fetchone() == (0,)
        setting = unit.cursor().execute("SELECT current_setting('svyaz.branches')").fetchone()
    assert setting == ("bishkek",)


def test_another_branchs_holding_is_neither_written_nor_taken_over(database: Database) -> None:
    product = a_product("ours", "us")
    heard(database, product, branch="osh")
    with as_of(database, "bishkek") as unit:
        assert unit.cursor().execute("DELETE FROM holding WHERE branch = 'osh'").rowcount == 0
    heard(database, a_product("mine", "me"))
    with pytest.raises(PermissionDenied), as_of(database, "bishkek") as unit:
        unit.cursor().execute("UPDATE holding SET branch = 'osh'")
    with as_of(database, "osh") as unit:
        assert [held.branch for held in store.holdings_of(unit, "us")] == ["osh"]


def test_what_is_held_together_is_told_of_five_customers_at_least(database: Database) -> None:
    for number in range(6):
        branch = "bishkek" if number % 2 else "osh"
        heard(database, a_product("net", f"pair-{number}"), branch=branch)
        heard(database, a_product("net", f"pair-{number}"), branch=branch)
        heard(database, a_product("tv", f"pair-{number}"), branch=branch)
        if number < 4:
            heard(database, a_product("phone", f"pair-{number}"), branch=branch)
    heard(database, a_product("tv", "pair-0", status=TERMINATED))
    with as_of(database, "nowhere") as unit:
        found = {(pair.product_offering_id, pair.other_id): pair.both for pair in store.co_holders(unit, ["net"])}
        assert found == {("net", "net"): 6, ("net", "tv"): 6}
        assert store.co_holders(unit, ["net"], fewest=1) == store.co_holders(unit, ["net"]), "never of fewer"
        assert store.co_holders(unit, ["net"], fewest=7) == []
        assert store.co_holders(unit, ["phone", "nothing"]) == []
        # Of a part of the base what is said is of that part: the customers of so many products.
        assert all(pair.customers <= 15 for pair in store.co_holders(unit, ["net"], most=15))
        assert store.co_holders(unit, ["net"], most=4) == []


# --- again ------------------------------------------------------------------------------------------------------------


def listed(message: Any, version: int, *, branch: str = "bishkek", what: str = "StateChange") -> operations_pb2.Event:
    kind = "Product" if isinstance(message, inventory_pb2.Product) else "ProductOrderItem"
    return operations_pb2.Event(
        type=f"{kind}{what}Event",
        aggregate_type=kind,
        aggregate_id=message.id,
        version=version,
        branch=branch,
        time=to_timestamp(START),
        data=message.SerializeToString(),
        data_type=message.DESCRIPTOR.full_name,
    )


def test_hearing_it_again_mends_and_undoes_nothing_newer(database: Database) -> None:
    product = a_product("again", "patient")
    heard(database, product, 2)
    with as_of(database, "bishkek") as unit:
        unit.cursor().execute("UPDATE holding SET product_offering_id = 'wrong' WHERE id = %s", (product.id,))
    old = a_product("old", "patient", id=product.id)
    with as_of(database, "*") as unit:
        heard_again(listed(old, 1), unit)
    assert [held.product_offering_id for held in of_customer(database, "patient")] == ["wrong"]
    with as_of(database, "*") as unit:
        heard_again(listed(product, 2), unit)
    assert [held.product_offering_id for held in of_customer(database, "patient")] == ["again"]
    with as_of(database, "*") as unit:
        heard_again(listed(old, 1, what="Delete"), unit)
    assert len(of_customer(database, "patient")) == 1


def test_a_rebuilding_forgets_what_the_log_does_not_know(database: Database, client_for: Callable[..., Client]) -> None:
    known, invented = a_product("rebuilt", "somebody"), a_product("rebuilt", "nobody")
    for product in (known, invented):
        heard(database, product, branch="osh")
    everywhere = client_for(["admin"], ["*"])

    def rebuild(**fields: Any) -> holding_pb2.RebuildHoldingsResponse:
        answer = everywhere.call("RebuildHoldings", holding_pb2.RebuildHoldingsRequest(**fields))
        assert isinstance(answer, holding_pb2.RebuildHoldingsResponse)
        return answer

    began = rebuild(event=[listed(known, 1, branch="osh")]).began_at
    assert holders(database, "rebuilt") == {"rebuilt": 2}
    live = a_product("rebuilt", "meanwhile")
    heard(database, live)
    assert rebuild(forget_unseen_since=began).forgotten > 0
    assert holders(database, "rebuilt") == {"rebuilt": 2}
    assert of_customer(database, "nobody", "osh") == []
    with pytest.raises(PermissionDenied):
        client_for(["admin"]).call("RebuildHoldings", holding_pb2.RebuildHoldingsRequest())


def test_after_a_restore_a_lower_version_is_the_later_one(database: Database) -> None:
    product = a_product("restored", "patient-2")
    heard(database, product, 5)
    product.status = TERMINATED
    heard(database, product, 3, epoch=2)
    assert of_customer(database, "patient-2") == []


def test_the_counts_are_answered_by_an_index(database_for: Callable[..., Any]) -> None:
    place = database_for("catalog")
    with psycopg.connect(place.url) as connection:
        connection.execute("SELECT set_config('svyaz.branches', 'bishkek', true)")
        connection.execute("SET LOCAL enable_seqscan = off")
        connection.execute("SET LOCAL enable_bitmapscan = off")
        plan = "\n".join(
            line
            for (line,) in connection.execute(
                "EXPLAIN SELECT product_offering_id, count(*) FROM holding"
                " WHERE live AND product_offering_id = ANY ('{a,b}') GROUP BY 1"
            )
        )
    assert "Index Only Scan using holding_live_product_offering_id" in plan
    assert "Index Cond: (product_offering_id = ANY" in plan
