"""`svyaz holdings rebuild`, from the inventory's real log to the catalog's real holdings."""

from collections.abc import Callable, Iterator

import psycopg
import pytest
from typer.testing import CliRunner

from catalog import store as catalog_store
from catalog.holding.api import Holdings
from chassis import convert
from chassis.clock import Clock
from chassis.db import Database
from chassis.events import acting
from chassis.operations import Operations
from chassis.types import new_id
from orders import store as orders_store
from orders.inventory.domain import Product
from svyaz.catalog.v1 import holding_pb2_grpc
from svyaz.operations.v1 import operations_pb2_grpc
from svyaz.orders.v1 import inventory_pb2
from svyaz.type.v1 import values_pb2
from svyaz_cli import rebuilding
from svyaz_cli.issuer import Issuer
from svyaz_cli.main import app
from tests.conftest import ServiceDatabase
from tests.serving import serving


@pytest.fixture
def inventory(database_for: Callable[..., ServiceDatabase]) -> Iterator[Database]:
    own = database_for("orders")
    made = Database(own.url, clock=Clock(), metadata=orders_store.metadata, resources=orders_store.RESOURCES)
    yield made
    made.close()


@pytest.fixture
def catalog(database_for: Callable[..., ServiceDatabase]) -> Iterator[tuple[Database, ServiceDatabase]]:
    own = database_for("catalog")
    made = Database(own.url, clock=Clock(), metadata=catalog_store.metadata, resources=catalog_store.RESOURCES)
    yield made, own
    made.close()


def sold(inventory: Database, branch: str, offering: str) -> str:
    message = inventory_pb2.Product(
        status=inventory_pb2.PRODUCT_STATUS_ACTIVE,
        product_offering=values_pb2.EntityRef(id=offering),
        description="x" * 2_000,
    )
    product = convert.from_message(message, Product, id=new_id(), branch=branch)
    with acting("orders", "test", branch), inventory.unit() as unit:
        unit.add(product)
    return product.id


def held(place: ServiceDatabase) -> dict[str, tuple[str, str]]:
    with psycopg.connect(place.admin_url) as connection:
        rows = connection.execute("SELECT id, branch, product_offering_id FROM holding").fetchall()
    return {key: (branch, offering) for key, branch, offering in rows}


def test_the_catalog_hears_the_whole_log_and_forgets_what_it_does_not_know(
    inventory: Database,
    catalog: tuple[Database, ServiceDatabase],
    issuer: Issuer,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    database, place = catalog
    expected = {}
    for number in range(12):
        branch, offering = ("osh", "bishkek")[number % 2], f"o{number}"
        expected[sold(inventory, branch, offering)] = (branch, offering)
    with psycopg.connect(place.admin_url) as connection:
        columns = (
            "id, branch, version, status, live, product_offering_id, quantity, seen_at, characteristic, term, place,"
            " market_segment, sold_durations"
        )
        # One that nobody has, and one that is known wrongly.
        for key, branch in (("nobody", "osh"), (next(iter(expected)), "osh")):
            connection.execute(
                f"INSERT INTO holding ({columns}) VALUES"  # noqa: S608
                " (%s, %s, 0, 'active', true, 'wrong', 1, '2020-01-01', '{}', '', '{}', '{}', '{}')",
                (key, branch),
            )
    # More pages and portions than one, with so few.
    monkeypatch.setattr(rebuilding, "ASKED", 1)
    monkeypatch.setattr(rebuilding, "TOLD_BYTES", 3_000)
    operations = (
        operations_pb2_grpc.add_OperationsServiceServicer_to_server,
        Operations(inventory, [], service="orders"),
    )
    knowledge = (holding_pb2_grpc.add_HoldingServiceServicer_to_server, Holdings(database))
    with serving("orders", [operations], issuer) as orders_at, serving("catalog", [knowledge], issuer) as catalog_at:

        def run(*branches: str) -> tuple[int, str]:
            token = issuer.token(["admin"], branches)
            where = ["--orders-address", orders_at, "--address", catalog_at, "--token", token]
            result = CliRunner().invoke(app, ["holdings", "rebuild", *where])
            return result.exit_code, result.output

        before = held(place)
        # Who may act in one branch only would have what is held in the others forgotten.
        assert run("osh")[0] == 1
        assert held(place) == before
        status, output = run("*")
        assert (status, output.splitlines()[-1]) == (
            0,
            "12 events heard, 1 products forgotten that the log doesn't know",
        )
        assert held(place) == expected
        assert run("*")[0] == 0
        assert held(place) == expected
