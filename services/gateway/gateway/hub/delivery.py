"""Delivers what waits in the lanes: each lane in its order, the lanes beside each other, a slow or dead callback in
nobody's way but its own.

Everything that is known about a delivery is in its row and its lane's, so a restart loses nothing; a receiver may get
an event again (with the same webhook-id) when the hub died between its answer and our noting it.
"""

import logging
import random
import threading
import time
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import datetime, timedelta
from functools import partial

import prometheus_client

from chassis import telemetry
from chassis.db import Database
from chassis.events import DATABASE_ERRORS, Failure, acting, attempt
from chassis.threads import keep_running
from gateway.hub import store
from gateway.hub.callbacks import GONE, Answer, Callbacks
from gateway.hub.domain import GIVE_UP_AFTER, KEPT_FOR, MAX_WAITING, Subscription, SubscriptionState, delay
from gateway.hub.store import Claim, Pending

log = logging.getLogger(__name__)

DELIVERIES = prometheus_client.Counter("svyaz_hub_deliveries_total", "Attempts to deliver an event", ["outcome"])
SUSPENDED = prometheus_client.Gauge("svyaz_hub_suspended_subscriptions", "Subscriptions whose events wait")

SERVICE = "hub"
WORKERS = 32
# Deliveries of one subscription at a time; of one that failed last time, a single one.
SLOTS, SLOTS_WHILE_FAILING = 4, 1
POLL_SECONDS = 1.0
# A claim lasts for a turn, an attempt that begins at its end, and what the database may need. So long does a lane wait
# whose hub was killed.
TURN_SECONDS = 5.0
SPARE_SECONDS = 10.0
HOUSEKEEPING_SECONDS = 5.0
# Rows of deleted subscriptions that are cleared away in one transaction; how long the handling of an event may take.
CLEARED_AT_ONCE = 5_000
SETTLED_AFTER = timedelta(hours=1)


class Dispatcher:
    """Claims lanes that are due and delivers what is in them. Several may run; none knows of the others."""

    def __init__(
        self,
        database: Database,
        callbacks: Callbacks,
        *,
        give_up_after: timedelta = GIVE_UP_AFTER,
        kept_for: timedelta = KEPT_FOR,
        max_waiting: int = MAX_WAITING,
        workers: int = WORKERS,
    ) -> None:
        self._database = database
        self._callbacks = callbacks
        self._give_up_after = give_up_after
        self._kept_for = kept_for
        self._max_waiting = max_waiting
        self._workers = workers
        self._wake = threading.Event()
        self._stopping = False
        self._thread: threading.Thread | None = None
        self._lock = threading.Lock()
        # Of this process, by subscription.
        self._running: Counter[str] = Counter()
        self._failing: set[str] = set()
        self._kept_house_at = 0.0
        telemetry.begin_at_zero(DELIVERIES, ("delivered", "failed", "gone", "blocked", "dropped"))

    def wake(self) -> None:
        """There is something to deliver."""
        self._wake.set()

    def start(self) -> None:
        """Begins to look for lanes that are due."""
        self._stopping = False
        self._thread = keep_running(self._run, "dispatcher")
        self._thread.start()

    def stop(self) -> None:
        """Lets the attempts that run end; their lanes are free then."""
        self._stopping = True
        self._wake.set()
        if self._thread is not None:
            self._thread.join()
            self._thread = None

    # --- choosing lanes ---

    def _run(self) -> None:
        with ThreadPoolExecutor(self._workers, thread_name_prefix="delivery") as executor:
            while not self._stopping:
                self._wake.clear()
                try:
                    self._round(executor)
                except DATABASE_ERRORS as error:
                    log.warning("the lanes can't be read", extra={"fields": {"error": str(error)}})
                self._wake.wait(POLL_SECONDS)

    def _round(self, executor: ThreadPoolExecutor) -> None:
        if time.monotonic() - self._kept_house_at > HOUSEKEEPING_SECONDS:
            self._kept_house_at = time.monotonic()
            self._keep_house()
        for claim in self._claim():
            with self._lock:
                self._running[claim.subscription_id] += 1
            executor.submit(self._turn, claim).add_done_callback(partial(self._ended, claim))

    def _claim(self) -> Sequence[Claim]:
        seconds = TURN_SECONDS + self._callbacks.timeout + SPARE_SECONDS
        with acting(SERVICE, "dispatcher"), self._database.unit() as unit:
            slots = self._slots(store.due(unit))
            return store.claim(unit, slots, seconds) if slots else ()

    def _slots(self, due: Sequence[str]) -> dict[str, int]:
        """How many more lanes of each subscription may be worked on; together never more than there are workers."""
        with self._lock:
            free = self._workers - sum(self._running.values())
            wanted = {known: self._allowed(known) - self._running[known] for known in due}
        # Those with the least going on first, so that nobody is left out when workers are few.
        slots: dict[str, int] = {}
        for known, number in sorted(wanted.items(), key=lambda item: -item[1]):
            taken = min(number, free)
            if taken > 0:
                slots[known] = taken
                free -= taken
        return slots

    def _allowed(self, subscription_id: str) -> int:
        return SLOTS_WHILE_FAILING if subscription_id in self._failing else SLOTS

    def _ended(self, claim: Claim, done: "Future[None]") -> None:
        with self._lock:
            self._running[claim.subscription_id] -= 1
            if not self._running[claim.subscription_id]:
                del self._running[claim.subscription_id]
        done.result()
        self._wake.set()

    # --- one lane ---

    def _turn(self, claim: Claim) -> None:
        """Delivers from the lane until it is empty, fails, or others should have their turn."""
        until = time.monotonic() + TURN_SECONDS
        while True:
            pending = attempt(lambda: self._first(claim))
            if isinstance(pending, Failure):
                self._given_back(pending)
                return
            if pending is None:
                return
            if self._stopping or time.monotonic() > until:
                self._given_back(attempt(lambda: self._release(claim)))
                return
            if not self._deliver(claim, pending):
                return

    def _first(self, claim: Claim) -> Pending | None:
        with acting(SERVICE, "dispatcher", claim.branch), self._database.unit() as unit:
            return store.first(unit, claim)

    def _release(self, claim: Claim) -> None:
        with acting(SERVICE, "dispatcher", claim.branch), self._database.unit() as unit:
            store.release(unit, claim)

    def _deliver(self, claim: Claim, pending: Pending) -> bool:
        """Whether the event has been delivered, and noted as such."""
        posted = attempt(lambda: self._callbacks.post(pending.callback, pending.secret, pending.event_id, pending.body))
        answer = Answer(0, posted.error) if isinstance(posted, Failure) else posted
        outcome = _outcome(answer)
        DELIVERIES.labels(outcome).inc()
        with self._lock:
            if answer.accepted:
                self._failing.discard(claim.subscription_id)
            else:
                self._failing.add(claim.subscription_id)
        noted = attempt(
            lambda: self._note_success(claim, pending) if answer.accepted else self._note(claim, pending, answer)
        )
        if isinstance(noted, Failure):
            self._given_back(noted)
        return noted is True

    def _note_success(self, claim: Claim, pending: Pending) -> bool:
        with acting(SERVICE, "dispatcher", claim.branch), self._database.unit() as unit:
            return store.delivered(unit, claim, pending)

    def _note(self, claim: Claim, pending: Pending, answer: Answer) -> bool:
        """Puts the lane off, and suspends the subscription when there is no hope."""
        wait = max(delay(pending.attempts + 1, random.random()), answer.retry_after)  # noqa: S311 (spreads, hides nothing)
        with acting(SERVICE, "dispatcher", claim.branch), self._database.unit() as unit:
            since = store.failed(unit, claim, answer.described, unit.at + timedelta(seconds=wait))
            hopeless = since is not None and self._hopeless(answer, since, unit.at)
        if hopeless:
            self._suspend(
                claim, f"event {pending.event_id} has failed since {since:%Y-%m-%dT%H:%M:%SZ}: {answer.described}"
            )
        return False

    def _hopeless(self, answer: Answer, since: datetime, now: datetime) -> bool:
        return answer.status == GONE or now - since >= self._give_up_after

    def _suspend(self, claim: Claim, reason: str) -> None:
        # Which of several lanes says it first doesn't matter: the others find it said.
        with acting(SERVICE, "dispatcher", claim.branch), self._database.unit() as unit:
            subscription = unit.find(Subscription, claim.subscription_id)
            if subscription is None or subscription.state is SubscriptionState.SUSPENDED:
                return
            subscription.suspend(reason, unit.at)
        log.error(
            "a subscription is suspended",
            extra={"fields": {"subscription": claim.subscription_id, "reason": reason}},
        )

    @staticmethod
    def _given_back(result: Failure | None) -> None:
        if isinstance(result, Failure):
            # The claim ends by itself; then the lane is tried again.
            log.warning("a lane waits for its claim to end", extra={"fields": {"error": result.error}})

    # --- housekeeping ---

    def _keep_house(self) -> None:
        self._limit()
        self._drop_outdated()
        self._clear()

    def _limit(self) -> None:
        """Suspends the subscriptions for which too many events wait; lets those take events on that have caught up."""
        with acting(SERVICE, "dispatcher"), self._database.unit() as unit:
            over, under = store.overflowing(unit, self._max_waiting), store.relieved(unit, self._max_waiting // 2)
        for known, branch in over:
            with acting(SERVICE, "dispatcher", branch), self._database.unit() as unit:
                if (subscription := unit.find(Subscription, known)) is not None:
                    reason = f"more than {self._max_waiting} events wait: later ones are lost, read them from the API"
                    subscription.overflow(reason, unit.at)
            log.error("events for a subscription are lost: too many wait", extra={"fields": {"subscription": known}})
        for known, branch in under:
            with acting(SERVICE, "dispatcher", branch), self._database.unit() as unit:
                if (subscription := unit.find(Subscription, known)) is not None:
                    subscription.catch_up(unit.at)

    def _clear(self) -> None:
        """Clears away what waits for deleted subscriptions."""
        with acting(SERVICE, "dispatcher"), self._database.unit() as unit:
            cleared = store.clear(unit, CLEARED_AT_ONCE, unit.at - SETTLED_AFTER)
        if cleared >= CLEARED_AT_ONCE:
            # There is more: it needn't wait for the next time.
            self._kept_house_at = 0.0

    def _drop_outdated(self) -> None:
        """Counts the suspended subscriptions, and drops what has waited for one longer than streams remember."""
        with acting(SERVICE, "dispatcher"), self._database.unit() as unit:
            SUSPENDED.set(store.suspended(unit))
            before = unit.at - self._kept_for
            old = store.outdated(unit, before)
        for known, branch in old:
            with acting(SERVICE, "dispatcher", branch), self._database.unit() as unit:
                subscription = unit.find(Subscription, known)
                dropped = store.drop(unit, known, before)
                if subscription is not None and dropped:
                    subscription.drop(before)
            DELIVERIES.labels("dropped").inc(dropped)
            fields = {"subscription": known, "events": dropped}
            log.error("events for a suspended subscription are dropped", extra={"fields": fields})


def _outcome(answer: Answer) -> str:
    if answer.accepted:
        return "delivered"
    if answer.blocked:
        return "blocked"
    return "gone" if answer.status == GONE else "failed"
