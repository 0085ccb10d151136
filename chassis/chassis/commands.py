"""What a service's `main` does when it is told to do something else than to serve."""

import argparse
import sys
from collections.abc import Sequence

from sqlalchemy import MetaData

from chassis import epochs, migrate
from chassis.clock import Clock
from chassis.config import Settings
from chassis.db import Database
from chassis.events import acting


def run(package: str, settings: Settings, arguments: Sequence[str]) -> bool:
    """Does what the arguments say, on the service's database; False when there are none: then it is to serve."""
    # The module that was started: of some services the package itself can be, of others only its `main`.
    spec = sys.modules["__main__"].__spec__
    module = spec.name.removesuffix(".__main__") if spec else package
    parser = argparse.ArgumentParser(prog=f"python -m {module}")
    commands = parser.add_subparsers(dest="command")
    commands.add_parser("migrate", help="bring the database to the newest revisions")
    opening = commands.add_parser("open-epoch", help="after a restore from a backup, before the service starts again")
    opening.add_argument("--reason", required=True, help="stays in the books")
    opening.add_argument("--beyond", type=int, default=0, help="an epoch that others have seen and the backup hasn't")
    opening.add_argument("--announce", action="store_true", help="send the last event of every aggregate once more")
    told = parser.parse_args(arguments)
    if told.command == "migrate":
        migrate.upgrade(package, settings.migration_database_url, settings.service)
    elif told.command == "open-epoch":
        _open_epoch(settings, told.reason.strip() or parser.error("say why"), told.beyond, announce=told.announce)
    return told.command is not None


def _open_epoch(settings: Settings, reason: str, beyond: int, *, announce: bool) -> None:
    clock = Clock(settings.clock_offset_file)
    database = Database(settings.database_url, clock=clock, metadata=MetaData(), resources={}, connections=1)
    with acting(settings.service, "open-epoch"), database.unit() as unit:
        epoch = epochs.open_next(unit.session, reason, unit.at, beyond=beyond)
        announced = epochs.announce(unit.session) if announce else 0
    database.close()
    sys.stdout.write(f"epoch {epoch} is open, {announced} events are sent once more\n")
