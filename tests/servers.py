"""The PostgreSQL of one test run: `python -P tests/servers.py DIRECTORY PID` keeps it until PID ends or it is stopped.

A process of its own, because servers die with their starter, and whichever worker came first may end first.
"""

import signal
import sys
import threading
from pathlib import Path

import psutil

from svyaz_cli.embedded import Postgres, free_port
from svyaz_cli.secrets import Secrets

READY = "admin-url"
# Nothing here has to survive a power cut, nor do its passwords have to withstand anybody: hashing them is most of what
# a connection costs its client.
FAST = {
    "fsync": "off",
    "synchronous_commit": "off",
    "full_page_writes": "off",
    "max_wal_size": "4GB",
    "scram_iterations": "1",
}


def keep(directory: Path, owner: int) -> None:
    """Starts the server, writes its superuser's URL to READY, and stops it when told to or when the owner is gone."""
    stopped = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stopped.set())
    postgres = Postgres(directory / "postgres", free_port(), Secrets(directory), notes=directory / "run", settings=FAST)
    try:
        postgres.launch()
        postgres.wait()
        (directory / "partial").write_text(postgres.admin_url)
        (directory / "partial").rename(directory / READY)
        while not stopped.wait(0.5) and psutil.pid_exists(owner):
            pass
    finally:
        postgres.stop()


if __name__ == "__main__":
    keep(Path(sys.argv[1]), int(sys.argv[2]))
