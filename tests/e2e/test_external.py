"""The platform over a PostgreSQL and a NATS that somebody else runs: it needs little there, and leaves them running."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, LiteralString

import pytest

from svyaz_cli import external
from svyaz_cli.embedded import Nats, StartError, free_port
from svyaz_cli.secrets import Secrets
from tests.e2e.branch import CUSTOMER, INVENTORY, Branch, price
from tests.externals import ExternalPostgres, external_postgres
from tests.platforms import RunningPlatform, free_base, running_platform

pytestmark = [pytest.mark.slow, pytest.mark.timeout(400)]

SERVICES = 4
EVERYTHING = '{"publish": ">", "subscribe": ">"}'
MAPPING = """
dataset: external
key: Number
individual: {givenName: {column: Name}, familyName: Unknown}
customer: {name: {column: Name}}
billingAccount: {name: {column: Name}}
"""


@dataclass
class Servers:
    """Both servers, with what the platform is told of them."""

    postgres: ExternalPostgres
    nats: Nats
    environment: dict[str, str]

    def run(self) -> bool:
        """Whether both still run, as the processes that they were."""
        return self.postgres.process.poll() is None and self.nats.process.exit_code() is None


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Servers]:
    """A PostgreSQL whose user may just make databases and roles, and a NATS with one user."""
    directory = tmp_path_factory.mktemp("external")
    secrets, port = Secrets(directory), free_port()
    nats = Nats(directory / "nats", port, secrets, notes=directory / "run", users={"everybody": EVERYTHING})
    with external_postgres(directory / "postgres") as postgres:
        nats.launch()
        try:
            nats.wait()
            keeper = postgres.role("keeper", "CREATEDB", "CREATEROLE")
            environment = {"DATABASE_URL": keeper, "NATS_URL": nats.url("everybody")}
            yield Servers(postgres, nats, environment)
        finally:
            nats.stop()


def svyaz(platform: RunningPlatform, servers: Servers, *arguments: str) -> list[dict[str, Any]]:
    """The JSON lines that a command prints, which must succeed."""
    place = {"SVYAZ_VAR": str(platform.home.directory), "SVYAZ_PORT_BASE": str(platform.base)}
    completed = subprocess.run(
        [sys.executable, "-m", "svyaz_cli.main", *arguments],
        env={**os.environ, **servers.environment, **place},
        capture_output=True,
        text=True,
        timeout=90,
        check=False,
    )
    assert completed.returncode == 0, completed.stdout + completed.stderr
    return [json.loads(line) for line in completed.stdout.splitlines() if line.startswith("{")]


def test_the_platform_comes_goes_and_comes_again_over_servers_of_others(servers: Servers, tmp_path: Path) -> None:
    var, base = tmp_path / "var", free_base()
    with running_platform(var, base=base, environment=servers.environment) as platform:
        for name in ("postgres", "nats"):
            with pytest.raises(LookupError):
                platform.pid(name)
        branch = Branch(platform)
        offering = branch.offering("Home", [price("Connection", "500", recurring=False), price("Fee", "990.50")])
        customer, account = branch.customer("Айгуль", "Сыдыкова")
        ordered = branch.order(customer, account, offering)
        assert branch.ended(ordered["id"])["state"] == "completed"
        branch.close()
    assert servers.run()

    with running_platform(var, base=base, environment=servers.environment) as platform:
        branch = Branch(platform)
        products = branch.get(f"{INVENTORY}/product?billingAccount.id={account}")
        assert [product["status"] for product in products] == ["active"]
        assert branch.ended(branch.order(customer, account, offering)["id"])["state"] == "completed"

        assert "orders-customers" in {
            shown["name"] for shown in svyaz(platform, servers, "consumers", "list", "orders")
        }
        assert svyaz(platform, servers, "parked", "list", "orders") == []
        tail = ("billing-tail", "--state", str(tmp_path / "billing"), "--account", account, "--idle-exit", "3")
        lines = svyaz(platform, servers, *tail)
        assert [line["verdict"] for line in lines] == ["accepted"] * 4
        _import(platform, servers, tmp_path)
        assert len(branch.get(f"{CUSTOMER}/customer?name=Imported")) == 1
        branch.close()
    assert servers.run()


def _import(platform: RunningPlatform, servers: Servers, directory: Path) -> None:
    rows, mapping = directory / "customers.csv", directory / "mapping.yaml"
    rows.write_text("Number,Name\n1,Imported\n")
    mapping.write_text(MAPPING)
    options = ("--mapping", str(mapping), "--branch", "bishkek", "--report", str(directory / "report.csv"))
    svyaz(platform, servers, "import", "customers", str(rows), *options)


def test_the_services_stay_within_the_connections_that_the_server_has(servers: Servers) -> None:
    # A PostgreSQL takes 100 connections unless it is told otherwise, and keeps 3 of them for superusers.
    assert 3 * SERVICES * external.check_postgres(servers.environment["DATABASE_URL"], SERVICES) < 97
    with pytest.raises(StartError, match="97 connections: 1208 are needed"):
        external.check_postgres(servers.environment["DATABASE_URL"], 100)


@pytest.mark.parametrize("rights", ["CREATEDB", "CREATEROLE"])
def test_a_user_who_may_not_do_what_we_need_is_refused(servers: Servers, rights: LiteralString) -> None:
    with pytest.raises(StartError, match="CREATEDB and CREATEROLE"):
        external.check_postgres(servers.postgres.role(f"only_{rights}", rights), SERVICES)


@pytest.mark.parametrize(
    "url",
    ["postgresql://keeper:wrong@127.0.0.1:{port}/postgres", "postgresql://keeper@127.0.0.1:1/postgres", "postgresql:"],
)
def test_a_database_url_that_leads_nowhere_says_so(servers: Servers, url: str) -> None:
    with pytest.raises(StartError, match="DATABASE_URL"):
        external.check_postgres(url.format(port=servers.postgres.port), SERVICES)


def test_a_nats_url_that_leads_nowhere_says_so(servers: Servers) -> None:
    with pytest.raises(StartError, match=r"NATS_URL.*ConnectionRefused"):
        external.check_nats(f"nats://127.0.0.1:{free_port()}")
    # The server says why and hangs up; what it said may be lost with the connection.
    with pytest.raises(StartError, match=r"NATS_URL.*(Authorization|ConnectionReset)"):
        external.check_nats(servers.environment["NATS_URL"].replace("everybody", "nobody"))
