"""The templates that every operator has; one that is kept under the same name takes the place of the standard one."""

from collections.abc import Mapping
from functools import cache

from chassis.types import COMMON
from orders.ordering.values import OrderItemAction
from orders.template.domain import (
    OrderTemplate,
    TemplateCharacteristic,
    TemplateItem,
    TemplateParameter,
    TemplateParameterKind,
    TemplatePlace,
)

_K = TemplateParameterKind


def _needs(name: str, kind: TemplateParameterKind, description: str, *, required: bool = True) -> TemplateParameter:
    return TemplateParameter(name=name, kind=kind, required=required, description=description)


def _from(*names: str) -> tuple[TemplateCharacteristic, ...]:
    return tuple(TemplateCharacteristic(name=name, parameter=name) for name in names)


def _move() -> OrderTemplate:
    return OrderTemplate(
        id="move",
        branch=COMMON,
        name="move",
        description="The same product at another place",
        category="move",
        parameter=(
            _needs("product", _K.PRODUCT, "What moves"),
            _needs("place", _K.PLACE, "Where to"),
            _needs("date", _K.DATE_TIME, "When", required=False),
        ),
        item=(
            TemplateItem(
                action=OrderItemAction.MODIFY,
                product="product",
                place=(TemplatePlace(parameter="place", role="installationAddress"),),
            ),
        ),
        requested_start_date="date",
    )


def _change_of_owner() -> OrderTemplate:
    return OrderTemplate(
        id="changeOfOwner",
        branch=COMMON,
        name="changeOfOwner",
        description="The product goes to another customer, who pays from then on",
        category="changeOfOwner",
        parameter=(
            _needs("product", _K.PRODUCT, "What changes hands"),
            _needs("from_customer", _K.CUSTOMER, "Whose it is"),
            _needs("to_customer", _K.CUSTOMER, "Whose it becomes"),
            _needs("billing_account", _K.BILLING_ACCOUNT, "The account that pays for it from then on"),
            _needs("date", _K.DATE_TIME, "When", required=False),
        ),
        item=(TemplateItem(action=OrderItemAction.MODIFY, product="product"),),
        customer="to_customer",
        transferor="from_customer",
        payer="billing_account",
        requested_start_date="date",
    )


def _port_in() -> OrderTemplate:
    return OrderTemplate(
        id="portIn",
        branch=COMMON,
        name="portIn",
        description="A customer comes from another operator with his number",
        category="portIn",
        parameter=(
            _needs("customer", _K.CUSTOMER, "Who comes"),
            _needs("billing_account", _K.BILLING_ACCOUNT, "The account that pays"),
            _needs("product_offering", _K.PRODUCT_OFFERING, "What he has with us"),
            _needs("phoneNumber", _K.PHONE_NUMBER, "The number that he brings"),
            _needs("donorOperator", _K.TEXT, "The operator whom he leaves"),
            _needs("portingDate", _K.DATE_TIME, "When the number changes over"),
        ),
        item=(
            TemplateItem(
                action=OrderItemAction.ADD,
                product_offering="product_offering",
                characteristic=_from("phoneNumber", "donorOperator", "portingDate"),
            ),
        ),
        customer="customer",
        payer="billing_account",
        requested_completion_date="portingDate",
    )


def _port_out() -> OrderTemplate:
    return OrderTemplate(
        id="portOut",
        branch=COMMON,
        name="portOut",
        description="A customer leaves for another operator with his number: the product ends",
        category="portOut",
        parameter=(
            _needs("product", _K.PRODUCT, "What he had with us"),
            _needs("phoneNumber", _K.PHONE_NUMBER, "The number that he takes with him"),
            _needs("recipientOperator", _K.TEXT, "The operator to whom he goes"),
            _needs("portingDate", _K.DATE_TIME, "When the number changes over"),
        ),
        item=(
            TemplateItem(
                action=OrderItemAction.DELETE,
                product="product",
                characteristic=_from("phoneNumber", "recipientOperator", "portingDate"),
            ),
        ),
        requested_completion_date="portingDate",
    )


@cache
def standard() -> Mapping[str, OrderTemplate]:
    """The templates by their names."""
    return {template.name or "": template for template in (_move(), _change_of_owner(), _port_in(), _port_out())}
