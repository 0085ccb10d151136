"""The orders service's log of sealed events, as billing asks for it."""

import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Protocol

from chassis import calls, clients
from chassis.auth import Principal
from svyaz.orders.v1 import billing_pb2, billing_pb2_grpc
from svyaz_cli.billing_chain import Event

PAGE = 1_000
CALL_SECONDS = 10.0

# Account, epoch, sequence and hash of the last event of a chain.
Head = tuple[str, int, int, str]


class Log(Protocol):
    """The truth that the stream carries."""

    def events(self, account: str, epoch: int, first: int, last: int) -> list[Event]:
        """The events `first` to `last` of a chain, as far as there are any. Raises DomainError."""

    def heads(self, after: str, settled_seconds: int) -> tuple[Sequence[Head], str, bool]:
        """How far those chains have come that have grown since `after`, by what the stream has had for so long; from
        where to ask next; and whether there is more already. Raises DomainError."""

    def certificate(self, *, account: str = "", branch: str = "", day: str = "") -> Iterator[Any]:
        """The rows of a certificate, page by page. Raises DomainError."""

    def acknowledge(self, heads: Sequence[Head], reason: str) -> None:
        """Says up to where these chains are booked. Raises DomainError."""


class RemoteLog:
    """The log over gRPC."""

    def __init__(self, address: str, token: Callable[[], str]) -> None:
        self._token = token
        self._channel = clients.channel(address)
        self._stub = billing_pb2_grpc.BillingServiceStub(self._channel)

    def events(self, account: str, epoch: int, first: int, last: int) -> list[Event]:
        """The events `first` to `last` of a chain, as far as there are any. Raises DomainError."""
        found: list[Event] = []
        while first <= last:
            request = billing_pb2.ListBillingEventsRequest(
                account=account, epoch=epoch, limit=min(PAGE, last - first + 1)
            )
            setattr(request, "from", first)
            page = self._call(self._stub.ListBillingEvents, request).event
            found += [_listed(event) for event in page]
            if not page:
                break
            first = page[-1].sequence + 1
        return found

    def certificate(self, *, account: str = "", branch: str = "", day: str = "") -> Iterator[Any]:
        """The rows of a certificate, page by page. Raises DomainError."""
        request = billing_pb2.GetBillingCertificateRequest(account=account, branch=branch, day=day)
        while True:
            page = self._call(self._stub.GetBillingCertificate, request)
            yield from page.row
            if not page.next:
                return
            request.after = page.next

    def heads(self, after: str, settled_seconds: int) -> tuple[Sequence[Head], str, bool]:
        """How far those chains have come that have grown since. Raises DomainError."""
        request = billing_pb2.ListBillingHeadsRequest(after=after, settled_seconds=settled_seconds)
        answer = self._call(self._stub.ListBillingHeads, request)
        return [(head.account, head.epoch, head.sequence, head.hash) for head in answer.head], answer.next, answer.more

    def acknowledge(self, heads: Sequence[Head], reason: str) -> None:
        """Says up to where these chains are booked. Raises DomainError."""
        booked = [billing_pb2.BillingHead(account=a, epoch=e, sequence=s, hash=h) for a, e, s, h in heads]
        request = billing_pb2.AcknowledgeBillingEventsRequest(acknowledgement=booked, reason=reason)
        self._call(self._stub.AcknowledgeBillingEvents, request)

    def _call(self, method: Any, request: Any) -> Any:
        principal = Principal("billing-tail", frozenset(), (), token=self._token())
        with calls.using(calls.Call(principal, "billing-tail", time.monotonic() + CALL_SECONDS)):
            return clients.call(method, request)

    def close(self) -> None:
        """Closes the channel."""
        self._channel.close()


def _listed(event: billing_pb2.BillingEvent) -> Event:
    return Event(
        id=event.id,
        type=event.type,
        source=event.source,
        account=event.account,
        epoch=event.epoch,
        sequence=event.sequence,
        previous_hash=event.previous_hash,
        hash=event.hash,
        data=event.data,
    )
