"""How a consumer's worker handles events: many in one transaction, and each in its own when that doesn't succeed.

A transaction's fixed cost (its beginning, the inbox, the commit) is several times that of a usual handler. So what has
come while a worker was busy is handled together; and since a failure takes everything of its transaction with it, the
events of one that failed are handled again one by one, and only the bad one is put off or parked.
"""

import enum
import logging
from collections.abc import Container, Sequence

from opentelemetry import trace
from opentelemetry.propagate import extract

from chassis import telemetry
from chassis.cloudevents import ReceivedEvent
from chassis.db import Database
from chassis.events import Failure, Kind, acting, attempt
from chassis.inbox import Inbox, Reader, Verdict
from chassis.parking import Handler, Parking, Replay
from chassis.unit import Unit

log = logging.getLogger(__name__)


class Outcome(enum.StrEnum):
    """What became of an event; the label of the metric."""

    HANDLED = "handled"
    SKIPPED = "skipped"
    PARKED = "parked"
    GAP = "gap"
    RETRY = "retried"


# After these the events behind it in its lane wait too.
UNDONE = frozenset({Outcome.GAP, Outcome.RETRY})


class Handling:
    """Calls one consumer's handler, each event once in effect."""

    def __init__(self, database: Database, handler: Handler, *, service: str, name: str) -> None:
        self._database = database
        self._handler = handler
        self._service = service
        self._name = name
        self._inbox = Inbox(database, name)
        self._parking = Parking(database, service, name)
        self._lag = telemetry.CONSUMER_LAG.labels(service, name)

    def handle(
        self, events: Sequence[ReceivedEvent], reader: Reader, impatient: Container[str] = ()
    ) -> Sequence[Outcome | None]:
        """What became of each event; None: it wasn't tried, since one before it in its lane is undone.

        All are of one branch, those of a key in order. `impatient`: the ids of events that are parked now if they
        can't be handled now.
        """
        admitted = attempt(lambda: self._together(events, reader)) if len(events) > 1 else [None]
        if isinstance(admitted, Failure):
            if admitted.kind is Kind.OUTAGE:
                return [Outcome.RETRY] * len(events)
            admitted = [None] * len(events)
        outcomes: list[Outcome | None] = []
        stopped: set[str] = set()
        for event, verdict in zip(events, admitted, strict=True):
            outcome = None
            if event.key not in stopped:
                outcome = _OUTCOMES.get(verdict) or self._alone(event, reader, impatient=event.id in impatient)
                if outcome in UNDONE:
                    stopped.add(event.key)
            outcomes.append(outcome)
        return outcomes

    def replay(self, key: str) -> Replay:
        """Handles the parked events of a key again, in order. A version that is missing before the first is accepted:
        a person who asks for it has seen what is wrong. Raises NotFound when the key isn't parked."""
        return self._parking.replay(key, self._handle_parked)

    def _handle_parked(self, event: ReceivedEvent, unit: Unit) -> None:
        if self._inbox.admit([event], unit, gaps=True) == [Verdict.HANDLE]:
            self._handler(event, unit)

    def _together(self, events: Sequence[ReceivedEvent], reader: Reader | None) -> Sequence[Verdict | None]:
        """Handles in one transaction those that may be; the verdict HANDLE or SKIP on each, None on the others."""
        with acting(self._service, self._name, events[0].branch), self._database.unit() as unit:
            verdicts = self._inbox.admit(events, unit, reader)
            for event, verdict in zip(events, verdicts, strict=True):
                if verdict is Verdict.HANDLE:
                    with (
                        telemetry.tracer().start_as_current_span(
                            f"{self._name} {event.type}",
                            context=extract(event.headers),
                            kind=trace.SpanKind.CONSUMER,
                        ),
                        acting(self._service, self._name, event.branch, event.on_behalf_of or event.actor) as call,
                        unit.on_behalf(call),
                    ):
                        self._handler(event, unit)
        self._note_lag(events, verdicts)
        return [verdict if verdict in _OUTCOMES else None for verdict in verdicts]

    def _alone(self, event: ReceivedEvent, reader: Reader, impatient: bool) -> Outcome:
        verdict = attempt(lambda: self._in_transaction(event, reader))
        if verdict is Verdict.PARKED:
            # Not any more when somebody has replayed the key at this very moment.
            return Outcome.PARKED if attempt(lambda: self._parking.append(event)) is True else Outcome.RETRY
        if isinstance(verdict, Failure):
            if verdict.kind is Kind.OUTAGE or (verdict.kind is Kind.LATER and not impatient):
                return Outcome.RETRY
            handled = attempt(lambda: self._is_handled(event, reader))
            if handled is not False:
                # By who held the lease before us: his transaction ended while the handler ran, which found its work
                # done. Or we no longer know, nor hold it.
                return Outcome.SKIPPED if handled is True else Outcome.RETRY
            error = verdict.error
        elif verdict is not Verdict.GAP:
            return _OUTCOMES[verdict]
        elif not impatient:
            return Outcome.GAP
        else:
            error = f"GAP: version {event.version} came, and the version before it didn't"
        return Outcome.RETRY if isinstance(attempt(lambda: self._park(event, error)), Failure) else Outcome.PARKED

    def _in_transaction(self, event: ReceivedEvent, reader: Reader) -> Verdict:
        with (
            telemetry.tracer().start_as_current_span(
                f"{self._name} {event.type}", context=extract(event.headers), kind=trace.SpanKind.CONSUMER
            ),
            acting(self._service, self._name, event.branch, event.on_behalf_of or event.actor),
            self._database.unit() as unit,
        ):
            (verdict,) = self._inbox.admit([event], unit, reader)
            if verdict is Verdict.HANDLE:
                self._handler(event, unit)
        self._note_lag([event], [verdict])
        return verdict

    def _is_handled(self, event: ReceivedEvent, reader: Reader) -> bool:
        with acting(self._service, self._name, event.branch), self._database.unit() as unit:
            return self._inbox.is_handled(event, unit, reader)

    def _park(self, event: ReceivedEvent, error: str) -> None:
        self._parking.park(event, error)
        fields = {"consumer": self._name, "event": event.id, "type": event.type, "error": error}
        log.error("a key is parked", extra={"fields": fields})

    def _note_lag(self, events: Sequence[ReceivedEvent], verdicts: Sequence[Verdict]) -> None:
        handled = [event.time for event, verdict in zip(events, verdicts, strict=True) if verdict is Verdict.HANDLE]
        if handled:
            self._lag.set(max(0.0, (self._database.clock.now() - handled[-1]).total_seconds()))


_OUTCOMES: dict[Verdict | None, Outcome] = {Verdict.HANDLE: Outcome.HANDLED, Verdict.SKIP: Outcome.SKIPPED}
