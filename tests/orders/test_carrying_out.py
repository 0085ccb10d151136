"""What becomes of products when items are carried out: whose they are, what they cost, and what they know."""

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from chassis.cloudevents import ReceivedEvent
from chassis.errors import FailedPrecondition, InvalidArgument
from chassis.products import (
    PriceAlteration,
    ProductPrice,
    ProductRefOrValue,
    ProductStatus,
    ProductSuspension,
    SuspensionReason,
)
from chassis.timers import set_timer
from chassis.types import Characteristic, EntityRef, Json, Money, Price, RelatedParty, TimePeriod, new_id
from chassis.unit import Unit
from orders.events import person_erased
from orders.fulfilment.hands import give_up, retry
from orders.fulfilment.job import FulfilmentJob, FulfilmentJobAction, FulfilmentJobState
from orders.fulfilment.specification import FulfilmentSpecification
from orders.fulfilment.steps import go_on
from orders.fulfilment.store import tasks_of
from orders.fulfilment.values import Compensation, FulfilmentTaskState, TaskSpecification
from orders.inventory.domain import Product
from orders.ordering.domain import ProductOrder, ProductOrderItem
from orders.ordering.handover import going_on, within_offerings
from orders.ordering.placing import ADVANCE
from orders.ordering.store import items_of
from orders.ordering.values import OrderItem, OrderItemAction, ProductOrderState
from svyaz.customers.v1 import privacy_pb2
from tests.conftest import ServiceDatabase
from tests.orders.drill import Floor, World

MODIFY, NO_CHANGE = OrderItemAction.MODIFY, OrderItemAction.NO_CHANGE
_S = FulfilmentTaskState
NOW = datetime(2026, 3, 31, tzinfo=UTC)
PARTIES = (RelatedParty(id="new", role="customer"), RelatedParty(id="old", role="transferor"))
OLD = (RelatedParty(id="old", role="customer"),)


def som(amount: int) -> Money:
    return Money(unit="KGS", value=Decimal(amount))


def alteration(off: int, **more: Any) -> PriceAlteration:
    return PriceAlteration(name=f"{off} off", price=Price(duty_free_amount=som(-off)), **more)


def promotion(off: int) -> PriceAlteration:
    return alteration(off, product_offering_price=EntityRef(id="spring", at_referred_type="Promotion"))


def fee(amount: int, *alterations: PriceAlteration, **more: Any) -> ProductPrice:
    """A monthly price."""
    price = Price(duty_free_amount=som(amount), tax_included_amount=som(amount))
    about: dict[str, Any] = {"name": "fee", "price": price, "product_price_alteration": alterations, **more}
    return ProductPrice(price_type="recurring", recurring_charge_period="month", **about)


def a_product(*prices: ProductPrice, **more: Any) -> Product:
    about: dict[str, Any] = {"status": ProductStatus.ACTIVE, "related_party": OLD, **more}
    return Product(id=new_id(), branch="bishkek", product_price=prices, billing_account=EntityRef(id="its"), **about)


@dataclass
class Ground:
    """A floor, and what is carried out on it."""

    floor: Floor
    world: World

    def carried_out(self, product: Product, item: OrderItem, **more: Any) -> ProductOrderState:
        """How an order ends that changes a product as the item says."""
        order_id = self.order(product, item, **more)
        self.floor.work()
        return self.floor.state(order_id)

    def order(self, product: Product, item: OrderItem, **more: Any) -> str:
        """Takes an order of an item; the product is there already."""

        def take(unit: Unit) -> str:
            about: dict[str, Any] = {"order_date": unit.at, "billing_account": EntityRef(id="account"), **more}
            order = ProductOrder(id=new_id(), branch="bishkek", state=ProductOrderState.ACKNOWLEDGED, **about)
            unit.add(order)
            if unit.find(Product, product.id) is None:
                unit.add(replace(product))
            row: dict[str, Any] = {"id": new_id(), "branch": "bishkek", "product_order_id": order.id, "position": 0}
            unit.add(ProductOrderItem(**row, item=item))
            set_timer(unit, order.id, ADVANCE, unit.at, order.branch)
            return order.id

        return str(self.floor.do(take))

    def product(self, product: Product) -> Product:
        """As it is by now."""

        def look(unit: Unit) -> Product:
            found = unit.get(Product, product.id)
            unit.session.expunge_all()
            return found

        found: Product = self.floor.do(look)
        return found

    def told(self, product: Product) -> list[tuple[str, str, str]]:
        """The charges of a product: whose, which kind, and how much."""

        def look(unit: Unit) -> list[tuple[str, str, str]]:
            query = "SELECT account, type, draft FROM charge_event ORDER BY position"
            told = [(row[0], row[1].removesuffix("Event"), json.loads(row[2])) for row in unit.cursor().execute(query)]
            return [
                (whose, kind, one["amount"]["value"]) for whose, kind, one in told if one["productId"] == product.id
            ]

        found: list[tuple[str, str, str]] = self.floor.do(look)
        return found


@pytest.fixture(scope="module")
def ground(database_for: Callable[..., ServiceDatabase], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ground]:
    world = World()
    floor = Floor(database_for("orders").url, Path(tmp_path_factory.mktemp("ground")) / "offset", world)
    yield Ground(floor, world)
    floor.database.close()


def modify(product: Product, **more: Any) -> OrderItem:
    return OrderItem(id="1", action=MODIFY, product=ProductRefOrValue(id=product.id, **more))


# --- what changes hands ----------------------------------------------------------------------------------------------


def test_what_was_granted_to_its_owner_is_in_no_price_of_the_next_one() -> None:
    product = a_product(fee(40, promotion(50), alteration(10)), start_date=NOW)
    (price,) = going_on(product, NOW)
    assert price.price == Price(duty_free_amount=som(90))
    assert [one.name for one in price.product_price_alteration] == ["10 off"]
    nameless = replace(promotion(50), price=Price(percentage=Decimal(-50)))
    with pytest.raises(FailedPrecondition) as refused:
        going_on(a_product(fee(50, nameless)), NOW)
    assert refused.value.reason == "UNCHARGEABLE"


def test_a_limited_discount_goes_over_with_what_is_left_of_it() -> None:
    product = a_product(fee(50, alteration(50, application_duration=3)), start_date=NOW)
    (price,) = going_on(product, NOW + timedelta(days=40))
    (kept,) = price.product_price_alteration
    assert price.price is not None
    assert price.price.duty_free_amount == som(50)
    assert kept.valid_for == TimePeriod(start_date_time=NOW, end_date_time=datetime(2026, 6, 30, tzinfo=UTC))
    (price,) = going_on(product, datetime(2026, 6, 30, tzinfo=UTC))
    assert (price.price, price.product_price_alteration) == (Price(duty_free_amount=som(100)), ())


def test_a_suspended_product_rests_for_its_new_owner_and_resumes_for_him(ground: Ground) -> None:
    product = a_product(
        fee(50, promotion(50)),
        status=ProductStatus.SUSPENDED,
        suspension=(ProductSuspension(reason=SuspensionReason.VOLUNTARY),),
        resting_price=("fee",),
        start_date=NOW,
    )
    assert ground.carried_out(product, modify(product), related_party=PARTIES) is ProductOrderState.COMPLETED
    assert ground.told(product) == [
        ("its", "RecurringChargeStop", "50"),
        ("account", "RecurringChargeStart", "100"),
        ("account", "RecurringChargeSuspend", "100"),
    ]
    resumed = modify(product, status=ProductStatus.ACTIVE)
    assert ground.carried_out(product, resumed, related_party=PARTIES[:1]) is ProductOrderState.COMPLETED
    assert ground.told(product)[3:] == [("account", "RecurringChargeResume", "100")]


def test_who_takes_over_a_bundle_of_no_offering_names_its_parts() -> None:
    part = a_product()
    whole = a_product(product=(ProductRefOrValue(id=part.id),))
    order = ProductOrder(id="o", branch="bishkek", related_party=PARTIES)
    products = {one.id: one for one in (whole, part)}
    with pytest.raises(InvalidArgument) as refused:
        within_offerings(order, [modify(whole)], products)
    assert [one.field for one in refused.value.violations] == ["product_order_item[0].product.id"]
    both = (modify(whole), replace(modify(part), id="2"))
    assert within_offerings(order, both, products) == both
    with pytest.raises(InvalidArgument) as refused:
        within_offerings(order, [modify(part, status=ProductStatus.SUSPENDED)], products)
    assert refused.value.reason == "STATUS_ALONE"


# --- what a product knows --------------------------------------------------------------------------------------------


def test_what_an_item_does_not_name_stays_as_the_tasks_have_given_it_back(ground: Ground) -> None:
    def known(**values: str) -> tuple[Characteristic, ...]:
        return tuple(Characteristic(name=name, value=Json(value)) for name, value in values.items())

    product = a_product(product_characteristic=known(speed="50", phoneNumber='"996"', roaming="true", tv="1"))
    wanted = modify(product, product_characteristic=(*known(speed="100", roaming="null"), Characteristic(name="tv")))
    assert ground.carried_out(product, wanted) is ProductOrderState.COMPLETED
    assert ground.product(product).product_characteristic == known(phoneNumber='"996"', speed="100")


# --- what a product was sold for -------------------------------------------------------------------------------------


def test_an_order_that_sets_no_price_says_nothing_of_what_the_product_was_sold_for(ground: Ground) -> None:
    product = a_product(fee(50), start_date=NOW)
    for item in (
        modify(product, status=ProductStatus.SUSPENDED),
        OrderItem(id="1", action=NO_CHANGE, product=ProductRefOrValue(id=product.id)),
        OrderItem(id="1", action=OrderItemAction.DELETE, product=ProductRefOrValue(id=product.id)),
    ):
        assert ground.carried_out(product, item) is ProductOrderState.COMPLETED
        (price,) = ground.product(product).product_price
        assert (price.valid_for, price.receipt) == (None, None), item.action


# --- what can be neither completed nor undone ------------------------------------------------------------------------


PORTING = FulfilmentSpecification(
    id=new_id(),
    branch="*",
    action="add",
    product_specification_id="ported",
    task=(
        TaskSpecification(
            name="reserve", system="resource", operation="reserve", compensation=Compensation(operation="release")
        ),
        TaskSpecification(
            name="port", system="delivery", operation="port", depends_on=("reserve",), point_of_no_return=True
        ),
    ),
)


def priced_without_an_amount(ground: Ground, order_id: str) -> None:
    def spoil(unit: Unit) -> None:
        for row in items_of(unit, order_id):
            row.charge = tuple(replace(price, price=None) for price in row.charge)

    ground.floor.do(spoil)


def test_what_can_not_be_charged_fails_before_its_point_of_no_return(ground: Ground) -> None:
    ground.floor.specify(PORTING)
    order_id = ground.floor.order("ported")
    priced_without_an_amount(ground, order_id)
    ground.floor.work()
    assert ground.floor.state(order_id) is ProductOrderState.FAILED
    assert [operation for _, _, operation in ground.world.deeds].count("port") == 0


def test_what_can_not_be_charged_beyond_its_point_of_no_return_is_held_until_it_can(ground: Ground) -> None:
    ground.world.by_event = {"port"}
    order_id = ground.floor.order("ported")
    ground.floor.work()
    priced_without_an_amount(ground, order_id)
    ground.floor.do(lambda unit: answered(unit, order_id))
    ground.floor.work()
    states = {task.name: task.state for task in ground.floor.tasks(order_id)}
    assert states == {"reserve": _S.COMPLETED, "port": _S.COMPLETED, "completion": _S.HELD}
    assert ground.floor.state(order_id) is ProductOrderState.HELD

    def see_to_it(unit: Unit) -> None:
        for row in items_of(unit, order_id):
            row.charge = ()
        (held,) = [task for task in tasks_of(unit, order_id) if task.state is _S.HELD]
        with pytest.raises(FailedPrecondition) as refused:
            give_up(unit, replace(held), "it can't be undone")
        assert refused.value.reason == "POINT_OF_NO_RETURN"
        retry(unit, held)
        go_on(unit, held)

    ground.floor.do(see_to_it)
    ground.floor.work()
    assert ground.floor.state(order_id) is ProductOrderState.COMPLETED


def answered(unit: Unit, order_id: str) -> None:
    """The systems say that what they were told is done."""
    for task in tasks_of(unit, order_id):
        if task.state is _S.IN_PROGRESS:
            task.complete(unit.at)
            go_on(unit, task)


# --- who is erased ---------------------------------------------------------------------------------------------------


def test_what_jobs_say_of_an_erased_persons_tasks_goes_too(ground: Ground) -> None:
    """What is said of others' stays."""
    ground.world.refusing = {"provision"}
    his, anothers = ground.floor.order("something"), ground.floor.order("something")
    ground.floor.work()
    ground.world.refusing = set()
    held = {order_id: ground.floor.tasks(order_id)[0] for order_id in (his, anothers)}

    def begin(unit: Unit) -> dict[str, str]:
        made = {}
        for order_id, task in held.items():
            job = FulfilmentJob(id=new_id(), branch="bishkek", action=FulfilmentJobAction.SKIP, reason="asked by Aibek")
            job.check(unit.at)
            job.move(FulfilmentJobState.CANCELLED, unit.at)
            unit.add(job)
            unit.flush()
            row = {"job": job.id, "task": task.id, "reason": "Aibek isn't at home"}
            unit.cursor().execute(
                "INSERT INTO fulfilment_job_task (job_id, task_id, branch, state, reason)"
                " VALUES (%(job)s, %(task)s, 'bishkek', 'failed', %(reason)s)",
                row,
            )
            made[order_id] = job.id
        return made

    jobs = ground.floor.do(begin)
    erasure = privacy_pb2.Erasure(id=new_id(), branch="bishkek", subject_id=["aibek"])
    erasure.record.add(kind="ProductOrder", id=his)
    event = ReceivedEvent(
        id=new_id(),
        source="customers",
        type="ErasureCreateEvent",
        time=datetime.now(UTC),
        aggregate_type="Erasure",
        aggregate_id=erasure.id,
        version=1,
        branch="bishkek",
        key=erasure.id,
        actor="a",
        on_behalf_of=None,
        schema_revision=1,
        data_type=erasure.DESCRIPTOR.full_name,
        subject="",
        headers={},
        data=erasure.SerializeToString(),
    )
    ground.floor.do(lambda unit: person_erased(event, unit))

    def look(unit: Unit) -> list[tuple[str | None, str | None]]:
        query = "SELECT reason FROM fulfilment_job_task WHERE job_id = %(job)s"
        said = []
        for order_id in (his, anothers):
            (why,) = unit.cursor().execute(query, {"job": jobs[order_id]}).fetchone() or ("gone",)
            said.append((unit.get(FulfilmentJob, jobs[order_id]).reason, why))
        return said

    assert ground.floor.do(look) == [(None, None), ("asked by Aibek", "Aibek isn't at home")]
