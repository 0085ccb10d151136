"""Whose customers are, who stands in while somebody is away, and how everything of one employee becomes another's."""

from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from google.protobuf.field_mask_pb2 import FieldMask
from hypothesis import given, settings
from hypothesis import strategies as st

from chassis import calls
from chassis.convert import to_timestamp
from chassis.db import Database
from chassis.errors import AlreadyExists, FailedPrecondition, InvalidArgument, NotFound
from chassis.types import new_id
from chassis.unit import Unit
from customers.agreement import store as agreements
from customers.interaction.handover import HAND_OVER, NOBODY_STANDS_IN, HandingOver
from customers.interaction.ownership import HandOver, HandOverState
from customers.interaction.store import Timeline
from customers.interaction.substitution import Away, Obstacle, looked_after_by, standing_in
from customers.task.domain import WorkItem
from svyaz.customers.v1 import customers_pb2, responsibility_pb2, task_pb2
from svyaz.type.v1 import requests_pb2
from tests.customers.conftest import CUSTOMER
from tests.customers.test_agreement import agreed
from tests.customers.test_interaction import party, said, timeline
from tests.customers.test_merge import known, merged, parted
from tests.serving import Caller

RESPONSIBILITY = "svyaz.customers.v1.ResponsibilityService/"
TASK = "svyaz.customers.v1.TaskService/"
# The night in which Europe's clocks went an hour ahead: its day is one of 23 hours.
SPRING = datetime(2026, 3, 29, 0, 30, tzinfo=UTC)
CUSTOMERS, ITEMS, PLANNED = (
    responsibility_pb2.RESPONSIBILITY_KIND_CUSTOMER,
    responsibility_pb2.RESPONSIBILITY_KIND_WORK_ITEM,
    responsibility_pb2.RESPONSIBILITY_KIND_PLANNED_INTERACTION,
)


@pytest.fixture
def staff() -> Callable[[str], str]:
    """Employees of this test alone: `staff("aida")`."""
    test = new_id()
    return lambda name: f"{name}-{test}"


def customer_of(agent: Caller, owner: str, team: str = "") -> str:
    made = agent(
        f"{CUSTOMER}CreateCustomer",
        customer=customers_pb2.Customer(name="Айда", engaged_party=party("p", "x", "Individual")),
    )
    agent(f"{RESPONSIBILITY}SetCustomerOwner", customer_id=made.id, owner=owner, team=team)
    return str(made.id)


def absent(agent: Caller, employee: str, substitute: str | None = None, **values: Any) -> Any:
    period = {"starts_at": to_timestamp(SPRING), "ends_at": to_timestamp(SPRING + timedelta(days=1))}
    wanted = responsibility_pb2.Absence(**{"employee": employee, "substitute": substitute, **period, **values})
    return agent(f"{RESPONSIBILITY}CreateAbsence", absence=wanted)


def now_absent(agent: Caller, database: Database, employee: str, substitute: str | None = None, **values: Any) -> Any:
    """One who is away since an hour ago; his timer has gone off."""
    since = {"starts_at": to_timestamp(datetime.now(UTC) - timedelta(hours=1)), "ends_at": None}
    made = absent(agent, employee, substitute, **{**since, **values})
    background(database, lambda unit: handing_over().turn(made.id, unit))
    return agent(f"{RESPONSIBILITY}GetAbsence", id=made.id)


def responsible(agent: Caller, customer: str, at: datetime | None = None) -> Any:
    more = {"at": to_timestamp(at)} if at is not None else {}
    return agent(f"{RESPONSIBILITY}GetResponsibleEmployee", customer_id=customer, **more)


def looked_after(agent: Caller, employee: str, kind: int, **more: Any) -> list[tuple[str, str]]:
    """Owner and id of each thing, through pages of two."""
    found: list[tuple[str, str]] = []
    after = ""
    while not found or after:
        page = agent(
            f"{RESPONSIBILITY}ListResponsibilities", employee=employee, kind=kind, after=after, limit=2, **more
        )
        for item in page.items:
            what = getattr(item, item.WhichOneof("what"))
            found.append((item.owner, what.customer_id if kind == CUSTOMERS else what.id))
        after = page.next_after
        if not page.items:
            break
    return found


def handing_over(at_once: int = 100) -> HandingOver:
    return HandingOver(Timeline(lambda branch: "KG"), agreements.hand_over, at_once)


def background(database: Database, work: Callable[[Unit], Any]) -> Any:
    with calls.using(calls.Call.background("customers", "test", branches=("bishkek",))), database.unit() as unit:
        return work(unit)


# --- who stands in ---------------------------------------------------------------------------------------------------

_NAMES = st.sampled_from("abcdef")
_AWAY = st.dictionaries(_NAMES, st.none() | st.sampled_from("abcdefgh")).map(
    lambda drawn: {who: Away(who, None if instead == who else instead) for who, instead in drawn.items()}
)


@settings(max_examples=60)
@given(owner=st.none() | _NAMES, away=_AWAY)
def test_whoever_stands_in_is_there_and_a_chain_names_nobody_twice(owner: str | None, away: dict[str, Away]) -> None:
    standing = standing_in(owner, None, away)
    assert len(set(standing.chain)) == len(standing.chain) <= len(away) + 1
    assert (standing.employee is None) == (standing.obstacle is not None)
    assert all(away[one].substitute == other for one, other in zip(standing.chain, standing.chain[1:], strict=False))
    if standing.employee is not None:
        assert standing.employee not in away
        assert standing.chain[-1] == standing.employee
    elif standing.obstacle is Obstacle.CYCLE:
        assert away[standing.chain[-1]].substitute in standing.chain
    elif standing.obstacle is Obstacle.NO_SUBSTITUTE:
        assert away[standing.chain[-1]].substitute is None
    else:
        assert owner is None


@settings(max_examples=60)
@given(away=_AWAY)
def test_everybodys_things_are_looked_after_by_one_or_by_nobody(away: dict[str, Away]) -> None:
    """The view from the one end agrees with that from the other: nothing is seen twice, nothing is forgotten."""
    everybody = "abcdefgh"
    after = {who: looked_after_by(who, away) for who in everybody}
    for owner in everybody:
        standing = standing_in(owner, None, away)
        assert [who for who in everybody if owner in after[who]] == (
            [standing.employee] if standing.employee is not None else []
        )


def test_the_team_named_last_on_the_way_takes_over() -> None:
    away = {"a": Away("a", "b", "sales"), "b": Away("b", None, None)}
    assert standing_in("a", "care", away).team == "sales"
    assert standing_in("b", "care", away).team == "care"


def test_an_owner_is_stood_in_for_from_the_first_instant_to_before_the_last(
    agent: Caller, staff: Callable[[str], str]
) -> None:
    aida, bek, cholpon = map(staff, ("aida", "bek", "cholpon"))
    customer = customer_of(agent, aida, "care")
    planned = said(agent, customer, status="planned")
    item = agent(f"{TASK}CreateWorkItem", work_item=task_pb2.WorkItem(kind="call", customer_id=customer, assignee=aida))
    # Entered ahead of time; who stands in is away himself for part of it.
    absent(agent, aida, bek)
    middle = SPRING + timedelta(hours=12)
    absent(agent, bek, cholpon, starts_at=to_timestamp(middle))
    ends = SPRING + timedelta(days=1)
    just = timedelta(microseconds=1)
    expected = {
        SPRING - just: [aida],
        SPRING: [aida, bek],
        middle - just: [aida, bek],
        middle: [aida, bek, cholpon],
        ends - just: [aida, bek, cholpon],
        ends: [aida],
    }
    for at, chain in expected.items():
        answer = responsible(agent, customer, at)
        assert (answer.owner, answer.employee, list(answer.chain)) == (aida, chain[-1], chain), at
        for who in (aida, bek, cholpon):
            mine = [(aida, customer)] if who == chain[-1] else []
            assert looked_after(agent, who, CUSTOMERS, at=to_timestamp(at)) == mine, (who, at)
            assert looked_after(agent, who, ITEMS, at=to_timestamp(at)) == ([(aida, item.id)] if mine else [])
            assert looked_after(agent, who, PLANNED, at=to_timestamp(at)) == ([(aida, planned.id)] if mine else [])


def test_the_timeline_says_whose_a_plan_is_and_who_sees_to_it(
    agent: Caller, database: Database, staff: Callable[[str], str]
) -> None:
    aida, bek = staff("aida"), staff("bek")
    customer = customer_of(agent, aida)
    said(agent, customer, status="planned")
    named = said(agent, customer, status="planned", owner=bek)
    assert [(one.owner, one.responsible) for one in timeline(agent, customer).planned] == [(aida, aida), (bek, bek)]
    now_absent(agent, database, aida, bek)
    assert [(one.owner, one.responsible) for one in timeline(agent, customer).planned] == [(aida, bek), (bek, bek)]
    assert looked_after(agent, bek, PLANNED)[1] == (bek, named.id)


def events_of(database: Database, id: str) -> list[str]:
    rows = background(
        database,
        lambda unit: (
            unit.cursor().execute("SELECT type FROM event WHERE aggregate_id = %s ORDER BY version", [id]).fetchall()
        ),
    )
    return [kind for (kind,) in rows]


def undone(agent: Caller, absence_id: str) -> list[Any]:
    filters = [
        requests_pb2.Filter(path="kind", value=[NOBODY_STANDS_IN]),
        requests_pb2.Filter(path="subject_id", value=[absence_id]),
        requests_pb2.Filter(path="state", value=["open", "inProgress"]),
    ]
    return list(agent(f"{TASK}ListWorkItems", filter=filters).items)


def test_a_merged_customer_is_one_employees_and_what_is_planned_is_listed_once(
    agent: Caller, staff: Callable[[str], str]
) -> None:
    aida, bek, cholpon = (staff(name) for name in ("aida", "bek", "cholpon"))
    absorbed, survivor, third = customer_of(agent, aida), customer_of(agent, bek), customer_of(agent, cholpon)
    plan = said(agent, absorbed, status="planned").id
    merge = merged(agent, absorbed, survivor)
    later = merged(agent, survivor, third)
    # He is cholpon's now: nobody else looks after him, nor after what was planned for him under another name.
    assert [looked_after(agent, one, CUSTOMERS) for one in (aida, bek, cholpon)] == [[], [], [(cholpon, third)]]
    assert [looked_after(agent, one, PLANNED) for one in (aida, bek, cholpon)] == [[], [], [(cholpon, plan)]]
    parted(agent, later.id)
    assert [looked_after(agent, one, PLANNED) for one in (aida, bek, cholpon)] == [[], [(bek, plan)], []]
    parted(agent, merge.id)
    assert [looked_after(agent, one, PLANNED) for one in (aida, bek)] == [[(aida, plan)], []]
    # A survivor whom nobody was given is whose the other one is.
    nobodys = known(agent).id
    merged(agent, absorbed, nobodys)
    assert responsible(agent, nobodys).employee == aida
    assert looked_after(agent, aida, CUSTOMERS) == [(aida, absorbed)]
    assert looked_after(agent, aida, PLANNED) == [(aida, plan)]


def test_when_nobody_stands_in_the_team_is_told(agent: Caller, database: Database, staff: Callable[[str], str]) -> None:
    aida, bek, cholpon = map(staff, ("aida", "bek", "cholpon"))
    customer = customer_of(agent, aida, "care")
    first = now_absent(agent, database, aida, bek, team=staff("sales"))
    assert first.state == responsibility_pb2.ABSENCE_STATE_CURRENT
    assert undone(agent, first.id) == []
    second = now_absent(agent, database, bek)
    answer = responsible(agent, customer)
    assert (answer.owner, answer.employee, answer.team, answer.obstacle) == (aida, "", staff("sales"), "NO_SUBSTITUTE")
    # Till then it is in the team's queue, beside what is nobody's in particular.
    sales, other = staff("sales"), staff("care")
    assert looked_after(agent, "", CUSTOMERS, team=sales) == [(aida, customer)]
    assert looked_after(agent, "", CUSTOMERS, team=other) == []
    assert looked_after(agent, bek, CUSTOMERS) == looked_after(agent, aida, CUSTOMERS) == []
    call = agent(f"{TASK}CreateWorkItem", work_item=task_pb2.WorkItem(kind="call", customer_id=customer, team=sales))
    mine = agent(f"{TASK}CreateWorkItem", work_item=task_pb2.WorkItem(kind="mail", customer_id=customer, assignee=aida))
    assert [one for one in looked_after(agent, "", ITEMS, team=sales) if one[1] in (call.id, mine.id)] == [
        ("", call.id),
        (aida, mine.id),
    ]
    # At the end of the chain: there somebody has to be found.
    (item,) = undone(agent, second.id)
    assert (item.priority, undone(agent, first.id)) == (1, [])
    changed = responsibility_pb2.Absence(id=second.id, substitute=aida)
    agent(f"{RESPONSIBILITY}UpdateAbsence", absence=changed, update_mask=FieldMask(paths=["substitute"]))
    answer = responsible(agent, customer)
    assert (answer.employee, answer.obstacle, list(answer.chain)) == ("", "CYCLE", [aida, bek])
    assert undone(agent, second.id)
    changed.substitute = cholpon
    agent(f"{RESPONSIBILITY}UpdateAbsence", absence=changed, update_mask=FieldMask(paths=["substitute"]))
    assert responsible(agent, customer).employee == cholpon
    assert undone(agent, first.id) == undone(agent, second.id) == []
    agent(f"{RESPONSIBILITY}DeleteAbsence", id=second.id)
    assert responsible(agent, customer).employee == bek
    past = responsibility_pb2.Absence(id=first.id, ends_at=to_timestamp(datetime.now(UTC) - timedelta(minutes=1)))
    agent(f"{RESPONSIBILITY}UpdateAbsence", absence=past, update_mask=FieldMask(paths=["ends_at"]))
    assert responsible(agent, customer).employee == aida


def test_an_absence_that_isnt_to_be_asks_for_nobody_any_more(
    agent: Caller, database: Database, staff: Callable[[str], str]
) -> None:
    aida, bek = staff("aida"), staff("bek")
    one = now_absent(agent, database, aida, bek)
    other = now_absent(agent, database, bek)
    assert undone(agent, other.id)
    agent(f"{RESPONSIBILITY}DeleteAbsence", id=other.id)
    assert undone(agent, one.id) == undone(agent, other.id) == []


def test_an_absence_begins_and_ends_once(agent: Caller, database: Database, staff: Callable[[str], str]) -> None:
    over = absent(agent, staff("aida"))
    for _ in range(4):
        background(database, lambda unit: handing_over().turn(over.id, unit))
    assert events_of(database, over.id) == ["AbsenceCreateEvent", "AbsenceBeginEvent", "AbsenceEndEvent"]
    assert undone(agent, over.id) == []
    assert agent(f"{RESPONSIBILITY}GetAbsence", id=over.id).state == responsibility_pb2.ABSENCE_STATE_ENDED


def test_nobody_is_away_twice_at_a_time(agent: Caller, caller_of: Any, staff: Callable[[str], str]) -> None:
    aida = staff("aida")
    first = absent(agent, aida, reason="отпуск")
    ends = SPRING + timedelta(days=1)
    with pytest.raises(FailedPrecondition) as refusal:
        absent(agent, aida, starts_at=to_timestamp(ends - timedelta(seconds=1)), ends_at=None)
    assert (refusal.value.reason, refusal.value.metadata["id"]) == ("ABSENCES_OVERLAP", first.id)
    following = absent(agent, aida, starts_at=to_timestamp(ends), ends_at=None)
    earlier = responsibility_pb2.Absence(id=following.id, starts_at=to_timestamp(SPRING))
    with pytest.raises(FailedPrecondition):
        agent(f"{RESPONSIBILITY}UpdateAbsence", absence=earlier, update_mask=FieldMask(paths=["starts_at"]))
    with pytest.raises(InvalidArgument, match="stands in for himself"):
        absent(agent, staff("bek"), staff("bek"))
    with pytest.raises(InvalidArgument, match="before it starts"):
        absent(agent, staff("bek"), ends_at=to_timestamp(SPRING))
    with pytest.raises(NotFound):
        caller_of("osh")(f"{RESPONSIBILITY}GetAbsence", id=first.id)


# --- hand-over -------------------------------------------------------------------------------------------------------


def steps(database: Database, hand_over_id: str, at_once: int) -> Iterator[None]:
    """Carries the hand-over out, step by step."""
    while True:
        state = background(database, lambda unit: unit.get(HandOver, hand_over_id).state)
        if state is not HandOverState.IN_PROGRESS:
            return
        background(database, lambda unit: handing_over(at_once).step(hand_over_id, unit))
        yield


def handed(agent: Caller, one: str, other: str, **more: Any) -> Any:
    return agent(f"{RESPONSIBILITY}HandOverEverything", from_employee=one, to_employee=other, **more)


def test_everything_open_changes_hands_step_by_step_and_nothing_twice(
    agent: Caller, database: Database, staff: Callable[[str], str]
) -> None:
    aida, bek = staff("aida"), staff("bek")
    customers = [customer_of(agent, aida, "care") for _ in range(5)]
    others = customer_of(agent, bek)
    items = [
        agent(f"{TASK}CreateWorkItem", work_item=task_pb2.WorkItem(kind="call", customer_id=one, assignee=aida))
        for one in customers
    ]
    agent(f"{TASK}StartWorkItem", id=items[0].id)
    agent(f"{TASK}CompleteWorkItem", id=items[1].id)
    plans = [said(agent, customers[0], status="planned", owner=aida) for _ in range(3)]
    past = said(agent, customers[0], owner=aida)
    absence = absent(agent, staff("cholpon"), aida)
    begun = handed(agent, aida, bek, note="Любит, чтобы звонили утром", request_id="once")
    assert handed(agent, aida, bek, note="Любит, чтобы звонили утром", request_id="once") == begun
    with pytest.raises(AlreadyExists) as refusal:
        handed(agent, aida, staff("cholpon"))
    assert refusal.value.reason == "HAND_OVER_RUNNING"
    walk = steps(database, begun.id, at_once=2)
    next(walk)
    # What comes meanwhile goes with the rest; and who dies between two steps has lost nothing.
    late = customer_of(agent, aida)

    def dies(unit: Unit) -> None:
        handing_over(2).step(begun.id, unit)
        unit.flush()
        raise RuntimeError("killed")

    with pytest.raises(RuntimeError):
        background(database, dies)
    assert len(list(walk)) >= 2
    done = agent(f"{RESPONSIBILITY}GetHandOver", id=begun.id)
    assert done.state == responsibility_pb2.HAND_OVER_STATE_COMPLETED
    assert (done.portfolio, done.work_items, done.planned_interactions) == (6, 4, 3)
    for kind in (CUSTOMERS, ITEMS, PLANNED):
        assert looked_after(agent, aida, kind) == []
    assert looked_after(agent, bek, CUSTOMERS) == [(bek, one) for one in _by_ownership(agent, bek)]
    assert {one for _, one in looked_after(agent, bek, CUSTOMERS)} == {*customers, others, late}
    assert {one for _, one in looked_after(agent, bek, ITEMS)} == {items[0].id, *(item.id for item in items[2:])}
    assert {one for _, one in looked_after(agent, bek, PLANNED)} == {plan.id for plan in plans}
    for customer in (*customers, late):
        notes = [one for one in timeline(agent, customer).past if one.interaction.direction == "internal"]
        assert [note.interaction.description for note in notes] == ["Любит, чтобы звонили утром"]
    assert not timeline(agent, others).past
    # What was, was hers.
    kept = agent("svyaz.customers.v1.InteractionService/GetPartyInteraction", id=past.id)
    assert [one.id for one in kept.related_party if one.role == "agent"] == [aida]
    closed = agent(f"{TASK}GetWorkItem", id=items[1].id)
    assert closed.assignee == aida
    assert events_of(database, begun.id)[-1] == "HandOverStateChangeEvent"
    timers = background(
        database,
        lambda unit: (
            unit.cursor()
            .execute(
                "SELECT 1 FROM timer WHERE aggregate_id = %s AND purpose = %s AND due > now()", [begun.id, HAND_OVER]
            )
            .fetchall()
        ),
    )
    assert timers == []
    assert agent(f"{RESPONSIBILITY}GetAbsence", id=absence.id).substitute == bek
    # Over: there may be another one.
    assert handed(agent, aida, bek).id != begun.id


def _by_ownership(agent: Caller, owner: str) -> Sequence[str]:
    listed = agent(
        f"{RESPONSIBILITY}ListCustomerOwnerships",
        filter=[requests_pb2.Filter(path="owner", value=[owner])],
        sort=["id"],
    )
    return [one.customer_id for one in listed.items]


def test_agreements_that_arent_over_change_hands_too(
    agent: Caller, database: Database, staff: Callable[[str], str]
) -> None:
    aida, bek = staff("aida"), staff("bek")

    def with_owner(role: str, **values: Any) -> Any:
        return agreed(agent, engaged_party=[party("c-1", "customer"), party(aida, role, "Employee")], **values)

    running, negotiated = with_owner("Account manager"), with_owner("owner", status="in process")
    kept = [with_owner("owner", status="expired"), with_owner("witness")]
    begun = handed(agent, aida, bek)
    list(steps(database, begun.id, at_once=1))
    done = agent(f"{RESPONSIBILITY}GetHandOver", id=begun.id)
    assert (done.state, done.agreements) == (responsibility_pb2.HAND_OVER_STATE_COMPLETED, 2)

    def engaged(one: Any) -> str:
        return str(agent("svyaz.customers.v1.AgreementService/GetAgreement", id=one.id).engaged_party[1].id)

    assert [engaged(one) for one in (running, negotiated, *kept)] == [bek, bek, aida, aida]
    assert events_of(database, running.id)[-1] == "AgreementHandOverEvent"


def test_what_is_handed_over_never_comes_back(agent: Caller, database: Database, staff: Callable[[str], str]) -> None:
    aida, bek, cholpon = staff("aida"), staff("bek"), staff("cholpon")
    running = [handed(agent, aida, bek), handed(agent, bek, cholpon)]
    for employee in (aida, bek):
        with pytest.raises(FailedPrecondition) as refusal:
            handed(agent, cholpon, employee)
        assert (refusal.value.reason, refusal.value.violations[0].field) == ("HAND_OVER_CIRCLE", "to_employee")
    for one in running:
        list(steps(database, one.id, at_once=10))
    # Whoever returns is given everything again.
    handed(agent, cholpon, aida)


def test_a_hand_over_that_finds_nothing_is_over_at_once(
    agent: Caller, database: Database, staff: Callable[[str], str]
) -> None:
    begun = handed(agent, staff("nobody"), staff("bek"))
    assert len(list(steps(database, begun.id, at_once=100))) == 1
    with pytest.raises(InvalidArgument) as refusal:
        handed(agent, staff("bek"), staff("bek"))
    assert refusal.value.reason == "SAME_EMPLOYEE"
    with pytest.raises(InvalidArgument):
        handed(agent, "", staff("bek"))


def test_what_somebody_else_is_changing_is_waited_for(
    agent: Caller, database: Database, staff: Callable[[str], str]
) -> None:
    aida, bek = staff("aida"), staff("bek")
    customer = customer_of(agent, aida)
    item = agent(f"{TASK}CreateWorkItem", work_item=task_pb2.WorkItem(kind="call", customer_id=customer, assignee=aida))
    begun = handed(agent, aida, bek)

    def while_locked(unit: Unit) -> None:
        unit.load(WorkItem, "id = %(id)s FOR UPDATE", {"id": item.id})
        for _ in range(3):
            background(database, lambda other: handing_over().step(begun.id, other))
        assert (
            agent(f"{RESPONSIBILITY}GetHandOver", id=begun.id).state == responsibility_pb2.HAND_OVER_STATE_IN_PROGRESS
        )

    background(database, while_locked)
    assert len(list(steps(database, begun.id, at_once=100))) == 2
    assert agent(f"{TASK}GetWorkItem", id=item.id).assignee == bek


def test_a_customer_is_somebodys_only_where_he_is(agent: Caller, caller_of: Any) -> None:
    theirs = customer_of(caller_of("osh"), "temir")
    with pytest.raises(InvalidArgument) as refusal:
        agent(f"{RESPONSIBILITY}SetCustomerOwner", customer_id=theirs, owner="aida")
    assert refusal.value.reason == "UNKNOWN_CUSTOMER"
    assert responsible(agent, theirs).obstacle == "NO_OWNER"
    assert responsible(caller_of("osh"), theirs).employee == "temir"
    again = caller_of("osh")(f"{RESPONSIBILITY}SetCustomerOwner", customer_id=theirs, owner="")
    assert (again.owner, responsible(caller_of("osh"), theirs).owner) == ("", "")
