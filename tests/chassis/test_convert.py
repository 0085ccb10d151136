"""Dataclass ↔ message: nothing is lost, for every kind of aggregate that the services register."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from google.protobuf.timestamp_pb2 import Timestamp
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy.dialects import postgresql
from sqlalchemy.types import TypeDecorator

from chassis import calls, convert
from chassis.auth import Principal
from chassis.bulk import Bulk
from chassis.clock import Clock
from chassis.db import Database
from chassis.errors import InvalidArgument
from chassis.types import EPOCH, Characteristic, Money, Quantity, decimal_of
from customers import store as customers_store
from customers.account.domain import BillingAccount
from customers.importing.store import STAGED
from customers.party.domain import Customer, Individual
from svyaz.customers.v1 import account_pb2, customers_pb2, party_pb2
from svyaz.type.v1 import values_pb2
from tests.objects import AGGREGATES, SEED, Maker, attributes, given_by_us

MOST = 2**63 - 1
INSTANT = st.integers(-(10**15), 4 * 10**15).map(lambda micros: EPOCH + timedelta(microseconds=micros))
AMOUNT = st.integers(-MOST * 10**9, MOST * 10**9).map(lambda nanos: Decimal(nanos).scaleb(-9))


@pytest.mark.parametrize("cls", AGGREGATES, ids=lambda cls: cls.__name__)
@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=SEED)
def test_what_becomes_a_message_comes_back(cls: Any, seed: int) -> None:
    message_class = AGGREGATES[cls].message
    before = Maker(seed).make(cls, message_class.DESCRIPTOR, 3)
    message = convert.to_message(before, message_class)
    # Through the wire, as a caller's request and as an event.
    again = message_class.FromString(message.SerializeToString())
    # Those that a caller may not set aren't taken from a message.
    given = {name: getattr(before, name) for name in given_by_us(cls, message_class.DESCRIPTOR)}
    after = convert.from_message(again, cls, **given)
    assert attributes(after) == attributes(before)
    assert convert.to_message(after, message_class) == message
    if "etag" in message.DESCRIPTOR.fields_by_name:
        assert message.etag == str(before.revision)  # type: ignore[attr-defined]


@pytest.fixture(scope="module")
def bulk() -> Iterator[Bulk]:
    """Nothing is asked of the database while rows are made."""
    database = Database(
        "postgresql://nobody@127.0.0.1:1/none",
        clock=Clock(),
        metadata=customers_store.metadata,
        resources=customers_store.RESOURCES,
    )
    yield Bulk(database, STAGED)
    database.close()


@pytest.mark.parametrize("cls", STAGED, ids=lambda cls: cls.__name__)
@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=SEED)
def test_a_bulk_load_makes_the_same_of_a_message(bulk: Bulk, cls: Any, seed: int) -> None:
    message_class = customers_store.RESOURCES[cls].message
    message = convert.to_message(Maker(seed).make(cls, message_class.DESCRIPTOR, 3), message_class)
    ordinary = convert.from_message(message, cls, id="i", branch="bishkek")
    made = bulk.make(message, cls, id="i", branch="bishkek")
    assert attributes(made) == attributes(ordinary)


@pytest.mark.parametrize("cls", STAGED, ids=lambda cls: cls.__name__)
@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=SEED)
def test_a_bulk_load_writes_the_row_and_the_message_of_the_ordinary_way(bulk: Bulk, cls: Any, seed: int) -> None:
    resource = customers_store.RESOURCES[cls]
    aggregate = Maker(seed).make(cls, resource.message.DESCRIPTOR, 3)
    with calls.using(calls.Call(Principal("me", frozenset(), ("bishkek",)), "T/x", None)):
        (prepared,) = bulk.preparing(EPOCH)([aggregate])
    assert aggregate.revision == 1
    data = next(value for value in prepared.event if isinstance(value, bytes))
    assert resource.message.FromString(data) == convert.to_message(aggregate, resource.message)
    for column, value in zip(convert.attribute_types(cls), prepared.row, strict=True):
        kind, given = resource.table.c[column].type, getattr(aggregate, column)
        if isinstance(kind, TypeDecorator):
            given = kind.process_bind_param(given, postgresql.dialect())  # type: ignore[no-untyped-call]
        assert value == given


@given(AMOUNT)
def test_an_amount_keeps_its_value(amount: Decimal) -> None:
    assert convert.from_money(convert.to_money(Money(unit="KGS", value=amount))).value == amount


@pytest.mark.parametrize("amount", ["0.0000000001", "9223372036854775808", "-9223372036854775808"])
def test_an_amount_that_does_not_fit_is_refused(amount: str) -> None:
    with pytest.raises(InvalidArgument) as refusal:
        convert.to_money(Money(unit="KGS", value=Decimal(amount)))
    assert refusal.value.reason == "AMOUNT_OUT_OF_RANGE"


@pytest.mark.parametrize(("units", "nanos"), [(1, -1), (-1, 1), (0, 1_000_000_000)])
def test_an_amount_of_two_signs_is_refused(units: int, nanos: int) -> None:
    with pytest.raises(InvalidArgument):
        convert.from_money(values_pb2.Money(unit="KGS", units=units, nanos=nanos))


@given(INSTANT)
def test_an_instant_keeps_its_microsecond(instant: datetime) -> None:
    assert convert.from_timestamp(convert.to_timestamp(instant)) == instant


@pytest.mark.parametrize("seconds", [-(10**12), 10**12, 2**63 - 1])
def test_an_instant_that_no_calendar_has_is_refused(seconds: int) -> None:
    with pytest.raises(InvalidArgument) as refusal:
        convert.from_timestamp(Timestamp(seconds=seconds))
    assert refusal.value.reason == "INVALID_VALUE"


def test_a_value_that_is_wrong_is_named_by_its_path() -> None:
    wrong = values_pb2.Money(units=1, nanos=-1)
    account = account_pb2.BillingAccount(
        account_balance=[account_pb2.AccountBalance(), account_pb2.AccountBalance(amount=wrong)]
    )
    with pytest.raises(InvalidArgument) as refusal:
        convert.from_message(account, BillingAccount, id="i", branch="b")
    assert [v.field for v in refusal.value.violations] == ["account_balance[1].amount"]


# --- partial updates -------------------------------------------------------------------------------------------------


def test_a_nested_path_changes_that_part_only() -> None:
    start, end = datetime(2026, 1, 1, tzinfo=UTC), datetime(2027, 1, 1, tzinfo=UTC)
    body = customers_pb2.Customer(valid_for=values_pb2.TimePeriod(start_date_time=convert.to_timestamp(start)))
    current = convert.from_message(body, Customer, id="i", branch="b")
    patch = customers_pb2.Customer(valid_for=values_pb2.TimePeriod(end_date_time=convert.to_timestamp(end)))
    changed = convert.changes(patch, ["valid_for.end_date_time"], current)["valid_for"]
    assert (changed.start_date_time, changed.end_date_time) == (start, end)
    assert convert.changes(customers_pb2.Customer(), ["valid_for"], current) == {"valid_for": None}


def test_extensions_are_merged_digit_by_digit() -> None:
    current = convert.from_message(
        party_pb2.Individual(extensions=b'{"a":{"b":1.10,"c":2},"d":437011234567890123.0}'),
        Individual,
        id="i",
        branch="b",
    )
    patch = party_pb2.Individual(extensions=b'{"a":{"c":null},"e":[1.0]}')
    assert convert.changes(patch, ["extensions"], current) == {
        "extensions": '{"a":{"b":1.10},"d":437011234567890123.0,"e":[1.0]}'
    }
    gone = party_pb2.Individual(extensions=b'{"a":null,"d":null}')
    assert convert.changes(gone, ["extensions"], current) == {"extensions": None}


# --- decimals --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    [
        "1e999999",
        "1E-400",
        "1e64",
        "1e-63",
        "9" * 65,
        "0." + "1" * 63,
        "." + "1" * 63,
        "NaN",
        "Infinity",
        "1_000",
        "٣",
        " 1",
        "",
        ".",
    ],
)
def test_a_decimal_that_nobody_can_write_down_is_refused_by_its_path(text: str) -> None:
    with pytest.raises(InvalidArgument) as refusal:
        convert.from_message(values_pb2.Quantity(amount=text), Quantity)
    assert refusal.value.reason == "MALFORMED_DECIMAL"
    assert [v.field for v in refusal.value.violations] == ["amount"]
    with pytest.raises(ValueError, match=r"64 digits"):
        decimal_of(text)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e3", "1000"),
        ("-0.5", "-0.5"),
        (".5", "0.5"),
        ("+7.", "7"),
        ("-1e-62", "-1e-62"),
        ("9" * 64, "9" * 64),
        ("1e63", "1e63"),
    ],
)
def test_a_decimal_comes_as_it_is(text: str, value: str) -> None:
    assert decimal_of(text) == Decimal(value)


@pytest.mark.parametrize("text", ["1e63", "-1e63", "1e-62", "." + "1" * 62, "9" * 64, "0." + "0" * 61 + "1", "0e-62"])
def test_a_decimal_that_is_taken_can_be_written_down_and_read_again_with_either_sign(text: str) -> None:
    value = decimal_of(text)
    for written in (format(value, "f"), format(value.copy_negate(), "f")):
        assert format(decimal_of(written), "f") == written


def test_a_text_that_is_none_is_refused_by_its_path() -> None:
    with pytest.raises(InvalidArgument) as refusal:
        convert.from_message(values_pb2.Characteristic(name="n", value=b"\xff"), Characteristic)
    assert (refusal.value.reason, refusal.value.violations[0].field) == ("MALFORMED_TEXT", "value")
