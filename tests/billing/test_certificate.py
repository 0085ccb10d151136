"""Certificates of days: signed, whole, compared with what happened, and made anew when something changes."""

import json
from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import psycopg
import pytest
from prometheus_client import REGISTRY

from chassis import calls, epochs
from chassis.errors import FailedPrecondition
from chassis.events import acting
from chassis.unit import Unit
from chassis.zones import BranchZones
from orders.billing import acknowledgements, certificates, store
from orders.billing.booking import Acknowledgement, news
from orders.billing.certificate import Part, changed_rows
from orders.billing.certification import CERTIFY, Branches, Certification
from orders.billing.outbox import BillingOutbox
from orders.billing.sealer import Sealer
from orders.billing.signing import SigningKey
from svyaz_cli.billing_certificate import VerificationError, fetch, summary, verify
from svyaz_cli.issuer import billing_key
from tests.billing.books import superuser
from tests.billing.conftest import ZONES
from tests.billing.operator import Operator, SetClock, dearer, forgotten, price, twice
from tests.conftest import ServiceDatabase

DAY = date(2026, 3, 1)
# In Bishkek (UTC+6) it lasts from 18:00 to 18:00 UTC.
NOON = datetime(2026, 3, 1, 6, tzinfo=UTC)


@pytest.fixture
def operator(place: ServiceDatabase) -> Iterator[Operator]:
    made = Operator(place.url, SetClock(NOON))
    yield made
    made.database.close()


class Office:
    """Who makes certificates, and who reads them."""

    def __init__(self, operator: Operator, key: SigningKey, zones: BranchZones = ZONES) -> None:
        self.operator, self.key = operator, key
        self.certification = Certification(zones, key)

    def tick(self) -> None:
        """The timer of the branch fires."""
        with self.operator.acting() as unit:
            self.certification.certify_due(self.operator.branch, unit)

    def settle(self) -> None:
        """What is charged is sealed and sent, and billing books it."""
        database = self.operator.database
        while not Sealer(database).seal_batch()[1]:
            pass
        outbox = BillingOutbox(database)
        while waiting := outbox.exchange([], 1_000, 0, set(), set()):
            outbox.exchange([one.id for one in waiting], 0, 0, set(), set())

    def book(self) -> None:
        """Billing acknowledges everything."""
        with acting("orders", "test", self.operator.branch), self.operator.database.unit() as unit:
            rows = acknowledgements.chains(unit.session, account="", unacknowledged=True, after=("", 0), limit=1_000)
            latest = {row.account: row for row in rows}.values()
            said = [Acknowledgement(row.account, row.epoch, row.last_sequence, row.last_hash) for row in latest]
            new = news(said, acknowledgements.known(unit.session, said), "")
            acknowledgements.keep(unit, new, by="billing", reason="")

    def close_the_day(self, day: date = DAY) -> dict[str, Any]:
        """Half an hour after its end the timer fires; what the certificate says."""
        self.operator.clock.at = ZONES.bounds(self.operator.branch, day)[1] + timedelta(minutes=31)
        for _ in range(3):
            self.tick()
        return self.read(day)

    def read(self, day: date = DAY, revision: int = 0) -> dict[str, Any]:
        """The verified certificate with its lines."""
        payload = verify(self.file(day, revision), self.keys())
        with self.operator.acting() as unit:
            parts = {
                part.name.lower(): [
                    json.loads(line)
                    for line in certificates.all_lines(
                        unit.session, self.operator.branch, day, payload["revision"], part
                    )
                ]
                for part in Part
            }
        return {**summary(payload), "supersedes": payload.get("supersedes"), **parts}

    def keys(self) -> dict[str, Any]:
        with self.operator.acting() as unit:
            return {"keys": [json.loads(jwk) for jwk in certificates.keys(unit.session)]}

    def file(self, day: date = DAY, revision: int = 0) -> list[str]:
        """What `svyaz billing-certificate` writes."""

        def ask(method: str, request: Any) -> Any:
            from orders.billing.certificate_api import CertificateMethods

            database = self.operator.database
            api = CertificateMethods(database, self.certification, self.key)
            with calls.using(calls.Call.background("orders", "test", branches=("*",))):
                return getattr(api, method)(request, None)

        return list(fetch(ask, self.operator.branch, day.isoformat(), revision))


@pytest.fixture
def office(operator: Operator, signing_key: SigningKey) -> Office:
    return Office(operator, signing_key)


def test_a_day_whose_charges_fit_is_certified_row_by_row(operator: Operator, office: Office) -> None:
    product = operator.sell("a", price("499"), price("100", "once", recurring=False))
    operator.sell("b", price("50"))
    operator.pass_time(hours=1)
    operator.change(product, price("599", "bigger"))
    operator.suspend(product)
    operator.pass_time(hours=1)
    operator.suspend(product, resume=True)
    operator.pass_time(seconds=1)
    operator.end(product)
    office.settle()
    office.book()
    told = office.close_the_day()
    assert (told["discrepancies"], told["discrepancy"]) == (0, [])
    assert (told["branch"], told["day"], told["revision"], told["rows"]) == ("bishkek", "2026-03-01", 1, 2)
    assert (told["unsealed"], told["unsent"], told["unacknowledged"], told["compared"]) == (0, 0, 0, 8)
    a, b = told["row"]
    assert (a["account"], a["count"], a["firstSequence"], a["lastSequence"]) == ("a", 7, 1, 7)
    assert b["sums"] == [{"type": "RecurringChargeStartEvent", "unit": "KGS", "count": 1, "value": "50"}]
    assert {one["type"]: one["value"] for one in a["sums"]} == {
        "ChargeCreateEvent": "100",
        "RecurringChargeStartEvent": "499",
        "RecurringChargeChangeEvent": "599",
        "RecurringChargeSuspendEvent": "599",
        "RecurringChargeResumeEvent": "599",
        "RecurringChargeStopEvent": "1098",
    }
    with operator.acting() as unit:
        assert store.events(unit.session, "a", 1, 7, 1)[0].hash == a["lastHash"]


@pytest.mark.parametrize(
    ("meddle", "fault"),
    [(forgotten, "missing"), (twice, "duplicate"), (dearer, "altered")],
    ids=("forgotten", "twice", "dearer"),
)
def test_each_kind_of_change_that_is_charged_wrongly_is_named(
    operator: Operator, office: Office, meddle: Callable[..., Any], fault: str
) -> None:
    ids = [operator.sell("a", price("10")) for _ in range(3)]
    operator.pass_time(seconds=1)
    wrong = [operator.sell("a", price("499"), meddle=meddle)]
    operator.change(ids[0], price("20"), meddle=meddle)
    operator.suspend(ids[1], meddle=meddle)
    operator.end(ids[2], meddle=meddle)
    office.settle()
    office.book()
    told = office.close_the_day()
    found = {(one["fault"], one["productId"], one["type"]) for one in told["discrepancy"]}
    assert found == {
        (fault, wrong[0], "RecurringChargeStartEvent"),
        (fault, ids[0], "RecurringChargeChangeEvent"),
        (fault, ids[1], "RecurringChargeSuspendEvent"),
        (fault, ids[2], "RecurringChargeStopEvent"),
    }
    named = [one for one in told["discrepancy"] if one["type"] != "RecurringChargeSuspendEvent"]
    assert all(one["productOrderId"] and one["productOrderItemId"] == "1" for one in named)
    assert alarming(operator) == 4
    with operator.acting() as unit:
        office.certification.certify(unit, "bishkek", DAY, "four corrections")
    assert alarming(operator) == 0
    operator.pass_time(hours=30)
    office.tick()
    assert (alarming(operator), office.read()["revision"]) == (0, 1)


def alarming(operator: Operator) -> float | None:
    BillingOutbox(operator.database).measure(())
    return REGISTRY.get_sample_value("svyaz_billing_discrepancies")


def test_bytes_that_somebody_changed_in_the_database_are_named(
    operator: Operator, office: Office, place: ServiceDatabase
) -> None:
    for _ in range(3):
        operator.sell("a", price("499"))
    office.settle()
    office.book()
    with psycopg.connect(superuser(place)) as connection:
        connection.execute(
            "UPDATE charge_event SET data = convert_to("
            """replace(convert_from(data, 'UTF8'), '"499"', '"99"'), 'UTF8')"""
            " WHERE sequence = 2"
        )
    told = office.close_the_day()
    assert sorted(one["fault"] for one in told["discrepancy"]) == ["altered", "broken"]
    with psycopg.connect(superuser(place)) as connection:
        connection.execute("UPDATE charge_event SET data = '\\xff' WHERE sequence = 2")
        connection.execute("DELETE FROM charge_event WHERE sequence = 1")
    operator.pass_time(hours=2)
    office.tick()
    told = office.read()
    assert told["revision"] == 2
    assert {one["fault"] for one in told["discrepancy"]} == {"broken", "missing", "uncaused"}


@pytest.mark.parametrize(
    "written", ["[]", '{"amount":5}', '{"amount":{"unit":"KGS","value":"a lot"},"productId":["p"]}']
)
def test_whatever_somebody_writes_into_a_charge_keeps_no_day_from_being_certified(
    operator: Operator, office: Office, place: ServiceDatabase, written: str
) -> None:
    operator.sell("a", price("499"))
    office.settle()
    office.book()
    with psycopg.connect(superuser(place)) as connection:
        connection.execute("UPDATE charge_event SET data = convert_to(%s, 'UTF8')", (written,))
    told = office.close_the_day()
    assert {one["fault"] for one in told["discrepancy"]} == {"broken", "missing", "uncaused"}


def test_what_was_is_what_a_version_followed_whichever_clock_it_was_written_by(
    operator: Operator, office: Office
) -> None:
    """A replica's clock is behind, or a transaction began before the one whose product it changed."""
    product = operator.sell("a", price("499"))
    operator.pass_time(seconds=2)
    operator.change(product, price("599", "bigger"))
    operator.pass_time(seconds=-1)
    operator.suspend(product)
    office.settle()
    office.book()
    told = office.close_the_day()
    assert (told["compared"], told["discrepancy"]) == (4, [])


def test_a_day_waits_until_it_is_booked_but_not_for_ever(operator: Operator, office: Office) -> None:
    operator.sell("a", price("499"))
    with pytest.raises(Exception, match="no certificate"):
        office.close_the_day()
    operator.clock.at = ZONES.bounds("bishkek", DAY)[1] + timedelta(hours=2)
    office.tick()
    told = office.read()
    assert (told["unsealed"], [one["fault"] for one in told["discrepancy"]]) == (1, ["unsealed"])
    office.settle()
    office.book()
    operator.pass_time(hours=1)
    office.tick()
    later = office.read()
    assert (later["revision"], later["unsealed"], later["discrepancy"]) == (2, 0, [])
    assert later["supersedes"]
    (row, gone) = later["change"]
    assert (row["account"], row["before"]["unsealed"], row["after"]["unsealed"]) == ("a", 1, 0)
    assert gone["gone"]["fault"] == "unsealed"
    operator.pass_time(hours=24)
    office.tick()
    assert office.read()["revision"] == 2
    assert office.read(revision=1)["unsealed"] == 1


def test_every_day_has_one_also_without_charges_and_where_the_clocks_are_changed(
    place: ServiceDatabase, signing_key: SigningKey
) -> None:
    zones = BranchZones.parse("berlin=Europe/Berlin")
    operator = Operator(place.url, SetClock(datetime(2026, 3, 28, 12, tzinfo=UTC)), branch="berlin")
    office = Office(operator, signing_key, zones)
    operator.sell("a", price("1"))
    # The last quarter of an hour of the day of 23 hours.
    operator.clock.at = datetime(2026, 3, 29, 21, 50, tzinfo=UTC)
    operator.sell("a", price("2"))
    office.settle()
    office.book()
    operator.clock.at = datetime(2026, 4, 2, 12, tzinfo=UTC)
    for _ in range(8):
        office.tick()
    days = [office.read(date(2026, 3, 28) + timedelta(days=number)) for number in range(5)]
    assert [(day["day"], day["rows"], day["discrepancies"]) for day in days] == [
        ("2026-03-28", 1, 0),
        ("2026-03-29", 1, 0),
        ("2026-03-30", 0, 0),
        ("2026-03-31", 0, 0),
        ("2026-04-01", 0, 0),
    ]
    payload = verify(office.file(date(2026, 3, 29)), office.keys())
    assert (payload["from"], payload["until"]) == ("2026-03-28T23:00:00.000000Z", "2026-03-29T22:00:00.000000Z")
    with operator.acting() as unit:
        following = certificates.next_look(unit.session, "berlin")
    assert following is not None
    assert following > operator.clock.at
    operator.database.close()


def test_an_account_has_a_row_for_each_epoch_of_a_day(operator: Operator, office: Office) -> None:
    operator.sell("a", price("1"))
    office.settle()
    with operator.acting() as unit:
        epochs.open_next(unit.session, "restored", unit.at)
    operator.sell("a", price("2"))
    office.settle()
    office.book()
    told = office.close_the_day()
    assert [(row["account"], row["epoch"], row["count"]) for row in told["row"]] == [("a", 1, 1), ("a", 2, 1)]
    assert told["discrepancies"] == 0


def test_a_charge_to_another_branchs_account_is_named_as_unsealed(
    operator: Operator, office: Office, place: ServiceDatabase
) -> None:
    operator.sell("a", price("1"))
    office.settle()
    osh = Operator(place.url, SetClock(NOON), branch="osh")
    osh.sell("a", price("2"))
    office.settle()
    office.book()
    assert office.close_the_day()["discrepancies"] == 0
    theirs = Office(osh, office.key)
    osh.clock.at = ZONES.bounds("osh", DAY)[1] + timedelta(hours=2)
    theirs.tick()
    told = theirs.read()
    assert [(one["fault"], one["account"]) for one in told["discrepancy"]] == [("unsealed", "a")]
    osh.database.close()


def test_a_certificate_is_nothing_without_its_signature_and_each_of_its_lines(
    operator: Operator, office: Office
) -> None:
    operator.sell("a", price("1"), meddle=forgotten)
    for account in "bc":
        operator.sell(account, price("1"))
    office.settle()
    office.book()
    office.close_the_day()
    keys, file = office.keys(), office.file()
    assert verify(file, keys)["discrepancies"]["count"] == 1
    header, payload, signature = json.loads(file[0])["signed"].split(".")
    for wrong in (
        file[:-1],
        [*file, file[-1]],
        [file[0], file[2], file[1], *file[3:]],
        [file[0], file[1].replace('"count":1', '"count":2'), *file[2:]],
        [*file, '{"odd":{}}'],
        [*file, "no JSON"],
        [json.dumps({"signed": f"{header}.{payload}A.{signature}"}), *file[1:]],
        [json.dumps({"signed": f"{header}.{payload}."}), *file[1:]],
        [json.dumps({"signed": "eyJhbGciOiJub25lIn0." + payload + "."}), *file[1:]],
        [],
    ):
        with pytest.raises(VerificationError):
            verify(wrong, keys)
    with pytest.raises(VerificationError, match="none of the keys"):
        verify(file, {"keys": []})


def test_a_key_that_is_replaced_still_verifies_what_it_signed(
    operator: Operator, office: Office, tmp_path: Path
) -> None:
    operator.sell("a", price("1"))
    office.settle()
    office.book()
    office.close_the_day()
    another = SigningKey.read(billing_key(tmp_path).read_text())
    assert another is not None
    assert another.key_id != office.key.key_id
    successor = Office(operator, another)
    successor.close_the_day(DAY + timedelta(days=1))
    keys = successor.keys()
    assert [key["kid"] for key in keys["keys"]] == [office.key.key_id, another.key_id]
    assert all(set(key) == {"kty", "crv", "x", "kid", "alg", "use"} for key in keys["keys"])
    assert verify(successor.file(DAY), keys)["revision"] == 1
    assert verify(successor.file(DAY + timedelta(days=1)), keys)["revision"] == 1


def test_without_a_key_nothing_is_certified_and_an_open_day_neither(operator: Operator, office: Office) -> None:
    operator.sell("a", price("1"))
    with operator.acting() as unit, pytest.raises(FailedPrecondition, match="isn't over"):
        office.certification.certify(unit, "bishkek", DAY)
    operator.pass_time(days=2)
    with operator.acting() as unit, pytest.raises(FailedPrecondition, match="BILLING_SIGNING_KEY"):
        Certification(ZONES, None).certify(unit, "bishkek", DAY)
    BillingOutbox(operator.database).measure(())
    assert (REGISTRY.get_sample_value("svyaz_billing_uncertified_seconds") or 0) > 24 * 3600
    with pytest.raises(ValueError, match="Ed25519 or P-256"):
        SigningKey.read(_rsa())


def test_who_has_no_key_is_told_of_days_that_no_certificate_will_be_of(operator: Operator, office: Office) -> None:
    """The timer fires again and again, so that they are certified once there is a key."""
    operator.sell("a", price("1"))
    operator.pass_time(days=2)
    with operator.acting() as unit:
        Certification(ZONES, None).certify_due("bishkek", unit)
    BillingOutbox(operator.database).measure(())
    assert (REGISTRY.get_sample_value("svyaz_billing_uncertified_seconds") or 0) > 24 * 3600
    with operator.acting() as unit:
        (due,) = unit.cursor().execute("SELECT not_before FROM timer").fetchone() or (None,)
    assert due is not None
    assert operator.clock.at < due <= operator.clock.at + timedelta(hours=1)


def _rsa() -> str:
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import rsa

    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    ).decode()


def test_a_branch_gets_its_timer_with_its_first_charge(operator: Operator) -> None:
    def timers(unit: Unit) -> list[tuple[str, str]]:
        rows = unit.cursor().execute("SELECT aggregate_id, purpose FROM timer ORDER BY 1").fetchall()
        return [(row[0], row[1]) for row in rows]

    Branches(operator.database).once()
    operator.sell("a", price("1"))
    osh = Operator(operator.url, operator.clock, branch="osh")
    osh.sell("o", price("1"))
    for _ in range(2):
        Branches(operator.database).once()
    with acting("orders", "test"), operator.database.unit() as unit:
        assert timers(unit) == [("bishkek", CERTIFY), ("osh", CERTIFY)]
    osh.database.close()


def test_rows_that_change_come_and_go_are_told_side_by_side() -> None:
    def row(account: str, count: int, epoch: int = 1) -> str:
        return json.dumps({"account": account, "count": count, "epoch": epoch})

    before = [row("a", 1), row("b", 1), row("b", 1, 2), row("d", 1)]
    after = [row("a", 1), row("b", 2), row("c", 1), row("d", 1), row("e", 1)]
    changes = [json.loads(line) for line in changed_rows(before, after)]
    assert [(one["account"], one["epoch"], "before" in one, "after" in one) for one in changes] == [
        ("b", 1, True, True),
        ("b", 2, True, False),
        ("c", 1, False, True),
        ("e", 1, False, True),
    ]
