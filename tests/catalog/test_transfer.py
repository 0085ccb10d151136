"""Import and export jobs on the real database: every format, what is refused and reported, and nothing twice."""

import csv
import gzip
import io
import json
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import grpc
import psutil
import psycopg
import pytest
from rich.console import Console

from catalog.product.api import CatalogItems
from catalog.product.domain import CatalogItem
from catalog.publication.guards import Guards
from catalog.store import RESOURCES, metadata
from catalog.transfer import store as keys
from catalog.transfer.api import Transfers
from catalog.transfer.files import MAX_BYTES
from catalog.transfer.imports import SERIES
from chassis import calls
from chassis.clock import Clock
from chassis.db import Database
from chassis.errors import FailedPrecondition, InvalidArgument
from chassis.server import Registration
from chassis.unit import Unit
from svyaz.catalog.v1 import catalog_pb2_grpc, transfer_pb2, transfer_pb2_grpc
from svyaz.type.v1 import requests_pb2
from svyaz_cli.catalog_files import COMPLETE, Service, export_catalog, import_catalog
from svyaz_cli.catalog_files import FAILED as UNREAD
from svyaz_cli.issuer import Issuer
from tests.catalog.jobs import FAILED, SUCCEEDED, Jobs, attachments, timers
from tests.conftest import ServiceDatabase
from tests.serving import serving

REFUSED, REPORTED = transfer_pb2.FINDING_KIND_REFUSED, transfer_pb2.FINDING_KIND_REPORTED
TARIFFS, KILL_BILL = "data/russian_operator_tariffs", "data/killbill_catalogs"
TABLES = ("catalog", "category", "product_specification", "product_offering", "product_offering_price")


class Place:
    """A catalog service with a database of its own, which carries jobs out."""

    def __init__(self, database: ServiceDatabase, address: str, issuer: Issuer) -> None:
        self.database = database
        self.address = address
        self._channel = grpc.insecure_channel(address)
        self._issuer = issuer
        self.manager = self.jobs("catalog-manager")
        self.admin = self.jobs("admin")

    def jobs(self, *roles: str) -> Jobs:
        return Jobs(self._channel, self.token(*roles))

    def token(self, *roles: str) -> str:
        return self._issuer.token(roles, ["bishkek"])

    def rows(self, query: str, *parameters: Any) -> list[Any]:
        with psycopg.connect(self.database.admin_url) as connection:
            return connection.execute(query, parameters).fetchall()

    def delete(self, specification: str) -> None:
        stub = catalog_pb2_grpc.CatalogServiceStub(self._channel)
        metadata = (("authorization", f"Bearer {self.token('catalog-manager')}"),)
        stub.DeleteProductSpecification(requests_pb2.DeleteRequest(id=specification), metadata=metadata)

    def counts(self) -> dict[str, int]:
        tables = (*TABLES, "reference")
        return {table: self.rows(f"SELECT count(*) FROM {table}")[0][0] for table in tables}  # noqa: S608

    def close(self) -> None:
        self._channel.close()


@pytest.fixture
def place_for(
    database_for: Callable[..., ServiceDatabase], issuer: Issuer, tmp_path: Path
) -> Iterator[Callable[..., Place]]:
    """Makes places."""
    with ExitStack() as stack:

        def make(guards: Guards | None = None, **more: Any) -> Place:
            own = database_for("catalog")
            database = Database(own.url, clock=Clock(), metadata=metadata, resources=RESOURCES)
            stack.callback(database.close)
            guards = guards or Guards()
            items = CatalogItems(database, guards)
            registrations: list[Registration] = [
                (catalog_pb2_grpc.add_CatalogServiceServicer_to_server, items),
                (transfer_pb2_grpc.add_TransferServiceServicer_to_server, Transfers(database)),
            ]
            address = stack.enter_context(serving("catalog", registrations, issuer))
            runner = timers(database, items, guards, str(tmp_path), **more)
            runner.start()
            stack.callback(runner.stop)
            place = Place(own, address, issuer)
            stack.callback(place.close)
            return place

        yield make


@pytest.fixture
def place(place_for: Callable[..., Place]) -> Place:
    return place_for()


def document(**collections: Any) -> tuple[str, bytes]:
    return "catalog.json", json.dumps(collections).encode()


# --- operators' tariff tables ----------------------------------------------------------------------------------------


def tables(shared: Path) -> tuple[Path, Path]:
    return shared / TARIFFS / "offers.csv", shared / TARIFFS / "prices.csv"


@pytest.mark.slow
def test_every_tariff_and_every_rule_is_brought_in_or_reported(place: Place, shared: Path) -> None:
    job = place.manager.bring_in(*tables(shared))
    assert (job.status, job.source) == (SUCCEEDED, "MTS"), job.error_log
    assert job.rows_read == 317 + 2339
    assert (job.total, job.created, job.refused) == (2809, 2809, 0)
    assert job.rules_resolved + job.rules_reported == rules_of(tables(shared)[0]) == 1_965
    assert job.rules_reported == 14 + 258
    findings = place.manager.findings(job.id)
    assert Counter(finding.code for finding in findings) == {"UNKNOWN_OFFER": 14, "ASYMMETRIC": 258, "NOT_MAPPABLE": 1}
    assert all(finding.place and finding.element and finding.reason for finding in findings)
    assert place.counts() == {
        "catalog": 0,
        "category": 3,
        "product_specification": 3,
        "product_offering": 317,
        "product_offering_price": 2486,
        "reference": place.counts()["reference"],
    }
    statuses = dict(place.rows("SELECT lifecycle_status, count(*) FROM product_offering GROUP BY 1"))
    assert statuses == {"In design": 280, "Retired": 37}
    assert place.rows("SELECT 1 FROM product_offering WHERE name = 'Везде как дома'")
    again = place.manager.bring_in(*tables(shared))
    assert (again.created, again.changed, again.unchanged) == (0, 0, 2809)


def rules_of(offers: Path) -> int:
    """How many rules the table states."""
    with offers.open(newline="") as stream:
        return sum(
            len(row["prerequisites"].split())
            + len(row["forbidden_to_switch_on"].split())
            + sum(len(ids) for ids in json.loads(row["incompatibility_groups"] or "{}").values())
            for row in csv.DictReader(stream)
        )


# --- Kill Bill -------------------------------------------------------------------------------------------------------


def test_an_invalid_catalog_is_rejected_with_every_error(place: Place, shared: Path) -> None:
    job = place.admin.bring_in(shared / KILL_BILL / "CatalogWithValidationErrors.xml")
    assert job.status == FAILED
    codes = Counter(finding.code for finding in place.admin.findings(job.id, REFUSED))
    assert codes == {
        "SELF_REFERENCE": 2,
        "UNKNOWN_PRODUCT": 1,
        "BAD_DURATION": 2,
        "PHASE_ORDER": 2,
        "DUPLICATE_RULE": 6,
        "MISSING_DEFAULT_RULE": 2,
    }
    assert len(job.error_log.splitlines()) == 16
    assert set(place.counts().values()) == {0}


@pytest.mark.parametrize("name", ["SpyCarAdvanced", "WeaponsHire", "UsageExperimental", "discount-and-evergreen"])
def test_a_catalog_of_kill_bill_is_brought_in_whole(place: Place, shared: Path, name: str) -> None:
    job = place.manager.bring_in(shared / KILL_BILL / f"{name}.xml")
    assert (job.status, job.refused, job.created) == (SUCCEEDED, 0, job.total), job.error_log
    again = place.manager.bring_in(shared / KILL_BILL / f"{name}.xml")
    assert (again.created, again.changed, again.unchanged) == (0, 0, job.total)


def test_versions_of_a_catalog_are_versions_of_its_offerings(place: Place, shared: Path) -> None:
    files = [shared / KILL_BILL / f"WaterUtility-v{number}.xml" for number in (2, 1, 3)]
    job = place.manager.bring_in(*files)
    assert (job.status, job.source, job.refused) == (SUCCEEDED, "MyCatalog", 0), job.error_log
    check_water(place)


def test_versions_may_come_one_after_the_other(place: Place, shared: Path) -> None:
    for number in (1, 2, 3):
        job = place.manager.bring_in(shared / KILL_BILL / f"WaterUtility-v{number}.xml")
        assert (job.status, job.refused) == (SUCCEEDED, 0), job.error_log
    check_water(place)


def check_water(place: Place) -> None:
    found = place.rows(
        "SELECT id, series, valid_for->>'start_date_time', existing_subscribers FROM product_offering"
        " WHERE name = 'water-monthly' ORDER BY version"
    )
    (first, none, *_), *later = found
    assert none is None
    assert [series for _, series, *_ in later] == [first, first]
    assert [start[:10] for *_, start, _ in found] == ["2018-01-01", "2018-04-01", "2018-07-01"]
    assert [policy["policy"] for *_, policy in found] == ["keep", "migrate", "migrate"]
    assert [policy["effective_date"][:10] for *_, policy in later] == ["2018-05-01", "2018-08-01"]


# --- TM Forum JSON ---------------------------------------------------------------------------------------------------


def normal(data: bytes) -> dict[str, Any]:
    """A catalog with each thing under its name instead of its id, and without what is ours."""
    whole = json.loads(data)
    names = {item["id"]: f"{kind} {item['name']}" for kind, items in whole.items() for item in items}

    def plain(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: plain(item) for key, item in value.items() if key not in ("href", "lastUpdate")}
        if isinstance(value, list):
            return [plain(item) for item in value]
        return names.get(value, value) if isinstance(value, str) else value

    return {kind: sorted(json.dumps(plain(item), sort_keys=True) for item in items) for kind, items in whole.items()}


@pytest.mark.parametrize("name", ["SpyCarAdvanced", "WeaponsHire", "UsageExperimental"])
def test_what_was_exported_is_imported_as_an_equal_catalog(
    place_for: Callable[..., Place], shared: Path, name: str
) -> None:
    here, there = place_for(), place_for()
    here.manager.bring_in(shared / KILL_BILL / f"{name}.xml")
    exported, data = here.manager.export()
    assert exported.status == SUCCEEDED, exported.error_log
    assert exported.size == len(data)
    job = there.admin.bring_in(("catalog.json", data))
    assert (job.status, job.refused, job.rules_reported) == (SUCCEEDED, 0, 0), job.error_log
    assert job.created == exported.done
    assert normal(there.manager.export()[1]) == normal(data)
    assert here.counts() == there.counts()
    # At home it is what it was.
    home = here.manager.bring_in(("catalog.json", data))
    assert (home.created, home.changed, home.unchanged) == (0, 0, exported.done)


def test_what_a_manager_brings_in_is_a_draft_and_what_an_admin_does_is_as_it_was(
    place_for: Callable[..., Place],
) -> None:
    content = document(
        productOfferingPrice=[
            {"id": "p", "name": "p", "lifecycleStatus": "Launched", "price": {"unit": "KGS", "value": 5}}
        ],
        productOffering=[
            {"id": "o", "name": "o", "lifecycleStatus": "Launched", "productOfferingPrice": [{"id": "p"}]},
            {"id": "r", "name": "r", "lifecycleStatus": "Retired"},
        ],
    )
    for role, launched in (("manager", "In design"), ("admin", "Launched")):
        place = place_for()
        job = getattr(place, role).bring_in(content)
        assert (job.status, job.created) == (SUCCEEDED, 3), job.error_log
        assert dict(place.rows("SELECT name, lifecycle_status FROM product_offering")) == {
            "o": launched,
            "r": "Retired",
        }
    with pytest.raises(InvalidArgument, match="admin"):
        place_for().manager.bring_in(content, initial_status=6)


def test_each_refused_element_says_where_and_why(place: Place) -> None:
    content = document(
        productOffering=[
            {"id": "fine", "name": "fine", "category": [{"id": "nowhere"}]},
            {"id": "nameless"},
            {"name": "without an id"},
            {"id": "wrong", "name": 5, "isBundle": "yes"},
            {"id": "fine", "name": "again"},
            {"id": "a", "name": "a", "bundledProductOffering": [{"id": "b"}]},
            {"id": "b", "name": "b", "bundledProductOffering": [{"id": "a"}]},
            {"id": "parted", "name": "parted", "lifecycleStatus": "Launched", "productOfferingPrice": [{"id": "lost"}]},
            "text",
        ],
        surprises=[1],
    )
    job = place.admin.bring_in(content)
    assert (job.status, job.created) == (SUCCEEDED, 1)
    refused = {(f.element, f.field, f.code) for f in place.admin.findings(job.id, REFUSED)}
    assert refused == {
        ("nameless", "name", "BAD_ATTRIBUTE"),
        ("", "id", "REQUIRED"),
        ("wrong", "name", "BAD_ATTRIBUTE"),
        ("wrong", "isBundle", "BAD_ATTRIBUTE"),
        ("fine", "id", "DUPLICATE"),
        ("a", "", "CYCLE"),
        ("b", "", "CYCLE"),
        ("parted", "product_offering_price[0]", "UNRESOLVED_REFERENCE"),
        ("", "", "MALFORMED"),
    }
    assert job.refused == 8
    assert Counter(f.code for f in place.admin.findings(job.id, REPORTED)) == {
        "UNRESOLVED_REFERENCE": 2,
        "UNKNOWN_COLLECTION": 1,
    }
    assert "catalog.json#productOffering[3]: wrong isBundle: must be true or false" in job.error_log
    # What was refused comes in under the id that was kept for it, once it is mended.
    mended = place.admin.bring_in(document(productOffering=[{"id": "wrong", "name": "right"}]))
    assert (mended.created, mended.refused) == (1, 0)


def test_what_has_changed_in_the_source_is_changed_here(place: Place) -> None:
    def content(description: str, extra: str = "") -> tuple[str, bytes]:
        spec = {"id": "s", "name": "s", "description": description}
        return document(productSpecification=[spec, {"id": "t", "name": "t"}][: 1 if extra else 2])

    assert place.manager.bring_in(content("one")).created == 2
    changed = place.manager.bring_in(content("two"))
    assert (changed.created, changed.changed, changed.unchanged) == (0, 1, 1)
    assert place.rows("SELECT description FROM product_specification WHERE name = 's'") == [("two",)]
    log = place.rows("SELECT type, actor, on_behalf_of FROM event WHERE aggregate_type = 'ProductSpecification'")
    assert Counter(kind for kind, *_ in log) == {
        "ProductSpecificationCreateEvent": 2,
        "ProductSpecificationAttributeValueChangeEvent": 1,
    }
    assert {(actor, behalf is not None) for _, actor, behalf in log} == {("service:catalog", True)}
    other = place.manager.bring_in(content("one"), source="another system")
    assert other.created == 2


def test_a_query_exports_what_it_finds_with_all_that_it_refers_to(place: Place) -> None:
    place.manager.bring_in(
        document(
            productSpecification=[{"id": "s", "name": "s"}, {"id": "t", "name": "t"}],
            productOfferingPrice=[{"id": "p", "name": "p", "price": {"unit": "KGS", "value": 5}}],
            productOffering=[
                {"id": "o", "name": "o", "productSpecification": {"id": "s"}, "productOfferingPrice": [{"id": "p"}]},
                {"id": "other", "name": "other", "productSpecification": {"id": "t"}},
            ],
        )
    )
    job, data = place.manager.export(path="/productCatalogManagement/v4/productOffering", query="name=o")
    assert job.done == 3
    assert {kind: [item["name"] for item in items] for kind, items in json.loads(data).items() if items} == {
        "productSpecification": ["s"],
        "productOfferingPrice": ["p"],
        "productOffering": ["o"],
    }
    for wrong in ({"path": "/customer"}, {"query": "name=o"}, {"content_type": "text/csv"}):
        with pytest.raises(InvalidArgument):
            place.manager.export(**wrong)


def thing(key: str, **more: Any) -> dict[str, Any]:
    return {"id": key, "name": key, **more}


def test_what_was_deleted_here_comes_in_again(place: Place) -> None:
    content = document(productSpecification=[thing("s"), thing("t")])
    place.manager.bring_in(content)
    ((spec,),) = place.rows("SELECT id FROM product_specification WHERE name = 's'")
    place.delete(spec)
    again = place.manager.bring_in(content)
    assert (again.created, again.changed, again.unchanged) == (1, 0, 1), again.error_log
    # Another one, for those who have heard of the first and of its revisions.
    ((born_again,),) = place.rows("SELECT id FROM product_specification WHERE name = 's'")
    assert born_again != spec
    assert place.manager.bring_in(content).unchanged == 2


@pytest.mark.parametrize("batch", [1, 100])
def test_what_is_on_sale_is_looked_at_among_what_comes_with_it(place_for: Callable[..., Place], batch: int) -> None:
    """However many elements one transaction has."""
    place = place_for(batch=batch)
    launched = {"lifecycleStatus": "Launched"}
    fee = {"priceType": "recurring", "recurringChargePeriodType": "month", "price": {"unit": "KGS", "value": 5}}
    over = {"validFor": {"startDateTime": "2020-01-01T00:00:00Z", "endDateTime": "2021-01-01T00:00:00Z"}}
    sold = {"validFor": {"startDateTime": "2022-01-01T00:00:00Z"}}
    job = place.admin.bring_in(
        document(
            productOfferingPrice=[
                thing("good", **fee, **launched),
                thing("late", **fee, **over, **launched),
                thing("refused", **fee, priceList="nowhere", **launched),
            ],
            productOffering=[
                thing("right", productOfferingPrice=[{"id": "good"}], **sold, **launched),
                thing("never", productOfferingPrice=[{"id": "late"}], **sold, **launched),
                thing("next", productOfferingPrice=[{"id": "good"}], series="right", version="2", **sold, **launched),
            ],
        )
    )
    refused = {(one.element, one.code) for one in place.admin.findings(job.id, REFUSED)}
    assert refused == {("refused", "NEVER_APPLIES"), ("never", "NEVER_APPLIES"), ("next", "NEVER_APPLIES")}
    assert (job.created, job.refused) == (3, 3)


def test_a_reference_is_ours_once_its_target_is_here(place: Place) -> None:
    offering = document(productOffering=[thing("o", productOfferingPrice=[{"id": "p"}])])
    first = place.manager.bring_in(offering)
    assert (first.created, first.rules_reported) == (1, 1)
    place.manager.bring_in(document(productOfferingPrice=[thing("p", price={"unit": "KGS", "value": 5})]))
    again = place.manager.bring_in(offering)
    assert (again.changed, again.rules_resolved, again.rules_reported) == (1, 1, 0), again.error_log
    ((price,),) = place.rows("SELECT id FROM product_offering_price")
    assert place.rows("SELECT product_offering_price->0->>'id' FROM product_offering") == [(price,)]
    assert place.manager.bring_in(offering).unchanged == 1


def test_a_status_that_the_file_doesnt_state_stays(place: Place) -> None:
    def content(description: str, **more: str) -> tuple[str, bytes]:
        return document(productOffering=[thing("o", description=description, **more)])

    def status() -> Any:
        return place.rows("SELECT lifecycle_status, description FROM product_offering")

    place.manager.bring_in(content("one"))
    place.rows("UPDATE product_offering SET lifecycle_status = 'In test' RETURNING 1")
    silent = place.manager.bring_in(content("two"))
    assert silent.changed == 1
    assert status() == [("In test", "two")]
    # What is on sale elsewhere is a draft here, but no lesser one than it is already.
    downgraded = place.manager.bring_in(content("three", lifecycleStatus="Active"))
    assert status() == [("In test", "three")]
    for job in (silent, downgraded):
        assert [(f.code, f.field) for f in place.manager.findings(job.id)] == [("STATUS_KEPT", "lifecycle_status")]
    stated = place.manager.bring_in(content("three", lifecycleStatus="In design"))
    assert (stated.changed, status()) == (1, [("In design", "three")])
    assert not place.manager.findings(stated.id)


# --- where content comes from ----------------------------------------------------------------------------------------


def test_files_come_from_one_directory_and_go_there(place: Place, tmp_path: Path) -> None:
    (tmp_path / "in.json").write_bytes(document(category=[{"id": "c", "name": "c"}])[1])
    (tmp_path.parent / "secret.json").write_text("{}")
    (tmp_path / "link.json").symlink_to(tmp_path.parent / "secret.json")
    job = place.manager.ended(place.manager.create(transfer_pb2.ImportJob(url="file:in.json")).id)
    assert (job.status, job.created) == (SUCCEEDED, 1), job.error_log
    exported, data = place.manager.export(url="file:out.json")
    assert exported.status == SUCCEEDED
    assert (tmp_path / "out.json").read_bytes() == data
    for url in ("file:../secret.json", "file:link.json", "file:///etc/passwd", "file:none.json", "http://127.0.0.1/"):
        failed = place.manager.ended(place.manager.create(transfer_pb2.ImportJob(url=url)).id)
        assert failed.status == FAILED, url
        assert "root:" not in failed.error_log


def test_what_isnt_content_is_said_so(place: Place) -> None:
    bomb = b'<?xml version="1.0"?><!DOCTYPE c [<!ENTITY a "aa">]><catalog>&a;</catalog>'
    for name, data in {
        "a.json": b"{",
        "b.xml": b"<catalog>",
        "c.xml": bomb,
        "d.xml": b"<html/>",
        "offers.csv": b"id\n1\n",
        "e.txt": b"?",
        "f.json": b"\xff",
    }.items():
        job = place.manager.bring_in((name, data))
        assert job.status == FAILED, name
        assert job.error_log, name
    for attachment in ([], attachments(("a.json", b""))):
        with pytest.raises(InvalidArgument):
            place.manager.create(transfer_pb2.ImportJob(url="cid:a", attachment=attachment))


def test_gzip_of_several_members_is_read_to_its_end(place: Place, tmp_path: Path) -> None:
    data = document(category=[thing("c"), thing("d")])[1]
    members = gzip.compress(data[:20]) + gzip.compress(b"") + gzip.compress(data[20:])
    assert place.manager.bring_in(("catalog.json.gz", members)).created == 2
    # Some writers fill the last block.
    assert place.manager.bring_in(("catalog.json.gz", members + bytes(512))).unchanged == 2
    for name, wrong in {
        "no gzip": b"no gzip",
        "text after it": members + b"text",
        "broken off": members[:-1],
        "broken off early": members + members[:5],
    }.items():
        job = place.manager.bring_in(("catalog.json.gz", wrong))
        assert job.status == FAILED, name
        assert "catalog.json.gz" in job.error_log


def test_all_files_of_a_job_share_one_limit(place: Place, tmp_path: Path) -> None:
    half = gzip.compress(bytes(MAX_BYTES // 2 + 1))
    members = gzip.compress(bytes(MAX_BYTES // 8)) * 9
    for files in ([("a.json.gz", half), ("b.json.gz", half)], [("a.json.gz", members)]):
        job = place.manager.bring_in(*files)
        assert job.status == FAILED
        assert f"more than {MAX_BYTES} bytes" in job.error_log
    for name in "ab":
        with (tmp_path / f"{name}.json").open("wb") as stream:
            stream.truncate(MAX_BYTES // 2 + 1)
    job = place.manager.ended(place.manager.create(transfer_pb2.ImportJob(url="file:.")).id)
    assert job.status == FAILED
    assert f"more than {MAX_BYTES} bytes" in job.error_log


class Broken(Guards):
    """Rules with a fault of their own."""

    def creating(self, unit: Unit, item: CatalogItem) -> None:
        raise ZeroDivisionError("by zero")


def test_a_job_that_fails_again_and_again_ends_and_says_why(place_for: Callable[..., Place]) -> None:
    job = place_for(Broken(), attempts=2).manager.bring_in(document(category=[thing("c")]))
    assert job.status == FAILED
    assert job.error_log.startswith("ZeroDivisionError: by zero")


def test_a_job_goes_with_its_content_and_what_it_brought_in_stays(place: Place) -> None:
    job = place.manager.bring_in(document(category=[{"id": "c", "name": "c"}]))
    assert [one.content for one in job.attachment] == [""]
    place.manager.call("DeleteImportJob", requests_pb2.DeleteRequest(id=job.id))
    assert place.rows("SELECT count(*) FROM transfer_content") == [(0,)]
    again = place.manager.bring_in(document(category=[{"id": "c", "name": "c"}]))
    assert (again.created, again.unchanged) == (0, 1)
    place.rows("UPDATE import_job SET status = 'Running' RETURNING 1")
    with pytest.raises(FailedPrecondition, match="running"):
        place.manager.call("DeleteImportJob", requests_pb2.DeleteRequest(id=again.id))


# --- the command -----------------------------------------------------------------------------------------------------


def test_the_command_brings_a_catalog_in_and_writes_it_out(place: Place, shared: Path, tmp_path: Path) -> None:
    service = Service(address=place.address, token=lambda: place.token("catalog-manager"), patience=5.0)
    told = io.StringIO()
    out = Console(file=told, width=200)

    def bring_in(*files: Path, report: Path | None = None) -> int:
        return import_catalog(service, files, format="", source="", report=report, out=out)

    assert bring_in(shared / KILL_BILL / "WeaponsHire.xml", report=tmp_path / "report.csv") == COMPLETE
    with (tmp_path / "report.csv").open(newline="") as stream:
        assert [row["code"] for row in csv.DictReader(stream)] == ["UNREACHABLE_RULE"] * 2
    assert bring_in(shared / KILL_BILL / "CatalogWithValidationErrors.xml") == UNREAD
    assert "Nothing was brought in: the catalog has 15 errors" in told.getvalue()
    written = tmp_path / "out.json"
    assert export_catalog(service, written, path="", query="", out=out) == COMPLETE
    assert len(json.loads(written.read_text())["productOffering"]) == 16
    assert bring_in(written) == COMPLETE
    assert "0 created, 0 changed, 133 unchanged, 0 refused" in told.getvalue()


# --- keys ------------------------------------------------------------------------------------------------------------


def test_a_key_that_gets_another_id_takes_its_series_along(database: Database) -> None:
    first, other = ("ProductOffering", "basic@1"), ("ProductOffering", "other@1")
    named = ((SERIES, "basic"), (SERIES, "other"))
    with calls.using(calls.Call.background("catalog", "test", branches=("*",))), database.unit() as unit:
        keys.reserve(unit, "job-1", "source", {first: "a", other: "b", named[0]: "a", named[1]: "b"})
        before = keys.known(unit, "job-1", "source", [first])
        keys.give_anew(unit, "job-2", "source", before, also={"ProductOffering": SERIES})
        after = keys.known(unit, "job-2", "source", [first, other, *named])
    assert after[first].id == after[named[0]].id != "a"
    assert (after[first].digest, after[first].fresh) == (None, True)
    assert after[other].id == after[named[1]].id == "b"


def test_keys_of_a_large_source_get_other_ids_in_few_statements(database: Database) -> None:
    numbers = range(3_000)
    offerings = {("ProductOffering", f"o{n}@1"): f"first-{n}" for n in numbers}
    prices = {("ProductOfferingPrice", f"p{n}"): f"price-{n}" for n in numbers}
    series = {(SERIES, f"o{n}"): f"first-{n}" for n in numbers}
    with calls.using(calls.Call.background("catalog", "test", branches=("*",))), database.unit() as unit:
        keys.reserve(unit, "job-1", "large", offerings | prices | series)
        before = keys.known(unit, "job-1", "large", offerings | prices)
        begun = _processor_seconds(unit)
        keys.give_anew(unit, "job-2", "large", before, also={"ProductOffering": SERIES})
        spent = _processor_seconds(unit) - begun
        after = keys.known(unit, "job-2", "large", offerings | prices | series)
    assert all(after["ProductOffering", f"o{n}@1"].id == after[SERIES, f"o{n}"].id for n in numbers)
    assert {one.id for one in after.values()}.isdisjoint(one.id for one in before.values())
    # PostgreSQL's own: by the number of elements, not by its square, which is many seconds.
    assert spent < 2


def _processor_seconds(unit: Unit) -> float:
    times = psutil.Process(unit.connection().info.backend_pid).cpu_times()
    return times.user + times.system
