"""Looks for what the model of orders and inventory finds in many long examples: `python -m tests.study.order_model
--examples 500 --steps 50 --seed 1`. Ends with the shortest way to what it has found, or with what was gone through."""

import argparse
import os
import sys
import tempfile
import time
from pathlib import Path

import hypothesis
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import run_state_machine_as_test

from chassis import migrate
from svyaz_cli.embedded import Postgres, free_port
from svyaz_cli.secrets import Secrets
from tests.orders.machine import Ordering
from tests.orders.office import Office
from tests.servers import FAST


def provisioned(admin_url: str) -> tuple[str, str]:
    """The URLs of a database of orders: the service's, and the superuser's."""
    migrate.provision(admin_url, "orders", password="study", owner_password="study")
    owner = migrate.login_url(admin_url, user=migrate.owner_of("orders"), password="study", database="orders")
    migrate.upgrade("orders", owner, "orders")
    service = migrate.login_url(admin_url, user="orders", password="study", database="orders")
    return service, migrate.database_url(admin_url, "orders")


def main() -> None:
    """Reads the command line, and goes on until something is found or all examples are through."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--examples", type=int, default=200)
    parser.add_argument("--steps", type=int, default=50)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--shrink", action="store_true", help="look for a shorter way to what was found: takes minutes")
    wanted = parser.parse_args()
    directory = Path(tempfile.mkdtemp(prefix="svyaz-model-"))
    postgres = Postgres(directory / "postgres", free_port(), Secrets(directory), notes=directory / "run", settings=FAST)
    postgres.launch()
    try:
        postgres.wait()
        office = Office(*provisioned(postgres.admin_url))
        begun, cpu = time.monotonic(), time.process_time()
        phases = [Phase.generate, *([Phase.shrink] if wanted.shrink else [])]
        with office.axe.held():
            run_state_machine_as_test(
                # It may be anything that makes one.
                hypothesis.seed(wanted.seed)(lambda: Ordering(office)),  # type: ignore[arg-type]
                settings=settings(
                    max_examples=wanted.examples,
                    stateful_step_count=wanted.steps,
                    phases=phases,
                    database=None,
                    deadline=None,
                    suppress_health_check=list(HealthCheck),
                    print_blob=False,
                ),
            )
        office.close()
        spent = time.monotonic() - begun, time.process_time() - cpu
        print(f"{wanted.examples} examples of {wanted.steps} steps, seed {wanted.seed}: nothing found")
        print(f"{spent[0]:.0f} s, of it {spent[1]:.0f} s of CPU here")
    finally:
        postgres.stop()


if __name__ == "__main__":
    sys.dont_write_bytecode = bool(os.environ.get("PYTHONDONTWRITEBYTECODE"))
    main()
