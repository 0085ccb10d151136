"""Orders that have a name of their own: a move, a change of owner, a number's porting."""

import json
from datetime import timedelta
from typing import Any

import pytest

from chassis.errors import AlreadyExists, InvalidArgument
from chassis.types import EPOCH, Characteristic, Duration, Json
from orders.ordering.values import OrderItemAction
from orders.template.domain import OrderTemplate, TemplateItem, TemplateParameter, TemplateParameterKind
from orders.template.expansion import arguments
from orders.template.standard import standard
from svyaz.orders.v1 import orders_pb2, template_pb2
from tests.orders.conftest import PRODUCT, Shop, item, state_of
from tests.orders.test_fulfilment import DAY, a_status, fields

TEMPLATE = "svyaz.orders.v1.OrderTemplateService/"


def values(**given: Any) -> list[dict[str, Any]]:
    """Parameters as they are sent."""
    return [{"name": name, "value": json.dumps(value).encode()} for name, value in given.items()]


def placed(shop: Shop, template: str, beside: dict[str, Any] | None = None, **given: Any) -> orders_pb2.ProductOrder:
    made = shop.agent(
        TEMPLATE + "PlaceTemplateOrder", template=template, parameter=values(**given), product_order=beside or {}
    )
    assert isinstance(made, orders_pb2.ProductOrder)
    return made


def carried_out(shop: Shop, template: str, **given: Any) -> orders_pb2.ProductOrder:
    order = placed(shop, template, **given)
    shop.work()
    done = shop.get(order.id)
    assert state_of(done) == "COMPLETED", done.note
    return done


def held(shop: Shop, fee: int) -> tuple[str, str, str, str]:
    """A customer, his account, the product that he has and its offering, with a monthly fee and a connection."""
    customer, account = shop.customer()
    tariff = shop.offering(shop.price(fee), shop.price(99, recurring=False))
    product = shop.products(shop.completed(customer, account, item("1", "ADD", tariff)).id)[tariff]
    return customer, account, product.id, tariff


def the(shop: Shop, product: str) -> Any:
    return shop.agent(PRODUCT + "GetProduct", id=product)


# --- what a template may be ------------------------------------------------------------------------------------------


def test_the_standard_templates_are_ones() -> None:
    for template in standard().values():
        template.check(EPOCH)


def test_a_template_that_nothing_could_be_ordered_by_says_all_that_is_wrong() -> None:
    wrong = OrderTemplate(
        id="x",
        branch="*",
        name="two words",
        parameter=(
            TemplateParameter(name="who", kind=TemplateParameterKind.CUSTOMER),
            TemplateParameter(name="who", kind=None),
        ),
        item=(
            TemplateItem(action=OrderItemAction.MODIFY, product="who"),
            TemplateItem(action=OrderItemAction.ADD),
            TemplateItem(action=OrderItemAction.NO_CHANGE),
        ),
        payer="nobody",
        lead_time=Duration(amount=3, units="moons"),
    )
    with pytest.raises(InvalidArgument) as refused:
        wrong.check(EPOCH)
    assert set(fields(refused)) == {
        "name",
        "parameter[1].name",
        "parameter[1].kind",
        "item[0].product",
        "item[1].product_offering",
        "item[2].action",
        "payer",
        "lead_time.units",
        "lead_time",
    }


def test_all_wrong_parameters_are_named_at_once() -> None:
    given = [
        Characteristic(name="phoneNumber", value=Json('"0555"')),
        Characteristic(name="portingDate", value=Json('"2026-12-01T09:00:00"')),
        Characteristic(name="colour", value=Json('"red"')),
        Characteristic(name="recipientOperator", value=Json("7")),
        Characteristic(name="recipientOperator", value=Json('"Beta"')),
    ]
    with pytest.raises(InvalidArgument) as refused:
        arguments(standard()["portOut"], given)
    assert refused.value.reason == "TEMPLATE_PARAMETERS"
    assert fields(refused) == [
        "parameter[0].value",
        "parameter[1].value",
        "parameter[2].name",
        "parameter[3].value",
        "parameter[4].name",
        "parameter",
    ]


def test_a_template_of_ones_own_takes_the_place_of_the_standard_one(shop: Shop) -> None:
    fee = shop.offering(shop.price(150, recurring=False))
    body = {
        "name": "move",
        "parameter": [
            {"name": "product", "kind": "TEMPLATE_PARAMETER_KIND_PRODUCT", "required": True},
            {"name": "place", "kind": "TEMPLATE_PARAMETER_KIND_PLACE", "required": True},
        ],
        "item": [
            {
                "action": "ORDER_ITEM_ACTION_MODIFY",
                "product": "product",
                "place": [{"parameter": "place", "role": "installationAddress"}],
            },
            {"action": "ORDER_ITEM_ACTION_ADD", "product_offering_id": fee},
        ],
        "customer": "nobody",
    }
    with pytest.raises(InvalidArgument) as refused:
        shop.head_office(TEMPLATE + "CreateOrderTemplate", order_template=body)
    assert fields(refused) == ["customer"]
    body.pop("customer")
    made = shop.head_office(TEMPLATE + "CreateOrderTemplate", order_template=body)
    with pytest.raises(AlreadyExists):
        shop.head_office(TEMPLATE + "CreateOrderTemplate", order_template=body)
    names = [one.name for one in shop.agent(TEMPLATE + "ListOrderTemplatesInForce").order_template]
    assert names == ["changeOfOwner", "move", "portIn", "portOut"]
    _, account, product, _ = held(shop, 500)
    before = len(shop.told(account))
    order = carried_out(shop, "move", product=product, place="new home")
    assert [one.order_template for one in order.product_order_item] == ["move", "move"]
    told = shop.told(account)[before:]
    shop.head_office(TEMPLATE + "DeleteOrderTemplate", id=made.id)
    # Who is connected already pays for the move, and for no second connection.
    assert sorted(told) == [("ChargeCreate", "150"), ("RecurringChargeChange", "500")]


# --- move ------------------------------------------------------------------------------------------------------------


def test_a_moved_product_is_at_its_new_place_with_the_fee_that_it_had(shop: Shop) -> None:
    _, account, product, _ = held(shop, 500)
    order = carried_out(shop, "move", product=product, place={"id": "flat-7", "name": "Chuy 7"})
    assert order.category == "move"
    moved = the(shop, product)
    assert [(place.id, place.role) for place in moved.place] == [("flat-7", "installationAddress")]
    assert shop.told(account) == [
        ("RecurringChargeStart", "500"),
        ("ChargeCreate", "99"),
        ("RecurringChargeChange", "500"),
    ]


def test_the_parts_of_a_bundle_move_with_it(shop: Shop) -> None:
    customer, account = shop.customer()
    line = shop.offering(shop.price(300))
    bundle = shop.offering(shop.price(100), bundles=[line])
    products = shop.products(shop.completed(customer, account, item("1", "ADD", bundle)).id)
    carried_out(shop, "move", product=products[bundle].id, place="flat-7")
    assert [place.id for place in the(shop, products[line].id).place] == ["flat-7"]


def test_a_draft_is_kept_nowhere_and_can_be_ordered_as_it_is(shop: Shop) -> None:
    _, _, product, _ = held(shop, 500)
    drafted = shop.agent(
        TEMPLATE + "DraftTemplateOrder", template="move", parameter=values(product=product, place="flat-7")
    )
    assert isinstance(drafted, template_pb2.TemplateOrderDraft)
    assert not drafted.priced.id
    assert [total.price.duty_free_amount.units for total in drafted.priced.order_total_price] == [500]
    made = shop.agent("svyaz.orders.v1.OrderService/CreateProductOrder", product_order=drafted.product_order)
    shop.work()
    assert state_of(shop.get(made.id)) == "COMPLETED"
    assert [place.id for place in the(shop, product).place] == ["flat-7"]


def test_a_move_for_later_begins_at_its_date(shop: Shop) -> None:
    _, _, product, _ = held(shop, 500)
    later = (shop.database.clock.now() + 3 * DAY).isoformat()
    order = placed(shop, "move", product=product, place="flat-7", date=later)
    shop.work()
    assert state_of(shop.get(order.id)) == "ACKNOWLEDGED"
    shop.later(4 * DAY)
    assert state_of(shop.get(order.id)) == "COMPLETED"


def test_a_placed_order_is_placed_once(shop: Shop) -> None:
    _, _, product, _ = held(shop, 500)
    request = {
        "request_id": f"move {product}",
        "template": "move",
        "parameter": values(product=product, place="flat-7"),
    }
    first = shop.agent(TEMPLATE + "PlaceTemplateOrder", **request)
    shop.work()
    # By now the product is elsewhere: what the template would become isn't what it became.
    assert shop.agent(TEMPLATE + "PlaceTemplateOrder", **request).id == first.id


def test_a_product_of_another_branch_can_not_be_named(shop: Shop) -> None:
    _, _, product, _ = held(shop, 500)
    with pytest.raises(InvalidArgument) as refused:
        shop.osh(TEMPLATE + "DraftTemplateOrder", template="move", parameter=values(product=product, place="x"))
    assert refused.value.reason == "UNKNOWN_PRODUCT"
    with pytest.raises(InvalidArgument) as refused:
        shop.agent(TEMPLATE + "DraftTemplateOrder", template="teleport")
    assert refused.value.reason == "UNKNOWN_TEMPLATE"


# --- change of owner -------------------------------------------------------------------------------------------------


def test_what_changes_hands_stops_for_one_and_starts_for_the_other(shop: Shop) -> None:
    old, old_account, product, _ = held(shop, 500)
    new, new_account = shop.customer()
    order = carried_out(
        shop, "changeOfOwner", product=product, from_customer=old, to_customer=new, billing_account=new_account
    )
    assert [(party.id, party.role) for party in order.related_party] == [(new, "customer"), (old, "transferor")]
    assert shop.told(old_account)[-1] == ("RecurringChargeStop", "500")
    assert shop.charges(old_account)[-1]["customerId"] == old
    # Nobody is connected a second time.
    assert shop.told(new_account) == [("RecurringChargeStart", "500")]
    assert shop.charges(new_account)[0]["customerId"] == new
    given = the(shop, product)
    assert given.billing_account.id == new_account
    assert [party.id for party in given.related_party] == [new]
    assert given.status == a_status("ACTIVE")
    # It is his now: who had it can't end it any more.
    with pytest.raises(InvalidArgument) as refused:
        shop.order(old, old_account, item("1", "DELETE", product=product))
    assert refused.value.reason == "OTHER_CUSTOMER"
    shop.completed(new, new_account, item("1", "DELETE", product=product))
    assert shop.told(new_account)[-1] == ("RecurringChargeStop", "500")


def test_a_bundle_changes_hands_with_all_its_parts(shop: Shop) -> None:
    old, old_account = shop.customer()
    line = shop.offering(shop.price(300))
    bundle = shop.offering(shop.price(100), bundles=[line])
    products = shop.products(shop.completed(old, old_account, item("1", "ADD", bundle)).id)
    new, new_account = shop.customer()
    carried_out(
        shop,
        "changeOfOwner",
        product=products[bundle].id,
        from_customer=old,
        to_customer=new,
        billing_account=new_account,
    )
    assert sorted(shop.told(old_account)[2:]) == [("RecurringChargeStop", "100"), ("RecurringChargeStop", "300")]
    assert sorted(shop.told(new_account)) == [("RecurringChargeStart", "100"), ("RecurringChargeStart", "300")]
    assert {the(shop, one.id).billing_account.id for one in products.values()} == {new_account}


def test_what_changes_hands_without_a_template_is_priced_for_its_new_owner_with_its_parts(shop: Shop) -> None:
    old, old_account = shop.customer()
    line = shop.offering(shop.price(300))
    bundle = shop.offering(shop.price(100), shop.price(99, recurring=False), bundles=[line])
    products = shop.products(shop.completed(old, old_account, item("1", "ADD", bundle)).id)
    new, new_account = shop.customer()
    parties = [
        {"id": new, "role": "customer", "at_referred_type": "Customer"},
        {"id": old, "role": "transferor", "at_referred_type": "Customer"},
    ]
    order = shop.order(None, new_account, item("1", "MODIFY", product=products[bundle].id), related_party=parties)
    shop.work()
    done = shop.get(order.id)
    assert state_of(done) == "COMPLETED", done.note
    assert done.product_order_item[0].product_offering.id == bundle
    # Nobody is connected a second time.
    assert sorted(shop.told(new_account)) == [("RecurringChargeStart", "100"), ("RecurringChargeStart", "300")]
    assert sorted(shop.told(old_account)[-2:]) == [("RecurringChargeStop", "100"), ("RecurringChargeStop", "300")]
    assert {the(shop, one.id).billing_account.id for one in products.values()} == {new_account}


def test_nobody_is_given_what_is_neither_his_nor_the_givers(shop: Shop) -> None:
    _, _, product, _ = held(shop, 500)
    (other, _), (new, new_account) = shop.customer(), shop.customer()
    request: dict[str, Any] = {"product": product, "to_customer": new, "billing_account": new_account}
    with pytest.raises(InvalidArgument) as refused:
        placed(shop, "changeOfOwner", from_customer=other, **request)
    assert refused.value.reason == "OTHER_CUSTOMER"
    with pytest.raises(InvalidArgument) as refused:
        placed(shop, "changeOfOwner", from_customer=new, **request)
    assert refused.value.reason == "TRANSFEROR"


def test_a_product_that_has_changed_hands_meanwhile_does_not_change_them_again(shop: Shop) -> None:
    old, _, product, _ = held(shop, 500)
    (new, new_account), (second, second_account) = shop.customer(), shop.customer()
    given: dict[str, Any] = {"product": product, "from_customer": old}
    later = (shop.database.clock.now() + DAY).isoformat()
    order = placed(shop, "changeOfOwner", to_customer=second, billing_account=second_account, date=later, **given)
    carried_out(shop, "changeOfOwner", to_customer=new, billing_account=new_account, **given)
    shop.later(2 * DAY)
    waiting = shop.get(order.id)
    assert state_of(waiting) == "PENDING"
    assert shop.told(second_account) == []
    assert the(shop, product).billing_account.id == new_account


def test_what_the_catalog_does_not_know_changes_hands_at_the_price_that_it_has(shop: Shop) -> None:
    (old, old_account), (new, new_account) = shop.customer(), shop.customer()
    fee = {"duty_free_amount": {"unit": "KGS", "units": 300}}
    product = shop.product(
        status="PRODUCT_STATUS_ACTIVE",
        description="Mother's telephone",
        product_price=[{"price_type": "recurring", "recurring_charge_period": "month", "price": fee}],
        related_party=[{"id": old, "role": "customer", "at_referred_type": "Customer"}],
        billing_account={"id": old_account},
    )
    carried_out(shop, "changeOfOwner", product=product, from_customer=old, to_customer=new, billing_account=new_account)
    assert shop.told(old_account) == [("RecurringChargeStop", "300")]
    assert shop.told(new_account) == [("RecurringChargeStart", "300")]
    assert not the(shop, product).description


# --- porting ---------------------------------------------------------------------------------------------------------


def test_a_number_comes_with_its_customer_at_the_date_of_its_porting(shop: Shop) -> None:
    customer, account = shop.customer()
    tariff = shop.offering(shop.price(500))
    at = shop.database.clock.now() + 5 * DAY
    order = placed(
        shop,
        "portIn",
        customer=customer,
        billing_account=account,
        product_offering=tariff,
        phoneNumber="+996555123456",
        donorOperator="Alpha",
        portingDate=at.isoformat(),
    )
    shop.later(4 * DAY)
    assert state_of(shop.get(order.id)) == "ACKNOWLEDGED"
    assert shop.told(account) == []
    shop.later(timedelta(days=2))
    assert state_of(shop.get(order.id)) == "COMPLETED"
    (product,) = shop.products(order.id).values()
    stated = {one.name: json.loads(one.value) for one in product.product_characteristic}
    assert (stated["phoneNumber"], stated["donorOperator"]) == ("+996555123456", "Alpha")
    assert stated["portingDate"].endswith("Z")
    assert shop.told(account) == [("RecurringChargeStart", "500")]


def test_a_product_ends_when_its_number_goes(shop: Shop) -> None:
    _, account, product, _ = held(shop, 500)
    order = placed(
        shop,
        "portOut",
        {"description": "to Beta"},
        product=product,
        phoneNumber="+996555123456",
        recipientOperator="Beta",
        portingDate=(shop.database.clock.now() + DAY).isoformat(),
    )
    assert order.description == "to Beta"
    shop.later(2 * DAY)
    assert state_of(shop.get(order.id)) == "COMPLETED"
    assert the(shop, product).status == a_status("TERMINATED")
    assert shop.told(account)[-1] == ("RecurringChargeStop", "500")
