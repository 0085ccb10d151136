"""What is referred to stays, whoever was first and whoever refers: an order or a product of another service too."""

import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from datetime import UTC, datetime
from typing import Any

import pytest

from chassis.cloudevents import ReceivedEvent
from chassis.db import Database
from chassis.errors import FailedPrecondition
from chassis.events import acting
from chassis.references import lock_references
from chassis.unit import Unit
from customers.events import orders_changed
from customers.party import store
from customers.party.domain import Individual
from svyaz.orders.v1 import inventory_pb2
from svyaz.type.v1 import values_pb2
from tests.customers.conftest import ACCOUNT, PARTY
from tests.customers.test_api import customer, person
from tests.serving import Caller


def meanwhile(database: Database, begin: Callable[[Unit], None], act: Callable[[], Any]) -> "Future[Any]":
    """What becomes of `act` when it starts while a transaction, of which `begin` is done, is still open."""
    with ThreadPoolExecutor(1) as pool:
        with acting("customers", "test", "bishkek"), database.unit() as unit:
            begin(unit)
            future = pool.submit(act)
            # It has ended before us, having seen half of what we do, or waits for us.
            time.sleep(1.5)
        wait([future])
        return future


def test_a_party_is_not_deleted_while_a_customer_is_made_that_engages_it(database: Database, agent: Caller) -> None:
    made = person(agent)

    def engage(unit: Unit) -> None:
        assert store.party_branch(unit, made.id) == "bishkek"
        store.refer(unit, "a-customer", "Customer", "bishkek", [made.id], new=True)

    deleted = meanwhile(database, engage, lambda: agent(f"{PARTY}DeleteIndividual", id=made.id))
    assert isinstance(deleted.exception(), FailedPrecondition)
    assert agent(f"{PARTY}GetIndividual", id=made.id).id == made.id


def test_a_customer_is_not_verified_by_a_party_that_is_being_deleted(database: Database, agent: Caller) -> None:
    made = person(agent)

    def delete(unit: Unit) -> None:
        lock_references(unit)
        unit.delete(unit.get(Individual, made.id))

    engaged = meanwhile(database, delete, lambda: customer(agent, made.id))
    assert engaged.result().status == "unverified"


def heard(database: Database, product: inventory_pb2.Product, version: int, what: str) -> None:
    """Handles an event about a product."""
    event = ReceivedEvent(
        id=f"{product.id}-{version}",
        source="svyaz/orders",
        type=f"Product{what}Event",
        time=datetime.now(UTC),
        aggregate_type="Product",
        aggregate_id=product.id,
        version=version,
        branch="bishkek",
        key=product.id,
        actor="somebody",
        on_behalf_of=None,
        schema_revision=1,
        data_type=product.DESCRIPTOR.full_name,
        data=product.SerializeToString(),
        subject="",
        headers={},
    )
    with acting("customers", "orders", "bishkek"), database.unit() as unit:
        orders_changed(event, unit)


def test_a_product_that_changes_its_account_with_its_state_holds_the_new_one(database: Database, agent: Caller) -> None:
    account = {"name": "account", "related_party": [{"id": "a-customer"}]}
    first, second = (agent(f"{ACCOUNT}CreateBillingAccount", billing_account=account).id for _ in range(2))
    product = inventory_pb2.Product(id="p-1", billing_account=values_pb2.EntityRef(id=first))
    heard(database, product, 1, "Create")
    heard(database, product, 2, "StateChange")
    with pytest.raises(FailedPrecondition, match="Product p-1"):
        agent(f"{ACCOUNT}DeleteBillingAccount", id=first)
    product.billing_account.id = second
    heard(database, product, 3, "StateChange")
    with pytest.raises(FailedPrecondition, match="Product p-1"):
        agent(f"{ACCOUNT}DeleteBillingAccount", id=second)
    agent(f"{ACCOUNT}DeleteBillingAccount", id=first)
    heard(database, product, 4, "Delete")
    agent(f"{ACCOUNT}DeleteBillingAccount", id=second)


def test_references_that_stay_as_they_are_are_not_written(database: Database) -> None:
    product = inventory_pb2.Product(id="p-2", billing_account=values_pb2.EntityRef(id="an-account"))

    def written() -> str:
        with acting("customers", "test"), database.unit() as unit:
            found = unit.cursor().execute("SELECT xmin::text FROM reference WHERE referrer_id = 'p-2'").fetchone()
        assert found
        return str(found[0])

    heard(database, product, 1, "Create")
    before = written()
    heard(database, product, 2, "StateChange")
    assert written() == before
