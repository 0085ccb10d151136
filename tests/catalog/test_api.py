"""The catalog over gRPC, on PostgreSQL."""

import threading
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import sqlalchemy as sa
from google.protobuf.timestamp_pb2 import Timestamp

from catalog import schema
from chassis import calls, migrate
from chassis.auth import Principal
from chassis.db import Database
from chassis.errors import Aborted, DomainError, FailedPrecondition, InvalidArgument, NotFound, PermissionDenied
from svyaz.catalog.v1 import catalog_pb2 as pb
from svyaz.type.v1 import requests_pb2, values_pb2
from tests.catalog.conftest import Client

IN_STUDY, IN_DESIGN, IN_TEST = pb.LIFECYCLE_STATUS_IN_STUDY, pb.LIFECYCLE_STATUS_IN_DESIGN, pb.LIFECYCLE_STATUS_IN_TEST
ACTIVE, LAUNCHED, RETIRED = pb.LIFECYCLE_STATUS_ACTIVE, pb.LIFECYCLE_STATUS_LAUNCHED, pb.LIFECYCLE_STATUS_RETIRED


def som(units: int) -> values_pb2.Money:
    return values_pb2.Money(unit="KGS", units=units)


def a_monthly_price(units: int = 500, **more: object) -> pb.ProductOfferingPrice:
    return pb.ProductOfferingPrice(
        name="Monthly fee",
        price_type="recurring",
        recurring_charge_period_type="month",
        price=som(units),
        **{"lifecycle_status": ACTIVE, **more},  # type: ignore[arg-type]
    )


def an_offering(*prices: pb.ProductOfferingPrice, **more: object) -> pb.ProductOffering:
    return pb.ProductOffering(
        name="Fibre 100",
        product_offering_price=[pb.ProductOfferingPriceRefOrValue(id=price.id) for price in prices],
        **{"lifecycle_status": ACTIVE, **more},  # type: ignore[arg-type]
    )


def bundled(*things: pb.ProductOffering) -> list[pb.BundledProductOffering]:
    return [pb.BundledProductOffering(id=thing.id) for thing in things]


def refs(*things: pb.Category | pb.ProductOffering) -> list[values_pb2.EntityRef]:
    return [values_pb2.EntityRef(id=thing.id) for thing in things]


def refused(error: type[DomainError], reason: str, action: Callable[[], object]) -> DomainError:
    with pytest.raises(error) as raised:
        action()
    assert raised.value.reason == reason
    return raised.value


def test_the_migrations_make_what_the_tables_say(database_for: Callable[..., Any]) -> None:
    made = database_for("catalog")
    assert migrate.differences(made.owner_url, schema.metadata) == []


def test_what_is_created_comes_back_with_an_id_a_status_and_a_time(manager: Client) -> None:
    sent = pb.ProductSpecification(
        name="Fibre",
        version="1.1",
        brand="Svyaz",
        product_spec_characteristic=[
            pb.ProductSpecificationCharacteristic(
                name="speed",
                product_spec_characteristic_value=[pb.CharacteristicValueSpecification(value=b"437011234567890123")],
            )
        ],
        extensions=b'{"colour":"red"}',
    )
    made = manager.create(sent)
    assert len(made.id) == 36
    assert (made.branch, made.etag, made.lifecycle_status) == ("*", "1", IN_DESIGN)
    assert abs(made.last_update.ToDatetime(UTC) - datetime.now(UTC)) < timedelta(minutes=1)
    for field, value in sent.ListFields():
        assert getattr(made, field.name) == value
    assert manager.get(made) == made


def test_the_version_of_the_thing_is_not_the_count_of_its_changes(manager: Client) -> None:
    made = manager.create(pb.Category(name="Internet", version="1.0"))
    changed = manager.update(pb.Category(id=made.id, version="2.0"), "version", etag=made.etag)
    assert (changed.version, changed.etag) == ("2.0", "2")
    assert changed.last_update.ToDatetime() > made.last_update.ToDatetime()
    refused(Aborted, "STALE_ETAG", lambda: manager.update(pb.Category(id=made.id, name="TV"), "name", etag="1"))
    listed = manager.call(
        "ListCategories",
        requests_pb2.ListRequest(
            filter=[
                requests_pb2.Filter(path="version", operator=requests_pb2.Filter.OPERATOR_EQ, value=["2.0"]),
                requests_pb2.Filter(path="lifecycle_status", value=["In design"]),
            ]
        ),
    )
    assert [item.id for item in listed.items] == [made.id]


def test_what_has_none_of_several_texts_is_found_by_not_having_it(manager: Client) -> None:
    groups: dict[str, list[str]] = {"none": [], "a": ["a"], "b": ["b"], "both": ["a", "b"]}
    made = {name: manager.create(pb.ProductOffering(name=name, exclusion_group=of)) for name, of in groups.items()}

    def found(*conditions: tuple[Any, str]) -> set[str]:
        asked = [requests_pb2.Filter(path="exclusion_group", operator=how, value=[of]) for how, of in conditions]
        ours = requests_pb2.Filter(path="id", value=[one.id for one in made.values()])
        request = requests_pb2.ListRequest(filter=[ours, *asked])
        return {one.name for one in manager.call("ListProductOfferings", request).items}

    has, lacks = requests_pb2.Filter.OPERATOR_EQ, requests_pb2.Filter.OPERATOR_NE
    assert found((has, "a")) == {"a", "both"}
    assert found((lacks, "a")) == {"none", "b"}
    assert found((has, "b"), (lacks, "a")) == {"b"}
    assert found((lacks, "b"), (lacks, "a")) == {"none"}


def test_a_name_is_required(manager: Client) -> None:
    error = refused(InvalidArgument, "REQUIRED", lambda: manager.create(pb.Catalog()))
    assert error.violations[0].field == "catalog.name"
    made = manager.create(pb.Catalog(name="Home"))
    refused(InvalidArgument, "REQUIRED", lambda: manager.update(pb.Catalog(id=made.id), "name"))


def test_the_lifecycle_is_kept_to_and_told_as_events(manager: Client, reviewer: Client, database: Database) -> None:
    offering = manager.create(an_offering(lifecycle_status=IN_STUDY))
    error = refused(FailedPrecondition, "BAD_TRANSITION", lambda: manager.move(offering, LAUNCHED))
    assert error.metadata == {"from": "In study", "to": "Launched"}
    manager.move(offering, IN_DESIGN, IN_TEST)
    reviewer.approve(offering)
    manager.move(offering, ACTIVE, LAUNCHED, RETIRED)
    refused(FailedPrecondition, "BAD_TRANSITION", lambda: manager.move(offering, ACTIVE))
    event = schema.log.event
    with calls.using(calls.Call(Principal("test", frozenset(), ("*",)), "test")), database.unit() as unit:
        rows = unit.session.execute(
            sa.select(event.c.type, event.c.version, event.c.branch)
            .where(event.c.aggregate_id == offering.id)
            .order_by(event.c.version)
        ).all()
    assert [tuple(row) for row in rows] == [
        ("ProductOfferingCreateEvent", 1, "*"),
        *(("ProductOfferingStateChangeEvent", version, "*") for version in range(2, 7)),
    ]


def test_history_is_readable(manager: Client) -> None:
    made = manager.create(pb.Category(name="Internet"))
    at = Timestamp()
    at.FromDatetime(datetime.now(UTC))
    changed = manager.update(pb.Category(id=made.id, name="Fibre"), "name")
    past = manager.call("GetCategory", requests_pb2.GetRequest(id=made.id, at=at))
    assert (past.name, changed.name) == ("Internet", "Fibre")
    assert past == made


def test_the_same_request_makes_one_thing(manager: Client) -> None:
    first = manager.create(pb.Category(name="Internet"), request_id="once")
    assert manager.create(pb.Category(name="Internet"), request_id="once") == first
    refused(
        InvalidArgument, "IDEMPOTENCY_KEY_REUSED", lambda: manager.create(pb.Category(name="TV"), request_id="once")
    )


# --- references ------------------------------------------------------------------------------------------------------


def test_a_draft_may_refer_to_nothing_but_cannot_go_live(manager: Client, reviewer: Client) -> None:
    loose = an_offering(
        lifecycle_status=IN_DESIGN,
        product_specification=values_pb2.ProductSpecificationRef(id="9881", name="Robotics999"),
    )
    offering = manager.create(loose)
    assert offering.product_specification == loose.product_specification
    manager.move(offering, IN_TEST)
    error = refused(FailedPrecondition, "UNRESOLVED_REFERENCE", lambda: manager.move(offering, ACTIVE))
    assert [v.field for v in error.violations] == ["product_specification"]
    loose.lifecycle_status = ACTIVE
    refused(FailedPrecondition, "UNRESOLVED_REFERENCE", lambda: manager.create(loose))

    spec = manager.create(pb.ProductSpecification(name="Robotics999"))
    manager.update(
        pb.ProductOffering(id=offering.id, product_specification=values_pb2.ProductSpecificationRef(id=spec.id)),
        "product_specification",
    )
    manager.move(offering, ACTIVE)
    error = refused(FailedPrecondition, "UNRESOLVED_REFERENCE", lambda: manager.move(offering, LAUNCHED))
    assert error.violations[0].description == f"ProductSpecification {spec.id} is In design"
    manager.move(spec, IN_TEST, ACTIVE)
    reviewer.approve(offering)
    assert manager.move(offering, LAUNCHED).lifecycle_status == LAUNCHED


def test_what_is_live_cannot_be_given_a_loose_end(manager: Client) -> None:
    offering = manager.create(an_offering())
    loose = pb.ProductOffering(id=offering.id, product_offering_price=[pb.ProductOfferingPriceRefOrValue(id="gone")])
    refused(FailedPrecondition, "UNRESOLVED_REFERENCE", lambda: manager.update(loose, "product_offering_price"))
    assert not manager.get(offering).product_offering_price


def test_what_is_referred_to_cannot_be_deleted(manager: Client) -> None:
    category = manager.create(pb.Category(name="Internet"))
    catalog = manager.create(pb.Catalog(name="Home", category=refs(category)))
    spec = manager.create(pb.ProductSpecification(name="Fibre", lifecycle_status=ACTIVE))
    price = manager.create(a_monthly_price(lifecycle_status=IN_DESIGN))
    offering = manager.create(
        an_offering(
            price, lifecycle_status=IN_DESIGN, product_specification=values_pb2.ProductSpecificationRef(id=spec.id)
        )
    )
    bundle = manager.create(an_offering(lifecycle_status=IN_DESIGN, bundled_product_offering=bundled(offering)))
    shelf = manager.create(pb.Category(name="Offers", product_offering=refs(offering), parent_id=category.id))
    for thing, names in [
        (category, [f"Catalog {catalog.id}", f"Category {shelf.id}"]),
        (spec, [f"ProductOffering {offering.id}"]),
        (price, [f"ProductOffering {offering.id}"]),
        (offering, [f"Category {shelf.id}", f"ProductOffering {bundle.id}"]),
    ]:
        error = refused(FailedPrecondition, "REFERENCED", lambda thing=thing: manager.delete(thing))  # type: ignore[misc]
        assert error.metadata["referrers"] == ", ".join(names)
    for thing in (catalog, shelf, category, bundle, offering, price, spec):
        manager.delete(thing)
        refused(NotFound, "NOT_FOUND", lambda thing=thing: manager.get(thing))  # type: ignore[misc]


def test_a_reference_that_was_taken_away_holds_nothing(manager: Client) -> None:
    category = manager.create(pb.Category(name="Internet"))
    catalog = manager.create(pb.Catalog(name="Home", category=refs(category)))
    manager.update(pb.Catalog(id=catalog.id), "category")
    manager.delete(category)


def test_what_was_for_sale_is_retired_instead_of_deleted(manager: Client) -> None:
    offering = manager.create(an_offering())
    for status in (ACTIVE, RETIRED):
        manager.move(offering, status)
        refused(FailedPrecondition, "WAS_RELEASED", lambda: manager.delete(offering))


def test_a_price_does_not_retire_from_a_live_offering(manager: Client) -> None:
    price = manager.create(a_monthly_price())
    offering = manager.create(an_offering(price))
    error = refused(FailedPrecondition, "REFERENCED", lambda: manager.move(price, RETIRED))
    assert error.metadata == {"referrers": f"ProductOffering {offering.id}"}
    manager.move(offering, RETIRED)
    manager.move(price, RETIRED)


def test_nothing_contains_itself(manager: Client) -> None:
    outer, middle, inner = (manager.create(an_offering()) for _ in range(3))
    for parent, child in ((outer, middle), (middle, inner)):
        parts = pb.ProductOffering(id=parent.id, bundled_product_offering=bundled(child))
        manager.update(parts, "bundled_product_offering")
    for child in (outer, inner):
        loop = pb.ProductOffering(id=inner.id, bundled_product_offering=bundled(child))
        refused(FailedPrecondition, "CYCLE", lambda loop=loop: manager.update(loop, "bundled_product_offering"))  # type: ignore[misc]

    root = manager.create(pb.Category(name="root"))
    child = manager.create(pb.Category(name="child", parent_id=root.id))
    refused(
        FailedPrecondition,
        "CYCLE",
        lambda: manager.update(pb.Category(id=child.id, sub_category=refs(root)), "sub_category"),
    )
    both = pb.Category(name="both", parent_id=child.id, sub_category=refs(root))
    refused(FailedPrecondition, "CYCLE", lambda: manager.create(both))


def test_a_part_cannot_be_deleted_while_its_whole_is_launched(manager: Client) -> None:
    """Both look at the catalog before they write; whoever comes second must see what the first did."""
    for _ in range(10):
        spec = manager.create(pb.ProductSpecification(name="Fibre", lifecycle_status=ACTIVE))
        offering = manager.create(an_offering(lifecycle_status=IN_TEST))
        linked = pb.ProductOffering(
            id=offering.id,
            lifecycle_status=ACTIVE,
            product_specification=values_pb2.ProductSpecificationRef(id=spec.id),
        )
        outcomes: dict[str, str] = {}

        def attempt(name: str, action: Callable[[], object], outcomes: dict[str, str] = outcomes) -> None:
            try:
                action()
                outcomes[name] = "done"
            except DomainError as error:
                outcomes[name] = error.reason

        threads = [
            threading.Thread(target=attempt, args=("delete", lambda spec=spec: manager.delete(spec))),
            threading.Thread(
                target=attempt,
                args=(
                    "launch",
                    lambda linked=linked: manager.update(linked, "product_specification", "lifecycle_status"),
                ),
            ),
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert sorted(outcomes.values()) in (["REFERENCED", "done"], ["UNRESOLVED_REFERENCE", "done"])


# --- who may ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("role", ["agent", "billing", "service"])
def test_only_managers_change_the_catalog(
    client_for: Callable[[Sequence[str]], Client], manager: Client, role: str
) -> None:
    made = manager.create(pb.Category(name="Internet"))
    reader = client_for([role])
    assert reader.get(made) == made
    refused(PermissionDenied, "ROLE_REQUIRED", lambda: reader.create(pb.Category(name="TV")))
