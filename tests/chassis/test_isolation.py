"""Branches can't see each other: whatever method a branch's token calls with whatever it has guessed, another branch's
records never show; in no answer, no count, no error, and by no way through the database."""

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import grpc
import psycopg
import pytest
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from catalog import store as catalog_store
from catalog.generation.api import Generation
from catalog.holding.api import Holdings
from catalog.preview.api import ChangePreviews
from catalog.preview.job import Previews
from catalog.pricing.api import Prices, PricingRules
from catalog.pricing.rating_api import Ratings
from catalog.product.api import CatalogItems
from catalog.promotion.api import Promotions, PromotionsOnPrices
from catalog.promotion.domain import ApprovalThresholds
from catalog.publication.api import Publication
from catalog.publication.guards import Guards
from catalog.qualification.api import Qualifications, SaleGuard
from catalog.recommendation.api import Recommendations
from catalog.recommendation.entitlement_api import Entitlements
from catalog.transfer.api import Transfers
from chassis import calls, convert
from chassis.auth import ROLES
from chassis.clock import Clock
from chassis.db import Database
from chassis.errors import DomainError, Unavailable
from chassis.operations import Operations
from chassis.types import COMMON, Aggregate, new_id
from chassis.zones import BranchZones
from customers import store as customers_store
from orders import store as orders_store
from orders.amendment.api import Amendments
from orders.billing.api import Billing
from orders.billing.certification import Certification
from orders.bulk.api import BulkOrders
from orders.cart.api import Carts
from orders.cart.valuation import Valuation
from orders.fulfilment.api import Fulfilments
from orders.fulfilment.queue import Jobs
from orders.inventory.api import Inventory
from orders.lifecycle.api import ProductLifecycle
from orders.migration.api import Migrations
from orders.ordering.api import Orders
from orders.ordering.capture import Capture
from orders.ordering.coupons import Coupons
from orders.template.api import OrderTemplates
from orders.tracking.api import Tracking
from svyaz.catalog.v1 import (
    catalog_pb2_grpc,
    entitlement_pb2_grpc,
    generation_pb2_grpc,
    holding_pb2_grpc,
    preview_pb2_grpc,
    pricing_pb2_grpc,
    pricing_rules_pb2_grpc,
    promotion_pb2_grpc,
    publication_pb2_grpc,
    qualification_pb2_grpc,
    rating_pb2_grpc,
    recommendation_pb2_grpc,
    transfer_pb2_grpc,
)
from svyaz.customers.v1 import customers_pb2_grpc
from svyaz.operations.v1 import operations_pb2_grpc
from svyaz.orders.v1 import (
    amendment_pb2_grpc,
    billing_pb2_grpc,
    bulk_pb2_grpc,
    cart_pb2_grpc,
    fulfilment_pb2_grpc,
    inventory_pb2_grpc,
    lifecycle_pb2_grpc,
    migration_pb2_grpc,
    orders_pb2_grpc,
    template_pb2_grpc,
    tracking_pb2_grpc,
)
from svyaz.type.v1 import requests_pb2
from svyaz_cli.issuer import Issuer
from tests.conftest import ServiceDatabase
from tests.contracts import services
from tests.serving import Caller, customers_registrations, serving

CANARY = "CanaryOfOsh"
MARK = CANARY.encode()
OURS, THEIRS = "bishkek", "osh"
STORES: Mapping[str, Any] = {"catalog": catalog_store, "customers": customers_store, "orders": orders_store}
PACKAGES = {name: f"svyaz.{name}.v1." for name in STORES}
OPERATIONS = "svyaz.operations.v1.OperationsService"


def filled(descriptor: Any, text: str, depth: int = 3) -> Message:
    """A message with something in every field."""
    message: Any = GetMessageClass(descriptor)()
    for field in descriptor.fields:
        if field.type == FieldDescriptor.TYPE_MESSAGE:
            if not depth or field.message_type.full_name.startswith("google.protobuf.FieldMask"):
                continue
            part = filled(field.message_type, text, depth - 1)
            if field.is_repeated:
                getattr(message, field.name).append(part)
            else:
                getattr(message, field.name).CopyFrom(part)
        elif field.is_repeated:
            getattr(message, field.name).append(_scalar(field, text))
        else:
            setattr(message, field.name, _scalar(field, text))
    made: Message = message
    return made


def _scalar(field: Any, text: str) -> Any:
    if field.type == FieldDescriptor.TYPE_ENUM:
        return field.enum_type.values[1].number
    if field.type == FieldDescriptor.TYPE_BYTES:
        return (f'{{"{text}":"{text}"}}' if field.name == "extensions" else f'"{text}"').encode()
    if field.type == FieldDescriptor.TYPE_STRING:
        decimal = any(option.name == "decimal" for option, _ in field.GetOptions().ListFields())
        return "1" if decimal else text
    return field.cpp_type == FieldDescriptor.CPPTYPE_BOOL or 1


@dataclass(frozen=True)
class House:
    """A service with records of ours and of theirs."""

    name: str
    place: ServiceDatabase
    database: Database
    address: str
    us: Caller
    # Ids of theirs by the name of the class.
    their_ids: Mapping[str, str]
    our_ids: Mapping[str, str]

    def methods(self) -> Iterator[tuple[str, Any]]:
        for full_name, service in services().items():
            if full_name.startswith(PACKAGES[self.name]) or full_name == OPERATIONS:
                for method in service.methods:
                    yield f"{full_name}/{method.name}", method


def seed(database: Database, resources: Mapping[type[Aggregate], Any], branch: str, text: str) -> dict[str, str]:
    """One record of every kind, and its event; ids by the name of the class."""
    ids = {}
    with calls.using(calls.Call.background("test", "seed", branches=(branch,))), database.unit() as unit:
        for cls, resource in resources.items():
            if resource.common:
                continue
            message = filled(resource.message.DESCRIPTOR, text)
            aggregate = convert.from_message(message, cls, id=new_id(), branch=branch)
            unit.add(aggregate)
            ids[cls.__name__] = aggregate.id
    return ids


def _seed_rest(place: ServiceDatabase, database: Database, branch: str, text: str) -> None:
    """Every other table with a branch, in the words of its columns."""
    with psycopg.connect(place.admin_url) as connection:
        aggregates = {resource.table.name for resource in database.resources.values()}
        if "preview" in database.metadata.tables:
            # What is previewed concerns all branches; what is found belongs to each.
            connection.execute(_PREVIEW, (PREVIEW,))
        rows = connection.execute(
            "SELECT c.relname FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid AND a.attname = 'branch'"
            " WHERE c.relkind = 'r' AND NOT c.relispartition AND c.relname NOT LIKE 'stage%'"
        ).fetchall()
        for (table,) in rows:
            if table in aggregates:
                continue
            columns = connection.execute(
                "SELECT column_name, data_type FROM information_schema.columns"
                " WHERE table_name = %s AND is_identity = 'NO' AND is_nullable = 'NO'",
                (table,),
            ).fetchall()
            stated = {"branch": branch, **_STATED.get(table, {})}
            values = [stated.get(name, _of_type(kind, text)) for name, kind in columns]
            names = ", ".join(f'"{name}"' for name, _ in columns)
            marks = ", ".join("%s" for _ in columns)
            extra = _ALSO.get(table, {})
            names += "".join(f", {name}" for name in extra)
            marks += "".join(", %s" for _ in extra)
            values += [value.replace("CANARY", text) for value in extra.values()]
            connection.execute(f"INSERT INTO {table} ({names}) VALUES ({marks})", values)  # noqa: S608


# A preview of a change, in which each branch has what is its own.
PREVIEW = "preview-of-all"
_PREVIEW = """
    INSERT INTO preview (id, created_at, created_by, branches, request, at, state, grouped, attempts)
    VALUES (%s, now(), 'somebody', '{*}', '', now(), 'done', true, 0)
"""
# What the words of a column can't be: by table, of columns that must be there, and of others.
_STATED: Mapping[str, Mapping[str, Any]] = {
    # Alone, a posting is balanced when it moves nothing.
    "loyalty_posting": {"amount": 0},
    "preview_group": {"preview_id": PREVIEW},
    "preview_difference": {"preview_id": PREVIEW},
}
_ALSO: Mapping[str, Mapping[str, str]] = {
    "charge_event": {"draft": '{"note":"CANARY"}'},
    "preview_group": {"outcome": "refused", "reason": "CANARY", "description": "CANARY"},
    "holding": {"customer_id": "CANARY", "product_offering_id": "CANARY", "billing_account_id": "CANARY"},
}


def _of_type(kind: str, text: str) -> Any:
    if kind == "text":
        return text
    if kind == "ARRAY":
        return [text]
    if kind == "boolean":
        return True
    if kind == "bytea":
        return text.encode()
    if kind == "jsonb":
        return f'{{"note":"{text}"}}'
    return "2026-01-01T00:00:00Z" if kind.startswith(("timestamp", "date")) else 1


def _others(name: str, database: Database) -> list[Any]:
    if name == "catalog":
        return _catalog(database)
    if name == "customers":
        return list(customers_registrations(database))
    # Nobody answers there: what an order asks elsewhere isn't what is looked for here.
    nowhere = grpc.insecure_channel("127.0.0.1:1")
    capture = Capture(
        pricing_pb2_grpc.PricingServiceStub(nowhere),
        catalog_pb2_grpc.CatalogServiceStub(nowhere),
        customers_pb2_grpc.CustomerServiceStub(nowhere),
    )
    coupons = Coupons(promotion_pb2_grpc.PromotionServiceStub(nowhere))
    orders = Orders(database, capture, coupons)
    zones = BranchZones.parse("*=UTC")
    billing = Billing(
        database, zones, Certification(zones, None), None, customers_pb2_grpc.CustomerServiceStub(nowhere)
    )
    return [
        (orders_pb2_grpc.add_OrderServiceServicer_to_server, orders),
        (template_pb2_grpc.add_OrderTemplateServiceServicer_to_server, OrderTemplates(database, orders)),
        (amendment_pb2_grpc.add_AmendmentServiceServicer_to_server, Amendments(database, orders)),
        (tracking_pb2_grpc.add_OrderTrackingServiceServicer_to_server, Tracking(database)),
        (inventory_pb2_grpc.add_InventoryServiceServicer_to_server, Inventory(database)),
        (bulk_pb2_grpc.add_BulkOrderServiceServicer_to_server, BulkOrders(database)),
        (
            cart_pb2_grpc.add_ShoppingCartServiceServicer_to_server,
            Carts(database, Valuation(database, capture), coupons),
        ),
        (lifecycle_pb2_grpc.add_ProductLifecycleServiceServicer_to_server, ProductLifecycle(database)),
        (billing_pb2_grpc.add_BillingServiceServicer_to_server, billing),
        (
            fulfilment_pb2_grpc.add_FulfilmentServiceServicer_to_server,
            Fulfilments(database, ("provisioning",), Jobs(database)),
        ),
        (
            migration_pb2_grpc.add_MigrationServiceServicer_to_server,
            Migrations(database, catalog_pb2_grpc.CatalogServiceStub(nowhere)),
        ),
    ]


def _catalog(database: Database) -> list[Any]:
    guards, previews = Guards(), Previews(database)
    items = CatalogItems(database, guards)
    entitlements = Entitlements(database)
    prices = Prices(database, SaleGuard(database), PromotionsOnPrices(database), remind=entitlements.with_a_price)
    recommendations = Recommendations(database, lambda request: prices.Price(request, None), entitlements)
    return [
        (catalog_pb2_grpc.add_CatalogServiceServicer_to_server, items),
        (entitlement_pb2_grpc.add_EntitlementServiceServicer_to_server, entitlements),
        (publication_pb2_grpc.add_PublicationServiceServicer_to_server, Publication(database, items)),
        (pricing_pb2_grpc.add_PricingServiceServicer_to_server, prices),
        (pricing_rules_pb2_grpc.add_PricingRulesServiceServicer_to_server, PricingRules(database, guards)),
        (rating_pb2_grpc.add_RatingServiceServicer_to_server, Ratings(database, prices.book)),
        (qualification_pb2_grpc.add_QualificationServiceServicer_to_server, Qualifications(database)),
        (recommendation_pb2_grpc.add_RecommendationServiceServicer_to_server, recommendations),
        (
            promotion_pb2_grpc.add_PromotionServiceServicer_to_server,
            Promotions(database, ApprovalThresholds.parse("50", "")),
        ),
        (holding_pb2_grpc.add_HoldingServiceServicer_to_server, Holdings(database)),
        (preview_pb2_grpc.add_PreviewServiceServicer_to_server, ChangePreviews(database, previews)),
        (transfer_pb2_grpc.add_TransferServiceServicer_to_server, Transfers(database)),
        (generation_pb2_grpc.add_GenerationServiceServicer_to_server, Generation(database, guards)),
    ]


@pytest.fixture(scope="module", params=sorted(STORES))
def house(
    request: pytest.FixtureRequest, database_for: Callable[..., ServiceDatabase], issuer: Issuer
) -> Iterator[House]:
    name: str = request.param
    place, store = database_for(name), STORES[name]
    database = Database(place.url, clock=Clock(), metadata=store.metadata, resources=store.RESOURCES)
    their_ids = {
        **seed(database, store.RESOURCES, THEIRS, CANARY),
        **({"ChangePreview": PREVIEW} if name == "catalog" else {}),
    }
    our_ids = seed(database, store.RESOURCES, OURS, "Ours")
    _seed_rest(place, database, THEIRS, CANARY)
    registrations = [
        *_others(name, database),
        (operations_pb2_grpc.add_OperationsServiceServicer_to_server, Operations(database, [], service=name)),
    ]
    with serving(name, registrations, issuer) as address, grpc.insecure_channel(address) as channel:
        us = Caller(channel, issuer.token(sorted(ROLES), [OURS]))
        yield House(name, place, database, address, us, their_ids, our_ids)
    database.close()


def shows(house: House, method: str, request: Message) -> bool:
    """Whether something of theirs is in the answer or in what a refusal says."""
    try:
        return MARK in house.us(method, request).SerializeToString()
    except DomainError as error:
        told = (error.message, *error.metadata.values(), *(v.description for v in error.violations))
        return any(CANARY in text for text in told)


def rows_of_theirs(house: House) -> dict[str, list[tuple[Any, ...]]]:
    """All that belongs to them, as the database's superuser sees it."""
    with psycopg.connect(house.place.admin_url) as connection:
        tables = connection.execute(
            "SELECT c.relname FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid AND a.attname = 'branch'"
            " WHERE c.relkind IN ('r', 'p') AND NOT c.relispartition AND c.relname NOT LIKE 'stage%'"
        ).fetchall()
        common = {resource.table.name for resource in house.database.resources.values() if resource.common}
        return {
            table: connection.execute(
                f"SELECT * FROM {table} AS t WHERE branch = %s ORDER BY t::text",  # noqa: S608
                (THEIRS,),
            ).fetchall()
            for (table,) in tables
            if table not in common
        }


def test_every_table_with_a_branch_has_something_to_show(house: House) -> None:
    assert [table for table, rows in rows_of_theirs(house).items() if not rows] == []


def test_they_themselves_are_shown_it(house: House, issuer: Issuer) -> None:
    """Else the tests below would prove nothing."""
    with grpc.insecure_channel(house.address) as channel:
        them = replace(house, us=Caller(channel, issuer.token(sorted(ROLES), [THEIRS])))
        for path, method in house.methods():
            name = method.name.removeprefix("Get")
            if method.name.startswith("Get") and name in house.their_ids:
                assert shows(them, path, requests_pb2.GetRequest(id=house.their_ids[name])), path
            if _lists_of_branches(house, method):
                assert shows(them, path, requests_pb2.ListRequest()), path


def test_no_method_shows_or_changes_anything_of_theirs(house: House) -> None:
    before = rows_of_theirs(house)
    called = 0
    for place, (path, method) in enumerate(house.methods()):
        # A list is asked for in one way, whatever is guessed.
        asked: set[bytes] = set()
        # Never the mark itself: what we say may be said to us.
        for number, (kind, guess) in enumerate((*house.their_ids.items(), ("something", "Ours"))):
            for branch in _branches_said(method, kind, place + number):
                request = filled(method.input_type, guess)
                _branch_is(request, branch)
                if (said := request.SerializeToString(deterministic=True)) not in asked:
                    assert not shows(house, path, request), path
                asked.add(said)
            called += 1
        assert not shows(house, path, GetMessageClass(method.input_type)()), path
    assert called > 10
    assert rows_of_theirs(house) == before


BRANCHES = ("", THEIRS, "*", OURS)


def _branches_said(method: Any, kind: str, turn: int) -> tuple[str, ...]:
    """What is said of the branch beside a guess: everything where the method is about records of its kind; else each
    in its turn, so that a method hears each with many guesses, and with each guess many methods do."""
    if "branch" not in method.input_type.fields_by_name:
        return ("",)
    return BRANCHES if kind in method.name else (BRANCHES[turn % len(BRANCHES)],)


def _lists_of_branches(house: House, method: Any) -> bool:
    """Whether the method lists what belongs to branches, rather than what is common to all."""
    if method.input_type.full_name != "svyaz.type.v1.ListRequest":
        return False
    item = method.output_type.fields_by_name["items"].message_type
    return not any(
        resource.common and resource.message.DESCRIPTOR is item for resource in house.database.resources.values()
    )


def _branch_is(request: Any, branch: str) -> None:
    if "branch" in request.DESCRIPTOR.fields_by_name:
        request.branch = branch
    if "request_id" in request.DESCRIPTOR.fields_by_name:
        request.request_id = ""
    if request.DESCRIPTOR.full_name == "svyaz.type.v1.ListRequest":
        request.Clear()
    if request.DESCRIPTOR.full_name == "svyaz.type.v1.GetRequest":
        # The present; of 1970, as which the instant is filled in, nobody has anything to show.
        request.ClearField("at")


def _settled(house: House, request: Any) -> Any:
    """What the log answers once the transactions of whichever tests share the database server have ended."""
    until = time.monotonic() + 60
    while True:
        try:
            return house.us(f"{OPERATIONS}/ListEvents", request)
        except Unavailable as error:
            if error.reason != "LOG_UNSETTLED" or time.monotonic() > until:
                raise


def test_every_partition_of_the_log_keeps_them_to_itself(house: House) -> None:
    for partition in range(64):
        request = GetMessageClass(services()[OPERATIONS].methods_by_name["ListEvents"].input_type)(partition=partition)
        answer = _settled(house, request)
        # What is common to all is everybody's to hear of.
        common = any(resource.common for resource in house.database.resources.values())
        assert {event.branch for event in answer.event} <= {OURS, *([COMMON] if common else [])}


def test_the_past_is_as_closed_as_the_present(house: House) -> None:
    for place, (path, method) in enumerate(house.methods()):
        if method.input_type.full_name == "svyaz.type.v1.GetRequest":
            # Every past is in one log: what the method is about, and of all the rest some in turn.
            for number, (kind, their_id) in enumerate(house.their_ids.items()):
                if kind in method.name or (place + number) % 4 == 0:
                    request = requests_pb2.GetRequest(id=their_id)
                    request.at.FromJsonString("2100-01-01T00:00:00Z")
                    assert not shows(house, path, request), path


def _paths(descriptor: Any, depth: int = 2) -> Iterator[str]:
    for field in descriptor.fields:
        yield field.name
        if field.type == FieldDescriptor.TYPE_MESSAGE and depth:
            for inner in _paths(field.message_type, depth - 1):
                yield f"{field.name}.{inner}"


@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_no_filter_order_or_page_reaches_them(house: House, data: st.DataObject) -> None:
    lists = [(path, method) for path, method in house.methods() if _lists_of_branches(house, method)]
    path, method = data.draw(st.sampled_from(lists))
    item = method.output_type.fields_by_name["items"].message_type
    paths = st.sampled_from([*_paths(item), CANARY, f"{CANARY}.x", f"extensions.{CANARY}"])
    words = st.sampled_from(
        [CANARY, CANARY.lower(), ".*", "", "true", "1", "2026-01-01T00:00:00Z", THEIRS, OURS, *house.their_ids.values()]
    )
    conditions = st.builds(
        lambda path, operator, values: requests_pb2.Filter(path=path, operator=operator, value=values),
        paths,
        st.sampled_from(requests_pb2.Filter.Operator.values()),
        st.lists(words, min_size=1, max_size=3),
    )
    request = requests_pb2.ListRequest(
        filter=data.draw(st.lists(conditions, max_size=3)),
        sort=data.draw(st.lists(st.builds(lambda p, d: d + p, paths, st.sampled_from(["", "-"])), max_size=2)),
        offset=data.draw(st.integers(0, 3)),
        limit=data.draw(st.integers(0, 10)),
    )
    try:
        answer = house.us(path, request)
    except DomainError as error:
        assert error.status == "INVALID_ARGUMENT"  # noqa: PT017
        return
    assert MARK not in answer.SerializeToString()
    assert {item.branch for item in answer.items} <= {OURS}
    # Ours are few: a count that knew of theirs would be more.
    with psycopg.connect(house.place.admin_url) as connection:
        table = next(
            resource.table.name for resource in house.database.resources.values() if resource.message.DESCRIPTOR is item
        )
        ours = connection.execute(f"SELECT count(*) FROM {table} WHERE branch = %s", (OURS,)).fetchone()  # noqa: S608
    assert ours is not None
    assert answer.page.total_size <= ours[0]


# --- the database itself ---------------------------------------------------------------------------------------------


def _as_service(house: House, branches: str | None) -> psycopg.Connection[Any]:
    connection = psycopg.connect(house.place.url)
    if branches is not None:
        connection.execute("SELECT set_config('svyaz.branches', %s, true)", (branches,))
    return connection


@pytest.mark.parametrize("branches", [None, "", OURS, f"{OURS},naryn"])
def test_the_service_role_sees_only_the_branches_it_has_named(house: House, branches: str | None) -> None:
    with _as_service(house, branches) as connection:
        for table in rows_of_theirs(house):
            found = connection.execute(f"SELECT DISTINCT branch FROM {table}").fetchall()  # noqa: S608
            assert {branch for (branch,) in found} <= {OURS, "*"}, table


# Who sees a row of these can't change it either: a trigger says so.
BOOKS = {"loyalty_entry", "loyalty_posting"}


def test_the_service_role_writes_only_into_the_branches_it_has_named(house: House) -> None:
    for table in rows_of_theirs(house):
        with _as_service(house, OURS) as connection:
            if table == "event":
                # The log isn't changed at all, in any branch.
                with pytest.raises(psycopg.errors.InsufficientPrivilege):
                    connection.execute("UPDATE event SET branch = branch")
                connection.rollback()
                continue
            if table not in BOOKS:
                assert connection.execute(f"UPDATE {table} SET branch = branch").rowcount >= 0  # noqa: S608
            deleted = connection.execute(f"DELETE FROM {table} WHERE branch = %s", (THEIRS,)).rowcount  # noqa: S608
            assert deleted == 0, table
            moved = f"UPDATE {table} SET branch = %s"  # noqa: S608
            if connection.execute(f"SELECT count(*) FROM {table}").fetchone() != (0,):  # noqa: S608
                refusal = psycopg.errors.RaiseException if table in BOOKS else psycopg.errors.InsufficientPrivilege
                with pytest.raises(refusal):
                    connection.execute(moved, (THEIRS,))
            connection.rollback()


def test_the_service_role_owns_nothing_and_bypasses_nothing(house: House) -> None:
    with psycopg.connect(house.place.admin_url) as connection:
        role = connection.execute(
            "SELECT rolsuper, rolbypassrls, rolcreaterole, rolcreatedb FROM pg_roles WHERE rolname = %s", (house.name,)
        ).fetchone()
        owned = connection.execute(
            "SELECT relname FROM pg_class WHERE relowner = %s::regrole"
            " UNION SELECT proname FROM pg_proc WHERE proowner = %s::regrole",
            (house.name, house.name),
        ).fetchall()
        member = connection.execute(
            "SELECT 1 FROM pg_auth_members WHERE member = %s::regrole", (house.name,)
        ).fetchall()
        open_tables = connection.execute(
            "SELECT c.relname FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid AND a.attname = 'branch'"
            " WHERE c.relkind IN ('r', 'p') AND NOT c.relispartition AND c.relname NOT LIKE 'stage%'"
            " AND NOT (c.relrowsecurity AND c.relforcerowsecurity)"
        ).fetchall()
        # What has no policy says nothing of anybody's customers.
        personal = connection.execute(
            "SELECT c.relname, a.attname FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0"
            " WHERE c.relkind IN ('r', 'p') AND NOT c.relispartition AND c.relname NOT LIKE 'stage%%'"
            " AND NOT c.relrowsecurity AND a.attname = ANY (%s)",
            (["customer_id", "billing_account", "billing_account_id", "engaged_party", "order_id"],),
        ).fetchall()
    common = {resource.table.name for resource in house.database.resources.values() if resource.common}
    assert (role, owned, member, personal) == ((False, False, False, False), [], [], [])
    assert {table for (table,) in open_tables} == common
    with _as_service(house, None) as connection, pytest.raises(psycopg.errors.InsufficientPrivilege):
        connection.execute("SELECT * FROM event_default")


@pytest.mark.parametrize("house", ["customers"], indirect=True)
def test_what_is_being_staged_is_seen_by_nobody_else(house: House) -> None:
    with _as_service(house, THEIRS) as loading, _as_service(house, OURS) as spying:
        with (
            loading.cursor() as cursor,
            cursor.copy("COPY stage_individual (id, branch, given_name) FROM STDIN") as copy,
        ):
            copy.write_row(("x", THEIRS, CANARY))
        assert loading.execute("SELECT count(*) FROM stage_individual").fetchone() == (1,)
        assert spying.execute("SELECT count(*) FROM stage_individual").fetchone() == (0,)
        # What is staged for another branch doesn't get past the policy of the table that it is meant for.
        spying.execute("INSERT INTO stage_individual (id, branch, revision) VALUES ('y', %s, 1)", (THEIRS,))
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            spying.execute(
                "INSERT INTO individual (id, branch, revision) SELECT id, branch, revision FROM stage_individual"
            )
        loading.rollback()


def test_a_pooled_session_forgets_whom_it_served(house: House, issuer: Issuer) -> None:
    database = Database(house.place.url, clock=Clock(), metadata=house.database.metadata, resources={}, connections=1)
    table = next(resource.table for resource in house.database.resources.values() if not resource.common)

    def seen(branch: str) -> set[str]:
        call = calls.Call.background("test", "look", branches=(branch,))
        with calls.using(call), database.unit() as unit:
            return set(unit.session.scalars(table.select().with_only_columns(table.c.branch)))

    assert [seen(THEIRS), seen(OURS), seen("naryn"), seen("*")] == [{THEIRS}, {OURS}, set(), {OURS, THEIRS}]
    with database.background.connect() as connection:
        setting = connection.exec_driver_sql("SELECT current_setting('svyaz.branches', true)").scalar_one()
        assert setting in (None, "")
        assert connection.execute(table.select()).all() == []
    database.close()


def test_lists_are_served_by_an_index_under_the_policy(house: House) -> None:
    for resource in house.database.resources.values():
        if resource.common:
            continue
        with _as_service(house, OURS) as connection:
            # A table this small would be read whole, and sorted: the question is whether an index could serve.
            for way in ("seqscan", "bitmapscan", "sort"):
                connection.execute(f"SET LOCAL enable_{way} = off")
            plan = connection.execute(
                f"EXPLAIN (VERBOSE) SELECT * FROM {resource.table.name}"  # noqa: S608
                f" WHERE branch IN ('{OURS}') ORDER BY id LIMIT 10"
            ).fetchall()
        text = "\n".join(line for (line,) in plan)
        assert f"{resource.table.name}_branch_id" in text or f"{resource.table.name}_pkey" in text, text
        assert "Seq Scan" not in text
        assert "svyaz.branches" in text
