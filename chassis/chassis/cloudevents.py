"""Events as CloudEvents over NATS: which subject and headers an event of the log has, and the way back.

https://github.com/cloudevents/spec/blob/v1.0.2/cloudevents/bindings/nats-protocol-binding.md
"""

import builtins
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import TypeVar

from google.protobuf import symbol_database
from google.protobuf.message import Message

M = TypeVar("M", bound=Message)

MESSAGE_ID = "Nats-Msg-Id"
# Of a log; see chassis.epochs.
FIRST_EPOCH = 1
_SYSTEM = re.compile(r"[A-Za-z0-9_-]+")


def stream_of(service: str) -> str:
    """The stream that carries a service's events."""
    return service.upper().replace("-", "_")


def subject_of(service: str, partition: int, type: str) -> str:
    """`svyaz.orders.v1.07.ProductOrderStateChangeEvent`: the key is a header, since a subject per key costs memory."""
    return f"svyaz.{service}.v1.{partition:02d}.{type}"


def subjects_of(service: str, partitions: Iterable[int] | None = None) -> list[str]:
    """What to listen to for every event of some partitions; None: of all."""
    if partitions is None:
        return [f"svyaz.{service}.v1.>"]
    return [f"svyaz.{service}.v1.{partition:02d}.>" for partition in partitions]


def speaks(system: str) -> bool:
    """Whether an external system can speak by events: its name is a token of its subjects, and part of its user's."""
    return _SYSTEM.fullmatch(system) is not None


def system_user(system: str) -> str:
    """The user of NATS that an external system is, and the name of the consumer by which it hears."""
    return f"fulfilment-{system}"


def message_id(id: str, epoch: int) -> str:
    """By which the stream drops a repeated publish; what is sent again in a later epoch isn't one."""
    return f"{id}-{epoch}"


@dataclass(frozen=True, slots=True, kw_only=True)
class ReceivedEvent:
    """An event as a consumer gets it: the entity after the change, and the circumstances of the change."""

    id: str
    source: str
    type: str
    time: datetime
    aggregate_type: str
    aggregate_id: str
    version: int
    branch: str
    key: str
    actor: str
    on_behalf_of: str | None
    schema_revision: int
    data_type: str
    data: bytes
    subject: str
    headers: Mapping[str, str]
    # Of the log that it was sent from: a later one has been restored from a backup, and may repeat versions.
    epoch: int = FIRST_EPOCH
    # Where it is in its stream.
    sequence: int = 0

    @property
    def first(self) -> bool:
        """Whether nobody can have seen anything of its aggregate before."""
        return (self.epoch, self.version) == (FIRST_EPOCH, 1)

    def message(self, cls: builtins.type[M]) -> M:
        """The entity as the message `cls`; raises ValueError when the event carries another."""
        if self.data_type != cls.DESCRIPTOR.full_name:
            raise ValueError(f"the event carries a {self.data_type}, not a {cls.DESCRIPTOR.full_name}")
        return cls.FromString(self.data)

    def entity(self) -> Message:
        """The entity as the message that the event names; raises KeyError when we don't know that message."""
        found: builtins.type[Message] = symbol_database.Default().GetSymbol(self.data_type)
        return found.FromString(self.data)


def headers_of(
    *,
    id: str,
    source: str,
    type: str,
    time: datetime,
    aggregate_type: str,
    aggregate_id: str,
    version: int,
    branch: str,
    key: str,
    actor: str,
    on_behalf_of: str | None,
    schema_revision: int,
    data_type: str,
    traceparent: str | None,
    epoch: int = FIRST_EPOCH,
) -> dict[str, str]:
    """The headers of an event."""
    headers = {
        MESSAGE_ID: message_id(id, epoch),
        "ce-specversion": "1.0",
        "ce-id": id,
        "ce-source": source,
        "ce-type": type,
        "ce-time": time.isoformat(),
        "ce-subject": f"{aggregate_type}/{aggregate_id}",
        "ce-datacontenttype": "application/protobuf",
        "ce-datatype": data_type,
        "ce-version": str(version),
        "ce-epoch": str(epoch),
        "ce-branch": branch,
        "ce-partitionkey": key,
        "ce-actor": actor,
        "ce-schemarevision": str(schema_revision),
    }
    if on_behalf_of:
        headers["ce-onbehalfof"] = on_behalf_of
    if traceparent:
        headers["traceparent"] = traceparent
    return headers


def received(subject: str, headers: Mapping[str, str], data: bytes, sequence: int) -> ReceivedEvent:
    """The event in a message of a stream; raises ValueError or KeyError when it isn't one of ours.

    Of a chain, whose events aren't versions of an entity but numbered one after the other, the number is the version.
    """
    aggregate_type, slash, aggregate_id = headers["ce-subject"].partition("/")
    if not slash:
        raise ValueError(f"ce-subject {headers['ce-subject']!r} doesn't name an entity")
    return ReceivedEvent(
        id=headers["ce-id"],
        source=headers["ce-source"],
        type=headers["ce-type"],
        time=datetime.fromisoformat(headers["ce-time"]),
        aggregate_type=aggregate_type,
        aggregate_id=aggregate_id,
        version=int(headers["ce-version"] if "ce-version" in headers else headers["ce-sequence"]),
        branch=headers["ce-branch"],
        key=headers["ce-partitionkey"],
        actor=headers.get("ce-actor", ""),
        on_behalf_of=headers.get("ce-onbehalfof"),
        schema_revision=int(headers.get("ce-schemarevision", "1")),
        data_type=headers["ce-datatype"] if "ce-version" in headers else "",
        data=data,
        subject=subject,
        headers=headers,
        epoch=int(headers.get("ce-epoch", FIRST_EPOCH)),
        sequence=sequence,
    )
