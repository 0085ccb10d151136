"""What the engine decides, from facts and rules alone: obstacles, hours across clock changes, caps by the calendar."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from customers.permission import engine, hours
from customers.permission.engine import decide
from customers.permission.facts import Consent, Contact, Facts, Medium, OptOut, Rules
from customers.permission.values import (
    CapPeriod,
    ChannelRule,
    FrequencyCap,
    LocalInterval,
    MediumKind,
    PointState,
    PurposeRule,
    QuietHours,
)

NIGHT = QuietHours(name="night", interval=LocalInterval(start="21:00", end="09:00"), legal=True)
NOON = datetime(2026, 3, 11, 6, tzinfo=UTC)  # 12:00 in Bishkek, a Wednesday
BISHKEK = ("Asia/Bishkek",)
PHONE = Medium(kind=MediumKind.PHONE, value="+996555000111", state=PointState.VALID, zones=BISHKEK)


def facts(**changed: Any) -> Facts:
    known: dict[str, Any] = {
        "customer": "C1",
        "channel": "call",
        "purpose": "marketing",
        "medium": "",
        "roles": ("agent",),
        "has_reason": False,
        "now": NOON,
        "zones": (),
        "zones_by": "",
        "media": (PHONE,),
        "consents": (Consent(id="consent", channel=None, given_at=datetime(2000, 1, 1, tzinfo=UTC)),),
    }
    return Facts(**{**known, **changed})


def rules(**changed: Any) -> Rules:
    known: dict[str, Any] = {
        "policy": "P1",
        "version": 3,
        "channel": ChannelRule(channel="call", kind=MediumKind.PHONE),
        "purpose": PurposeRule(purpose="marketing"),
        "quiet_hours": (NIGHT,),
        "caps": (FrequencyCap(name="daily", limit=1, period=CapPeriod.DAY),),
        "transactional": ("outage",),
        "time_zones": BISHKEK,
    }
    return Rules(**{**known, **changed})


def codes(known: Facts, said: Rules, at: datetime = NOON) -> list[str | None]:
    decision, receipt = decide(known, said, at)
    assert engine.replay(receipt) == (decision, receipt)
    return [one.code for one in decision.refusals]


def test_who_may_be_contacted_is_told_until_when() -> None:
    decision, _ = decide(facts(), rules(), NOON)
    assert decision.allowed
    assert decision.medium == PHONE
    assert decision.before == datetime(2026, 3, 11, 15, tzinfo=UTC)


OUTAGE = PurposeRule(purpose="outage", transactional=True, role=("service",))


@pytest.mark.parametrize(
    ("known", "said", "expected"),
    [
        ({}, {"policy": ""}, ["NO_POLICY"]),
        ({}, {"channel": None}, ["CHANNEL_UNKNOWN"]),
        ({}, {"purpose": None}, ["PURPOSE_UNKNOWN"]),
        ({"consents": ()}, {}, ["NO_CONSENT"]),
        ({"consents": ()}, {"purpose": PurposeRule(purpose="marketing", consent_required=False)}, []),
        ({"opt_outs": (OptOut(id="o"),)}, {}, ["OPTED_OUT"]),
        ({"opt_outs": (OptOut(id="o", channel="sms"),)}, {}, []),
        ({"opt_outs": (OptOut(id="o", purpose="survey"),)}, {}, []),
        ({"do_not_call": "d"}, {}, ["DO_NOT_CALL"]),
        ({"do_not_call": "d"}, {"channel": ChannelRule(channel="c", kind=MediumKind.PHONE, do_not_call=False)}, []),
        ({"media": (replace(PHONE, do_not_call="registry"),)}, {}, ["DO_NOT_CALL"]),
        ({"media": ()}, {}, ["NO_VALID_MEDIUM"]),
        ({"media": (replace(PHONE, listed=False),)}, {}, ["NO_VALID_MEDIUM"]),
        ({"media": (replace(PHONE, purposes=("billing",)),)}, {}, ["NO_VALID_MEDIUM"]),
        ({"medium": "+996555999999"}, {}, ["NO_VALID_MEDIUM"]),
        ({}, {"purpose": OUTAGE}, ["ROLE_REQUIRED", "REASON_REQUIRED"]),
        ({"roles": ("service",), "has_reason": True, "consents": ()}, {"purpose": OUTAGE}, []),
        (
            {"roles": ("service",), "has_reason": True, "do_not_call": "d", "opt_outs": (OptOut(id="o"),)},
            {"purpose": OUTAGE},
            ["DO_NOT_CALL"],
        ),
        (
            {"roles": ("service",), "has_reason": True, "do_not_call": "d"},
            {"purpose": replace(OUTAGE, despite_do_not_call=True)},
            [],
        ),
    ],
)
def test_each_obstacle_has_its_code(known: dict[str, Any], said: dict[str, Any], expected: list[str]) -> None:
    assert codes(facts(**known), rules(**said)) == expected


@pytest.mark.parametrize("state", sorted(engine._CODES))
def test_a_bad_medium_is_named_with_its_state(state: PointState) -> None:
    other = replace(PHONE, value="+996555000222", well_formed=False)
    decision, _ = decide(facts(media=(replace(PHONE, state=state), other)), rules(), NOON)
    (refusal,) = decision.refusals
    assert refusal.code == "NO_VALID_MEDIUM"
    assert [one.code for one in refusal.rejected] == [engine._CODES[state], "MALFORMED"]


def test_a_consent_counts_only_after_the_last_withdrawal() -> None:
    def at(days: int) -> datetime:
        return NOON - timedelta(days=days)

    general = Consent(id="1", channel=None, given_at=at(9))
    withdrawn = Consent(id="2", channel="call", given_at=at(8), withdrawn_at=at(5))
    assert codes(facts(consents=(general, withdrawn)), rules()) == ["NO_CONSENT"]
    assert codes(facts(consents=(general, withdrawn, replace(general, id="3", given_at=at(1)))), rules()) == []
    assert codes(facts(consents=(general, replace(withdrawn, channel="sms"))), rules()) == []
    assert codes(facts(consents=(replace(general, valid_until=NOON),)), rules()) == ["NO_CONSENT"]


def test_the_medium_that_is_meant_for_the_purpose_comes_first() -> None:
    home = replace(PHONE, value="+996555000001", preferred=True)
    work = replace(PHONE, value="+996555000002", state=PointState.UNVERIFIED, purposes=("marketing",))
    assert decide(facts(media=(home, work)), rules(), NOON)[0].medium == work
    evening = replace(home, best_time=(LocalInterval(start="18:00", end="20:00"),))
    plain = replace(PHONE, value="+996555000003")
    assert decide(facts(media=(evening, plain)), rules(), NOON)[0].medium == plain
    bound = PurposeRule(purpose="marketing", best_time_only=True)
    decision, _ = decide(facts(media=(evening,)), rules(purpose=bound), NOON)
    assert [one.code for one in decision.refusals] == ["NOT_BEST_TIME"]
    assert decision.retry_at == datetime(2026, 3, 11, 12, tzinfo=UTC)


# --- quiet hours -----------------------------------------------------------------------------------------------------


def test_a_number_that_may_be_anywhere_is_called_when_it_is_day_everywhere() -> None:
    kaliningrad, kamchatka = "Europe/Kaliningrad", "Asia/Kamchatka"
    russian = replace(PHONE, value="+79150000000", zones=(kaliningrad, kamchatka))
    # 9 to 21 in both: from 7 to 9 UTC.
    for hour, expected in ((6, ["QUIET_HOURS"]), (7, []), (8, []), (9, ["QUIET_HOURS"])):
        assert codes(facts(media=(russian,)), rules(), NOON.replace(hour=hour)) == expected
    decision, _ = decide(facts(media=(russian,)), rules(), NOON.replace(hour=9))
    assert decision.refusals[0].until == decision.retry_at == datetime(2026, 3, 12, 7, tzinfo=UTC)
    # Whoever says where he is, is called by his own clock.
    assert codes(facts(media=(russian,), zones=(kamchatka,), zones_by="ADDRESS"), rules(), NOON.replace(hour=1)) == []


def test_where_no_hour_is_allowed_there_is_no_next_one() -> None:
    apart = replace(PHONE, zones=("Pacific/Honolulu", "Asia/Bishkek", "America/Sao_Paulo"))
    decision, _ = decide(facts(media=(apart,)), rules(), NOON)
    assert (decision.refusals[0].code, decision.refusals[0].until, decision.retry_at) == ("QUIET_HOURS", None, None)


def test_legal_hours_are_for_everybody_and_the_house_rules_for_marketing() -> None:
    sunday = QuietHours(name="sunday", interval=LocalInterval(weekday=(7,), start="00:00", end="24:00"))
    holiday = QuietHours(name="nooruz", date=("2026-03-21",), legal=True)
    urgent = facts(roles=("service",), has_reason=True, purpose="outage")
    said = {"quiet_hours": (NIGHT, sunday, holiday), "caps": ()}
    on_sunday, on_holiday, at_night = NOON.replace(day=15), NOON.replace(day=21), NOON.replace(hour=20)
    for at in (on_sunday, on_holiday, at_night):
        assert codes(facts(), rules(**said), at) == ["QUIET_HOURS"]
    assert codes(urgent, rules(purpose=OUTAGE, **said), on_sunday) == []
    for at in (on_holiday, at_night):
        assert codes(urgent, rules(purpose=OUTAGE, **said), at) == ["QUIET_HOURS"]
        assert codes(urgent, rules(purpose=replace(OUTAGE, despite_legal_hours=True), **said), at) == []


# Clock changes: by an hour at night, by half an hour, at midnight, for good, and a day that was left out.
ZONES = {
    "Europe/Kyiv": datetime(2026, 3, 29, 1, tzinfo=UTC),
    "Europe/Chisinau": datetime(2026, 10, 25, 0, tzinfo=UTC),
    "Europe/Moscow": datetime(2014, 10, 25, 22, tzinfo=UTC),
    "Asia/Almaty": datetime(2024, 2, 29, 18, tzinfo=UTC),
    "Asia/Bishkek": datetime(2005, 8, 11, 18, tzinfo=UTC),
    "Asia/Qyzylorda": datetime(2018, 12, 20, 18, tzinfo=UTC),
    "Australia/Lord_Howe": datetime(2026, 4, 4, 15, tzinfo=UTC),
    "America/Asuncion": datetime(2023, 10, 1, 4, tzinfo=UTC),
    "Pacific/Apia": datetime(2011, 12, 30, 10, tzinfo=UTC),
}
times = st.builds(lambda hour, half: f"{hour:02}:{half * 30:02}", st.integers(0, 23), st.integers(0, 1))
intervals = st.builds(
    lambda weekday, start, end: LocalInterval(weekday=weekday, start=start, end=end),
    st.sampled_from([(), (6, 7), (1,), (7,)]),
    times,
    st.one_of(times, st.just("24:00")),
).filter(lambda one: one.start != one.end)


def half_hours(interval: LocalInterval) -> set[int]:
    """The same said otherwise: which half hours of the week are in it, counted in minutes since Monday."""
    assert interval.start is not None
    assert interval.end is not None
    start, end = (int(text[:2]) * 60 + int(text[3:]) for text in (interval.start, interval.end))
    length = end - start if end > start else end - start + 1440
    days = interval.weekday or range(1, 8)
    return {((day - 1) * 1440 + start + passed) % 10_080 for day in days for passed in range(0, length, 30)}


def shown(at: datetime, zone: str) -> int:
    """The half hour of the week on the wall there."""
    wall = at.astimezone(ZoneInfo(zone))
    return (wall.isoweekday() - 1) * 1440 + (wall.hour * 60 + wall.minute) // 30 * 30


@settings(max_examples=40)
@example([LocalInterval(start="21:00", end="03:30")], ["Europe/Kyiv"], 0)
@given(
    st.lists(intervals, min_size=1, max_size=2),
    st.lists(st.sampled_from(sorted(ZONES)), min_size=1, max_size=2),
    st.integers(-96, 40),
)
def test_the_next_hour_is_the_first_that_is_allowed_whatever_the_clocks_do(
    quiet: list[LocalInterval], zones: list[str], halves: int
) -> None:
    """Against every half hour of the next days: all these zones change their clocks at a half hour."""
    at = ZONES[zones[0]] + timedelta(minutes=30 * halves)
    said = rules(quiet_hours=tuple(QuietHours(interval=one) for one in quiet), caps=())
    decision, _ = decide(facts(zones=tuple(zones)), said, at)
    steps = [at + timedelta(minutes=30 * step) for step in range(48 * 4)]
    week = set().union(*(half_hours(one) for one in quiet))
    by_hand = [any(shown(instant, zone) in week for zone in zones) for instant in steps]
    assert decision.allowed is not by_hand[0]
    change = next((instant for instant, is_quiet in zip(steps, by_hand, strict=True) if is_quiet != by_hand[0]), None)
    if change is not None:
        assert (decision.before if decision.allowed else decision.retry_at) == change
    else:
        told = decision.before if decision.allowed else decision.retry_at
        assert told is None or told > steps[-1]


# --- caps ------------------------------------------------------------------------------------------------------------


def contact(at: datetime, purpose: str = "marketing", **more: Any) -> Contact:
    return Contact(at=at, channel="sms", purpose=purpose, **more)


def test_a_day_is_the_customers() -> None:
    # 00:30 and 23:30 of the 11th in Bishkek.
    early, late = datetime(2026, 3, 10, 18, 30, tzinfo=UTC), datetime(2026, 3, 11, 17, 30, tzinfo=UTC)
    for at, expected in ((early, ["FREQUENCY_CAP"]), (late, ["FREQUENCY_CAP"]), (early - timedelta(hours=1), [])):
        assert codes(facts(contacts=(contact(at),)), rules()) == expected
    decision, _ = decide(facts(contacts=(contact(early),)), rules(), NOON)
    assert decision.refusals[0].until == datetime(2026, 3, 11, 18, tzinfo=UTC)
    # Free at midnight, and asked again when the night is over.
    assert decision.retry_at == datetime(2026, 3, 12, 3, tzinfo=UTC)


def test_who_may_be_in_two_zones_has_the_day_of_both() -> None:
    # The 10th in Moscow, the 11th in Bishkek.
    at = datetime(2026, 3, 10, 20, tzinfo=UTC)
    assert codes(facts(contacts=(contact(at),), zones=("Europe/Moscow",)), rules()) == []
    assert codes(facts(contacts=(contact(at),), zones=("Europe/Moscow", *BISHKEK)), rules()) == ["FREQUENCY_CAP"]


def test_what_a_cap_counts() -> None:
    counted = contact(NOON - timedelta(hours=1))
    assert codes(facts(contacts=(replace(counted, purpose="outage"),)), rules()) == []
    expired = replace(counted, expires_at=NOON)
    assert codes(facts(contacts=(expired,)), rules()) == []
    assert codes(facts(contacts=(replace(expired, expires_at=NOON + timedelta(seconds=1)),)), rules()) != []
    surveys = rules(
        caps=(FrequencyCap(limit=1, period=CapPeriod.DAY, purpose=("marketing",), channel=("sms", "call")),)
    )
    assert codes(facts(contacts=(replace(counted, purpose="survey"),)), surveys) == []
    assert codes(facts(contacts=(replace(counted, channel="email"),)), surveys) == []
    assert codes(facts(contacts=(counted,)), surveys) == ["FREQUENCY_CAP"]
    assert codes(facts(), rules(caps=(FrequencyCap(limit=0, period=CapPeriod.MONTH),))) == ["FREQUENCY_CAP"]


@settings(max_examples=40)
@given(
    st.lists(st.integers(-24 * 9, 24 * 9), max_size=8),
    st.integers(1, 3),
    st.sampled_from(CapPeriod),
    st.booleans(),
    st.sampled_from(sorted(ZONES)),
)
def test_no_window_ever_has_more_than_the_cap(
    offsets: list[int], limit: int, period: CapPeriod, sliding: bool, zone: str
) -> None:
    """Contacts are added wherever the engine lets them, in whatever order: none of the windows overflows."""
    start = ZONES[zone]
    cap = FrequencyCap(limit=limit, period=period, sliding=sliding)
    said = rules(caps=(cap,), quiet_hours=())
    taken: list[Contact] = []
    for offset in offsets:
        at = start + timedelta(hours=offset)
        decision, _ = decide(facts(zones=(zone,), contacts=tuple(taken)), said, at)
        if decision.allowed:
            taken.append(contact(at))
        elif decision.retry_at is not None:
            later, _ = decide(facts(zones=(zone,), contacts=tuple(taken)), said, decision.retry_at)
            assert later.allowed
    instants = sorted(one.at for one in taken)
    if sliding:
        assert all(b - a >= hours.SLIDING[period] for a, b in zip(instants, instants[limit:], strict=False))
        return

    def name(at: datetime) -> tuple[int, ...]:
        day = at.astimezone(ZoneInfo(zone)).date()
        return {CapPeriod.DAY: day.timetuple()[:3], CapPeriod.WEEK: day.isocalendar()[:2]}.get(
            period, day.timetuple()[:2]
        )

    names = [name(at) for at in instants]
    assert all(names.count(one) <= limit for one in names)
