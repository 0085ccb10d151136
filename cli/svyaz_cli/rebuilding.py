"""Telling a read model every event of a log once more, in portions that a message has room for."""

from collections.abc import Callable, Collection, Iterator, Sequence
from typing import Any, Protocol

from google.protobuf.timestamp_pb2 import Timestamp

from svyaz.operations.v1 import operations_pb2

PARTITIONS = 64
# Events asked for at a time, and bytes of them told at a time: a message of gRPC's has 4 MiB, an event at most 256 kB.
ASKED, TOLD_BYTES = 200, 2 * 1024 * 1024

Ask = Callable[[str, Any], Any]


class Told(Protocol):
    """What a read model answers that was told events."""

    @property
    def began_at(self) -> Timestamp:
        """When what was told is heard of."""

    @property
    def forgotten(self) -> int:
        """How much was forgotten."""


def rebuild(
    logs: Sequence[Ask], heard: Collection[str], tell: Callable[..., Told], progress: Callable[[str], None]
) -> tuple[int, int]:
    """How many events were heard, and how much was forgotten that no log knows.

    `logs` call the methods of the services whose logs are read, of which the aggregate types `heard` are told. The
    platform goes on meanwhile; interrupted, nothing is forgotten.
    """
    # Before the first event is read, so that what changes meanwhile isn't forgotten.
    began = tell().began_at
    total = 0
    for number, log in enumerate(logs):
        for partition in range(PARTITIONS):
            for events in _portions(_events(log, partition, heard)):
                tell(event=events)
                total += len(events)
            done = number * PARTITIONS + partition + 1
            progress(f"partition {done} of {len(logs) * PARTITIONS}: {total} events heard")
    return total, tell(forget_unseen_since=began).forgotten


def _events(log: Ask, partition: int, heard: Collection[str]) -> Iterator[operations_pb2.Event]:
    after = 0
    while True:
        request = operations_pb2.ListEventsRequest(partition=partition, after=after, limit=ASKED)
        page = log("ListEvents", request).event
        if not page:
            return
        after = page[-1].position
        yield from (event for event in page if event.aggregate_type in heard)


def _portions(events: Iterator[operations_pb2.Event]) -> Iterator[list[operations_pb2.Event]]:
    """The events in portions that a message has room for."""
    portion: list[operations_pb2.Event] = []
    size = 0
    for event in events:
        more = event.ByteSize() + 16
        if portion and size + more > TOLD_BYTES:
            yield portion
            portion, size = [], 0
        portion.append(event)
        size += more
    if portion:
        yield portion
