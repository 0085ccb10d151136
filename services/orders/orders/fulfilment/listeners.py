"""How external systems hear of their tasks: by a durable consumer for each, which keeps what comes while it is away.

We make it, so the system needs no right to: whoever may make consumers of a stream may read all of it.
"""

import asyncio
import logging
from collections.abc import Sequence
from concurrent.futures import Future

import nats.errors
import nats.js.errors
from nats.js.api import AckPolicy, ConsumerConfig, DeliverPolicy

from chassis import telemetry
from chassis.bus import Bus
from chassis.cloudevents import speaks, stream_of, system_user
from orders.fulfilment.refusal import REFUSED

log = logging.getLogger(__name__)

# What a system hears: each event of a task, of all systems and branches, and of reports that were refused.
HEARD = [
    f"svyaz.orders.v1.*.{change}Event"
    for change in (
        "FulfilmentTaskCreate",
        "FulfilmentTaskStateChange",
        "FulfilmentTaskAttributeValueChange",
        "RefusedFulfilmentReportCreate",
    )
]
_LOOK_SECONDS = 0.5


def consumer_of(system: str) -> ConsumerConfig:
    """The consumer of a system: from the stream's beginning on, each event until it is acknowledged."""
    return ConsumerConfig(
        durable_name=system_user(system),
        deliver_policy=DeliverPolicy.ALL,
        ack_policy=AckPolicy.EXPLICIT,
        filter_subjects=HEARD,
    )


class Listeners:
    """Sees to it that the consumers are there, whenever NATS is."""

    def __init__(self, bus: Bus, systems: Sequence[str]) -> None:
        telemetry.begin_at_zero(REFUSED, systems)
        self._bus = bus
        self._systems = [system for system in systems if speaks(system)]
        others = sorted(set(systems) - set(self._systems))
        if others:
            fields = {"systems": others}
            log.warning("only letters, digits, - and _ name a system that answers by events", extra={"fields": fields})
        self._stopping = False
        self._running: Future[None] | None = None

    def start(self) -> None:
        """Begins as soon as NATS is there."""
        self._bus.start()
        self._running = self._bus.keep_running(self._run(), "the consumers of external systems")

    def stop(self) -> None:
        """The consumers stay."""
        self._stopping = True
        if self._running is not None:
            self._running.result()
            self._bus.stop()

    async def _run(self) -> None:
        made = 0
        while not self._stopping:
            generation = self._bus.generation
            if self._bus.connected and generation != made:
                try:
                    for system in self._systems:
                        await self._bus.jetstream.add_consumer(stream_of("orders"), consumer_of(system))
                    made = generation
                except (TimeoutError, nats.errors.Error) as error:
                    log.warning("external systems can't hear yet", extra={"fields": {"error": repr(error)}})
            await asyncio.sleep(_LOOK_SECONDS)
