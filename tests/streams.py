"""Streams that tests make anew."""

import asyncio
import time

from nats.js import JetStreamContext
from nats.js.api import StreamConfig
from nats.js.errors import ServerError

_PATIENCE_SECONDS = 10.0


async def add(jetstream: JetStreamContext, stream: StreamConfig) -> None:
    """Adds a stream. The files of one of that name that was deleted a moment ago may still be on their way out."""
    deadline = time.monotonic() + _PATIENCE_SECONDS
    while True:
        try:
            await jetstream.add_stream(stream)
        except ServerError:
            if time.monotonic() > deadline:
                raise
            await asyncio.sleep(0.05)
        else:
            return
