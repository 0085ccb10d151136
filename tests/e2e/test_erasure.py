"""A person goes from everywhere, and what billing was promised stays, byte for byte."""

import time
import uuid
from contextlib import closing
from pathlib import Path
from typing import Any

import grpc
import psycopg
import pytest
from psycopg import sql

from svyaz.customers.v1 import privacy_pb2
from svyaz_cli.billing_chain import ChainVerifier, Verdict
from svyaz_cli.billing_log import RemoteLog
from svyaz_cli.billing_state import State
from svyaz_cli.billing_watch import SOURCE
from svyaz_cli.secrets import Secrets
from svyaz_cli.services import POSTGRES_OFFSET
from svyaz_cli.view import SOURCES, rebuild_view
from tests.e2e.branch import ACCOUNT, CUSTOMER, INVENTORY, ORDERING, PARTY, Branch, account_of, eventually, price
from tests.platforms import RunningPlatform
from tests.serving import Caller

DATABASES = ("catalog", "customers", "orders", "hub")
QUALIFICATION = "/tmf-api/productOfferingQualification/v4/productOfferingQualification"
# Nobody else's, so that finding one of them anywhere is finding her.
FAMILY, PHONE, EMAIL, STREET = "Zholdoshbekova", "+996700918273", "zh.aizada@example.kg", "Turusbekov 109"
SECRETS = (FAMILY, PHONE, PHONE.removeprefix("+"), EMAIL, STREET)


class Person:
    """A person with an order, charges, an ended product, a qualification and a subscriber who isn't there."""

    def __init__(self, branch: Branch) -> None:
        offering = branch.offering("Line", [price("Connection", "500", recurring=False), price("Monthly fee", "300")])
        media = [
            {"mediumType": "phone", "characteristic": {"phoneNumber": PHONE}},
            {"mediumType": "email", "characteristic": {"emailAddress": EMAIL}},
            {"mediumType": "post", "characteristic": {"street1": STREET, "city": "Bishkek"}},
        ]
        # So much has been told to nobody, and waits.
        branch.persist("POST", f"{ORDERING}/hub", {"callback": "https://nobody.invalid/listener"}, role="admin")
        body = {"givenName": "Aizada", "familyName": FAMILY, "contactMedium": media}
        self.id = branch.persist("POST", f"{PARTY}/individual", body)["id"]
        engaged = {"id": self.id, "name": f"Aizada {FAMILY}", "@referredType": "Individual"}
        self.customer = branch.persist(
            "POST", f"{CUSTOMER}/customer", {"name": FAMILY, "engagedParty": engaged, "contactMedium": media}
        )["id"]
        self.account = branch.persist("POST", f"{ACCOUNT}/billingAccount", account_of(self.customer, FAMILY))["id"]
        self.owner = {"id": self.customer, "name": FAMILY, "role": "customer", "@referredType": "Customer"}
        item = {
            "id": "1",
            "action": "add",
            "productOffering": {"id": offering},
            "billingAccount": {"id": self.account, "name": FAMILY},
            "product": {
                "place": [{"id": "flat", "name": STREET, "role": "installation"}],
                "productCharacteristic": [{"name": "number", "value": PHONE}],
            },
        }
        order = {
            "relatedParty": [self.owner, engaged | {"role": "payer"}],
            "billingAccount": {"id": self.account, "name": FAMILY},
            "description": f"as {FAMILY} wants it",
            "notificationContact": PHONE,
            "note": [{"text": f"call {FAMILY} at {PHONE}"}],
            "letTheCourierKnow": STREET,
            "productOrderItem": [item],
        }
        self.order = branch.persist("POST", f"{ORDERING}/productOrder", order)["id"]
        assert branch.ended(self.order)["state"] == "completed"
        (product,) = branch.get(f"{INVENTORY}/product?billingAccount.id={self.account}")
        self.product = product["id"]
        end = {
            **order,
            "productOrderItem": [{"id": "1", "action": "delete", "product": {"id": self.product}}],
        }
        self.last_order = branch.persist("POST", f"{ORDERING}/productOrder", end)["id"]
        assert branch.ended(self.last_order)["state"] == "completed"
        self.asked = {"productOffering": {"id": offering}, "id": "1"}
        question = {
            "relatedParty": [self.owner],
            "place": [{"id": "flat", "name": STREET, "role": "home"}],
            "note": [{"text": FAMILY}],
            "productOfferingQualificationItem": [self.asked],
        }
        self.question = branch.persist("POST", QUALIFICATION, question)["id"]


@pytest.fixture(scope="module")
def person(branch: Branch) -> Person:
    return Person(branch)


def admin_url(platform: RunningPlatform, database: str) -> str:
    """The superuser's URL to a service's database."""
    password = Secrets(platform.home.directory).get("postgres")
    return f"postgresql://postgres:{password}@127.0.0.1:{platform.base + POSTGRES_OFFSET}/{database}"


def found(platform: RunningPlatform) -> list[str]:
    """Where any of the secrets stands: database, table and column."""
    places = []
    for name in DATABASES:
        with psycopg.connect(admin_url(platform, name), autocommit=True) as connection:
            for table, column, kind in connection.execute(_COLUMNS).fetchall():
                text = "encode({}, 'escape')" if kind == "bytea" else "{}::text"
                query = sql.SQL(f"SELECT count(*) FROM {{}} WHERE {text} LIKE ANY (%s)").format(  # noqa: S608 (names)
                    sql.Identifier(table), sql.Identifier(column)
                )
                row = connection.execute(query, ([f"%{secret}%" for secret in SECRETS],)).fetchone()
                if row is not None and row[0]:
                    places.append(f"{name}.{table}.{column}: {row[0]}")
    return places


# Of a partitioned table its partitions are looked through.
_COLUMNS = """
    SELECT c.relname, a.attname, t.typname FROM pg_attribute a
    JOIN pg_class c ON c.oid = a.attrelid JOIN pg_type t ON t.oid = a.atttypid
    WHERE c.relkind = 'r' AND c.relnamespace = 'public'::regnamespace AND a.attnum > 0 AND NOT a.attisdropped
        AND t.typname IN ('text', 'varchar', 'json', 'jsonb', 'bytea', '_text', '_bytea')
    ORDER BY 1, 2
"""


def charges(platform: RunningPlatform, account: str) -> list[tuple[Any, ...]]:
    """The account's chain as it is kept."""
    with psycopg.connect(admin_url(platform, "orders"), autocommit=True) as connection:
        query = "SELECT sequence, hash, data FROM charge_event WHERE account = %s ORDER BY sequence"
        return connection.execute(query, (account,)).fetchall()


def verified(platform: RunningPlatform, state: Path, account: str) -> list[str]:
    """The hashes of the chain, as billing's reference consumer verifies it: nothing missing, doubled or altered."""
    log = RemoteLog(platform.address("orders"), lambda: platform.token("billing", "*"))
    with closing(log), closing(State(state)) as kept:
        verifier = ChainVerifier(kept, SOURCE)
        events = log.events(account, 1, 1, 1_000)
        findings = [finding for event in events for finding in verifier.feed(event, time.time())]
    assert {finding.verdict for finding in findings} == {Verdict.ACCEPTED}
    return [event.hash for event in events]


def test_a_person_goes_from_everywhere_and_the_chain_stays(
    platform: RunningPlatform, branch: Branch, person: Person, tmp_path: Path
) -> None:
    before = charges(platform, person.account)
    assert len(before) == 3
    assert {place.split(".")[0] for place in found(platform)} == set(DATABASES)

    with grpc.insecure_channel(platform.address("customers")) as channel:
        caller = Caller(channel, platform.token("admin", branch.name))
        method = "svyaz.customers.v1.PrivacyService/"
        erasure = caller(f"{method}ErasePerson", party_id=person.id, reason="a request", request_id=str(uuid.uuid4()))

        def completed() -> bool:
            state: int = caller(f"{method}GetErasure", id=erasure.id).state
            return state == privacy_pb2.ERASURE_STATE_COMPLETED

        eventually(completed, 30, lambda: "the erasure isn't completed")
    eventually(lambda: found(platform) == [], 30, lambda: "\n".join(found(platform)))

    assert charges(platform, person.account) == before
    assert verified(platform, tmp_path / "billing", person.account) == [row[1] for row in before]
    orders = branch.get(f"{ORDERING}/productOrder?relatedParty.id={person.customer}")
    assert {one["id"]: one["state"] for one in orders} == {person.order: "completed", person.last_order: "completed"}
    assert branch.get(f"{INVENTORY}/product/{person.product}")["status"] == "terminated"

    addresses = {f"{name}_address": platform.address(name) for name in SOURCES}
    rebuild_view(**addresses, token=platform.token("admin", "*"))
    assert found(platform) == []


def test_nobody_writes_a_name_into_an_erased_person(branch: Branch, person: Person) -> None:
    answers = [
        branch.send("PATCH", f"{PARTY}/individual/{person.id}", {"familyName": FAMILY}),
        branch.send("PATCH", f"{CUSTOMER}/customer/{person.customer}", {"name": FAMILY}),
    ]
    assert [(answer.status_code, answer.json()["code"]) for answer in answers] == [(409, "ERASED")] * 2


def test_what_is_said_of_her_later_goes_too(platform: RunningPlatform, branch: Branch, person: Person) -> None:
    """Somebody who hasn't heard of it writes her into what she had, and asks something for her."""
    branch.persist("PATCH", f"{INVENTORY}/product/{person.product}", {"description": FAMILY})
    question = {"relatedParty": [person.owner], "productOfferingQualificationItem": [person.asked]}
    branch.persist("POST", QUALIFICATION, question)
    eventually(lambda: found(platform) == [], 30, lambda: "\n".join(found(platform)))
