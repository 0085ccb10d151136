"""Lists: every operator on every kind of value, nested values, extensions, order and pages."""

from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any

import pytest
from sqlalchemy.dialects import postgresql

from chassis import convert, queries
from chassis.db import Database
from chassis.errors import InvalidArgument
from customers.party.domain import Individual
from svyaz.customers.v1 import party_pb2
from svyaz.type.v1 import requests_pb2, values_pb2
from tests.customers.conftest import PARTY
from tests.serving import Caller

F = requests_pb2.Filter
EQ, NE, GT, GTE = F.OPERATOR_EQ, F.OPERATOR_NE, F.OPERATOR_GT, F.OPERATOR_GTE
LT, LTE, REGEX = F.OPERATOR_LT, F.OPERATOR_LTE, F.OPERATOR_REGEX


def characteristic(name: str, value: bytes) -> values_pb2.Characteristic:
    return values_pb2.Characteristic(name=name, value=value)


def rating(agency: str, score: int) -> party_pb2.PartyCreditProfile:
    return party_pb2.PartyCreditProfile(credit_agency_name=agency, rating_score=score)


def born(year: int) -> Any:
    return convert.to_timestamp(datetime(year, 6, 1, tzinfo=UTC))


PERSONS: dict[str, dict[str, Any]] = {
    "Aida": {
        "gender": "female",
        "birth_date": born(1980),
        "party_characteristic": [characteristic("tier", b'"gold"'), characteristic("score", b"12")],
        "credit_rating": [rating("A", 10), rating("B", 90)],
        "status": party_pb2.INDIVIDUAL_STATE_VALIDATED,
        "extensions": b'{"shoe":{"size":38},"vip":true}',
    },
    "Bakyt": {
        "gender": "male",
        "birth_date": born(1990),
        "party_characteristic": [characteristic("tier", b'"silver"'), characteristic("score", b"9")],
        "credit_rating": [rating("A", 90), rating("B", 10)],
        "contact_medium": [
            values_pb2.ContactMedium(medium_type="email", preferred=True, extensions=b'{"seen":{"times":3}}'),
            values_pb2.ContactMedium(medium_type="post", preferred=True),
        ],
        "extensions": b'{"shoe":{"size":44}}',
    },
    "Cholpon": {
        "birth_date": born(2000),
        "contact_medium": [
            values_pb2.ContactMedium(
                medium_type="phone",
                preferred=False,
                extensions=b'{"seen":{"times":1.50}}',
                characteristic=values_pb2.MediumCharacteristic(extensions=b'{"floor":"two"}'),
            )
        ],
        "status": party_pb2.INDIVIDUAL_STATE_DECEASED,
    },
    "Daniyar": {"gender": "male"},
}


@pytest.fixture(scope="module")
def reader(caller_of: Callable[..., Caller]) -> Caller:
    """An agent of a branch in which nobody lives but these."""
    agent = caller_of("naryn")
    for name, values in PERSONS.items():
        agent(
            f"{PARTY}CreateIndividual",
            individual=party_pb2.Individual(**{"given_name": name, "family_name": "U", **values}),
        )
    return agent


def listed(reader: Caller, filters: Sequence[requests_pb2.Filter] = (), **more: Any) -> Any:
    return reader(f"{PARTY}ListIndividuals", filter=filters, **more)


def names(response: Any) -> str:
    return "".join(item.given_name[0] for item in response.items)


@pytest.mark.parametrize(
    ("path", "operator", "values", "found"),
    [
        ("given_name", EQ, ["Aida"], "A"),
        ("given_name", EQ, ["Aida", "Daniyar", "Nobody"], "AD"),
        ("given_name", NE, ["Aida", "Bakyt"], "CD"),
        ("gender", EQ, ["male"], "BD"),
        ("gender", NE, ["male"], "AC"),
        ("given_name", GT, ["Bakyt"], "CD"),
        ("given_name", LTE, ["Bakyt"], "AB"),
        ("given_name", REGEX, ["^[AB]"], "AB"),
        ("given_name", REGEX, ["iya", "olp"], "CD"),
        ("birth_date", EQ, ["1990-06-01T06:00:00+06:00"], "B"),
        ("birth_date", GT, ["1990-06-01T00:00:00Z"], "C"),
        ("birth_date", GTE, ["1990-06-01"], "BC"),
        ("birth_date", LT, ["1990-06-01T00:00:00Z"], "A"),
        ("birth_date", LTE, ["1990-06-01T00:00:00Z"], "AB"),
        ("status", EQ, ["validated"], "A"),
        ("status", EQ, ["deceaded", "initialized"], "BCD"),
        ("status", EQ, ["no such state"], ""),
        ("party_characteristic.value", EQ, ["gold"], "A"),
        ("party_characteristic.value", EQ, ["12"], "A"),
        ("party_characteristic.name", REGEX, ["^sc"], "AB"),
        ("credit_rating.rating_score", GT, ["89"], "AB"),
        ("credit_rating.rating_score", GTE, ["90.0"], "AB"),
        ("credit_rating.rating_score", LT, ["10"], ""),
        ("credit_rating.rating_score", NE, ["90"], "AB"),
        ("contact_medium.preferred", EQ, ["true"], "B"),
        ("contact_medium.preferred", EQ, ["false"], "C"),
        ("contact_medium.seen.times", EQ, ["1.5"], "C"),
        ("contact_medium.seen.times", GT, ["1"], "BC"),
        ("contact_medium.seen.times", NE, ["1.5"], "B"),
        ("contact_medium.characteristic.floor", REGEX, ["^t"], "C"),
        ("contact_medium.characteristic.floor", NE, ["one"], "BC"),
        ("credit_rating.nothing", EQ, ["1"], ""),
        ("shoe.size", GT, ["40"], "B"),
        ("shoe.size", EQ, ["38", "44"], "AB"),
        ("vip", EQ, ["true"], "A"),
        ("extensions.vip", EQ, ["true"], "A"),
        ("nothing.of.the.kind", EQ, ["1"], ""),
        ("nothing.of.the.kind", EQ, ["1e1000"], ""),
    ],
)
def test_a_filter_finds(reader: Caller, path: str, operator: Any, values: list[str], found: str) -> None:
    response = listed(reader, [F(path=path, operator=operator, value=values)], sort=["given_name"])
    assert names(response) == found
    assert response.page.total_size == len(found)


def test_all_filters_must_hold_and_on_one_element(reader: Caller) -> None:
    male = F(path="gender", operator=EQ, value=["male"])
    assert names(listed(reader, [male, F(path="birth_date", operator=GT, value=["1970-01-01"])])) == "B"
    agency = F(path="credit_rating.credit_agency_name", operator=EQ, value=["A"])
    # Both have an agency A and a score of 90, but only Bakyt has it from A.
    assert names(listed(reader, [agency, F(path="credit_rating.rating_score", operator=GTE, value=["90"])])) == "B"
    seen = F(path="contact_medium.seen.times", operator=GTE, value=["3"])
    assert names(listed(reader, [seen, F(path="contact_medium.medium_type", operator=EQ, value=["email"])])) == "B"
    assert names(listed(reader, [seen, F(path="contact_medium.medium_type", operator=EQ, value=["post"])])) == ""


@pytest.mark.parametrize(
    ("sort", "found"),
    [
        (["given_name"], "ABCD"),
        (["-given_name"], "DCBA"),
        (["birth_date"], "ABCD"),
        (["-birth_date"], "CBAD"),
        (["gender", "-given_name"], "ADBC"),
        (["-contact_medium.medium_type", "given_name"], "ABCD"),
    ],
)
def test_a_list_is_sorted_with_what_is_absent_at_its_end(reader: Caller, sort: list[str], found: str) -> None:
    response = listed(reader, sort=sort)
    if "." in sort[0]:
        # The first element of a repeated field decides.
        assert set(names(response)[-2:]) <= set(found)
    else:
        assert names(response) == found


def test_pages_cut_one_order(reader: Caller) -> None:
    pages = [listed(reader, sort=["given_name"], offset=offset, limit=2) for offset in (0, 2, 4)]
    assert [names(page) for page in pages] == ["AB", "CD", ""]
    assert {(page.page.total_size, page.page.estimated) for page in pages} == {(4, False)}
    assert names(listed(reader, limit=0)) == ""
    assert listed(reader, limit=0).page.total_size == 4


@pytest.mark.parametrize(
    ("path", "operator", "values"),
    [
        ("birth_date", EQ, ["yesterday"]),
        ("birth_date.year", EQ, ["1990"]),
        ("credit_rating.rating_score", GT, ["many"]),
        ("credit_rating.rating_score", GT, ["NaN"]),
        ("credit_rating.rating_score", GT, ["1e65"]),
        ("credit_rating.rating_score", GT, ["0e-1000"]),
        ("credit_rating.rating_score", GT, ["1" * 65]),
        ("credit_rating", EQ, ["1"]),
        ("contact_medium.preferred", EQ, ["maybe"]),
        ("contact_medium.preferred.x", EQ, ["true"]),
        ("given_name", REGEX, ["("]),
        ("party_characteristic.name", REGEX, ["["]),
        ("given_name", REGEX, ["(?P<a>b)"]),
        ("party_characteristic.name", REGEX, ["(?P<a>b)"]),
        ("given_name", EQ, ["\0"]),
        ("given_name", REGEX, ["\0"]),
        ("party_characteristic.name", EQ, ["\0"]),
        ("party_characteristic.name", REGEX, ["\0"]),
        ("nothing", EQ, ["\0"]),
        ("x\0y", EQ, ["1"]),
        ("birth_date", GT, ["0001-01-01T00:00:00+14:00"]),
        ("contact_medium.valid_for.start_date_time", GT, ["0001-01-01T00:00:00+14:00"]),
        ("given_name", EQ, []),
        ("given_name.x", EQ, ["1"]),
        ("etag", EQ, ["1"]),
    ],
)
def test_a_malformed_filter_is_named_by_its_path(reader: Caller, path: str, operator: Any, values: list[str]) -> None:
    with pytest.raises(InvalidArgument) as refusal:
        listed(reader, [F(path=path, operator=operator, value=values)])
    assert refusal.value.reason == "INVALID_FILTER"
    assert [violation.field for violation in refusal.value.violations] == [path]


def test_the_filter_that_the_database_refuses_is_told_from_the_others(reader: Caller) -> None:
    male = F(path="gender", operator=EQ, value=["male"])
    with pytest.raises(InvalidArgument) as refusal:
        listed(reader, [male, F(path="given_name", operator=REGEX, value=["(?P<a>b)"])])
    assert [violation.field for violation in refusal.value.violations] == ["given_name"]


@pytest.mark.parametrize("sort", ["nonsense", "-birth_date.year", "extensions", "credit_rating.nonsense"])
def test_a_malformed_sort_is_refused(reader: Caller, sort: str) -> None:
    with pytest.raises(InvalidArgument):
        listed(reader, sort=[sort])


@pytest.mark.parametrize(("offset", "limit", "field"), [(-1, 1, "offset"), (0, -1, "limit"), (0, 10_001, "limit")])
def test_a_page_out_of_range_is_refused(reader: Caller, offset: int, limit: int, field: str) -> None:
    with pytest.raises(InvalidArgument) as refusal:
        listed(reader, offset=offset, limit=limit)
    assert [violation.field for violation in refusal.value.violations] == [field]


@pytest.mark.parametrize("value", ["'; DROP TABLE individual; --", '" || true', "\\", "$v0", "{}", "\x01"])
@pytest.mark.parametrize("path", ["given_name", "party_characteristic.value", 'x"y', "shoe.size"])
def test_values_are_values_and_nothing_else(reader: Caller, path: str, value: str) -> None:
    assert names(listed(reader, [F(path=path, operator=EQ, value=[value])])) == ""


def test_a_number_with_a_huge_exponent_stays_as_short_as_it_was_asked(database: Database) -> None:
    table = database.resources[Individual].table
    for text in ("1e1000", "-1E-1000", "0e1000"):
        (condition,) = queries.conditions(table, party_pb2.Individual, [F(path="x", operator=EQ, value=[text])])
        values = condition.compile(dialect=postgresql.dialect()).params.values()  # type: ignore[no-untyped-call]
        assert all(len(str(value)) < 100 for value in values)
