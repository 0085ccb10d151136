"""What may be ordered, and how an order and its items go on."""

import itertools
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chassis.errors import FailedPrecondition, InvalidArgument
from chassis.products import ProductRefOrValue
from chassis.types import RelatedParty
from orders.ordering.domain import (
    ORDER_TRANSITIONS,
    ProductOrder,
    ProductOrderItem,
    assembled,
    check_items,
    rows,
)
from orders.ordering.values import OrderItem, OrderItemAction, ProductOrderItemState, ProductOrderState

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
    ],
)
def test_an_order_ends_as_its_items_did(states: tuple[_I, ...], end: ProductOrderState) -> None:
    order = an_order(ProductOrderState.IN_PROGRESS)
    order.conclude([an_item(state, number) for number, state in enumerate(states)], NOW)
    assert order.state is end
    assert (order.completion_date is None) == (end in (ProductOrderState.FAILED, ProductOrderState.IN_PROGRESS))


def test_a_cancellation_takes_the_items_along() -> None:
    order, items = an_order(ProductOrderState.IN_PROGRESS), [an_item(_I.IN_PROGRESS), an_item(_I.FAILED, 2)]
    order.cancel(items, "changed my mind", NOW)
    assert (order.state, order.cancellation_reason) == (ProductOrderState.CANCELLED, "changed my mind")
    assert order.cancellation_date == NOW
    assert [item.state for item in items] == [_I.CANCELLED, _I.FAILED]


def test_nothing_is_cancelled_once_an_item_is_completed() -> None:
    order, items = an_order(ProductOrderState.IN_PROGRESS), [an_item(_I.COMPLETED), an_item(_I.IN_PROGRESS, 2)]
    with pytest.raises(FailedPrecondition) as refused:
        order.cancel(items, "too late", NOW)
    assert refused.value.reason == "POINT_OF_NO_RETURN"
    assert (order.state, items[1].state) == (ProductOrderState.IN_PROGRESS, _I.IN_PROGRESS)


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
