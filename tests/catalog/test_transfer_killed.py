"""An import whose process is killed goes on where it was, and brings nothing in twice."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import grpc
import psycopg
import pytest

from svyaz.catalog.v1 import transfer_pb2
from svyaz_cli.embedded import free_port
from svyaz_cli.issuer import Issuer
from tests.catalog.jobs import SUCCEEDED, Jobs, attachments
from tests.conftest import ServiceDatabase

TARIFFS = "data/russian_operator_tariffs"
ELEMENTS = 2_809


class Process:
    """The catalog service as in production, to be killed."""

    def __init__(self, environment: Mapping[str, str], log: Path) -> None:
        self.port = free_port()
        self._environment = {**os.environ, **environment, "PORT": str(self.port)}
        self._log = log
        self.start()

    def start(self) -> None:
        with self._log.open("ab") as output:
            command = [sys.executable, "-m", "catalog.main"]
            self.process = subprocess.Popen(command, env=self._environment, stdout=output, stderr=output)
        with grpc.insecure_channel(f"127.0.0.1:{self.port}") as channel:
            grpc.channel_ready_future(channel).result(60)

    def kill(self) -> None:
        self.process.send_signal(signal.SIGKILL)
        self.process.wait(30)


def number(place: ServiceDatabase, query: str) -> int:
    with psycopg.connect(place.admin_url) as connection:
        row = connection.execute(query).fetchone()
    return int(row[0] or 0) if row is not None else 0


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_killed_import_goes_on_and_brings_nothing_in_twice(
    database_for: Callable[..., ServiceDatabase],
    issuer: Issuer,
    nats: Mapping[str, str],
    shared: Path,
    tmp_path: Path,
) -> None:
    own = database_for("catalog")
    service = Process({**issuer.environment, "DATABASE_URL": own.url, "NATS_URL": nats["catalog"]}, tmp_path / "log")
    files = [shared / TARIFFS / name for name in ("offers.csv", "prices.csv")]
    try:
        token = issuer.token(["catalog-manager"], ["bishkek"])
        with grpc.insecure_channel(f"127.0.0.1:{service.port}") as channel:
            job = Jobs(channel, token).create(transfer_pb2.ImportJob(url="cid:a", attachment=attachments(*files)))
        deadline = time.monotonic() + 60
        while not number(own, "SELECT done FROM import_job"):
            assert time.monotonic() < deadline, "nothing was brought in"
            time.sleep(0.02)
        service.kill()
        before = number(own, "SELECT done FROM import_job")
        assert 0 < before < ELEMENTS
        things = "product_offering UNION ALL SELECT id FROM product_offering_price UNION ALL SELECT id FROM category"
        everything = f"SELECT count(*) FROM (SELECT id FROM {things} UNION ALL SELECT id FROM product_specification) t"  # noqa: S608
        # Progress and things are one transaction.
        assert number(own, everything) == before
        service.start()
        with grpc.insecure_channel(f"127.0.0.1:{service.port}") as channel:
            # What the dead process had claimed is free again after half a minute.
            ended = Jobs(channel, token).ended(job.id, 120)
        assert (ended.status, ended.total, ended.done) == (SUCCEEDED, ELEMENTS, ELEMENTS)
        assert (ended.created, ended.changed, ended.unchanged, ended.refused) == (ELEMENTS, 0, 0, 0)
        assert number(own, everything) == ELEMENTS
        assert number(own, "SELECT count(*) FROM event WHERE type LIKE 'Product%CreateEvent'") == ELEMENTS - 3
        assert number(own, "SELECT count(*) FROM import_finding") == 273
    finally:
        service.kill()
