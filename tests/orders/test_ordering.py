"""What may be ordered, and how an order and its items go on."""

import itertools
from dataclasses import replace
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chassis.errors import FailedPrecondition, InvalidArgument
from chassis.products import ProductRefOrValue
from chassis.types import RelatedParty
from orders.ordering.domain import (
    MOST_ITEMS,
    ORDER_TRANSITIONS,
    RELIES_ON,
    ProductOrder,
    ProductOrderItem,
    assembled,
    check_items,
    rows,
)
from orders.ordering.values import (
    OrderItem,
    OrderItemAction,
    OrderItemRelationship,
    ProductOrderItemState,
    ProductOrderState,
)

NOW = datetime(2026, 3, 29, 1, 30, tzinfo=UTC)
ADD = OrderItemAction.ADD


def an_order(state: ProductOrderState = ProductOrderState.ACKNOWLEDGED) -> ProductOrder:
    return ProductOrder(id="o", branch="bishkek", state=state)


def an_item(state: ProductOrderItemState, number: int = 1) -> ProductOrderItem:
    return ProductOrderItem(
        id=f"i{number}",
        branch="bishkek",
        product_order_id="o",
        position=number,
        state=state,
        item=OrderItem(id=f"{number}"),
    )


@pytest.mark.parametrize(
    ("items", "field"),
    [
        ((), "product_order_item"),
        ((OrderItem(id="1", action=ADD), OrderItem(id="1", action=ADD)), "product_order_item[1].id"),
        ((OrderItem(action=ADD),), "product_order_item[0].id"),
        ((OrderItem(id="1"),), "product_order_item[0].action"),
        ((OrderItem(id="1", action=ADD, quantity=0),), "product_order_item[0].quantity"),
        ((OrderItem(id="1", action=OrderItemAction.DELETE),), "product_order_item[0].product.id"),
        ((OrderItem(id="1", action=OrderItemAction.NO_CHANGE),), "product_order_item[0].product.id"),
        (
            (OrderItem(id="1", action=ADD, product_order_item=(OrderItem(id="1", action=ADD),)),),
            "product_order_item[0].product_order_item[0].id",
        ),
    ],
)
def test_items_that_can_not_be_are_named(items: tuple[OrderItem, ...], field: str) -> None:
    with pytest.raises(InvalidArgument) as refused:
        check_items(items)
    assert [violation.field for violation in refused.value.violations] == [field]


def test_a_product_that_exists_may_be_changed() -> None:
    check_items((OrderItem(id="1", action=OrderItemAction.MODIFY, product=ProductRefOrValue(id="p")),))


_nested = st.recursive(
    st.just(()),
    lambda inner: st.lists(inner, max_size=3).map(lambda below: tuple(OrderItem(product_order_item=b) for b in below)),
    max_leaves=8,
)


def _numbered(items: tuple[OrderItem, ...], numbers: "itertools.count[int]") -> tuple[OrderItem, ...]:
    return tuple(
        OrderItem(
            id=str(next(numbers)),
            action=ADD,
            state=ProductOrderItemState.ACKNOWLEDGED,
            product_order_item=_numbered(item.product_order_item, numbers),
        )
        for item in items
    )


@given(_nested)
def test_items_come_back_nested_as_they_were_sent(shape: tuple[OrderItem, ...]) -> None:
    items = _numbered(shape, itertools.count(1))
    placed = rows(an_order(), items, (f"row-{n}" for n in itertools.count()))
    assert assembled(list(reversed(placed))) == items


@pytest.mark.parametrize("state", list(ProductOrderState))
@pytest.mark.parametrize("wanted", list(ProductOrderState))
def test_an_order_goes_only_where_the_table_says(state: ProductOrderState, wanted: ProductOrderState) -> None:
    order = an_order(state)
    if wanted is state or wanted in ORDER_TRANSITIONS[state]:
        order.move(wanted, NOW)
        assert order.state is wanted
        return
    with pytest.raises(FailedPrecondition) as refused:
        order.move(wanted, NOW)
    assert refused.value.reason == "BAD_TRANSITION"
    assert str(state) in refused.value.message
    assert str(wanted) in refused.value.message
    assert order.state is state


@pytest.mark.parametrize("state", [state for state in ProductOrderState if state is not ProductOrderState.CANCELLED])
def test_a_caller_may_ask_for_no_state_but_cancelled(state: ProductOrderState) -> None:
    order = an_order()
    if state is order.state:
        return
    with pytest.raises(FailedPrecondition):
        order.revise({"state": state}, NOW)


def test_an_order_that_has_ended_can_not_be_changed() -> None:
    with pytest.raises(FailedPrecondition, match="completed"):
        an_order(ProductOrderState.COMPLETED).revise({"description": "late"}, NOW)


_I = ProductOrderItemState


@pytest.mark.parametrize(
    ("states", "end"),
    [
        ((_I.COMPLETED, _I.COMPLETED), ProductOrderState.COMPLETED),
        ((_I.COMPLETED, _I.FAILED), ProductOrderState.PARTIAL),
        ((_I.FAILED, _I.FAILED), ProductOrderState.FAILED),
        ((_I.COMPLETED, _I.IN_PROGRESS), ProductOrderState.IN_PROGRESS),
        ((_I.COMPLETED, _I.PENDING_CANCELLATION), ProductOrderState.IN_PROGRESS),
        ((_I.COMPLETED, _I.CANCELLED), ProductOrderState.COMPLETED),
        ((_I.FAILED, _I.CANCELLED), ProductOrderState.FAILED),
        ((_I.CANCELLED, _I.CANCELLED), ProductOrderState.CANCELLED),
        ((_I.REJECTED, _I.REJECTED), ProductOrderState.REJECTED),
    ],
)
def test_an_order_ends_as_its_items_did(states: tuple[_I, ...], end: ProductOrderState) -> None:
    order = an_order(ProductOrderState.IN_PROGRESS)
    order.conclude([an_item(state, number) for number, state in enumerate(states)], NOW)
    assert order.state is end
    assert (order.completion_date is not None) == (end in (ProductOrderState.COMPLETED, ProductOrderState.PARTIAL))


def test_a_cancellation_takes_the_items_along() -> None:
    order, items = an_order(ProductOrderState.PENDING), [an_item(_I.PENDING), an_item(_I.PENDING, 2)]
    order.cancel(items, "changed my mind", NOW)
    assert (order.state, order.cancellation_reason) == (ProductOrderState.CANCELLED, "changed my mind")
    assert order.cancellation_date == NOW
    assert [item.state for item in items] == [_I.CANCELLED, _I.CANCELLED]


def test_an_order_that_is_being_cancelled_ends_as_cancelled() -> None:
    order = an_order(ProductOrderState.PENDING_CANCELLATION)
    assert not order.conclude([an_item(_I.PENDING_CANCELLATION), an_item(_I.FAILED, 2)], NOW)
    assert order.conclude([an_item(_I.CANCELLED), an_item(_I.FAILED, 2)], NOW)
    assert (order.state, order.cancellation_date) == (ProductOrderState.CANCELLED, NOW)


def test_an_order_is_of_as_many_items_as_can_be_carried_out_together() -> None:
    whole = OrderItem(id="0", action=ADD)
    parts = tuple(OrderItem(id=f"{number}", action=ADD) for number in range(1, MOST_ITEMS))
    check_items([replace(whole, product_order_item=parts)])
    with pytest.raises(InvalidArgument) as refused:
        check_items([replace(whole, product_order_item=parts), OrderItem(id="one more", action=ADD)])
    (violation,) = refused.value.violations
    assert (refused.value.reason, violation.field) == ("INVALID_ITEMS", "product_order_item")
    assert f"more than {MOST_ITEMS}" in violation.description


def test_items_that_rely_on_each_other_are_refused() -> None:
    def item(id: str, on: str) -> OrderItem:
        relations = (OrderItemRelationship(id=on, relationship_type=RELIES_ON),)
        return OrderItem(id=id, action=OrderItemAction.ADD, product_order_item_relationship=relations)

    check_items([item("1", "2"), item("2", "elsewhere")])
    with pytest.raises(InvalidArgument) as refused:
        check_items([item("1", "2"), item("2", "3"), item("3", "1")])
    (violation,) = refused.value.violations
    assert violation.field.endswith("product_order_item_relationship")


def test_the_customer_is_the_party_in_that_role() -> None:
    seller = RelatedParty(id="s", role="Seller", at_referred_type="Individual")
    customer = RelatedParty(id="c", at_referred_type="Customer")
    owner = RelatedParty(id="r", role="Customer", at_referred_type="Individual")
    order = an_order()
    assert order.customer_ids() == ()
    order.related_party = (seller, customer)
    assert order.customer_ids() == ("c",)
    order.related_party = (seller, customer, owner)
    assert order.customer_ids() == ("r",)
