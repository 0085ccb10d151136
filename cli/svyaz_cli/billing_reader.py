"""The stream BILLING, read in order from a position of our own."""

import asyncio
import time
from collections.abc import Mapping
from contextlib import suppress

import nats.errors
import nats.js.errors
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription
from nats.js.api import AckPolicy, ConsumerConfig, DeliverPolicy

from svyaz_cli.billing_chain import Event
from svyaz_cli.billing_state import State

STREAM = "BILLING"
BATCH = 500
HEARTBEAT_SECONDS = 1.0
# Without a word from the server for so long its side of the consumer is made anew.
SILENCE_SECONDS = 3.0
WAIT_SECONDS = 0.25
RETRY_SECONDS = 0.5


def received(headers: Mapping[str, str], data: bytes) -> Event:
    """The event in a message; what isn't there or isn't a number is left for the verifier to refuse."""
    return Event(
        id=headers.get("ce-id", ""),
        type=headers.get("ce-type", ""),
        source=headers.get("ce-source", ""),
        account=headers.get("ce-account", ""),
        epoch=_number(headers.get("ce-epoch", "")),
        sequence=_number(headers.get("ce-sequence", "")),
        previous_hash=headers.get("ce-previoushash", ""),
        hash=headers.get("ce-hash", ""),
        data=data,
    )


def _number(text: str) -> int:
    return int(text) if text.isascii() and text.isdigit() and len(text) < 19 else 0


class LostError(Exception):
    """The server's side of the consumer is gone, or a message was skipped."""


class Reader:
    """The messages of the stream in their order from a position on, over whatever happens to the server."""

    def __init__(self, client: Client, state: State, stream: str = STREAM) -> None:
        self._client = client
        self._state = state
        self._name = stream
        self._subscription: Subscription | None = None
        # Names this very stream: one that is made anew counts from 1 again.
        self._stream = ""
        self._delivered = 0
        self._heard = 0.0
        # What the stream had when it turned out to be another, or to have lost its end, may have been read before.
        self._again_until = 0
        # When (time.monotonic()) there was last nothing that we hadn't read.
        self.caught_up = float("-inf")
        # Since when (time.monotonic()) nothing but heartbeats has come.
        self.quiet_since = time.monotonic()

    @property
    def listening(self) -> bool:
        """Whether the server has told us lately that there is nothing more."""
        return self._subscription is not None and time.monotonic() - self._heard < SILENCE_SECONDS

    async def read(self) -> list[Msg]:
        """Some messages, or none for a moment; connects again by itself. Each one must be passed to `done`."""
        try:
            if self._subscription is None:
                await self._open()
            return await self._batch()
        except (LostError, nats.errors.Error, nats.js.errors.Error, TimeoutError, OSError):
            await self._drop()
            await asyncio.sleep(RETRY_SECONDS)
            return []

    def again(self, message: Msg) -> bool:
        """Whether the message may have been read before, since the stream isn't what it was."""
        return message.metadata.sequence.stream <= self._again_until

    def done(self, message: Msg) -> None:
        """The message has been dealt with."""
        self._state.advance(self._stream, message.metadata.sequence.stream)

    async def _open(self) -> None:
        jetstream = self._client.jetstream(timeout=2)
        info = await jetstream.stream_info(self._name)
        self._stream = str(info.created)
        position = self._state.position(self._stream)
        if self._state.knows_another(self._stream):
            self._again_until = info.state.last_seq
        if position > info.state.last_seq:
            # The server has lost its newest messages and uses their numbers again; what we know is recognised.
            position = 0
            self._again_until = info.state.last_seq
        inbox = self._client.new_inbox()
        self._subscription = await self._client.subscribe(inbox)
        await jetstream.add_consumer(
            self._name,
            ConsumerConfig(
                deliver_subject=inbox,
                deliver_policy=DeliverPolicy.BY_START_SEQUENCE,
                opt_start_seq=position + 1,
                ack_policy=AckPolicy.NONE,
                max_deliver=1,
                flow_control=True,
                idle_heartbeat=HEARTBEAT_SECONDS,
                mem_storage=True,
                num_replicas=1,
            ),
        )
        self._delivered = 0
        self._heard = self.quiet_since = time.monotonic()

    async def _batch(self) -> list[Msg]:
        subscription = self._subscription
        assert subscription is not None
        messages: list[Msg] = []
        while len(messages) < BATCH and (subscription.pending_msgs or not messages):
            try:
                message = await subscription.next_msg(WAIT_SECONDS)
            except nats.errors.TimeoutError:
                break
            self._heard = time.monotonic()
            if message.headers and "Status" in message.headers:
                await self._control(message)
                continue
            delivered = message.metadata.sequence.consumer
            if delivered != self._delivered + 1:
                raise LostError
            self._delivered = delivered
            self.quiet_since = self._heard
            if not message.metadata.num_pending:
                self.caught_up = self._heard
            messages.append(message)
        if not messages and time.monotonic() - self._heard > SILENCE_SECONDS:
            raise LostError
        return messages

    async def _control(self, message: Msg) -> None:
        """Flow control is answered once everything before it has been read; a heartbeat may say that we missed some."""
        headers = message.headers or {}
        if message.reply:
            await self._client.publish(message.reply)
        stalled = headers.get("Nats-Consumer-Stalled")
        if stalled:
            await self._client.publish(stalled)
        last = headers.get("Nats-Last-Consumer")
        if last is not None and int(last) != self._delivered:
            raise LostError
        if last is not None and not stalled:
            # The server beats when it has nothing to send.
            self.caught_up = self._heard

    async def _drop(self) -> None:
        if self._subscription is not None:
            with suppress(nats.errors.Error, OSError):
                await self._subscription.unsubscribe()
            self._subscription = None
