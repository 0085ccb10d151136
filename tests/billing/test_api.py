"""BillingService from outside: over gRPC, with tokens."""

import hashlib
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import grpc
import pytest

from chassis.clients import domain_error
from chassis.db import Database
from orders.billing.outbox import BillingOutbox
from orders.billing.sealer import Sealer
from svyaz.orders.v1 import billing_pb2, billing_pb2_grpc
from tests.billing.books import write
from tests.billing.charges import AT, charge
from tests.billing.conftest import Books

Call = Callable[..., Any]


@pytest.fixture
def call(books: Books) -> Iterator[Call]:
    """`call("GetBillingCertificate", account="a", role="sre", branch_of_token="osh")`."""
    with grpc.insecure_channel(books.address) as channel:
        stub = billing_pb2_grpc.BillingServiceStub(channel)

        def make(method: str, role: str = "billing", sees: str = "*", **fields: Any) -> Any:
            descriptor = billing_pb2.DESCRIPTOR.services_by_name["BillingService"].methods_by_name[method]
            request = getattr(billing_pb2, descriptor.input_type.name)(**fields)
            metadata = (("authorization", f"Bearer {books.token(role, sees)}"),)
            try:
                return getattr(stub, method)(request, metadata=metadata, timeout=10)
            except grpc.RpcError as error:
                raise domain_error(error) from None

        yield make


def refusal(call: Call, *arguments: Any, **options: Any) -> tuple[str, str]:
    """Status and reason of a call that is refused."""
    with pytest.raises(Exception) as refused:  # noqa: PT011 (its status and reason are asserted)
        call(*arguments, **options)
    return refused.value.status, refused.value.reason  # type: ignore[attr-defined]


def test_a_chain_is_listed_from_any_place_with_the_bytes_that_were_hashed(call: Call, database: Database) -> None:
    write(database, [charge("a", number) for number in range(5)])
    Sealer(database).seal_batch()
    events = call("ListBillingEvents", account="a", epoch=1, **{"from": 2}, limit=3).event
    assert [event.sequence for event in events] == [2, 3, 4]
    for event in events:
        assert event.hash == hashlib.sha256(event.previous_hash.encode() + event.data).hexdigest()
    assert events[1].previous_hash == events[0].hash
    assert events[0].source == "svyaz/orders"
    assert list(call("ListBillingEvents", account="a", epoch=2).event) == []
    assert list(call("ListBillingEvents", account="nobody", epoch=1).event) == []


def test_a_listing_that_names_no_chain_is_refused(call: Call) -> None:
    assert refusal(call, "ListBillingEvents", epoch=-1, **{"from": -1}, limit=-1) == (
        "INVALID_ARGUMENT",
        "CHAIN_INVALID",
    )


def test_a_certificate_says_how_far_a_chain_is_and_what_is_on_its_way(call: Call, database: Database) -> None:
    write(database, [charge("a", number) for number in range(3)])
    Sealer(database).seal_batch()
    outbox = BillingOutbox(database)
    outbox.exchange([outbox.exchange([], 10, 0, set(), set())[0].id], 0, 0, set(), set())
    write(database, [charge("a", 3)])
    answer = call("GetBillingCertificate", account="a")
    last = call("ListBillingEvents", account="a", epoch=1, **{"from": 3}).event[0]
    assert (answer.source, answer.day) == ("svyaz/orders", "")
    assert [_values(row) for row in answer.row] == [("a", 1, 3, 1, 3, last.hash, 1, 2)]


def test_a_certificate_has_a_row_for_each_epoch(call: Call, database: Database) -> None:
    write(database, [charge("a")])
    Sealer(database).seal_batch()
    opened = call("OpenBillingEpoch", role="admin", request_id="r1", reason="restored from Monday's backup")
    assert (opened.epoch, opened.reason) == (2, "restored from Monday's backup")
    # The same request again opens none.
    assert call("OpenBillingEpoch", role="admin", request_id="r1", reason="restored from Monday's backup") == opened
    write(database, [charge("a")])
    rows = call("GetBillingCertificate", account="a").row
    assert [(row.epoch, row.count, row.unsealed) for row in rows] == [(1, 1, 0), (2, 0, 1)]
    Sealer(database).seal_batch()
    rows = call("GetBillingCertificate", account="a").row
    assert [(row.epoch, row.count, row.last_sequence, row.unsealed) for row in rows] == [(1, 1, 1, 0), (2, 1, 1, 0)]


def test_the_certificate_of_a_day_has_a_row_for_each_account_with_charges_born_on_it(
    call: Call, database: Database
) -> None:
    # In Bishkek (UTC+6) the first of March lasts from 18:00 to 18:00 UTC.
    begins = datetime(2026, 2, 28, 18, tzinfo=UTC)
    moment = timedelta(microseconds=1)
    write(
        database, [charge("a", at=begins - moment), charge("a", at=begins), charge("b", at=begins + timedelta(days=1))]
    )
    write(database, [charge("a", at=begins + timedelta(days=1) - moment), charge("c", at=AT)])
    write(database, [charge("o", branch="osh", at=AT)])
    Sealer(database).seal_batch()
    write(database, [charge("d", at=AT)])
    answer = call("GetBillingCertificate", branch="bishkek", day="2026-03-01")
    assert (answer.day, answer.branch, answer.time_zone) == ("2026-03-01", "bishkek", "Asia/Bishkek")
    rows = {row.account: row for row in answer.row}
    assert sorted(rows) == ["a", "c", "d"]
    assert (rows["a"].count, rows["a"].first_sequence, rows["a"].last_sequence, rows["a"].unsent) == (2, 2, 3, 2)
    assert rows["a"].last_hash == call("ListBillingEvents", account="a", epoch=1, **{"from": 3}).event[0].hash
    assert (rows["d"].count, rows["d"].unsealed, rows["d"].last_hash) == (0, 1, "")
    only = call("GetBillingCertificate", branch="bishkek", day="2026-03-01", account="c").row
    assert [row.account for row in only] == ["c"]


def test_the_certificate_of_a_day_comes_in_pages(call: Call, database: Database) -> None:
    write(database, [charge(account) for account in "abcde"])
    Sealer(database).seal_batch()
    call("OpenBillingEpoch", role="admin", request_id="r1", reason="restored")
    write(database, [charge("b")])
    pages: list[list[tuple[str, int]]] = []
    after = ""
    while not pages or after:
        page = call("GetBillingCertificate", branch="bishkek", day="2026-03-01", limit=2, after=after)
        pages.append([(row.account, row.epoch) for row in page.row])
        after = page.next
    assert pages == [[("a", 1), ("b", 1)], [("b", 2), ("c", 1)], [("d", 1), ("e", 1)]]


@pytest.mark.parametrize(
    ("fields", "reason"), [({"limit": -1}, "LIMIT_INVALID"), ({"after": "nowhere"}, "PAGE_INVALID")]
)
def test_a_page_that_there_cannot_be_is_refused(call: Call, fields: dict[str, Any], reason: str) -> None:
    refused = refusal(call, "GetBillingCertificate", branch="bishkek", day="2026-03-01", **fields)
    assert refused == ("INVALID_ARGUMENT", reason)


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({}, "ACCOUNT_REQUIRED"),
        ({"day": "2026-03-01"}, "BRANCH_REQUIRED"),
        ({"day": "2026-02-30", "branch": "bishkek"}, "DAY_INVALID"),
    ],
)
def test_a_certificate_of_nothing_is_refused(call: Call, fields: dict[str, str], reason: str) -> None:
    assert refusal(call, "GetBillingCertificate", **fields) == ("INVALID_ARGUMENT", reason)


def test_another_branch_is_closed(call: Call, database: Database) -> None:
    write(database, [charge("a", branch="bishkek")])
    Sealer(database).seal_batch()
    assert list(call("ListBillingEvents", sees="osh", account="a", epoch=1).event) == []
    assert list(call("GetBillingCertificate", sees="osh", account="a").row) == []
    refused = refusal(call, "GetBillingCertificate", sees="osh", branch="bishkek", day="2026-03-01")
    assert refused == ("PERMISSION_DENIED", "BRANCH_FORBIDDEN")


@pytest.mark.parametrize("role", ["agent", "catalog-manager"])
@pytest.mark.parametrize("method", ["ListBillingEvents", "GetBillingCertificate", "OpenBillingEpoch"])
def test_only_those_who_bill_or_run_it_may_look(call: Call, method: str, role: str) -> None:
    assert refusal(call, method, role=role) == ("PERMISSION_DENIED", "ROLE_REQUIRED")


@pytest.mark.parametrize("role", ["billing", "sre", "service"])
def test_only_an_administrator_opens_an_epoch(call: Call, role: str) -> None:
    assert refusal(call, "OpenBillingEpoch", role=role, reason="x") == ("PERMISSION_DENIED", "ROLE_REQUIRED")


def test_an_epoch_is_opened_for_a_reason(call: Call) -> None:
    assert refusal(call, "OpenBillingEpoch", role="admin", reason=" ") == ("INVALID_ARGUMENT", "REASON_REQUIRED")


def _values(row: billing_pb2.BillingCertificateRow) -> tuple[Any, ...]:
    return (
        row.account,
        row.epoch,
        row.count,
        row.first_sequence,
        row.last_sequence,
        row.last_hash,
        row.unsealed,
        row.unsent,
    )
