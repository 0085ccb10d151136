"""Services as gRPC servers inside the test's process, and callers of any method by its name."""

import atexit
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import grpc
from google.protobuf import descriptor_pool
from google.protobuf.message_factory import GetMessageClass

from chassis.calls import PURPOSE, purpose_header
from chassis.clients import domain_error
from chassis.clock import Clock
from chassis.config import Settings
from chassis.db import Database
from chassis.server import BeforeAnswer, Registration, Server
from chassis.zones import BranchZones
from customers.agreement.deadlines import Deadlines
from customers.document.objects import DiskObjects
from customers.loyalty.books import Books
from customers.matching.phones import BranchRegions
from customers.service import CustomersService, Operator, open_database
from svyaz_cli.issuer import Issuer


class Caller:
    """Somebody with a token; a refusal is raised as the DomainError that the service raised."""

    def __init__(self, channel: grpc.Channel, token: str | None, purpose: str = "") -> None:
        self._channel = channel
        self._token = token
        self._metadata: tuple[tuple[str, str], ...] = (
            (("authorization", f"Bearer {token}"),) if token is not None else ()
        )
        if purpose:
            self._metadata += ((PURPOSE, purpose_header(purpose)),)

    def who_says(self, purpose: str) -> "Caller":
        """The same, who says why he calls."""
        return Caller(self._channel, self._token, purpose)

    def __call__(self, method: str, request: Any = None, **fields: Any) -> Any:
        """Calls `svyaz.customers.v1.PartyService/GetIndividual` with a request, or with one of these fields."""
        service, name = method.split("/")
        described = descriptor_pool.Default().FindServiceByName(service).methods_by_name[name]
        request_class, response_class = GetMessageClass(described.input_type), GetMessageClass(described.output_type)
        call = self._channel.unary_unary(
            f"/{method}",
            request_serializer=request_class.SerializeToString,
            response_deserializer=response_class.FromString,
        )
        try:
            return call(request_class(**fields) if request is None else request, metadata=self._metadata, timeout=60)
        except grpc.RpcError as error:
            raise domain_error(error) from error


@contextmanager
def serving(
    service: str,
    registrations: Sequence[Registration],
    issuer: Issuer,
    before_answer: BeforeAnswer = lambda method: None,
) -> Iterator[str]:
    """The address of a server with those servicers."""
    server = Server(
        Settings.from_environment(service, issuer.environment),
        registrations,
        ready=lambda: True,
        before_answer=before_answer,
    )
    server.start()
    try:
        yield f"127.0.0.1:{server.port}"
    finally:
        server.stop()


def customers_database(url: str) -> Database:
    """The customers service's own view of its database."""
    return open_database(url, Clock())


@cache
def objects() -> DiskObjects:
    """An object store of this test run's."""
    made = DiskObjects(Path(tempfile.mkdtemp(prefix="svyaz-documents-")))
    atexit.register(made.clear)
    return made


def operator() -> Operator:
    """An operator of branches in four cities, who is given notice as by default."""
    return Operator(
        regions=BranchRegions.parse("bishkek=KG,osh=KG,moscow=RU"),
        zones=BranchZones.parse("bishkek=Asia/Bishkek,berlin=Europe/Berlin,havana=America/Havana,*=UTC"),
        objects=objects(),
        notices=(90, 60, 30),
    )


def deadlines() -> Deadlines:
    """Notice by the clocks of these cities."""
    return Deadlines(operator().zones, operator().notices)


def customers_registrations(database: Database) -> list[Registration]:
    """What the customers service answers."""
    return CustomersService(database, operator()).registrations()


def loyalty_books() -> Books:
    """The ledgers of members."""
    return Books(operator().zones)


def customers_before_answer(database: Database) -> BeforeAnswer:
    """What the customers service does before it answers."""
    return CustomersService(database, operator()).before_answer()
