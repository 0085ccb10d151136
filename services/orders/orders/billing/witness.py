"""Whether the database still knows what billing was told. A restore from a backup takes a part of that back, and a
charge that is sealed then gets a place in its chain that billing has seen another charge in."""

import asyncio
from collections.abc import Sequence
from contextlib import suppress

import nats.errors
from nats.js.api import RawStreamMsg
from nats.js.errors import NotFoundError
from prometheus_client import Gauge
from sqlalchemy.orm import Session

from chassis.bus import Bus
from chassis.cloudevents import subjects_of
from chassis.errors import FailedPrecondition, Unavailable
from chassis.schema import PARTITIONS
from orders.billing import store
from orders.billing.domain import Told
from orders.billing.outbox import STREAM

RESTORED = Gauge(
    "svyaz_billing_restored", "1: the stream has charges that the database doesn't know, and nothing is sealed"
)

_SECONDS = 2.0


class Witness:
    """The stream BILLING, asked for the last charge of every partition: it lies outside of the database, and of what is
    restored with it."""

    def __init__(self, bus: Bus) -> None:
        self._bus = bus

    def confirm(self, session: Session) -> None:
        """Raises FailedPrecondition RESTORED when the database has lost a charge of its present epoch, and Unavailable
        when the stream can't be asked."""
        lost = store.unknown(session, self._told())
        RESTORED.set(1 if lost else 0)
        if lost:
            raise FailedPrecondition(
                "RESTORED",
                f"the stream has charges that the database doesn't know, such as number {lost.sequence} of the account"
                f" {lost.account} in epoch {lost.epoch}: it was restored, and a later epoch is to be opened",
            )

    def _told(self) -> Sequence[Told]:
        if not self._bus.connected:
            raise Unavailable("NATS_UNAVAILABLE", "the stream can't be asked what billing was told")
        try:
            messages = self._bus.run(self._last()).result(_SECONDS)
        except (TimeoutError, OSError, nats.errors.Error) as error:
            raise Unavailable("NATS_UNAVAILABLE", f"the stream doesn't say what billing was told: {error}") from error
        told = [message.headers for message in messages if message is not None and message.headers]
        return [Told(h["ce-account"], int(h["ce-epoch"]), int(h["ce-sequence"]), h["ce-hash"]) for h in told]

    async def _last(self) -> Sequence[RawStreamMsg | None]:
        jetstream = self._bus.jetstream

        async def last(subject: str) -> RawStreamMsg | None:
            with suppress(NotFoundError):
                return await jetstream.get_last_msg(STREAM, subject)
            return None

        return await asyncio.gather(*map(last, subjects_of("billing", range(PARTITIONS))))
