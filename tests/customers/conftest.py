"""The customers service on a real database, called over gRPC."""

from collections.abc import Callable, Iterator
from typing import Any

import grpc
import pytest

from chassis.db import Database
from svyaz_cli.issuer import Issuer
from tests.conftest import ServiceDatabase
from tests.serving import Caller, customers_before_answer, customers_database, customers_registrations, serving

PARTY = "svyaz.customers.v1.PartyService/"
CUSTOMER = "svyaz.customers.v1.CustomerService/"
ACCOUNT = "svyaz.customers.v1.AccountService/"


@pytest.fixture(scope="module")
def place(database_for: Callable[..., ServiceDatabase]) -> ServiceDatabase:
    return database_for("customers")


@pytest.fixture(scope="module")
def database(place: ServiceDatabase) -> Iterator[Database]:
    opened = customers_database(place.url)
    yield opened
    opened.close()


@pytest.fixture(scope="module")
def channel(database: Database, issuer: Issuer) -> Iterator[grpc.Channel]:
    with (
        serving("customers", customers_registrations(database), issuer, customers_before_answer(database)) as address,
        grpc.insecure_channel(address) as opened,
    ):
        yield opened


@pytest.fixture(scope="module")
def caller_of(channel: grpc.Channel, issuer: Issuer) -> Callable[..., Any]:
    """`caller_of("osh")`: an agent of that branch; `caller_of("osh", role="admin")`."""

    def make(*branches: str, role: str = "agent") -> Caller:
        return Caller(channel, issuer.token([role], branches))

    return make


@pytest.fixture(scope="module")
def agent(caller_of: Callable[..., Caller]) -> Caller:
    """An agent of the branch bishkek."""
    return caller_of("bishkek")
