"""`svyaz import customers` against the real service: what comes in, what is refused, and that nothing comes twice."""

import csv
import io
import itertools
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import grpc
import psycopg
import pytest
from rich.console import Console

from chassis import clients
from chassis.errors import DomainError, InvalidArgument, PermissionDenied, Unavailable
from chassis.schema import partition_of
from svyaz.customers.v1 import account_pb2, customers_pb2, import_pb2, party_pb2
from svyaz.type.v1 import values_pb2
from svyaz_cli.embedded import free_port
from svyaz_cli.import_customers import (
    COMPLETE,
    SOME_REFUSED,
    UNFINISHED,
    FileError,
    Options,
    Service,
    import_customers,
    shipped_mapping,
)
from svyaz_cli.issuer import Issuer
from svyaz_cli.mapping import MappingError
from tests.conftest import ServiceDatabase
from tests.customers.conftest import ACCOUNT, CUSTOMER, PARTY
from tests.serving import Caller, customers_database, customers_registrations, serving

IMPORT = "svyaz.customers.v1.ImportService/"
TELCO = "data/churn_ibm_telco/WA_Fn-UseC_-Telco-Customer-Churn.csv"
TELCO_ROWS = 7_043
KILLED_ROWS = 3_000

MAPPING = """
dataset: old-crm
key: number
individual:
  givenName: {column: first}
  familyName: {column: last}
  birthDate: {column: born, type: date, format: "%d.%m.%Y", timezone: Asia/Bishkek}
  deathDate: {column: died, type: date, format: "%d.%m.%Y", timezone: Asia/Bishkek, when: died}
  externalReference:
    - {externalReferenceType: old-crm number, name: {column: number}}
customer:
  name: {column: last}
  characteristic:
    - {when: bonus, name: bonus, valueType: number, value: {column: bonus, type: number}}
billingAccount:
  name: {column: number}
  creditLimit: {unit: KGS, value: {column: limit, type: number, when: limit}}
"""
HEADER = "number,first,last,born,died,bonus,limit"


def count(place: ServiceDatabase, query: str) -> int:
    with psycopg.connect(place.admin_url) as connection:
        row = connection.execute(f"SELECT count(*) FROM {query}").fetchone()  # noqa: S608
    assert row is not None
    return int(row[0])


def counts(place: ServiceDatabase) -> dict[str, int]:
    tables = ("individual", "customer", "billing_account", "reference", "event", "outbox", "import_row")
    return {table: count(place, table) for table in tables}


@pytest.fixture
def own_place(database_for: Callable[..., ServiceDatabase]) -> ServiceDatabase:
    return database_for("customers")


@pytest.fixture
def address(own_place: ServiceDatabase, issuer: Issuer) -> Iterator[str]:
    """A service with a database of this test's own."""
    database = customers_database(own_place.url)
    with serving("customers", customers_registrations(database), issuer) as found:
        yield found
    database.close()


@pytest.fixture
def options(address: str, issuer: Issuer, tmp_path: Path) -> Options:
    """An import of customers.csv with mapping.yaml, both of which the test writes."""
    (tmp_path / "mapping.yaml").write_text(MAPPING)
    token = issuer.token(["admin"], ["bishkek"])
    return Options(
        file=tmp_path / "customers.csv",
        mapping=tmp_path / "mapping.yaml",
        branch="bishkek",
        report=tmp_path / "report.csv",
        address=address,
        token=lambda: token,
        patience=5.0,
    )


def run(options: Options) -> tuple[int, str]:
    """The command's exit status and what it says."""
    out = io.StringIO()
    status = import_customers(options, Console(file=out, width=200))
    return status, re.sub(r" in \d+\.\d s", "", out.getvalue())


def refusals(options: Options) -> list[tuple[int, str, str]]:
    with options.report.open(newline="") as stream:
        return [(int(row["line"]), row["field"], row["reason"]) for row in csv.DictReader(stream)]


def write(options: Options, *rows: str) -> None:
    options.file.write_text("\n".join((HEADER, *rows)) + "\n")


# --- the whole file --------------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_the_telco_file_is_imported_once(
    own_place: ServiceDatabase, options: Options, shared: Path, issuer: Issuer
) -> None:
    mapping = shipped_mapping("ibm_telco")
    assert mapping is not None
    telco = replace(options, file=shared / TELCO, mapping=mapping)
    status, said = run(telco)
    assert (status, said) == (COMPLETE, "7,043 imported, 0 already there, 0 refused\n")
    assert refusals(telco) == []
    made = counts(own_place)
    assert made == {
        "individual": TELCO_ROWS,
        "customer": TELCO_ROWS,
        "billing_account": TELCO_ROWS,
        "reference": 2 * TELCO_ROWS,
        "event": 3 * TELCO_ROWS,
        "outbox": 3 * TELCO_ROWS,
        "import_row": TELCO_ROWS,
    }
    # Eleven have just come and have no total yet: nothing is invented for them.
    assert count(own_place, 'customer WHERE characteristic @> \'[{"name": "totalCharges"}]\'') == TELCO_ROWS - 11
    assert count(own_place, "customer WHERE status <> 'verified'") == 0
    assert run(telco) == (COMPLETE, "0 imported, 7,043 already there, 0 refused\n")
    # The same rows in another file, by another mapping: their keys are known.
    again = options.file.with_name("again.csv")
    again.write_bytes(telco.file.read_bytes() + b"\n")
    other = options.file.with_name("other.yaml")
    other.write_text(mapping.read_text() + "\n# another text\n")
    assert run(replace(telco, file=again, mapping=other)) == (COMPLETE, "0 imported, 7,043 already there, 0 refused\n")
    assert counts(own_place) == made


def test_stages_are_left_empty(own_place: ServiceDatabase, options: Options) -> None:
    write(options, "1,Aida,Usenova,01.02.1980,,,")
    assert run(options)[0] == COMPLETE
    with psycopg.connect(own_place.admin_url) as connection:
        stages = connection.execute(
            "SELECT relname FROM pg_class WHERE relname LIKE 'stage%' AND relkind = 'r' AND relpersistence = 'u'"
        ).fetchall()
    assert len(stages) == 7
    assert [stage for (stage,) in stages if count(own_place, stage)] == []


# --- one row ---------------------------------------------------------------------------------------------------------


def test_a_row_is_what_the_ordinary_way_makes(own_place: ServiceDatabase, address: str, issuer: Issuer) -> None:
    with grpc.insecure_channel(address) as channel:
        admin = Caller(channel, issuer.token(["admin"], ["bishkek"]))
        individual = party_pb2.Individual(
            given_name="Aida",
            family_name="Usenova",
            contact_medium=[values_pb2.ContactMedium(medium_type="email", preferred=True)] * 2,
            party_characteristic=[values_pb2.Characteristic(name="n", value=b"437011234567890123.10")],
            extensions=b'{"x":1.00}',
        )
        customer = customers_pb2.Customer(name="Aida", characteristic=individual.party_characteristic)
        account = account_pb2.BillingAccount(
            name="Main", credit_limit=values_pb2.Money(unit="KGS", units=10, nanos=500_000_000), state="active"
        )
        row = import_pb2.ImportRow(line=2, key="k", individual=individual, customer=customer, billing_account=account)
        answer = admin(f"{IMPORT}ImportCustomers", source="s", dataset="d", rows=[row])
        imported = admin(f"{CUSTOMER}GetCustomer", id=answer.outcomes[0].customer_id)
        party_id = imported.engaged_party.id
        person = admin(f"{PARTY}GetIndividual", id=party_id)

        same_person = admin(f"{PARTY}CreateIndividual", individual=individual)
        customer.engaged_party.CopyFrom(values_pb2.RelatedParty(id=same_person.id, at_referred_type="Individual"))
        same = admin(f"{CUSTOMER}CreateCustomer", customer=customer)
        owner = values_pb2.RelatedParty(id=same.id, name="Aida", role="customer", at_referred_type="Customer")
        account.related_party.append(owner)
        same_account = admin(f"{ACCOUNT}CreateBillingAccount", billing_account=account)
    assert person.contact_medium == same_person.contact_medium
    assert person.extensions == b'{"x":1.00}'
    ids = {imported.id: "customer", party_id: "party", same.id: "customer", same_person.id: "party"}
    with psycopg.connect(own_place.admin_url) as connection:
        accounts = connection.execute("SELECT id FROM billing_account ORDER BY id = %s", (same_account.id,)).fetchall()
        ids |= {account_id: "account" for (account_id,) in accounts}
        for table in ("individual", "customer", "billing_account"):
            columns = [column for column in _columns(connection, table) if column != "last_modified"]
            rows = connection.execute(f"SELECT {', '.join(columns)} FROM {table} ORDER BY id").fetchall()  # noqa: S608
            assert len(rows) == 2
            assert _renamed(rows[0], ids) == _renamed(rows[1], ids)
        varying = {"position", "id", "time", "data", "partition", "traceparent"}
        columns = [column for column in _columns(connection, "event") if column not in varying]
        events = connection.execute(f"SELECT {', '.join(columns)} FROM event ORDER BY position").fetchall()  # noqa: S608
        imported_events, other_events = (sorted(_renamed(e, ids) for e in part) for part in (events[:3], events[3:]))
        assert imported_events == other_events
        for partition, key in connection.execute("SELECT partition, ordering_key FROM event"):
            assert partition == partition_of(key)
        bodies = connection.execute("SELECT aggregate_type, data FROM event ORDER BY position").fetchall()
        for (kind, one), (_, other) in zip(sorted(bodies[:3]), sorted(bodies[3:]), strict=True):
            message = {"Individual": party_pb2.Individual, "Customer": customers_pb2.Customer}.get(
                kind, account_pb2.BillingAccount
            )
            assert _renamed((str(_timeless(message, one)),), ids) == _renamed((str(_timeless(message, other)),), ids)
        outbox = connection.execute(
            "SELECT count(*) FROM outbox JOIN event ON event.id = event_id"
            " AND event.time = event_time AND event.ordering_key = outbox.ordering_key"
        ).fetchone()
        assert outbox == (6,)
        assert count(own_place, "reference") == 4


def _columns(connection: Any, table: str) -> list[str]:
    rows = connection.execute("SELECT column_name FROM information_schema.columns WHERE table_name = %s", (table,))
    return sorted(name for (name,) in rows)


def _renamed(row: tuple[Any, ...], ids: Mapping[str, str]) -> str:
    text = repr(row)
    for known, name in ids.items():
        text = text.replace(known, name)
    return text


def _timeless(message: Any, data: bytes) -> Any:
    made = message.FromString(data)
    if isinstance(made, account_pb2.BillingAccount):
        made.ClearField("last_modified")
    return made


def test_bad_rows_are_reported_with_line_field_and_reason(own_place: ServiceDatabase, options: Options) -> None:
    write(
        options,
        "1,Aida,Usenova,01.02.1980,,12.50,1000.5",
        "2,Bakyt,Abdyldaev,1980-02-01,,,",
        "3,Cholpon,Beishenova,31.02.1980,,many,",
        "",
        '4,"Dan\niyar",Isakov,01.02.1980,01.02.1970,,',
        "5,Elnura,Toktogulova,01.02.1980,,,0.1234567891",
        "6,,Mambetov,01.02.1980,,,",
        "7,too,few",
        ",Nur,Kerimov,01.02.1980,,,",
        "9,Jyldyz,Sultanova,01.02.1980,,,",
    )
    status, said = run(options)
    assert (status, said.splitlines()[0]) == (SOME_REFUSED, "2 imported, 0 already there, 7 refused")
    assert refusals(options) == [
        (3, "individual.birthDate", "column born: '1980-02-01' isn't a date in the format %d.%m.%Y"),
        (4, "individual.birthDate", "column born: '31.02.1980' isn't a date in the format %d.%m.%Y"),
        (4, "customer.characteristic[0].value", "column bonus: 'many' isn't a number"),
        (6, "individual.deathDate", "too early"),
        (8, "billingAccount.creditLimit.value", "the amount 0.1234567891 doesn't fit units and nanos"),
        (9, "individual.givenName", "column first is blank"),
        (10, "", "3 columns instead of 7"),
        (11, "individual.externalReference[0].name", "column number is blank"),
        (11, "billingAccount.name", "column number is blank"),
        (11, "key", "column number is blank"),
    ]
    assert counts(own_place)["individual"] == 2
    # Corrected, the file is another source, but those rows that are there keep being there.
    options.file.write_text(options.file.read_text().replace("1980-02-01", "01.02.1980"))
    status, said = run(options)
    assert (status, said.splitlines()[0]) == (SOME_REFUSED, "1 imported, 2 already there, 6 refused")


def test_dates_are_days_of_the_zone_and_digits_are_kept(options: Options, address: str, issuer: Issuer) -> None:
    write(options, "1,Aida,Usenova,01.02.1980,,12.50,1000.5")
    assert run(options)[0] == COMPLETE
    with grpc.insecure_channel(address) as channel:
        agent = Caller(channel, issuer.token(["agent"], ["bishkek"]))
        (person,) = agent(f"{PARTY}ListIndividuals").items
        (customer,) = agent(f"{CUSTOMER}ListCustomers").items
        (account,) = agent(f"{ACCOUNT}ListBillingAccounts").items
    assert person.birth_date.ToJsonString() == "1980-01-31T18:00:00Z"
    assert customer.characteristic[0].value == b"12.50"
    assert (account.credit_limit.units, account.credit_limit.nanos) == (1000, 500_000_000)
    assert (account.related_party[0].id, customer.engaged_party.id) == (customer.id, person.id)


def test_one_key_twice_in_a_file_is_one_customer_and_one_line_of_the_report(
    own_place: ServiceDatabase, options: Options
) -> None:
    write(options, "1,Aida,Usenova,01.02.1980,,,", "2,Nur,Kerimov,01.02.1980,,,", "1,Bakyt,Abdyldaev,01.02.1980,,,")
    status, said = run(options)
    assert (status, said.splitlines()[0]) == (SOME_REFUSED, "2 imported, 0 already there, 1 refused")
    repeated = [(4, "key", "column number is the same as line 2's")]
    assert refusals(options) == repeated
    # Also across transactions, and when it is run again.
    for batch in (500, 1):
        status, said = run(replace(options, batch=batch, in_flight=1))
        assert (status, said.splitlines()[0]) == (SOME_REFUSED, "0 imported, 2 already there, 1 refused")
        assert refusals(options) == repeated
    # Other files say it once more, of customers that are there.
    text = options.file.read_text()
    for batch, new in ((500, 1), (1, 0)):
        options.file.write_text(text + "3,Elnura,Toktogulova,01.02.1980,,,\n" + batch * "\n")
        status, said = run(replace(options, batch=batch, in_flight=1))
        assert (status, said.splitlines()[0]) == (
            SOME_REFUSED,
            f"{new} imported, {3 - new} already there, 1 refused",
        )
        assert refusals(options) == repeated
    # So does the first one again.
    options.file.write_text(text)
    status, said = run(replace(options, batch=1, in_flight=1))
    assert (status, said.splitlines()[0]) == (SOME_REFUSED, "0 imported, 2 already there, 1 refused")
    options.file.write_text(text + "3,Elnura,Toktogulova,01.02.1980,,,\n")
    # Mended, it comes in.
    options.file.write_text(options.file.read_text().replace("1,Bakyt", "4,Bakyt"))
    assert run(options) == (COMPLETE, "1 imported, 3 already there, 0 refused\n")
    assert counts(own_place)["customer"] == 4


def test_one_key_twice_in_different_transactions_is_found(own_place: ServiceDatabase, options: Options) -> None:
    write(options, "1,Aida,Usenova,01.02.1980,,,", "1,Aida,Usenova,01.02.1980,,,")
    status, said = run(replace(options, batch=1, in_flight=1))
    assert (status, said.splitlines()[0]) == (SOME_REFUSED, "1 imported, 0 already there, 1 refused")
    assert refusals(options) == [(3, "key", "column number is the same as line 2's")]


def test_branches_import_the_same_file_each_for_itself(
    own_place: ServiceDatabase, options: Options, issuer: Issuer
) -> None:
    write(options, "1,Aida,Usenova,01.02.1980,,,")
    osh = issuer.token(["admin"], ["osh"])
    assert run(options)[0] == COMPLETE
    assert run(replace(options, branch="osh", token=lambda: osh)) == (
        COMPLETE,
        "1 imported, 0 already there, 0 refused\n",
    )
    assert counts(own_place)["customer"] == 2


@pytest.mark.parametrize("text", ["", "\n\n"])
def test_an_empty_file_is_an_error(options: Options, text: str) -> None:
    options.file.write_text(text)
    with pytest.raises(FileError, match="empty"):
        run(options)


def test_a_row_in_another_encoding_is_reported_and_the_rest_comes_in(options: Options) -> None:
    rows = [
        b"1,Aida,Usenova,01.02.1980,,,",
        "2,Чолпон,Beishenova,01.02.1980,,,".encode("cp1251"),
        "3,Нур,Керимов,01.02.1980,,,".encode(),
    ]
    options.file.write_bytes(b"\n".join((HEADER.encode(), *rows)) + b"\n")
    status, said = run(options)
    assert (status, said.splitlines()[0]) == (SOME_REFUSED, "2 imported, 0 already there, 1 refused")
    assert refusals(options) == [(3, "", "column first: the byte 0xd7 isn't utf-8")]


def test_what_no_text_of_the_database_can_hold_refuses_its_row(
    own_place: ServiceDatabase, options: Options, address: str, issuer: Issuer
) -> None:
    write(options, "1,Aida,Usenova,01.02.1980,,,", "2,N\0r,Kerimov,01.02.1980,,,", "3,Elnura,T,01.02.1980,,,")
    status, said = run(options)
    assert (status, said.splitlines()[0]) == (SOME_REFUSED, "2 imported, 0 already there, 1 refused")
    assert refusals(options) == [(3, "", "column first: must not hold the character U+0000")]
    # Nor does it keep others out who come with it past the command.
    names = ["good", "b\0d", "good", "good", "b\0d", "good", "good"]
    rows = [
        import_pb2.ImportRow(
            line=line,
            key=f"direct {line}",
            organization=party_pb2.Organization(trading_name=name),
            customer=customers_pb2.Customer(name="Ala-Too"),
        )
        for line, name in enumerate(names)
    ]
    with grpc.insecure_channel(address) as channel:
        admin = Caller(channel, issuer.token(["admin"], ["bishkek"]))
        answer = admin(f"{IMPORT}ImportCustomers", source="s", dataset="d", rows=rows)
    assert [outcome.line for outcome in answer.outcomes if not outcome.customer_id] == [1, 4]
    assert [v.description for v in answer.outcomes[1].violations] == ["a text has a NUL in it, which can't be kept"]
    assert count(own_place, "organization") == 5


def test_what_comes_in_after_another_batch_has_ended_the_run_is_told(
    own_place: ServiceDatabase, options: Options, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(options, *(f"{number},Aida,Usenova,01.02.1980,,," for number in range(4)))
    second, first = threading.Event(), threading.Event()
    send = Service.send

    def sent(service: Service, request: import_pb2.ImportCustomersRequest) -> import_pb2.ImportCustomersResponse:
        if request.rows[0].line == 2:
            assert second.wait(10)
            first.set()
            raise PermissionDenied("FORBIDDEN", "why")
        second.set()
        assert first.wait(10)
        return send(service, request)

    monkeypatch.setattr(Service, "send", sent)
    assert run(replace(options, batch=2)) == (UNFINISHED, "2 imported, 0 already there, 0 refused\n")
    assert counts(own_place)["customer"] == 2


def test_a_run_that_ends_waits_no_longer_for_a_service_that_is_away(
    options: Options, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(options, *(f"{number},Aida,Usenova,01.02.1980,,," for number in range(4)))
    away = threading.Event()
    call = clients.call

    def called(method: Any, request: Any) -> Any:
        if not isinstance(request, import_pb2.ImportCustomersRequest):
            return call(method, request)
        if request.rows[0].line == 2:
            assert away.wait(10)
            raise PermissionDenied("FORBIDDEN", "why")
        away.set()
        raise Unavailable("UNAVAILABLE", "why")

    monkeypatch.setattr(clients, "call", called)
    assert run(replace(options, batch=2, patience=3600.0))[0] == UNFINISHED


def test_a_header_in_another_encoding_is_told_before_anything_is_sent(options: Options) -> None:
    options.file.write_bytes(HEADER.encode() + ",номер\n".encode("cp1251"))
    with pytest.raises(MappingError, match="column 8"):
        run(options)


def test_what_is_before_a_broken_quote_comes_in_and_the_end_is_told(
    options: Options, capsys: pytest.CaptureFixture[str]
) -> None:
    write(options, "1,Aida,Usenova,01.02.1980,,,", '2,"Nur" x,Kerimov,01.02.1980,,,', "3,Elnura,Toktogulova,,,,")
    status, said = run(options)
    assert (status, said) == (UNFINISHED, "1 imported, 0 already there, 0 refused\n")
    assert "Not finished: line 3: " in capsys.readouterr().err
    options.file.write_text(options.file.read_text().replace('"Nur" x', "Nur").replace("Toktogulova,", "T,01.02.1980"))
    assert run(options) == (COMPLETE, "2 imported, 1 already there, 0 refused\n")


@pytest.mark.parametrize("setting", ["encoding: utf-9", "encoding: base64", "delimiter: '\"'"])
def test_a_mapping_that_can_not_read_is_told(options: Options, setting: str) -> None:
    write(options, "1,Aida,Usenova,01.02.1980,,,")
    options.mapping.write_text(MAPPING + setting + "\n")
    with pytest.raises(MappingError, match=setting.partition(":")[0]):
        run(options)


def test_only_admins_of_the_branch_import(options: Options, issuer: Issuer) -> None:
    write(options, "1,Aida,Usenova,01.02.1980,,,")
    for token in (issuer.token(["agent"], ["bishkek"]), issuer.token(["admin"], ["osh"])):
        status, said = run(replace(options, token=lambda token=token: token))  # type: ignore[misc]
        assert (status, said) == (UNFINISHED, "0 imported, 0 already there, 0 refused\n")


def test_a_request_that_makes_no_sense_imports_nothing(address: str, issuer: Issuer) -> None:
    row = import_pb2.ImportRow(line=1, key="k")
    with grpc.insecure_channel(address) as channel:
        admin = Caller(channel, issuer.token(["admin"], ["bishkek"]))
        for fields, wrong in (
            ({"rows": []}, "source"),
            ({"source": "s", "rows": [row]}, "dataset"),
            ({"source": "s", "dataset": "d", "rows": [row, row]}, "rows"),
            ({"source": "s", "rows": [import_pb2.ImportRow(line=line) for line in range(5_001)]}, "rows"),
        ):
            with pytest.raises(InvalidArgument) as refusal:
                admin(f"{IMPORT}ImportCustomers", **fields)
            assert [violation.field for violation in refusal.value.violations] == [wrong]
        answer = admin(f"{IMPORT}ImportCustomers", source="s", dataset="d", rows=[row])
        assert [v.field for v in answer.outcomes[0].violations] == ["individual", "customer.name"]
        with pytest.raises(PermissionDenied):
            admin(f"{IMPORT}GetImport", branch="osh", source="s")


def test_the_same_rows_at_the_same_time_come_once(own_place: ServiceDatabase, address: str, issuer: Issuer) -> None:
    rows = [
        import_pb2.ImportRow(
            line=line,
            key=str(line),
            organization=party_pb2.Organization(trading_name="Ala-Too"),
            customer=customers_pb2.Customer(name="Ala-Too"),
        )
        for line in range(100)
    ]
    results: list[int] = []
    troubles: list[DomainError] = []

    def send() -> None:
        with grpc.insecure_channel(address) as channel:
            try:
                answer = Caller(channel, issuer.token(["admin"], ["bishkek"]))(
                    f"{IMPORT}ImportCustomers", source="s", dataset="d", rows=rows
                )
            except DomainError as error:
                troubles.append(error)
            else:
                results.extend(outcome.result for outcome in answer.outcomes)
                assert all(outcome.customer_id for outcome in answer.outcomes)

    threads = [threading.Thread(target=send) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert troubles == []
    assert results.count(import_pb2.IMPORT_RESULT_CREATED) == 100
    assert results.count(import_pb2.IMPORT_RESULT_ALREADY_THERE) == 300
    assert (counts(own_place)["customer"], count(own_place, "organization")) == (100, 100)


# --- the process is killed -------------------------------------------------------------------------------------------


class Process:
    """The customers service as in production, to be killed."""

    def __init__(self, environment: Mapping[str, str], log: Path) -> None:
        self.port = free_port()
        self._environment = {**os.environ, **environment, "PORT": str(self.port)}
        self._log = log
        self.start()

    def start(self) -> None:
        with self._log.open("ab") as output:
            command = [sys.executable, "-m", "customers.main"]
            self.process = subprocess.Popen(command, env=self._environment, stdout=output, stderr=output)
        with grpc.insecure_channel(f"127.0.0.1:{self.port}") as channel:
            grpc.channel_ready_future(channel).result(60)

    def kill(self) -> None:
        self.process.send_signal(signal.SIGKILL)
        self.process.wait(30)


def _until_some_are_in(place: ServiceDatabase) -> None:
    deadline = time.monotonic() + 60
    while not count(place, "import_row"):
        assert time.monotonic() < deadline, "nothing was imported"
        time.sleep(0.02)


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_killed_service_loses_and_doubles_nothing(
    own_place: ServiceDatabase, issuer: Issuer, nats: Mapping[str, str], shared: Path, tmp_path: Path
) -> None:
    environment = {**issuer.environment, "DATABASE_URL": own_place.url, "NATS_URL": nats["customers"]}
    service = Process(environment, tmp_path / "log")
    mapping = shipped_mapping("ibm_telco")
    assert mapping is not None
    token = issuer.token(["admin"], ["bishkek"])
    file = tmp_path / "telco.csv"
    with (shared / TELCO).open() as whole:
        file.write_text("".join(itertools.islice(whole, KILLED_ROWS + 1)))
    options = Options(
        file=file,
        mapping=mapping,
        branch="bishkek",
        report=tmp_path / "report.csv",
        address=f"127.0.0.1:{service.port}",
        token=lambda: token,
        batch=100,
        patience=0.0,
    )
    ends: list[tuple[int, str]] = []
    try:
        # Nobody brings it back: the run gives up, and says so.
        thread = threading.Thread(target=lambda: ends.append(run(options)))
        thread.start()
        _until_some_are_in(own_place)
        service.kill()
        thread.join()
        assert ends[0][0] == UNFINISHED
        before = count(own_place, "import_row")
        assert 0 < before < KILLED_ROWS
        # The next run waits for it when it goes away again.
        service.start()
        thread = threading.Thread(target=lambda: ends.append(run(replace(options, patience=60.0))))
        thread.start()
        deadline = time.monotonic() + 60
        while count(own_place, "import_row") < before + 300:
            assert time.monotonic() < deadline
            time.sleep(0.02)
        service.kill()
        service.start()
        thread.join()
        assert ends[1][0] == COMPLETE
        created, there, refused = (int(number.replace(",", "")) for number in re.findall(r"\d[\d,]*", ends[1][1])[:3])
        assert (created + there, refused) == (KILLED_ROWS, 0)
        assert there >= before
        made = counts(own_place)
        assert (made["individual"], made["customer"], made["billing_account"]) == (KILLED_ROWS,) * 3
        assert (made["event"], made["import_row"]) == (3 * KILLED_ROWS, KILLED_ROWS)
        assert count(own_place, "(SELECT 1 FROM event GROUP BY aggregate_id HAVING count(*) > 1) AS doubled") == 0
    finally:
        service.kill()
