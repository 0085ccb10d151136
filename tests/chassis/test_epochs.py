"""A producer that was restored from a backup: what it does afterwards isn't taken for what was lost."""

from collections.abc import Callable, Iterator, Mapping

import pytest

from chassis import commands, migrate
from chassis.config import Settings
from chassis.consumer import Consumer
from tests.chassis import things
from tests.conftest import ServiceDatabase


@pytest.fixture
def recorder(database_for: Callable[..., ServiceDatabase]) -> Iterator[things.Recorder]:
    """The handler of another service, with a database of its own."""
    made = database_for(things.SERVICE, package="")
    things.create(made)
    connected = things.connect(made)
    yield things.Recorder(connected)
    connected.close()


def carry(producer: ServiceDatabase, recorder: things.Recorder, nats: Mapping[str, str], versions: list[int]) -> None:
    """Sends what the producer has committed, until the other service has seen these versions in all."""
    database = things.connect(producer)
    relay = things.relay(database, things.bus(nats[things.SERVICE]))
    consumer = Consumer(
        recorder.database, things.bus(nats["customers"]), recorder, service="customers", source=things.SERVICE
    )
    with things.running(relay, consumer):
        things.eventually(lambda: recorder.versions("order") == versions)
    database.close()


def write(producer: ServiceDatabase, *versions: int) -> None:
    database = things.connect(producer)
    things.write(database, *(("key", "order", version) for version in versions))
    database.close()


def restored(producer: ServiceDatabase, change: Callable[[], None]) -> None:
    """What `change` does is lost: the database is again what it was before."""
    server = migrate.database_url(producer.admin_url, "postgres")
    backup = f"{producer.name}_backup"
    migrate.copy_database(server, things.SERVICE, producer.name, backup)
    change()
    migrate.drop_database(server, producer.name)
    migrate.copy_database(server, things.SERVICE, backup, producer.name)
    migrate.drop_database(server, backup)


def open_epoch(producer: ServiceDatabase, *options: str) -> None:
    settings = Settings(service=things.SERVICE, database_url=producer.url)
    assert commands.run(things.SERVICE, settings, ["open-epoch", "--reason", "restored", *options])


def test_what_happens_after_a_restore_is_handled_whatever_its_version(
    service_database: ServiceDatabase, recorder: things.Recorder, nats: Mapping[str, str]
) -> None:
    write(service_database, 1, 2, 3)
    carry(service_database, recorder, nats, [1, 2, 3])

    def lose() -> None:
        write(service_database, 4, 5)
        carry(service_database, recorder, nats, [1, 2, 3, 4, 5])

    restored(service_database, lose)
    open_epoch(service_database)
    write(service_database, 4, 5)
    carry(service_database, recorder, nats, [1, 2, 3, 4, 5, 4, 5])
    # The next restore loses even the epoch: the one that others have seen is said.
    restored(service_database, lambda: None)
    open_epoch(service_database, "--beyond", "7", "--announce")
    carry(service_database, recorder, nats, [1, 2, 3, 4, 5, 4, 5, 5])
