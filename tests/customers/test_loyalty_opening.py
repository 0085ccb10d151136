"""Balances that are opened with points from elsewhere: entries like any other, a member's once he is enrolled."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest

from chassis.convert import to_timestamp
from chassis.db import Database
from chassis.errors import FailedPrecondition, InvalidArgument, NotFound, PermissionDenied
from chassis.events import acting
from chassis.types import new_id
from customers.loyalty.ledger_store import sums_of_postings
from tests.customers.test_loyalty_api import (
    BRANCH,
    LOYALTY,
    Call,
    a_customer,
    a_member,
    a_program,
    admin,
    call,
    prove,
    refused,
)
from tests.serving import Caller

__all__ = ["admin", "call"]


def points(units: int, unit: str = "miles") -> dict[str, Any]:
    return {"unit": unit, "units": units}


def opened(call: Call, member: str = "", units: int = 120) -> Any:
    whose = {"loyalty_program_member": {"id": member}} if member else {}
    return call("CreateLoyaltyBalance", loyalty_balance={"quantity": points(units), **whose})


def nobody_yet(call: Call) -> Any:
    return call("CreateLoyaltyProgramMember", loyalty_program_member={"name": "Aigul"})


def enrolled(admin: Caller, call: Call, member: Any, program: str) -> Any:
    return call(
        "UpdateLoyaltyProgramMember",
        loyalty_program_member={
            "id": member.id,
            "customer": {"id": a_customer(admin)},
            "loyalty_program_product_spec": {"id": program},
        },
        update_mask={"paths": ["customer", "loyalty_program_product_spec"]},
    )


def test_what_a_balance_is_opened_with_is_an_entry_that_its_member_takes_along(
    admin: Caller, call: Call, database: Database
) -> None:
    member = nobody_yet(call)
    balance = opened(call, member.id)
    member = call("GetLoyaltyProgramMember", id=member.id)
    assert member.loyalty_balance.id == balance.id
    assert prove(database, call, member)["available"] == 120
    (entry,) = call("ListLoyaltyEntries", member_id=member.id).entry
    assert (entry.reason, Decimal(entry.points)) == ("OPENING_BALANCE", Decimal(120))
    # In no programme nothing is spent, and nobody is told of any loyalty.
    refused("MEMBER_NOT_ACTIVE", lambda: call("ReservePoints", member_id=member.id, points="5"))
    refused("HAS_BALANCE", lambda: opened(call, member.id))
    program = a_program(admin)
    member = enrolled(admin, call, member, program)
    shown = call("GetLoyaltyBalance", id=balance.id)
    assert (
        member.loyalty_balance.id
        == balance.id
        == call("GetLoyaltyAccount", id=member.loyalty_account.id).loyalty_balance.id
    )
    assert (shown.quantity.unit, shown.loyalty_account.id) == ("points", member.loyalty_account.id)
    call("ReservePoints", member_id=member.id, points="70")
    assert prove(database, call, member) == {"available": 50, "pending": 0, "reserved": 70, "owed": 0}
    (program_shown,) = call("GetCustomerLoyalty", customer_id=member.customer.id).program
    assert Decimal(program_shown.available) == 50


def test_a_balance_that_no_programme_needs_is_closed_and_its_books_stay(call: Call, database: Database) -> None:
    member = nobody_yet(call)
    for whose in ("", "unknown-member", member.id):
        balance = opened(call, whose)
        call("DeleteLoyaltyBalance", id=balance.id)
        with pytest.raises(NotFound):
            call("GetLoyaltyBalance", id=balance.id)
        with acting("customers", "test", BRANCH), database.unit() as unit:
            sums = sums_of_postings(unit, balance.id)
        assert set(sums.values()) == {0}
    assert not call("GetLoyaltyProgramMember", id=member.id).HasField("loyalty_balance")
    assert opened(call, member.id).id


def test_the_balance_of_a_programmes_member_is_neither_opened_again_nor_closed_nor_set(
    admin: Caller, call: Call
) -> None:
    member = a_member(admin, a_program(admin))
    refused("HAS_BALANCE", lambda: opened(call, member.id))
    refused("REFERENCED", lambda: call("DeleteLoyaltyBalance", id=member.loyalty_balance.id))
    for path, change in (("quantity", points(5)), ("loyalty_program_member", {"id": "another"})):
        body = {"id": member.loyalty_balance.id, path: change}
        error = refused(
            "IMMUTABLE",
            lambda body=body, path=path: call(  # type: ignore[misc]
                "UpdateLoyaltyBalance", loyalty_balance=body, update_mask={"paths": [path]}
            ),
            InvalidArgument,
        )
        assert [one.field for one in error.violations] == [path]
    refused("NEGATIVE", lambda: opened(call, units=-1), InvalidArgument)


def test_nothing_is_spent_outside_of_a_balances_period(admin: Caller, call: Call) -> None:
    member = a_member(admin, a_program(admin))
    call("AdjustPoints", member_id=member.id, points="10", reason="GIFT")
    now = datetime.now(UTC)

    def valid_until(end: datetime) -> None:
        period = {"start_date_time": to_timestamp(now - timedelta(days=9)), "end_date_time": to_timestamp(end)}
        body = {"id": member.loyalty_balance.id, "valid_for": period}
        call("UpdateLoyaltyBalance", loyalty_balance=body, update_mask={"paths": ["valid_for"]})

    valid_until(now - timedelta(days=1))
    refused("BALANCE_NOT_VALID", lambda: call("ReservePoints", member_id=member.id, points="5"))
    valid_until(now + timedelta(days=1))
    assert call("ReservePoints", member_id=member.id, points="5").id


def test_of_two_who_open_a_balance_for_the_same_member_one_does(call: Call, database: Database) -> None:
    member = nobody_yet(call)

    def attempt(_: int) -> str:
        try:
            return str(opened(call, member.id).id)
        except FailedPrecondition as error:
            assert error.reason == "HAS_BALANCE"  # noqa: PT017
            return ""

    with ThreadPoolExecutor(4) as pool:
        made = [one for one in pool.map(attempt, range(4)) if one]
    member = call("GetLoyaltyProgramMember", id=member.id)
    assert made == [member.loyalty_balance.id]
    assert prove(database, call, member)["available"] == 120


def test_a_retry_opens_nothing_twice_and_agents_open_nothing(
    call: Call, caller_of: Callable[..., Caller], database: Database
) -> None:
    key, body = new_id(), {"quantity": points(7)}
    first = call("CreateLoyaltyBalance", request_id=key, loyalty_balance=body)
    assert call("CreateLoyaltyBalance", request_id=key, loyalty_balance=body) == first
    with acting("customers", "test", BRANCH), database.unit() as unit:
        assert sum(sums_of_postings(unit, first.id).values()) == 0
    with pytest.raises(PermissionDenied):
        caller_of(BRANCH, role="agent")(f"{LOYALTY}CreateLoyaltyBalance", loyalty_balance=body)
