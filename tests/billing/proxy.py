"""A faulty way between the stream BILLING and its reader: what is published there comes to a second stream, harmed."""

import asyncio
import random
import time
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import nats as nats_client
from nats.js.api import StreamConfig
from nats.js.errors import NotFoundError

from orders.billing.outbox import STREAM
from tests.billing.drill import Fault

COPY = "BILLING_DRILL"
_POLL_SECONDS = 0.05
_LONGEST_SECONDS = 60.0
_NAMES = ("ce-id", "ce-hash", "ce-previoushash", "ce-sequence", "ce-type", "ce-source")


def plans(counts: Mapping[str, int], chance: random.Random, rate: float) -> dict[str, list[Fault | None]]:
    """What happens to each message of an account, by its number: of so many messages, such a part meets a fault."""
    found: dict[str, list[Fault | None]] = {}
    for account, count in counts.items():
        faults: list[Fault | None] = []
        while len(faults) < count:
            fault = chance.choice(list(Fault)) if chance.random() < rate else None
            last = len(faults) + 1 == count
            # Nothing comes after one that is held back: it would be held back as well, for nobody knows how long.
            if (fault is Fault.REORDER and last) or (fault is Fault.DELAY and not last):
                fault = None
            faults.append(fault)
            if fault is Fault.REORDER:
                # The one that overtakes it comes as it was sent.
                faults.append(None)
        found[account] = faults
    return found


def injected(plan: Mapping[str, Sequence[Fault | None]]) -> Counter[Fault]:
    """What there is to be found."""
    return Counter(fault for faults in plan.values() for fault in faults if fault not in (None, Fault.PAUSE))


@dataclass
class Proxy:
    """Forwards each message as its plan says. One that is held back comes once `fetched` has its place: then it has
    been missed for longer than its reader waits."""

    url: str
    plan: Mapping[str, Sequence[Fault | None]]
    fetched: Collection[tuple[str, int]]
    chance: random.Random
    forwarded: int = 0
    # When each fault's message was here, by place.
    met: dict[tuple[str, int], float] = field(default_factory=dict)
    _queues: dict[str, asyncio.Queue[Any]] = field(default_factory=dict)

    async def run(self) -> None:
        """Forwards until every message of the plan has been dealt with."""
        client = await nats_client.connect(self.url)
        jetstream = client.jetstream()
        with suppress(NotFoundError):
            await jetstream.delete_stream(COPY)
        await jetstream.add_stream(StreamConfig(name=COPY, subjects=["drill.>"], duplicate_window=0.1))
        subscription = await jetstream.subscribe("svyaz.billing.v1.>", stream=STREAM, ordered_consumer=True)
        workers = []
        for account, faults in self.plan.items():
            self._queues[account] = asyncio.Queue()
            workers.append(asyncio.create_task(self._lane(jetstream, account, faults)))
        for _ in range(sum(map(len, self.plan.values()))):
            message = await subscription.next_msg(60)
            self._queues[(message.headers or {})["ce-account"]].put_nowait(message)
        await asyncio.gather(*workers)
        await client.close()

    async def _lane(self, jetstream: Any, account: str, faults: Sequence[Fault | None]) -> None:
        queue = self._queues[account]
        held: Any = None
        for number, fault in enumerate(faults, start=1):
            message = await queue.get()
            if fault is not None:
                self.met[account, number] = time.monotonic()
            match fault:
                case Fault.DROP:
                    continue
                case Fault.REORDER:
                    held = message
                    continue
                case Fault.DELAY:
                    await asyncio.to_thread(self._missed, (account, number))
                case Fault.PAUSE:
                    await asyncio.sleep(self.chance.uniform(0, 0.2))
                case _:
                    pass
            await self._forward(jetstream, message, damaged=fault is Fault.CORRUPT)
            if fault is Fault.DUPLICATE:
                await self._forward(jetstream, message)
            if held is not None:
                await self._forward(jetstream, held)
                held = None

    def _missed(self, place: tuple[str, int]) -> None:
        deadline = time.monotonic() + _LONGEST_SECONDS
        while place not in self.fetched and time.monotonic() < deadline:
            time.sleep(_POLL_SECONDS)

    async def _forward(self, jetstream: Any, message: Any, *, damaged: bool = False) -> None:
        headers = {name: value for name, value in message.headers.items() if name != "Nats-Msg-Id"}
        data = message.data
        if damaged and self.chance.random() < 0.5:
            place = self.chance.randrange(len(data))
            data = data[:place] + bytes([data[place] ^ (1 << self.chance.randrange(8))]) + data[place + 1 :]
        elif damaged:
            name = self.chance.choice(_NAMES)
            right = headers[name]
            headers[name] = str(int(right) + 1) if name == "ce-sequence" else f"{right[::-1]}0"
        await jetstream.publish(f"drill.{message.headers['ce-account']}", data, headers=headers)
        self.forwarded += 1
