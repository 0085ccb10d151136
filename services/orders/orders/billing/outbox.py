"""Sealed charge events on their way into the stream BILLING: what the relay sends, and in which envelope."""

import logging
from collections.abc import Collection, Sequence
from typing import Any

from nats.js.api import DiscardPolicy, RetentionPolicy, StorageType, StreamConfig
from prometheus_client import Gauge

from chassis import telemetry
from chassis.bus import DUPLICATE_WINDOW_SECONDS
from chassis.cloudevents import MESSAGE_ID, message_id, subject_of
from chassis.db import Database
from chassis.events import acting
from chassis.outbox import MEASURING_SECONDS, Outgoing
from orders.billing import acknowledgements, certificates, store
from orders.billing.certification import uncertified_seconds
from orders.billing.domain import SOURCE

log = logging.getLogger(__name__)

UNSEALED = Gauge("svyaz_billing_unsealed", "Charges committed but not yet in a chain")
STRANGE = Gauge("svyaz_billing_strange", "Charges that are never sealed: their account is another branch's")
UNSENT = Gauge("svyaz_billing_unsent", "Charges in a chain but not yet acknowledged by the stream")
OLDEST = Gauge("svyaz_billing_oldest_unsent_seconds", "Age of the oldest charge that billing hasn't got")
UNACKNOWLEDGED = Gauge("svyaz_billing_unacknowledged", "Charges in a chain that billing hasn't acknowledged")
OLDEST_UNACKNOWLEDGED = Gauge(
    "svyaz_billing_oldest_unacknowledged_seconds", "Age of the oldest charge that billing hasn't acknowledged"
)
DISCREPANCIES = Gauge("svyaz_billing_discrepancies", "What certificates name as wrong, each day's latest revision")
UNCERTIFIED = Gauge("svyaz_billing_uncertified_seconds", "Since when the oldest day without a certificate is over")
_OURS = (STRANGE, UNSEALED, UNSENT, OLDEST, UNACKNOWLEDGED, OLDEST_UNACKNOWLEDGED, DISCREPANCIES, UNCERTIFIED)

STREAM = "BILLING"
# A billing system that was away for longer fetches what it missed by ListBillingEvents.
MAX_AGE_SECONDS = 90 * 24 * 3600.0


def billing_stream() -> StreamConfig:
    """The stream of charge events: files, forgotten after 90 days, a repeated publish dropped for 2 minutes."""
    return StreamConfig(
        name=STREAM,
        subjects=["svyaz.billing.v1.>"],
        retention=RetentionPolicy.LIMITS,
        storage=StorageType.FILE,
        discard=DiscardPolicy.OLD,
        max_age=MAX_AGE_SECONDS,
        duplicate_window=DUPLICATE_WINDOW_SECONDS,
    )


class BillingOutbox:
    """The sealed events that the stream hasn't acknowledged; what counts is their position in the order of sealing."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def exchange(
        self, sent: Sequence[int], limit: int, after: int, known: Collection[int], held: Collection[str]
    ) -> Sequence[Outgoing]:
        """Remembers what the stream has and returns the next unsent events."""
        rows = None
        with acting("orders", "billing-relay"), self._database.at_once() as connection:
            if sent:
                store.mark_sent(connection, sent, self._database.clock.now())
            if limit:
                rows = store.unsent(connection, limit, after, known, held)
        return [_outgoing(row) for row in rows or ()]

    def measure(self, blocked: Collection[str]) -> None:
        """Also what isn't sealed yet: the sealer couldn't tell that it has died. Exact up to 100,000 charges each."""
        with acting("orders", "billing-relay", seconds=MEASURING_SECONDS), self._database.unit() as unit:
            waiting = store.backlog(unit.session)
            lag = acknowledgements.lag(unit.session)
            discrepancies, uncertified = certificates.state(unit.session)
        age = (unit.at - waiting.oldest).total_seconds() if waiting.oldest else 0.0
        if waiting.strange:
            log.error(
                "charges of a branch whose account it isn't stay unsealed", extra={"fields": {"count": waiting.strange}}
            )
        STRANGE.set(waiting.strange)
        UNSEALED.set(waiting.unsealed)
        UNSENT.set(waiting.unsent)
        OLDEST.set(max(0.0, age))
        UNACKNOWLEDGED.set(lag.unacknowledged)
        OLDEST_UNACKNOWLEDGED.set(max(0.0, (unit.at - lag.oldest).total_seconds()) if lag.oldest else 0.0)
        DISCREPANCIES.set(discrepancies)
        UNCERTIFIED.set(uncertified_seconds(uncertified, unit.at))
        telemetry.OUTBOX_BLOCKED.labels("billing").set(len(blocked))

    def forget(self) -> None:
        """Nothing is known here any more: somebody else tells."""
        for gauge in (*_OURS, telemetry.OUTBOX_BLOCKED.labels("billing")):
            gauge.set(0)


def _outgoing(row: Any) -> Outgoing:
    headers = {
        MESSAGE_ID: message_id(row.event_id, row.epoch),
        "ce-specversion": "1.0",
        "ce-id": row.event_id,
        "ce-source": SOURCE,
        "ce-type": row.type,
        "ce-time": row.occurred_at.isoformat(),
        "ce-subject": f"account/{row.account}",
        "ce-datacontenttype": "application/json",
        "ce-branch": row.branch,
        "ce-partitionkey": row.account,
        "ce-account": row.account,
        "ce-epoch": str(row.epoch),
        "ce-sequence": str(row.sequence),
        "ce-previoushash": row.previous_hash,
        "ce-hash": row.hash,
    }
    if row.traceparent:
        headers["traceparent"] = row.traceparent
    return Outgoing(row.position, row.account, subject_of("billing", row.partition, row.type), headers, row.data)
