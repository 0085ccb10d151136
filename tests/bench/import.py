"""`svyaz import customers` beside a raw COPY of the very rows that it makes: `make bench NAME=import`.

Import: a CSV file through the command, gRPC and the service (a process of its own) until everything is committed, rules
checked and events written. COPY: the same aggregates, events and outbox rows, ready in memory, straight into the same
tables by a superuser in one transaction. Both on one PostgreSQL with its indexes and its fsync; they take turns.
"""

import argparse
import csv
import io
import json
import random
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import grpc
import psycopg
from rich.console import Console

from chassis import migrate, server
from chassis.clock import Clock
from chassis.config import Settings
from chassis.db import Database
from customers import store
from customers.importing.api import Imports
from svyaz.customers.v1 import import_pb2_grpc
from svyaz_cli.embedded import Postgres, free_port
from svyaz_cli.import_customers import COMPLETE, Options, import_customers, shipped_mapping
from svyaz_cli.issuer import Issuer
from svyaz_cli.secrets import Secrets

GOAL = 0.2
TABLES = ("individual", "customer", "billing_account", "event", "outbox")
# What PostgreSQL fills in itself.
GENERATED = {"event": ("position",), "outbox": ("id",)}

YES_NO = ("Yes", "No")
CHOICES: dict[str, tuple[str, ...]] = {
    "gender": ("Female", "Male"),
    "SeniorCitizen": ("0", "1"),
    "Partner": YES_NO,
    "Dependents": YES_NO,
    "tenure": tuple(str(months) for months in range(1, 73)),
    "PhoneService": YES_NO,
    "MultipleLines": (*YES_NO, "No phone service"),
    "InternetService": ("DSL", "Fiber optic", "No"),
    "OnlineSecurity": YES_NO,
    "OnlineBackup": YES_NO,
    "DeviceProtection": YES_NO,
    "TechSupport": YES_NO,
    "StreamingTV": YES_NO,
    "StreamingMovies": YES_NO,
    "Contract": ("Month-to-month", "One year", "Two year"),
    "PaperlessBilling": YES_NO,
    "PaymentMethod": ("Electronic check", "Mailed check", "Bank transfer (automatic)"),
    "MonthlyCharges": ("29.85", "56.95", "108.15"),
    "TotalCharges": ("1889.5", "108.15", "840.95"),
    "Churn": YES_NO,
}


def write_customers(path: Path, rows: int) -> None:
    """A file with the columns of IBM's sample."""
    draw = random.Random(7)
    with path.open("w", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(["customerID", *CHOICES])
        for number in range(rows):
            writer.writerow([f"{number:07d}-BENCH", *(draw.choice(values) for values in CHOICES.values())])


def serve(database_url: str, issuer: Path) -> None:
    """The service with its import alone, until its input ends; prints its port."""
    database = Database(database_url, clock=Clock(), metadata=store.metadata, resources=store.RESOURCES)
    settings = Settings.from_environment("customers", Issuer(issuer).environment)
    add = import_pb2_grpc.add_ImportServiceServicer_to_server
    running = server.Server(settings, [(add, Imports(database))], ready=database.ready)
    running.start()
    server.keep_what_is_loaded()
    print(running.port, flush=True)
    sys.stdin.read()
    running.stop()
    database.close()


def imported(file: Path, database_url: str, issuer: Issuer, directory: Path) -> float:
    """Seconds that the import takes."""
    command = [sys.executable, "-m", "tests.bench.import", "--serve", database_url, str(issuer.key_file.parent)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        port = int(process.stdout.readline())
        with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
            grpc.channel_ready_future(channel).result(30)
        mapping = shipped_mapping("ibm_telco")
        assert mapping is not None
        token = issuer.token(["admin"], ["bishkek"])
        options = Options(
            file=file,
            mapping=mapping,
            branch="bishkek",
            report=directory / "report.csv",
            address=f"127.0.0.1:{port}",
            token=lambda: token,
        )
        begun = time.perf_counter()
        status = import_customers(options, Console(file=io.StringIO()))
        seconds = time.perf_counter() - begun
        assert status == COMPLETE
        process.communicate()
    return seconds


def columns(table: str) -> str:
    """The columns that are copied."""
    names = [c.name for c in store.metadata.tables[table].columns if c.name not in GENERATED.get(table, ())]
    return ", ".join(f'"{name}"' for name in names)


def rows_of(admin_url: str) -> dict[str, list[tuple[Any, ...]]]:
    """What the import has made, JSON as its text."""
    result = {}
    with psycopg.connect(admin_url) as connection:
        connection.adapters.register_loader("jsonb", psycopg.types.string.TextLoader)
        for table in TABLES:
            result[table] = connection.execute(f"SELECT {columns(table)} FROM {table}").fetchall()  # noqa: S608
    return result


def copied(rows: dict[str, list[tuple[Any, ...]]], admin_url: str) -> float:
    """Seconds that the raw COPY takes."""
    with psycopg.connect(admin_url) as connection:
        begun = time.perf_counter()
        for table, some in rows.items():
            with connection.cursor() as cursor, cursor.copy(f"COPY {table} ({columns(table)}) FROM STDIN") as copy:
                for row in some:
                    copy.write_row(row)
        connection.commit()
        return time.perf_counter() - begun


def measure(directory: Path, count: int, rounds: int) -> tuple[list[float], list[float]]:
    """Rows a second of the import and of the COPY, a pair for each round."""
    file = directory / "customers.csv"
    write_customers(file, count)
    issuer = Issuer(directory / "issuer")
    postgres = Postgres(directory / "postgres", free_port(), Secrets(directory), notes=directory / "run")
    ours, raw = [], []
    try:
        postgres.launch()
        postgres.wait()
        admin = postgres.admin_url
        migrate.provision(admin, "customers", password="bench", owner_password="bench")
        owner = migrate.login_url(admin, user="customers_owner", password="bench", database="customers")
        migrate.upgrade("customers", owner, "customers")
        for round_ in range(rounds + 1):
            names = [f"{kind}_{round_}" for kind in ("imported", "copied")]
            for name in names:
                migrate.copy_database(admin, "customers", "customers", name)
            url = migrate.login_url(admin, user="customers", password="bench", database=names[0])
            seconds = imported(file, url, issuer, directory)
            rows = rows_of(migrate.database_url(admin, names[0]))
            assert len(rows["event"]) == len(rows["outbox"]) == 3 * count
            raw_seconds = copied(rows, migrate.database_url(admin, names[1]))
            # The first round warms PostgreSQL's and the machine's caches.
            if round_:
                ours.append(count / seconds)
                raw.append(count / raw_seconds)
            for name in names:
                migrate.drop_database(admin, name)
    finally:
        postgres.stop()
    return ours, raw


def main() -> int:
    """Measures, prints one figure; 1 when the goal is missed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=7_043)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--serve", nargs=2, metavar=("DATABASE_URL", "ISSUER"))
    arguments = parser.parse_args()
    if arguments.serve:
        serve(arguments.serve[0], Path(arguments.serve[1]))
        return 0
    with tempfile.TemporaryDirectory(prefix="svyaz-bench-") as directory:
        ours, raw = measure(Path(directory), arguments.rows, arguments.rounds)
    ratio = statistics.median(our / their for our, their in zip(ours, raw, strict=True))
    figure = {
        "name": f"import of {arguments.rows} customers, each with its party and account",
        "value": round(statistics.median(ours)),
        "unit": "rows/s",
        "baseline": round(statistics.median(raw)),
        "ratio": round(ratio, 3),
        "goal": GOAL,
        "ok": ratio >= GOAL,
    }
    print(json.dumps(figure, ensure_ascii=False), flush=True)
    return 0 if ratio >= GOAL else 1


if __name__ == "__main__":
    sys.exit(main())
