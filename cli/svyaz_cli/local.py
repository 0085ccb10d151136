"""Where the platform of this checkout is, for commands that aren't told of another one."""

from collections.abc import Callable

from svyaz_cli.embedded import Nats
from svyaz_cli.home import Home
from svyaz_cli.secrets import Secrets
from svyaz_cli.services import NATS_OFFSET, SERVICES, bus_users, port_base

LOOPBACK = "127.0.0.1"


def address(service: str) -> str:
    """host:port of a service that `svyaz run` runs here."""
    return f"{LOOPBACK}:{port_base() + next(known.offset for known in SERVICES if known.name == service)}"


def nats_url(user: str) -> str:
    """The embedded NATS, as one of its users."""
    home = Home.from_environment()
    secrets = Secrets(home.directory)
    return Nats(home.directory / "nats", port_base() + NATS_OFFSET, secrets, notes=home.notes, users=bus_users()).url(
        user
    )


def token(given: str, role: str, *branches: str) -> Callable[[], str]:
    """What gives the token for each call: the one that was given, else one of the development issuer."""
    if given:
        return lambda: given
    issuer = Home.from_environment().issuer()
    return lambda: issuer.token([role], list(branches or ("*",)), seconds=300.0, subject=f"svyaz-{role}")
