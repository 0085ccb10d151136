"""When notice of an agreement's end is due: the calendar, and agreements' states."""

from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chassis.errors import FailedPrecondition, InvalidArgument
from chassis.types import TimePeriod
from chassis.zones import BranchZones
from customers.agreement.domain import Agreement, AgreementSpecification
from customers.agreement.expiry import Outlook, ahead, outlook, parse_notices
from customers.role.domain import PartyRole

BERLIN = ZoneInfo("Europe/Berlin")
AT = datetime(2026, 1, 10, 12, tzinfo=UTC)
ZONES = BranchZones.parse("berlin=Europe/Berlin,havana=America/Havana,*=UTC")


def test_notice_is_given_at_the_same_hour_of_the_branchs_day_across_a_change_of_clocks() -> None:
    # Midnight in Berlin: 22:00 the day before in summer, 23:00 in winter.
    end = datetime(2026, 4, 14, 22, tzinfo=UTC)
    assert ahead(end, 30, BERLIN) == datetime(2026, 3, 15, 23, tzinfo=UTC)
    assert ahead(end, 10, BERLIN) == datetime(2026, 4, 4, 22, tzinfo=UTC)
    # 02:30 on the day that has none is as far after midnight as on any other.
    assert ahead(datetime(2026, 3, 30, 0, 30, tzinfo=UTC), 1, BERLIN) == datetime(2026, 3, 29, 1, 30, tzinfo=UTC)
    assert ahead(datetime(1, 1, 2, tzinfo=UTC), 3_650, BERLIN) == datetime.min.replace(tzinfo=UTC)
    last = datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC)
    assert ahead(last, 30, BERLIN) == last - timedelta(days=30)


def test_each_notice_comes_in_its_time_and_then_the_end() -> None:
    end = AT + timedelta(days=100)
    given_already: int | None = None
    told = []
    at = AT
    while True:
        look = outlook(end, (30, 90, 60), given_already, at, ZoneInfo("UTC"))
        if look.over:
            break
        if look.notice is not None:
            told.append(((end - at).days, look.notice))
            given_already = look.notice
        assert look.due is not None
        at = look.due
    assert (told, at) == ([(90, 90), (60, 60), (30, 30)], end)


def test_of_several_that_are_due_only_the_last_is_given() -> None:
    end = AT + timedelta(days=45)
    assert outlook(end, (90, 60, 30), None, AT, ZoneInfo("UTC")) == Outlook(60, due=end - timedelta(days=30))
    assert outlook(end, (90, 60, 30), 60, AT, ZoneInfo("UTC")) == Outlook(None, due=end - timedelta(days=30))
    assert outlook(end, (), None, AT, ZoneInfo("UTC")) == Outlook(due=end)
    assert outlook(AT, (90,), None, AT, ZoneInfo("UTC")).over


@given(
    st.integers(0, 7_000).map(lambda hours: AT + timedelta(hours=25 * hours)),
    st.lists(st.integers(1, 400), max_size=6),
    st.integers(0, 500),
    st.sampled_from(["Europe/Berlin", "America/Havana", "Africa/Cairo", "Asia/Bishkek", "Pacific/Apia"]),
)
def test_an_agreement_is_never_forgotten_nor_told_of_twice(
    end: datetime, notices: list[int], before: int, zone: str
) -> None:
    at, told, given_already = end - timedelta(days=before), [], None
    for _ in range(2 * len(notices) + 2):
        look = outlook(end, notices, given_already, at, ZoneInfo(zone))
        if look.over:
            break
        if look.notice is not None:
            told.append(look.notice)
            given_already = look.notice
        assert look.due is not None
        assert at < look.due <= end
        at = look.due
    else:
        pytest.fail("it never ends")
    assert told == sorted(set(told), reverse=True)
    # The last notice is always given, however late the agreement has come in.
    if notices and before > 0:
        assert told[-1] == min(notices)


@pytest.mark.parametrize("text", ["30,soon", "-1", "0", "99999", ",".join(map(str, range(1, 30)))])
def test_a_setting_that_says_no_days_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="days"):
        parse_notices(text)
    assert parse_notices("30, 90,60,") == (90, 60, 30)


def agreement(**values: Any) -> Agreement:
    made = Agreement(**{"id": "a", "branch": "berlin", "name": "one", **values})
    made.check(AT)
    return made


def test_the_last_day_is_a_day_of_the_branch() -> None:
    made = agreement(end_date="2026-03-29")
    made.ends_by(ZONES)
    assert made.end == datetime(2026, 3, 29, 22, tzinfo=UTC)
    # Havana's clocks go forward at midnight: the day after begins an hour later.
    made = agreement(branch="havana", end_date="2026-03-07")
    made.ends_by(ZONES)
    assert made.end == datetime(2026, 3, 8, 5, tzinfo=UTC)
    # Who then says an instant means that one.
    made.revise({"agreement_period": TimePeriod(end_date_time=AT + timedelta(days=9))}, AT)
    made.ends_by(ZONES)
    assert (made.end_date, made.end) == (None, AT + timedelta(days=9))
    for text in ("2026-02-30", "tomorrow", "2026-3-1", "9999-12-31"):
        with pytest.raises(InvalidArgument) as refusal:
            agreement(end_date=text).ends_by(ZONES)
        assert [one.field for one in refusal.value.violations] == ["end_date"]


@pytest.mark.parametrize(
    ("before", "after", "allowed"),
    [
        ("initialized", "In process", True),
        ("In process", "pendingApproval", True),
        ("pending approval", "approved", True),
        ("Approved", "ACTIVE", True),
        ("active", "initialized", False),
        ("rejected", "approved", False),
        ("terminated", "active", False),
        ("terminated", "signed by the minister", False),
        ("approved", "signed by the minister", True),
        ("signed by the minister", "active", True),
        ("active", "Active", True),
    ],
)
def test_states_go_by_their_table_whatever_their_spelling(before: str, after: str, *, allowed: bool) -> None:
    made = agreement(status=before)
    if allowed:
        made.revise({"status": after}, AT)
        assert made.status == after
    else:
        with pytest.raises(FailedPrecondition) as refusal:
            made.revise({"status": after}, AT)
        assert refusal.value.reason == "BAD_TRANSITION"


def test_an_agreement_that_has_expired_is_renewed_with_an_end_ahead() -> None:
    over = TimePeriod(end_date_time=AT - timedelta(days=1))
    with pytest.raises(FailedPrecondition) as refusal:
        agreement(status="expired", agreement_period=over).revise({"status": "active"}, AT)
    assert refusal.value.reason == "PERIOD_OVER"
    made = agreement(status="expired", agreement_period=over)
    made.revise({"status": "active", "agreement_period": TimePeriod(end_date_time=AT + timedelta(days=1))}, AT)
    assert made.in_force


def test_what_cant_be_is_refused_by_its_field() -> None:
    with pytest.raises(InvalidArgument) as refusal:
        AgreementSpecification(id="s", branch="b", expiry_notice_days=(30, 0, 4_000)).check(AT)
    assert [one.field for one in refusal.value.violations] == ["expiry_notice_days[1]", "expiry_notice_days[2]"]
    reversed_one = TimePeriod(start_date_time=AT, end_date_time=AT - timedelta(days=1))
    with pytest.raises(InvalidArgument, match="agreement_period"):
        agreement(agreement_period=reversed_one)


def test_a_roles_kind_is_its_name_whatever_its_spelling() -> None:
    role = PartyRole(id="r", branch="b", name="  Sales   AGENT ")
    role.check(AT)
    assert (role.kind, role.status) == ("sales agent", "initialized")
    role.revise({"status": "active"}, AT)
    role.revise({"status": "terminated"}, AT)
    with pytest.raises(FailedPrecondition, match="final"):
        role.revise({"status": "active"}, AT)
