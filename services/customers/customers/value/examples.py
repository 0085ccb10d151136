"""What a churn model is trained on: customers as they were known at an instant, and whether they have left since."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

from chassis.convert import from_message, to_money
from chassis.types import Characteristic, Money
from chassis.unit import Unit
from customers.party.domain import Customer
from customers.value import store
from customers.value.features import Known, Value, churned, features
from customers.value.purchase_models import bought
from svyaz.customers.v1 import value_pb2


def page(
    unit: Unit, branch: str, at: datetime, until: datetime, after: str, limit: int
) -> tuple[list[value_pb2.ChurnExample], str]:
    """The examples among the next customers, and the id to go on after; empty: these were the last."""
    ids = store.next_customers(unit, branch, after, limit)
    members = store.members_of(unit, ids)
    everybody = [member for group in members.values() for member in group]
    lines, products = store.lines_of(unit, everybody), store.products_of(unit, everybody)
    before = store.customers_at(unit, everybody, at)
    then = {member: _characteristics(message) for member, message in before.items()}
    found = []
    for survivor, group in members.items():
        held = [product for member in group for product in products.get(member, ())]
        left = churned(held, at, until)
        if left is None:
            # He had nothing that he could have left.
            continue
        known = Known(
            lines=[line for member in group for line in lines.get(member, ())],
            products=held,
            characteristics=next((then[member] for member in group if member in then), ()),
        )
        found.append(value_pb2.ChurnExample(customer_id=survivor, feature=written(features(known, at)), churned=left))
    return found, ids[-1] if len(ids) == limit else ""


def purchases_page(
    unit: Unit, branch: str, at: datetime, currency: str, after: str, limit: int
) -> tuple[list[value_pb2.PurchaseExample], str]:
    """What the next customers have bought who had no running product then, and the id to go on after."""
    ids = store.next_customers(unit, branch, after, limit)
    members = store.members_of(unit, ids)
    everybody = [member for group in members.values() for member in group]
    lines, products = store.lines_of(unit, everybody), store.products_of(unit, everybody)
    found = []
    for survivor, group in members.items():
        if any(product.running(at) for member in group for product in products.get(member, ())):
            continue
        days = bought((line for member in group for line in lines.get(member, ())), currency, at)
        if days:
            purchase = [
                value_pb2.Purchase(day=day.isoformat(), amount=to_money(Money(unit=currency, value=amount)))
                for day, amount in days.items()
            ]
            found.append(value_pb2.PurchaseExample(customer_id=survivor, purchase=purchase))
    return found, ids[-1] if len(ids) == limit else ""


def _characteristics(message: Any) -> Sequence[Characteristic]:
    customer: Customer = from_message(message, Customer, id="", branch="")
    return customer.characteristic


def written(found: Mapping[str, Value]) -> list[value_pb2.FeatureValue]:
    """Features as messages; what isn't known is left out."""
    return [
        value_pb2.FeatureValue(name=name, text=value)
        if isinstance(value, str)
        else value_pb2.FeatureValue(name=name, number=value)
        for name, value in found.items()
        if value is not None
    ]


def read(found: Iterable[value_pb2.FeatureValue]) -> dict[str, Value]:
    """Messages as features."""
    return {
        one.name: one.text if one.HasField("text") else one.number if one.HasField("number") else None for one in found
    }
