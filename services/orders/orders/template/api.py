"""What can be asked of order templates."""

from typing import Any

from chassis import convert
from chassis.db import Database
from chassis.errors import AlreadyExists, InvalidArgument, Violation
from chassis.resources import Collection, StandardMethods
from chassis.types import Characteristic
from chassis.unit import Unit
from orders.inventory.store import with_parts
from orders.ordering.api import Orders
from orders.ordering.domain import ProductOrder
from orders.ordering.store import quantity_of
from orders.template import store
from orders.template.domain import OrderTemplate
from orders.template.expansion import Expanded, arguments, expanded
from svyaz.orders.v1 import orders_pb2, template_pb2
from svyaz.type.v1 import values_pb2

# What of an order the template says; a caller's own word for it doesn't count.
_OF_THE_TEMPLATE = (
    "product_order_item",
    "related_party",
    "billing_account",
    "category",
    "requested_start_date",
    "requested_completion_date",
)


def _unique(unit: Unit, template: OrderTemplate) -> None:
    """Raises AlreadyExists TEMPLATE_NAME: two templates of one name would be one of chance."""
    same = unit.load(OrderTemplate, "name = %(name)s AND id <> %(id)s", {"name": template.name, "id": template.id})
    if same:
        raise AlreadyExists(
            "TEMPLATE_NAME", f"there is a template {template.name!r} already", metadata={"id": same[0].id}
        )


class OrderTemplates(StandardMethods):
    """Templates of orders, and the orders that they become."""

    def __init__(self, database: Database, orders: Orders) -> None:
        self._database = database
        self._orders = orders
        super().__init__(
            template_pb2.DESCRIPTOR.services_by_name["OrderTemplateService"],
            Collection(database, OrderTemplate, template_pb2.OrderTemplate, creating=_unique, changed=_unique),
        )

    def ListOrderTemplatesInForce(
        self, request: template_pb2.ListOrderTemplatesInForceRequest, context: Any
    ) -> template_pb2.ListOrderTemplatesInForceResponse:
        """What can be ordered by a template, in the order of the names."""
        with self._database.unit() as unit:
            found = store.in_force(unit)
            return template_pb2.ListOrderTemplatesInForceResponse(
                order_template=[convert.to_message(one, template_pb2.OrderTemplate) for one in found]
            )

    def DraftTemplateOrder(
        self, request: template_pb2.TemplateOrderRequest, context: Any
    ) -> template_pb2.TemplateOrderDraft:
        """The order and its price; raises what placing it would."""
        order = self._order(request)
        priced, captured = self._orders.draft(request.branch, order)
        return template_pb2.TemplateOrderDraft(product_order=order, priced=priced, missing=captured.missing)

    def PlaceTemplateOrder(self, request: template_pb2.TemplateOrderRequest, context: Any) -> orders_pb2.ProductOrder:
        """Takes the order. Raises NotFound for no such template, InvalidArgument TEMPLATE_PARAMETERS, UNKNOWN_PRODUCT,
        and what CreateProductOrder does."""
        remembered = self._database.remembered(request, orders_pb2.ProductOrder)
        if remembered is not None:
            return remembered
        return self._orders.take(request, request.branch, self._order(request))

    def _order(self, request: template_pb2.TemplateOrderRequest) -> orders_pb2.ProductOrder:
        branch = self._database.branch_for_create(ProductOrder, request.branch)
        given = [convert.from_message(one, Characteristic) for one in request.parameter]
        with self._database.unit() as unit:
            template = store.named(unit, request.template)
            if template is None:
                raise InvalidArgument(
                    "UNKNOWN_TEMPLATE",
                    f"there is no order template {request.template!r}",
                    violations=[Violation("template", "unknown")],
                )
            told = arguments(template, given)
            products = {key: one for key, one in with_parts(unit, told.product_ids).items() if one.branch == branch}
            named = {key: products[key] for key in told.product_ids if key in products}
            quantities = {key: quantity_of(unit, one) for key, one in named.items()}
            return _message(request.product_order, expanded(told, named, quantities))


def _message(beside: orders_pb2.ProductOrder, order: Expanded) -> orders_pb2.ProductOrder:
    """The order as a message, with what the caller says beside the template."""
    message = orders_pb2.ProductOrder()
    message.CopyFrom(beside)
    for name in _OF_THE_TEMPLATE:
        message.ClearField(name)  # type: ignore[arg-type]
    message.product_order_item.extend(convert.to_message(item, orders_pb2.ProductOrderItem) for item in order.items)
    message.related_party.extend(convert.to_message(party, values_pb2.RelatedParty) for party in order.related_party)
    if order.billing_account is not None:
        message.billing_account.CopyFrom(convert.to_message(order.billing_account, values_pb2.EntityRef))
    if order.category:
        message.category = order.category
    for name in ("requested_start_date", "requested_completion_date"):
        instant = getattr(order, name)
        if instant is not None:
            getattr(message, name).CopyFrom(convert.to_timestamp(instant))
    return message
