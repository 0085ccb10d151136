"""Timers: rows that say when something is to be thought of again; any replica takes those that are due, without NATS.

Setting a timer again replaces it. What was taken for an earlier setting then finds nothing, and does nothing.
"""

import logging
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql

from chassis import telemetry
from chassis.db import Database
from chassis.events import DATABASE_ERRORS, Failure, Kind, acting, attempt, bus_tables
from chassis.events import TIMER_ATTEMPTS as ATTEMPTS
from chassis.threads import keep_running
from chassis.unit import Unit

log = logging.getLogger(__name__)

# A timer's handler: the id of the aggregate, and the transaction in which the timer goes away.
TimerHandler = Callable[[str, Unit], None]
# What may read together what the handlers of a purpose would each read by itself, for several ids in one transaction.
ReadAhead = Callable[[str, Sequence[str], Unit], None]

POLL_SECONDS = 1.0
SHORTEST_PAUSE = 0.01
# Looks that commits ask for are at least so far apart. The first comes at once; under load what shares a look shares
# its transactions too, and a timer costs half of what it does alone.
SPACING_SECONDS = 0.05
# Timers of each purpose taken at a time, per worker: a flood of one purpose holds up no other. Not a share of what
# there are hands for, which would be one or two where there are many purposes, of which most have nothing due.
QUEUED = 16
# Timers carried out in one transaction, whose beginning and end cost as much as a usual handler; no more of them are
# begun in one that has lasted so long, since its changes are seen, and its locks let go, only at its end.
TURN, TURN_SECONDS = 8, 0.04
# A worker that has been at its turn for so long is taken to wait for something, and one of so many others takes its
# place. A purpose never takes the last hand while another hand is at it, nor one of as many as there are workers once
# it is stuck: what is slow holds up its own purpose (all systems that orders are carried out by are one), not others.
STUCK_SECONDS, SPARE = 0.25, 3
# From then on that more is carried out counts for more than what else waits: nothing is waited for, and twice as many
# are at it.
LATE_SECONDS = 1.0
# What a runner has taken is free again after so long, should the runner die.
CLAIM_SECONDS = 30.0
OUTAGE_SECONDS = 5.0
LONGEST_DELAY = 300.0
GIVEN_UP_SECONDS = 3600.0
MEASURE_SECONDS = 5.0
# Whoever sets a timer that is due now wakes the timers, not the relay.
_TOPIC = "timers"


_SET = """
    INSERT INTO timer (aggregate_id, purpose, due, generation, branch, attempts, not_before)
    VALUES (%(aggregate_id)s, %(purpose)s, %(due)s, 1, %(branch)s, 0, %(due)s)
    ON CONFLICT (aggregate_id, purpose) DO UPDATE SET
        due = excluded.due, generation = timer.generation + 1, branch = excluded.branch, attempts = 0,
        last_error = NULL, not_before = excluded.not_before
"""
# Whoever carries it out meanwhile is waited for: his deletion leaves room for a new one.
_SET_BY = """
    INSERT INTO timer (aggregate_id, purpose, due, generation, branch, attempts, not_before)
    VALUES (%(aggregate_id)s, %(purpose)s, %(due)s, 1, %(branch)s, 0, %(due)s)
    ON CONFLICT (aggregate_id, purpose) DO UPDATE SET
        due = least(timer.due, excluded.due),
        generation = timer.generation + (excluded.due < timer.due)::int,
        not_before = CASE WHEN excluded.due < timer.due THEN excluded.due ELSE timer.not_before END
"""
_CANCEL = "DELETE FROM timer WHERE aggregate_id = %(aggregate_id)s AND purpose = %(purpose)s"


def set_timer(unit: Unit, aggregate_id: str, purpose: str, due: datetime, branch: str) -> None:
    """Sets the aggregate's timer for the purpose in the unit's transaction, instead of one that is set already."""
    _write(_SET, unit, aggregate_id, purpose, due, branch)


def set_timer_by(unit: Unit, aggregate_id: str, purpose: str, due: datetime, branch: str) -> None:
    """Sets the aggregate's timer for the purpose unless it is due by then already: what is asked for many times in a
    while is done once, and not put off by each time."""
    _write(_SET_BY, unit, aggregate_id, purpose, due, branch)


def _write(statement: str, unit: Unit, aggregate_id: str, purpose: str, due: datetime, branch: str) -> None:
    unit.later(statement, {"aggregate_id": aggregate_id, "purpose": purpose, "due": due, "branch": branch})
    if (due - unit.at).total_seconds() < POLL_SECONDS:
        unit.after_commit(partial(unit.database.wake, _TOPIC))


def cancel_timer(unit: Unit, aggregate_id: str, purpose: str) -> None:
    """Takes the timer away, if there is one."""
    unit.later(_CANCEL, {"aggregate_id": aggregate_id, "purpose": purpose})


def last_error(unit: Unit, aggregate_id: str, purpose: str, attempts: int) -> str | None:
    """Why the timer that is being carried out has failed before, if it has so often: for whom an end that is seen is
    better than the next attempt."""
    table = bus_tables(unit.database.metadata).timer
    found: str | None = unit.session.scalar(
        sa.select(sa.func.coalesce(table.c.last_error, "")).where(
            table.c.aggregate_id == aggregate_id, table.c.purpose == purpose, table.c.attempts >= attempts
        )
    )
    return found


@dataclass(frozen=True, slots=True)
class _Claim:
    """A timer as it was when a runner took it."""

    # Until then it is ours. Whoever claims or puts it off after that writes another instant.
    until: datetime
    aggregate_id: str
    purpose: str
    due: datetime
    generation: int
    branch: str
    attempts: int
    # Since when it could be carried out: after `due` where it was put off.
    waiting_since: datetime


@dataclass(slots=True, eq=False)
class _Begun:
    """A turn that somebody is at."""

    turn: Sequence[_Claim]
    # None: what is more urgent is waited for.
    at: float | None = None

    @property
    def purpose(self) -> str:
        """What its timers are for."""
        return self.turn[0].purpose

    def stuck(self) -> bool:
        """Whether it has lasted so long that it seems to wait for something."""
        return self.at is not None and time.monotonic() - self.at >= STUCK_SECONDS


class Timers:
    """Runs the handlers of due timers; one for each purpose. A purpose without a handler here is left to others."""

    def __init__(
        self,
        database: Database,
        handlers: Mapping[str, TimerHandler],
        *,
        service: str,
        workers: int = 4,
        read_ahead: ReadAhead = lambda purpose, ids, unit: None,
        before_turn: Callable[[], None] = lambda: None,
    ) -> None:
        """`workers`: how many turns are carried out at a time, those that seem stuck not counted, and twice as many
        while timers are late; all in all never more than half as many as the service has connections for by itself.
        `before_turn` is called before each that isn't late, and may wait for a moment for what is more urgent."""
        self._database = database
        self._handlers = handlers
        self._read_ahead = read_ahead
        self._before_turn = before_turn
        self._service = service
        self._table = bus_tables(database.metadata).timer
        self._workers = workers
        # Those who are stuck hold a connection each, and others need some too.
        self._hands = max(1, min(2 * workers + SPARE, database.connections // 2))
        if workers > self._hands:
            fields = {"workers": workers, "hands": self._hands, "connections": database.connections}
            log.warning("fewer timers are carried out at a time than there are workers", extra={"fields": fields})
        # With no more than these still to be carried out we look again: nobody waits for the look, and under load it
        # finds enough for whole turns.
        self._enough = workers * QUEUED // 2
        self._executor: ThreadPoolExecutor | None = None
        # Somebody has set a timer; there are hands for what the last look left.
        self._wake, self._dry = threading.Event(), threading.Event()
        self._looked_at = 0.0
        self._stopping = False
        # Turns that nobody is at yet, and those that somebody is at.
        self._ready: deque[Sequence[_Claim]] = deque()
        self._begun: list[_Begun] = []
        # For which purposes the last look may have left something, for want of hands: whoever ends a turn of one of
        # them wakes us.
        self._left_over: Collection[str] = ()
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._measured_at: datetime | None = None
        database.subscribe(self._wake.set, _TOPIC)

    def start(self) -> None:
        """Begins to look for due timers."""
        self._stopping = False
        self._executor = ThreadPoolExecutor(self._hands, thread_name_prefix="timer")
        self._thread = keep_running(partial(self._run, self._executor), "timers")
        self._thread.start()

    def stop(self) -> None:
        """Lets the handlers that run end, and gives back what has been taken beyond that."""
        with self._lock:
            self._stopping = True
        self._dry.set()
        self._wake.set()
        if self._thread is not None:
            self._thread.join()
        if self._executor is not None:
            self._executor.shutdown()
        self._give_back()

    def _give_back(self) -> None:
        """What has been taken and not begun is for other replicas at once."""
        with self._lock:
            claims = [claim for turn in self._ready for claim in turn]
            self._ready.clear()
        if not claims:
            return
        back = {
            "aggregates": [claim.aggregate_id for claim in claims],
            "purposes": [claim.purpose for claim in claims],
            "untils": [claim.until for claim in claims],
            "sinces": [claim.waiting_since for claim in claims],
        }
        try:
            with acting(self._service, "timers"), self._database.at_once() as connection:
                connection.execute(_GIVE_BACK, back)
        except DATABASE_ERRORS as error:
            log.warning("taken timers wait for their claims to end", extra={"fields": {"error": str(error)}})

    def _run(self, executor: ThreadPoolExecutor) -> None:
        while True:
            self._dry.clear()
            self._wake.clear()
            # After these: who stops us in between isn't forgotten.
            if self._stopping:
                return
            try:
                pause = self._round(executor)
            except DATABASE_ERRORS as error:
                log.warning("the timers can't be read", extra={"fields": {"error": str(error)}})
                pause = POLL_SECONDS
            if self._wake.wait(pause):
                self._dry.wait(max(0.0, self._looked_at + SPACING_SECONDS - time.monotonic()))

    def _round(self, executor: ThreadPoolExecutor) -> float:
        """Hands out what is due, as far as there are hands; how many seconds there is nothing to do then."""
        # Before the count: who ends after it sees that he is waited for.
        self._left_over = self._handlers.keys()
        pause = POLL_SECONDS
        if self._wants_more() and (purposes := self._moving_purposes()):
            self._looked_at = time.monotonic()
            claims, pause = self._claim(self._workers * QUEUED, purposes)
            if pause > 0:
                self._left_over = self._handlers.keys() - purposes
            with self._lock:
                self._ready.extend(turns(claims))
        self._hand_out(executor)
        self._measure()
        # Whoever is at a turn may get stuck.
        return min(pause, STUCK_SECONDS) if self._ready or self._begun else pause

    def _hand_out(self, executor: ThreadPoolExecutor) -> None:
        """Gives turns to those who have none."""
        with self._lock:
            while not self._stopping and (number := self._next()) is not None:
                begun = _Begun(self._ready[number])
                # Who is given it needs the lock to give it back.
                executor.submit(self._take, executor, begun)
                self._begun.append(begun)
                del self._ready[number]

    def _next(self) -> int | None:
        """Which of the turns that nobody is at is to be begun now."""
        slow, at = self._slow(), {begun.purpose for begun in self._begun}
        free = self._hands - len(self._begun)
        moving = len(self._begun) - sum(slow.values())
        for number, turn in enumerate(self._ready):
            if free <= self._kept_free(turn[0].purpose, slow, at):
                continue
            if moving < self._workers * (2 if self._is_late(turn) else 1):
                return number
        return None

    def _kept_free(self, purpose: str, slow: Collection[str], at: Collection[str]) -> int:
        """How many hands stay free for the other purposes when a turn of this one is begun."""
        if purpose in slow:
            return min(self._workers, self._hands - 1)
        return 1 if purpose in at else 0

    def _slow(self) -> Mapping[str, int]:
        """The purposes of turns that are stuck, and how many of each."""
        return Counter(begun.purpose for begun in self._begun if begun.stuck())

    def _is_late(self, turn: Sequence[_Claim]) -> bool:
        waiting_since = min(claim.waiting_since for claim in turn)
        return (self._database.clock.now() - waiting_since).total_seconds() > LATE_SECONDS

    def _wants_more(self) -> bool:
        """Whether so few of the timers that have been taken will be carried out soon that we look for others."""
        with self._lock:
            slow = self._slow()
            moving = [begun.turn for begun in self._begun if not begun.stuck()]
            ready = [turn for turn in self._ready if turn[0].purpose not in slow]
            return sum(map(len, (*ready, *moving))) <= self._enough

    def _moving_purposes(self) -> Sequence[str]:
        """All but those that are stuck and have more to do: what is taken for them waits for longer than need be."""
        with self._lock:
            slow = self._slow().keys() & {turn[0].purpose for turn in self._ready}
            return [purpose for purpose in self._handlers if purpose not in slow]

    def _take(self, executor: ThreadPoolExecutor, begun: "_Begun") -> None:
        """Carries out what of a turn goes into a transaction; the rest queues up again, behind the other purposes."""
        left: Sequence[_Claim] = ()
        try:
            if not self._is_late(begun.turn):
                self._before_turn()
            begun.at = time.monotonic()
            left = self._handle(begun.turn)
        except Exception:
            # Nobody asks the executor. What it was at is taken again when its claim ends.
            log.exception("a turn of timers failed", extra={"fields": {"purpose": begun.purpose}})
        finally:
            with self._lock:
                self._begun.remove(begun)
                if left:
                    self._ready.append(left)
            self._hand_out(executor)
        if begun.purpose in self._left_over and self._wants_more():
            self._dry.set()
            self._wake.set()

    def _claim(self, batch: int, purposes: Sequence[str] | None = None) -> tuple[list[_Claim], float]:
        """Takes what is due for those purposes (None: all), for everybody else out of the way for a while; and after
        how many seconds to look again.

        Being alone isn't decided here but by the deletion in the handler's transaction.
        """
        now = self._database.clock.now()
        until = now + timedelta(seconds=CLAIM_SECONDS)
        purposes = list(self._handlers) if purposes is None else purposes
        wanted = {"purposes": purposes, "now": now, "until": until, "batch": batch}
        with acting(self._service, "timers"), self._database.at_once() as connection:
            claimed = connection.execute(_CLAIM, wanted, prepare=True)
            # What is still due after the claim was locked by somebody, or is more than a batch of its purpose.
            following = connection.execute(_NEXT, wanted, prepare=True)
        claims = sorted((_Claim(until, *row) for row in claimed), key=lambda claim: (claim.due, claim.aggregate_id))
        (first,) = following.fetchone() or (None,)
        if first is None:
            return claims, POLL_SECONDS
        if claims and first <= now:
            return claims, 0.0
        # Never longer than a second: another replica may set one, or somebody move the clock.
        return claims, min(max(float((first - now).total_seconds()), SHORTEST_PAUSE), POLL_SECONDS)

    def _handle(self, turn: Sequence[_Claim]) -> Sequence[_Claim]:
        """Carries out the first timers of a turn; those that are left."""
        if self._stopping:
            return turn
        begun = attempt(partial(self._in_transaction, turn))
        if not isinstance(begun, Failure):
            return turn[begun:]
        if len(turn) == 1 or begun.kind is Kind.OUTAGE:
            for claim in turn:
                self._failed(claim, begun)
        else:
            # A failure takes everything of its transaction with it: one by one, only the bad one is put off.
            return [left for claim in turn for left in self._handle([claim])]
        return ()

    def _failed(self, claim: _Claim, failure: Failure) -> None:
        failed = attempt(lambda: self._put_off(claim, failure))
        if isinstance(failed, Failure):
            log.warning("a failed timer waits for its claim to end", extra={"fields": {"error": failed.error}})

    def _in_transaction(self, turn: Sequence[_Claim]) -> int:
        """Carries out the first timers of those, all of one purpose and branch; how many."""
        purpose, begun, done = turn[0].purpose, time.monotonic(), 0
        fired: list[_Claim] = []
        with (
            acting(self._service, f"timer/{purpose}", turn[0].branch),
            ExitStack() as span,
            self._database.unit() as unit,
        ):
            # Whoever holds the row runs the handler: it was set anew, cancelled or handled if it isn't there.
            mine = self._held(unit, turn)
            if len(mine) > 1:
                self._read_ahead(purpose, [claim.aggregate_id for claim in turn if claim.aggregate_id in mine], unit)
            for claim in turn:
                if done and time.monotonic() - begun > TURN_SECONDS:
                    break
                done += 1
                if claim.aggregate_id in mine:
                    if fired:
                        # What two timers do to the same thing is two changes, each with an event of its own.
                        unit.flush()
                        span.close()
                    # The last one's ends after the commit, which writes what that timer did.
                    span.enter_context(telemetry.tracer().start_as_current_span(f"timer {purpose}"))
                    # Before what the handler sets.
                    cancel_timer(unit, claim.aggregate_id, purpose)
                    self._handlers[purpose](claim.aggregate_id, unit)
                    fired.append(claim)
        late = telemetry.TIMER_LATENESS.labels(self._service, purpose)
        now = self._database.clock.now()
        for claim in fired:
            late.observe(max(0.0, (now - claim.due).total_seconds()))
        return done

    def _held(self, unit: Unit, turn: Sequence[_Claim]) -> Collection[str]:
        row = unit.begin(
            _HOLD,
            {
                "purpose": turn[0].purpose,
                "aggregates": [claim.aggregate_id for claim in turn],
                # The due time as well: a timer that was cancelled and set anew counts its generations from 1 again.
                "generations": [claim.generation for claim in turn],
                "dues": [claim.due for claim in turn],
                "untils": [claim.until for claim in turn],
            },
        )
        assert row is not None
        return set(row[0])

    def _put_off(self, claim: _Claim, failure: Failure) -> None:
        attempts = claim.attempts + (0 if failure.kind is Kind.OUTAGE else 1)
        if failure.kind is Kind.OUTAGE:
            delay = OUTAGE_SECONDS
        elif attempts < ATTEMPTS:
            delay = min(2.0 ** (attempts - 1), LONGEST_DELAY)
        else:
            delay = GIVEN_UP_SECONDS
            fields = {"purpose": claim.purpose, "aggregate_id": claim.aggregate_id, "error": failure.error}
            log.error("a timer keeps failing", extra={"fields": fields})
        with acting(self._service, "timers", claim.branch), self._database.unit() as unit:
            unit.session.execute(
                sa.update(self._table)
                .where(*self._same(claim))
                .values(attempts=attempts, last_error=failure.error, not_before=unit.at + timedelta(seconds=delay))
            )

    def _same(self, claim: _Claim) -> tuple[sa.ColumnElement[bool], ...]:
        table = self._table
        return (
            table.c.aggregate_id == claim.aggregate_id,
            table.c.purpose == claim.purpose,
            table.c.generation == claim.generation,
            table.c.due == claim.due,
            table.c.not_before == claim.until,
        )

    def _measure(self) -> None:
        now = self._database.clock.now()
        if self._measured_at is not None and abs((now - self._measured_at).total_seconds()) < MEASURE_SECONDS:
            return
        self._measured_at = now
        with acting(self._service, "timers"), self._database.unit() as unit:
            due, given_up = unit.session.execute(_MEASURE, {"now": now, "purposes": list(self._handlers)}).one()
        telemetry.TIMERS_DUE.labels(self._service).set(due)
        telemetry.TIMERS_GIVEN_UP.labels(self._service).set(given_up)


def turns(claims: Sequence[_Claim]) -> Iterator[Sequence[_Claim]]:
    """The claims by purpose and branch, so many at a time as go into one transaction; each kind in its turn."""
    alike: dict[tuple[str, str], list[_Claim]] = {}
    for claim in claims:
        alike.setdefault((claim.purpose, claim.branch), []).append(claim)
    longest = max(map(len, alike.values()), default=0)
    for first in range(0, longest, TURN):
        yield from (group[first : first + TURN] for group in alike.values() if first < len(group))


# In one order, so that two who hold the same wait for each other instead of deadlocking.
_HOLD = """
    SELECT ARRAY(
        SELECT timer.aggregate_id
        FROM unnest(
            %(aggregates)s::text[], %(generations)s::bigint[], %(dues)s::timestamptz[], %(untils)s::timestamptz[]
        ) AS claimed (aggregate_id, generation, due, not_before)
        JOIN timer USING (aggregate_id, generation, due, not_before)
        WHERE timer.purpose = %(purpose)s ORDER BY timer.aggregate_id FOR UPDATE OF timer
    )
"""
_CLAIM = """
    UPDATE timer SET not_before = %(until)s
    FROM (
        SELECT due.aggregate_id, due.purpose, due.not_before
        FROM unnest(%(purposes)s::text[]) AS wanted (purpose)
        CROSS JOIN LATERAL (
            SELECT aggregate_id, purpose, not_before FROM timer
            WHERE purpose = wanted.purpose AND not_before <= %(now)s
            ORDER BY not_before LIMIT %(batch)s FOR UPDATE SKIP LOCKED
        ) due
    ) claimed
    WHERE timer.aggregate_id = claimed.aggregate_id AND timer.purpose = claimed.purpose
    RETURNING timer.aggregate_id, timer.purpose, timer.due, timer.generation, timer.branch, timer.attempts,
        claimed.not_before
"""
_GIVE_BACK = """
    UPDATE timer SET not_before = claimed.since
    FROM unnest(%(aggregates)s::text[], %(purposes)s::text[], %(untils)s::timestamptz[], %(sinces)s::timestamptz[])
        AS claimed (aggregate_id, purpose, until, since)
    WHERE timer.aggregate_id = claimed.aggregate_id AND timer.purpose = claimed.purpose
        AND timer.not_before = claimed.until
"""
_NEXT = """
    SELECT min(following.not_before) FROM unnest(%(purposes)s::text[]) AS wanted (purpose)
    CROSS JOIN LATERAL (
        SELECT not_before FROM timer WHERE purpose = wanted.purpose ORDER BY not_before LIMIT 1
    ) following
"""
# Bounded: with 10,000 overdue the exact number says no more.
_MEASURE = sa.text(
    f"""
    SELECT
        (
            SELECT count(*) FROM unnest(:purposes) AS wanted (purpose)
            CROSS JOIN LATERAL (
                SELECT 1 FROM timer WHERE purpose = wanted.purpose AND not_before <= :now LIMIT 10000
            ) overdue
        ),
        (SELECT count(*) FROM timer WHERE attempts >= {ATTEMPTS})
    """  # noqa: S608 (a number of our own, written out so that the partial index is used)
).bindparams(sa.bindparam("purposes", type_=postgresql.ARRAY(sa.Text)))
