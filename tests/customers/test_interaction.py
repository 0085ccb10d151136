"""Interactions over gRPC: recorded, planned, assigned, shown on one timeline and found by what is in them."""

import base64
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
import pytest
from google.protobuf.field_mask_pb2 import FieldMask
from hypothesis import given, settings
from hypothesis import strategies as st

from chassis.convert import to_timestamp
from chassis.errors import FailedPrecondition, InvalidArgument, NotFound
from chassis.types import new_id
from customers.interaction import api, store
from customers.interaction.domain import InteractionStatus
from customers.interaction.numbers import index_words
from customers.interaction.wording import wanted
from svyaz.customers.v1 import customers_pb2, interaction_pb2
from svyaz.type.v1 import requests_pb2, values_pb2
from tests.conftest import ServiceDatabase
from tests.customers.conftest import CUSTOMER
from tests.customers.test_merge import known, merged, parted
from tests.serving import Caller

INTERACTION = "svyaz.customers.v1.InteractionService/"
NOON = datetime(2026, 3, 28, 12, tzinfo=UTC)


def party(id: str, role: str, kind: str = "Customer") -> values_pb2.RelatedParty:
    return values_pb2.RelatedParty(id=id, role=role, at_referred_type=kind)


def said(
    agent: Caller,
    customer: str | None,
    at: datetime = NOON,
    *,
    status: str = "completed",
    channel: str = "phone",
    direction: str = "inbound",
    owner: str | None = None,
    **values: Any,
) -> Any:
    parties = [party(customer, "customer")] if customer else []
    parties += [party(owner, "agent", "Employee")] if owner else []
    made = interaction_pb2.PartyInteraction(
        **{
            "reason": "question",
            "direction": direction,
            "status": status,
            "channel": [interaction_pb2.RelatedChannel(id=channel)],
            "interaction_date": values_pb2.TimePeriod(start_date_time=to_timestamp(at)),
            "related_party": parties,
            **values,
        }
    )
    return agent(f"{INTERACTION}CreatePartyInteraction", party_interaction=made)


def timeline(agent: Caller, customer: str, **wanted: Any) -> Any:
    return agent(f"{INTERACTION}ListTimeline", customer_id=customer, **wanted)


def found(agent: Caller, query: str, **more: Any) -> list[str]:
    answer = agent(f"{INTERACTION}SearchInteractions", query=query, **more)
    return [one.interaction.id for one in answer.items]


def ids(entries: Sequence[Any]) -> list[str]:
    return [entry.interaction.id for entry in entries]


# --- the timeline ----------------------------------------------------------------------------------------------------


def test_a_timeline_is_newest_first_with_what_is_planned_apart(agent: Caller) -> None:
    whose = new_id()
    first = said(agent, whose, NOON)
    later = said(agent, whose, NOON + timedelta(days=2), channel="e-mail", direction="outbound")
    tomorrow = said(agent, whose, NOON + timedelta(days=900), status="planned", owner="aida")
    forgotten = said(agent, whose, NOON - timedelta(days=900), status="Planned", owner="bek")
    said(agent, new_id())
    shown = timeline(agent, whose)
    assert ids(shown.past) == [later.id, first.id]
    # What should have been long ago and hasn't been begun is still to be done.
    assert [(one.interaction.id, one.owner, one.planned) for one in shown.planned] == [
        (forgotten.id, "bek", True),
        (tomorrow.id, "aida", True),
    ]
    assert ids(timeline(agent, whose, channel=["e-mail"]).past) == [later.id]
    assert ids(timeline(agent, whose, direction="inbound").past) == [first.id]
    half = to_timestamp(NOON + timedelta(days=1))
    assert ids(timeline(agent, whose, to=half).past) == [first.id]
    assert ids(timeline(agent, whose, **{"from": half}).past) == [later.id]
    assert timeline(agent, new_id()) == interaction_pb2.ListTimelineResponse()


def test_a_page_begins_where_the_last_one_ended_though_all_are_of_one_instant(agent: Caller) -> None:
    whose = new_id()
    made = [said(agent, whose).id for _ in range(7)]
    said(agent, whose, status="planned")
    pages: list[list[str]] = []
    cursor = ""
    while not pages or cursor:
        page = timeline(agent, whose, limit=3, cursor=cursor)
        assert len(page.planned) == (0 if cursor else 1)
        pages.append(ids(page.past))
        cursor = page.next_cursor
    assert pages == [made[:3:-1], made[3:0:-1], made[:1]]


def test_what_is_planned_is_shown_whole_however_much_it_is(agent: Caller, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(api, "MOST_ENTRIES", 2)
    whose = new_id()
    planned = [said(agent, whose, NOON + timedelta(days=day // 2), status="planned").id for day in range(5)]
    past = [said(agent, whose, NOON - timedelta(days=day)).id for day in range(3)]
    pages: list[tuple[list[str], list[str]]] = []
    cursor = ""
    while not pages or cursor:
        page = timeline(agent, whose, limit=2, cursor=cursor)
        pages.append((ids(page.past), ids(page.planned)))
        cursor = page.next_cursor
    assert pages == [(past[:2], planned[:2]), (past[2:], planned[2:4]), ([], planned[4:])]


def test_a_list_by_a_merged_customer_is_of_all_his_ids(agent: Caller) -> None:
    absorbed, survivor = known(agent), known(agent)
    spoken = {said(agent, one.id).id for one in (absorbed, survivor)}
    merge = merged(agent, absorbed.id, survivor.id)

    def listed(whose: str) -> set[str]:
        wanted = [{"path": "related_party.id", "value": [whose]}]
        return {one.id for one in agent(f"{INTERACTION}ListPartyInteractions", filter=wanted).items}

    assert listed(absorbed.id) == listed(survivor.id) == spoken
    parted(agent, merge.id)
    assert listed(absorbed.id) | listed(survivor.id) == spoken
    assert len(listed(absorbed.id)) == 1


# Half of a character, which JSON can spell.
_NO_TEXT = base64.urlsafe_b64encode(b'[["2026-03-28T12:00:00+00:00", "\\ud800"], null]').decode()


@pytest.mark.parametrize("cursor", ["x", "W10=", "WzEsMl0=", "йцукен", "WyJhIiwiYiJd", _NO_TEXT])
def test_a_cursor_that_is_none_of_ours_is_refused(agent: Caller, cursor: str) -> None:
    for call in ("ListTimeline", "SearchInteractions"):
        with pytest.raises(InvalidArgument) as refusal:
            agent(f"{INTERACTION}{call}", cursor=cursor)
        assert refusal.value.violations[0].field == "cursor"


def test_a_merged_customer_has_one_timeline(agent: Caller, place: ServiceDatabase) -> None:
    one, other = new_id(), new_id()
    made = [said(agent, whose, NOON + timedelta(hours=hour)).id for hour, whose in enumerate((one, other, one))]
    merge = (
        "INSERT INTO merged_customer (absorbed_id, branch, into_id, survivor_id, merge_id, merged_at)"
        " VALUES (%s, 'bishkek', %s, %s, 'm', now())"
    )
    with psycopg.connect(place.admin_url) as connection:
        connection.execute(merge, (other, one, one))
    task = "svyaz.customers.v1.TaskService/"
    item = agent(f"{task}CreateWorkItem", work_item={"kind": "call", "customer_id": other})
    for whose in (one, other):
        listed = agent(f"{task}ListWorkItems", filter=[requests_pb2.Filter(path="customer_id", value=[whose])])
        assert [work.id for work in listed.items] == [item.id]
        assert ids(timeline(agent, whose).past) == made[::-1]
        assert sorted(found(agent, "question", customer_id=whose)) == sorted(made)
    with psycopg.connect(place.admin_url) as connection:
        connection.execute("DELETE FROM merged_customer WHERE absorbed_id = %s", (other,))
    assert ids(timeline(agent, other).past) == [made[1]]


def test_an_unknown_caller_becomes_somebody(agent: Caller, caller_of: Callable[..., Caller]) -> None:
    call = said(agent, None, note=[values_pb2.Note(text="hung up")])
    assert call.id in ids(timeline(agent, "").past)
    assert call.id in ids(timeline(caller_of("*", role="admin"), "", branch="bishkek").past)
    assert call.id not in ids(timeline(caller_of("osh"), "").past)
    with pytest.raises(InvalidArgument) as unsaid:
        timeline(caller_of("bishkek", "osh"), "")
    assert unsaid.value.reason == "BRANCH_REQUIRED"
    with pytest.raises(InvalidArgument) as refusal:
        agent(f"{INTERACTION}AssignPartyInteraction", id=call.id, customer_id=new_id())
    assert refusal.value.reason == "UNKNOWN_CUSTOMER"
    known = agent(
        f"{CUSTOMER}CreateCustomer",
        customer=customers_pb2.Customer(name="Айда", engaged_party=party("p", "x", "Individual")),
    )
    agent(f"{INTERACTION}AssignPartyInteraction", id=call.id, customer_id=known.id)
    assert ids(timeline(agent, known.id).past) == [call.id]
    assert call.id not in ids(timeline(agent, "").past)
    # Who has been spoken to stays.
    with pytest.raises(FailedPrecondition, match="referred to"):
        agent(f"{CUSTOMER}DeleteCustomer", id=known.id)
    agent(f"{INTERACTION}DeletePartyInteraction", id=call.id)
    assert not timeline(agent, known.id).past
    agent(f"{CUSTOMER}DeleteCustomer", id=known.id)


def change(agent: Caller, id: str, **values: Any) -> Any:
    wanted = interaction_pb2.PartyInteraction(id=id, **values)
    return agent(
        f"{INTERACTION}UpdatePartyInteraction", party_interaction=wanted, update_mask=FieldMask(paths=list(values))
    )


def test_what_was_planned_takes_place_and_what_took_place_stays(agent: Caller, place: ServiceDatabase) -> None:
    whose = new_id()
    visit = said(agent, whose, status="planned")
    done = change(agent, visit.id, status="completed")
    assert done.status_change_date.ToDatetime() > visit.creation_date.ToDatetime()
    shown = timeline(agent, whose)
    assert (ids(shown.past), ids(shown.planned)) == ([visit.id], [])
    with psycopg.connect(place.admin_url) as connection:
        events = connection.execute("SELECT type FROM event WHERE aggregate_id = %s ORDER BY version", (visit.id,))
        assert [kind for (kind,) in events] == ["PartyInteractionCreateEvent", "PartyInteractionStatusChangeEvent"]
    with pytest.raises(FailedPrecondition) as refusal:
        change(agent, visit.id, status="planned")
    assert refusal.value.reason == "BAD_TRANSITION"
    with pytest.raises(InvalidArgument, match="can't change"):
        change(agent, visit.id, direction="outbound")
    answer = said(agent, whose, interaction_relationship=[{"id": visit.id, "relationship_type": "answerTo"}])
    with pytest.raises(InvalidArgument) as own:
        change(agent, answer.id, interaction_relationship=[{"id": answer.id}])
    assert own.value.reason == "OWN_RELATIVE"
    with pytest.raises(FailedPrecondition, match="referred to"):
        agent(f"{INTERACTION}DeletePartyInteraction", id=visit.id)


_STATUSES = st.sampled_from([*map(str, InteractionStatus), "Planned", "In progress", "waiting"])


@settings(max_examples=12, deadline=None)
@given(data=st.data())
def test_everything_is_either_past_or_planned_and_nothing_is_both(agent: Caller, data: st.DataObject) -> None:
    whose = new_id()
    made: dict[str, datetime] = {}
    for _ in range(data.draw(st.integers(0, 5))):
        at = NOON + timedelta(hours=data.draw(st.integers(-50_000, 50_000)))
        made[said(agent, whose, at, status=data.draw(_STATUSES)).id] = at
    for one in data.draw(st.lists(st.sampled_from(sorted(made)), max_size=4)) if made else ():
        try:
            change(agent, one, status=data.draw(_STATUSES))
        except FailedPrecondition as error:
            assert error.reason == "BAD_TRANSITION"  # noqa: PT017
    shown = timeline(agent, whose)
    assert sorted([*ids(shown.past), *ids(shown.planned)]) == sorted(made)
    assert [one.planned for one in (*shown.past, *shown.planned)] == [False] * len(shown.past) + [True] * len(
        shown.planned
    )
    assert all(one.interaction.status.lower() == "planned" for one in shown.planned)
    assert all(one.interaction.status.lower() != "planned" for one in shown.past)
    past = [one.at.ToDatetime() for one in shown.past]
    assert past == sorted(past, reverse=True)
    planned = [one.at.ToDatetime() for one in shown.planned]
    assert planned == sorted(planned)


# --- search ----------------------------------------------------------------------------------------------------------


def test_words_are_found_in_all_their_forms_wherever_they_stand(agent: Caller) -> None:
    item = interaction_pb2.InteractionItem(
        reason="Счёт за роуминг",
        resolution="пересчитали платежи",
        note=[values_pb2.Note(text="She was charging twice")],
        attachment=[interaction_pb2.AttachmentRefOrValue(name="жалоба.pdf")],
    )
    one = said(agent, new_id(), interaction_item=[item], description="Ёлкина недовольна переплатами")
    for query in (
        *("счета", "счет", "роуминга", "пересчитал", "платеж", "ЁЛКИНОЙ", "елкина", "переплата"),
        *("charge", "charged", '"пересчитали платежи"', "роуминг -подключение", "жалоба.pdf", "абракадабра or счёта"),
    ):
        assert one.id in found(agent, query, limit=100), query
    for query in ("роуминг -счёт", '"платежи пересчитали"', "отключение"):
        assert one.id not in found(agent, query, limit=100), query


@pytest.mark.parametrize(
    "written",
    [
        "0555 12-34-56",
        "+996555123456",
        "+996 (555) 123-456",
        "тел.996555123456.",
        "0555123456, 0777000111",
        "555 123 456",
    ],
)
def test_a_number_in_a_letter_is_found_in_any_spelling(agent: Caller, written: str) -> None:
    whose = new_id()
    letter = said(agent, whose, channel="e-mail", description=f"Перезвоните, пожалуйста, на {written} после обеда")
    for asked in ("+996 555 123456", "0555123456", "0 (555) 12 34 56", "996-555-123-456", "555123456", "123456"):
        answer = agent(f"{INTERACTION}SearchInteractions", query=asked, customer_id=whose)
        assert [one.interaction.id for one in answer.items] == [letter.id], asked
        (hit, *_) = [part.text for part in answer.items[0].snippet if part.hit]
        assert "".join(filter(str.isdigit, hit)).endswith("123456"), hit
    assert found(agent, "перезвоните 0555-123-456", customer_id=whose) == [letter.id]
    for asked in ("0555123457", "перезвонок 0777000112", "спасибо 0555123456"):
        assert found(agent, asked, customer_id=whose) == [], asked


@pytest.mark.parametrize("region", ["KG", "RU", "ZZ"])
def test_a_number_has_the_same_index_words_wherever_the_branch_is(region: str) -> None:
    """Also where nobody has said in which country the branch is, or has said it wrongly."""
    spellings = ["+996 555 123456", "0555 12-34-56", "996(555)123456", "555 123 456", "00996555123456"]
    for written in spellings:
        words = index_words(f"Звоните {written}, спасибо", region)
        for asked in spellings:
            (either,) = wanted(asked, region).numbers
            assert any(word.startswith(tuple(either)) for word in words), (written, asked)


def test_a_number_far_down_in_a_long_letter_is_found_too() -> None:
    words = index_words("письмо " * 10_000 + "0555 12-34-56", "KG")
    assert any(word.startswith(tuple(wanted("+996555123456", "KG").numbers[0])) for word in words)


def test_an_address_is_found_as_it_is(agent: Caller) -> None:
    whose = new_id()
    one = said(agent, whose, description="Писать на Айда <Aida.Usenova@Example.kg>, договор КГ-12/345678")
    for query in ("aida.usenova@example.kg", "AIDA.USENOVA@EXAMPLE.KG", "345678", "договору"):
        assert found(agent, query, customer_id=whose) == [one.id], query
    assert found(agent, "usenova@example.com", customer_id=whose) == []


def test_a_snippet_shows_the_text_as_it_was_written_and_what_was_found_in_it(agent: Caller) -> None:
    whose = new_id()
    before = "Здравствуйте. " * 30
    said(agent, whose, description=f"{before}Ваш СЧЁТ за Май оплачен <b>дважды</b>")
    answer = agent(f"{INTERACTION}SearchInteractions", query="счета", customer_id=whose)
    parts = answer.items[0].snippet
    assert [part.text for part in parts if part.hit] == ["СЧЁТ"]
    text = "".join(part.text for part in parts)
    assert "Ваш СЧЁТ за Май" in text
    assert len(text) < len(before)


@pytest.mark.parametrize(
    "query",
    ["", " ", "'", "&", "| !", "a & & b", "((", ":*", "\\", "\x00", "\x02\x03", "и не на", "- -", '"', "<->", "a:b:c*",
     "DROP TABLE", "%", "\u202e", "🙂", "0" * 400, "+", "ё" * 900, "-0555123456", "or or", "x'--"],
)  # fmt: skip
def test_no_query_is_malformed(agent: Caller, query: str) -> None:
    assert isinstance(found(agent, query, customer_id=new_id()), list)


@settings(max_examples=40, deadline=None)
@given(st.text(max_size=60) | st.text("0123456789+-() '\"&|!:*\\<>абв", max_size=60))
def test_whatever_is_typed_is_looked_for(agent: Caller, query: str) -> None:
    assert found(agent, query, customer_id="nobody") == []


def test_who_asks_for_too_much_is_told_so(agent: Caller) -> None:
    with pytest.raises(InvalidArgument) as refusal:
        found(agent, "x" * 1_001)
    assert refusal.value.violations[0].field == "query"
    with pytest.raises(InvalidArgument):
        found(agent, "x", limit=101)


def test_the_best_come_first_page_by_page_and_filters_hold(agent: Caller) -> None:
    word = "квантофлюгель"
    best = said(agent, new_id(), description=f"{word} {word} {word}", channel="chat")
    others = [
        said(agent, new_id(), NOON + timedelta(days=day), description=f"{word} и ещё много чего другого" * (day + 1))
        for day in range(4)
    ]
    everything = found(agent, word, limit=100)
    assert everything[0] == best.id
    assert sorted(everything) == sorted(one.id for one in (best, *others))
    pages: list[str] = []
    cursor = ""
    while not pages or cursor:
        page = agent(f"{INTERACTION}SearchInteractions", query=word, limit=2, cursor=cursor)
        pages += [one.interaction.id for one in page.items]
        cursor = page.next_cursor
    assert pages == everything
    assert found(agent, word, channel=["chat"]) == [best.id]
    late = to_timestamp(NOON + timedelta(days=3))
    assert found(agent, word, **{"from": late}) == [others[3].id]
    assert len(found(agent, word, to=late)) == 4


def test_any_employee_searches_his_branch_and_nobody_another(caller_of: Callable[..., Caller], agent: Caller) -> None:
    canary = "канарейка 0555 98-76-54 canary@osh.kg"
    theirs = said(caller_of("osh"), new_id(), description=canary)
    for query in ("канарейки", "+996555987654", "canary@osh.kg", "канарейка or вопрос", "-бегемот", theirs.id):
        assert theirs.id not in found(agent, query, limit=100), query
    with pytest.raises(NotFound):
        agent(f"{INTERACTION}GetPartyInteraction", id=theirs.id)
    for role in ("agent", "billing", "admin", "catalog-manager"):
        assert found(caller_of("osh", role=role), "канарейки") == [theirs.id]
    assert theirs.id in found(caller_of("bishkek", "osh"), "канарейки")
    assert theirs.id in found(caller_of("*", role="admin"), "канарейки")


def test_a_change_is_found_and_what_it_replaced_is_not(agent: Caller) -> None:
    whose = new_id()
    one = said(agent, whose, description="крокодил 0555 111222")
    change(agent, one.id, description="бегемот 0555 333444")
    assert found(agent, "бегемота", customer_id=whose) == found(agent, "333444", customer_id=whose) == [one.id]
    assert found(agent, "крокодил", customer_id=whose) == found(agent, "111222", customer_id=whose) == []
    agent(f"{INTERACTION}DeletePartyInteraction", id=one.id)
    assert found(agent, "бегемот", customer_id=whose) == []


_SCANS = "SELECT pg_stat_get_xact_numscans(%s::regclass), pg_stat_get_xact_tuples_returned(%s::regclass)"
_ASK = """
    SELECT * FROM search_interactions(websearch_to_tsquery('russian', %s), NULL, NULL, NULL, NULL, NULL, NULL, NULL, 10)
"""
_MANY = """
    INSERT INTO timeline_entry (interaction_id, branch, at, planned, channel, direction, folded, numbers)
    SELECT 'many-' || n, CASE n % 3 WHEN 0 THEN 'bishkek' ELSE 'naryn' END, now(), false, '{}', '',
        'обычное письмо номер ' || md5(n::text) || CASE WHEN n % 500 = 0 THEN ' редкость' ELSE '' END, '{}'
    FROM generate_series(1, 6000) AS n
"""


def test_the_index_serves_the_service_itself(place: ServiceDatabase, agent: Caller) -> None:
    """As the service's own role, which is under the policies: what PostgreSQL has read is counted by itself, since the
    plan inside of a function isn't shown."""
    with psycopg.connect(place.admin_url, autocommit=True) as connection:
        connection.execute(_MANY)
        # As autovacuum does: what has just come waits outside of the index proper.
        connection.execute("VACUUM ANALYZE timeline_entry")
    try:
        with psycopg.connect(place.url) as connection:
            connection.execute("SELECT set_config('svyaz.branches', 'bishkek', true)")
            rows = connection.execute(_ASK, ["редкости"]).fetchall()
            read = connection.execute(_SCANS, ["timeline_entry_search", "timeline_entry"]).fetchone()
            assert len(rows) == 4
            assert read is not None
            scans, whole_table = read
            assert scans > 0
            assert whole_table == 0
            # And what it tells is looked up by its id.
            values = dict.fromkeys(("customers", "since", "until", "channel", "after_rank", "after", "after_id"))
            values |= {"words": "редкости", "other_words": "", "numbers": "", "most": "21"}
            plan = connection.execute(f"EXPLAIN {store._SEARCHED}", values).fetchall()
            assert not [line for (line,) in plan if "Seq Scan" in line]
            # And without a branch nobody finds anything.
            connection.rollback()
            assert connection.execute(_ASK, ["редкости"]).fetchall() == []
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                connection.execute("ALTER FUNCTION search_interactions OWNER TO CURRENT_USER")
    finally:
        with psycopg.connect(place.admin_url, autocommit=True) as connection:
            connection.execute("DELETE FROM timeline_entry WHERE interaction_id LIKE 'many-%'")
