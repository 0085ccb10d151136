"""The processes of the platform, as data: what each is started with, and what it stands on."""

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass

from chassis.cloudevents import speaks, system_user
from svyaz_cli.embedded import permissions, system_permissions

DEFAULT_PORT_BASE = 8080
METRICS_OFFSET = 10
RUNNER_METRICS_OFFSET = 19
NATS_OFFSET = 20
POSTGRES_OFFSET = 21


@dataclass(frozen=True)
class Service:
    """One process: `python -m module`, listening on base + offset, its metrics on base + offset + 10."""

    name: str
    module: str
    package: str
    offset: int
    database: str | None = None
    calls: tuple[str, ...] = ()
    # Streams that are its own: it alone may publish their subjects.
    streams: tuple[str, ...] = ()
    subjects: tuple[str, ...] = ()
    speaks_http: bool = False


SERVICES = (
    Service("catalog", "catalog.main", "catalog", 1, "catalog", streams=("CATALOG",), subjects=("svyaz.catalog.v1.>",)),
    Service(
        "customers",
        "customers.main",
        "customers",
        2,
        "customers",
        streams=("CUSTOMERS",),
        subjects=("svyaz.customers.v1.>",),
    ),
    Service(
        "orders",
        "orders.main",
        "orders",
        3,
        "orders",
        calls=("catalog", "customers"),
        streams=("ORDERS", "BILLING", "FULFILMENT"),
        subjects=("svyaz.orders.v1.>", "svyaz.billing.v1.>"),
    ),
    Service(
        "hub",
        "gateway.hub",
        "gateway.hub",
        7,
        "hub",
        calls=("catalog", "customers", "orders"),
        streams=("HUB",),
        subjects=("svyaz.hub.v1.>",),
    ),
    Service("gateway", "gateway.main", "gateway", 0, calls=("catalog", "customers", "orders", "hub"), speaks_http=True),
)

# The systems that fulfil orders where nobody has connected real ones.
SIMULATED = "provisioning,resource,credit,billing,delivery"

# Who reads the bus from outside, and who repairs it.
READER, ADMIN = "billing", "admin"


def bus_users(listening: str = "") -> dict[str, str]:
    """The users of the embedded NATS, with their permissions: each service, a reader, an administrator, and each
    external system that FULFILMENT_BY_EVENT names (`network,credit`), unless its name is none for NATS."""
    users = {service.name: permissions(service.streams, service.subjects) for service in SERVICES if service.database}
    systems = [name for name in map(str.strip, listening.split(",")) if speaks(name)]
    users |= {system_user(system): system_permissions(system) for system in systems}
    return {**users, READER: permissions((), ()), ADMIN: json.dumps({"publish": ">", "subscribe": ">"})}


def port_base(environment: Mapping[str, str] = os.environ) -> int:
    """The first port of this platform; raises ValueError when SVYAZ_PORT_BASE isn't a number."""
    return int(environment.get("SVYAZ_PORT_BASE", "") or DEFAULT_PORT_BASE)
