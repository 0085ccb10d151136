"""How fast a catalog comes in that is on sale already: TM Forum JSON of 10,000 offerings with four prices each, brought
in by an admin's job: `make bench NAME=import_catalog`.

The steps of the job are taken one after the other, as the timer takes them, in a process of its own whose CPU and
memory are looked at; PostgreSQL is a process of others. Memory is looked at after each step, from the first batch on:
what grows with the number of batches shows. The first transaction is longer than all others and told apart: it reads
the file, plans and reserves ids, and holds up nobody but imports of the same source. Those that write to the catalog
hold up whoever changes it.
"""

import argparse
import json
import multiprocessing
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from typing import Any

import psutil
import psycopg

from catalog.main import timer_handlers
from catalog.preview.job import Previews
from catalog.product.api import CatalogItems
from catalog.publication.guards import Guards
from catalog.transfer import store
from catalog.transfer.domain import File, ImportJob, JobState
from catalog.transfer.files import Folder
from catalog.transfer.imports import IMPORT
from chassis.db import Database
from chassis.types import new_id
from tests.bench.figures import report
from tests.bench.pricing_catalog import as_service, catalog_database, catalog_place

OFFERINGS = 10_000
# Elements a second of the process's CPU, of a catalog that is on sale: each is looked at by the lint.
GOAL = 300.0
LONGEST_STEP, READING = 5.0, 30.0
# Beside what reading the file takes.
MEMORY_GOAL = 40.0


def document(offerings: int) -> bytes:
    """A catalog on sale: of every offering a connection fee, a monthly fee that a discount is taken off, and a fee for
    one value of a characteristic."""
    prices: list[dict[str, Any]] = []
    sold: list[dict[str, Any]] = []
    status = {"lifecycleStatus": "Launched"}
    for n in range(offerings):
        fee = {"unit": "KGS", "value": 100 + n % 900}
        tax = [{"taxCategory": "VAT", "taxRate": 12}]
        month = {"priceType": "recurring", "recurringChargePeriodType": "month"}
        prices += [
            {"id": f"c{n}", "name": "connection", "priceType": "oneTime", "price": fee, "tax": tax, **status},
            {"id": f"d{n}", "name": "discount", "priceType": "discount", "percentage": 10, "priority": 1, **status},
            {
                "id": f"f{n}",
                "name": "fee",
                "price": fee,
                "tax": tax,
                "popRelationship": [{"id": f"d{n}", "relationshipType": "discountedBy"}],
                **month,
                **status,
            },
            {
                "id": f"s{n}",
                "name": "speed",
                "price": fee,
                "tax": tax,
                "condition": [{"subject": "characteristic.speed", "operator": "gte", "value": 100}],
                **month,
                **status,
            },
        ]
        sold.append(
            {
                "id": f"o{n}",
                "name": f"Offering {n}",
                "version": "1",
                "productOfferingPrice": [{"id": f"{kind}{n}"} for kind in "cfs"],
                "productOfferingTerm": [{"name": "12 months"}],
                **status,
            }
        )
    return json.dumps({"productOfferingPrice": prices, "productOffering": sold}).encode()


def begin(database: Database, data: bytes) -> str:
    """An admin's job with that content."""
    job = ImportJob(id=new_id(), branch="*", url="cid:catalog.json")
    with as_service(), database.unit() as unit:
        job.check(unit.at)
        job.begin_for("admin", admin=True)
        store.keep_content(unit, job.id, [File("catalog.json", data)])
        unit.add(job)
    return job.id


def work(url: str, job_id: str) -> dict[str, float]:
    """Takes all steps of the job; what they took."""
    database = catalog_database(url)
    guards = Guards()
    step = timer_handlers(CatalogItems(database, guards), guards, Previews(database), Folder(""))[IMPORT]
    process = psutil.Process()
    found: dict[str, float] = {
        "steps": 0,
        "longest": 0,
        "cpu": 0,
        "seconds": 0,
        "peak": 0,
        "reading": 0,
        "reading_seconds": 0,
    }
    read = 0.0
    while True:
        cpu, begun = time.process_time(), time.perf_counter()
        with as_service(), database.unit() as unit:
            step(job_id, unit)
        cpu, spent = time.process_time() - cpu, time.perf_counter() - begun
        with as_service(), database.unit() as unit:
            job = unit.get(ImportJob, job_id)
        memory = process.memory_info().rss / 2**20
        if found["steps"] == 0:
            # The first batch makes what every batch has.
            read = memory
        if not job.done:
            # Reading is a step of its own.
            found["reading"] += cpu
            found["reading_seconds"] += spent
        else:
            found["steps"] += 1
            found["cpu"] += cpu
            found["seconds"] += spent
            found["longest"] = max(found["longest"], spent)
            found["peak"] = max(found["peak"], memory - read)
        if job.status is not None and job.status.final:
            break
    assert job.status is JobState.SUCCEEDED, job.error_log
    database.close()
    return {**found, "total": job.total or 0, "created": job.created or 0, "changed": job.changed or 0, "read": read}


def apart(url: str, job_id: str) -> dict[str, float]:
    """`work` in a process of its own."""
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        return pool.submit(work, url, job_id).result()


def import_figures(offerings: int) -> bool:
    """Whether it is fast enough, in transactions that are short enough, and with flat memory."""
    with catalog_place() as place:
        database = catalog_database(place.url)
        try:
            found = apart(place.url, begin(database, document(offerings)))
            with psycopg.connect(place.admin_url) as connection:
                row = connection.execute("SELECT count(*) FROM product_offering").fetchone()
        finally:
            database.close()
    assert row == (offerings,)
    print(json.dumps({name: round(value, 3) for name, value in found.items()}), file=sys.stderr)
    name = f"{found['total']:,.0f} elements on sale come in"
    good = report(name, found["created"] / found["cpu"], "elements/s of CPU", goal=GOAL)
    # By the clock, which others on the same machine hold up.
    good &= report(name, found["created"] / found["seconds"], "elements/s", goal=GOAL)
    good &= report(f"{found['total']:,.0f} elements are read", found["reading"], "s of CPU", goal=READING, lower=True)
    first = "their first transaction, which reads and plans"
    good &= report(first, found["reading_seconds"], "s", goal=READING, lower=True)
    good &= report("the longest transaction that writes", found["longest"], "s", goal=LONGEST_STEP, lower=True)
    return good & report("memory grows meanwhile", found["peak"], "MB", goal=MEMORY_GOAL, lower=True)


def main() -> int:
    """1 when a goal is missed."""
    arguments = argparse.ArgumentParser()
    arguments.add_argument("--offerings", type=int, default=OFFERINGS)
    return 0 if import_figures(arguments.parse_args().offerings) else 1


if __name__ == "__main__":
    sys.exit(main())
