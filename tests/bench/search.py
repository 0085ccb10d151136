"""Search among a million customers: `make bench NAME=search`.

Made-up customers of three branches are copied into a database of its own, with the keys that the service would write
for them (checked for the first of them). Then one agent asks for persons who are there, in eight ways, through the
service's own method under the policies of the branches: what is told is the time of one call, its 95th percentile.
"""

import argparse
import random
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg

from chassis import calls, migrate
from chassis.auth import Principal
from chassis.clock import Clock
from chassis.convert import from_message
from chassis.db import Database
from chassis.types import ContactMedium, MediumCharacteristic, new_id
from customers import store
from customers.matching.api import Matching
from customers.matching.entry import Entries
from customers.matching.keys import Kind, filed_under, keys_of, pairs
from customers.matching.names import spellings, words
from customers.matching.phones import BranchRegions
from customers.matching.store import KEY_COLUMNS
from customers.party.domain import Individual
from customers.party.values import IndividualIdentification
from svyaz.customers.v1 import matching_pb2, party_pb2
from svyaz_cli.embedded import Postgres, free_port
from svyaz_cli.secrets import Secrets
from tests.bench.figures import report
from tests.people import People, Row

SIZE, GOAL_MS = 1_000_000, 50.0
BRANCHES = ("bishkek", "osh", "naryn")
REGIONS = BranchRegions.parse("*=KG")
CHECKED = 500
Keys = list[tuple[str, int]]


def rows(size: int) -> Iterator[tuple[str, str, str, Row]]:
    """(branch, party id, customer id, person)."""
    people, draw = People(11), random.Random(12)
    made = 0
    while made < size:
        branch = draw.choices(BRANCHES, (70, 20, 10))[0]
        for person in people.household():
            yield branch, new_id(), new_id(), person | {"email": f"mail{made}@example.kg"}
            made += 1


def keys(person: Row) -> Keys:
    """What `keys_of` gives for the individual, without making one."""
    found = {(person["phone"], Kind.PHONE), (person["email"], Kind.EMAIL), (person["document"], Kind.DOCUMENT)}
    born = person["birth_date"]
    found.add((f"{born[:4]}-{born[4:6]}-{born[6:]}", Kind.BIRTH_DATE))
    found.update((value, Kind.PAIR) for value in pairs(person["given_name"], person["family_name"]))
    found.update((word, Kind.NAME) for word in name_words(person))
    return [(value, int(kind)) for value, kind in found]


def name_words(person: Row) -> set[str]:
    return {one for name in ("given_name", "family_name") for word in words(person[name]) for one in spellings(word)}


def individual(key: str, branch: str, person: Row) -> Individual:
    made = from_message(party_pb2.Individual(), Individual, id=key, branch=branch)
    made.given_name, made.family_name = person["given_name"], person["family_name"]
    made.contact_medium = (
        ContactMedium(
            medium_type="mobile",
            characteristic=MediumCharacteristic(phone_number=person["phone"], email_address=person["email"]),
        ),
    )
    made.individual_identification = (IndividualIdentification(identification_id=person["document"]),)
    return made


def seed(admin_url: str, size: int) -> list[tuple[str, str, Row]]:
    """Copies everything; a sample of (branch, party id, person) to ask for."""
    draw, sample = random.Random(13), []
    vocabulary: set[tuple[str, str, str]] = set()
    known: set[tuple[str, str]] = set()
    with psycopg.connect(admin_url) as connection:
        connection.execute("ALTER TABLE party_key DROP CONSTRAINT party_key_pkey")
        connection.execute("DROP INDEX party_key_source_id")
        portion: list[tuple[str, str, str, Row]] = []
        for number, row in enumerate(rows(size)):
            branch, party, _, person = row
            if number < CHECKED:
                kept = {(value, kind) for value, kind in keys(person) if kind != Kind.BIRTH_DATE}
                assert kept == {(v, int(k)) for k, v in keys_of(individual(party, branch, person), "KG").key}, person
            portion.append(row)
            if draw.random() < 2_000 / size:
                sample.append((branch, party, person))
            if len(portion) == 20_000:
                copy(connection, portion, known, vocabulary)
                portion = []
        copy(connection, portion, known, vocabulary)
        with connection.cursor() as cursor, cursor.copy("COPY name_word (filed, branch, word) FROM STDIN") as target:
            for entry in vocabulary:
                target.write_row(entry)
        connection.execute("ALTER TABLE party_key ADD PRIMARY KEY (value, kind, branch, party_id, source_id)")
        connection.execute("CREATE INDEX party_key_source_id ON party_key (source_id)")
        connection.commit()
        connection.autocommit = True
        connection.execute("VACUUM ANALYZE")
    return sample


def copy(
    connection: "psycopg.Connection[Any]",
    portion: list[tuple[str, str, str, Row]],
    known: set[tuple[str, str]],
    vocabulary: set[tuple[str, str, str]],
) -> None:
    def into(table: str, columns: str, made: Iterator[tuple[Any, ...]]) -> None:
        with connection.cursor() as cursor, cursor.copy(f"COPY {table} ({columns}) FROM STDIN") as target:
            for row in made:
                target.write_row(row)

    into(
        "individual",
        "id, branch, revision, given_name, family_name, birth_date, contact_medium, individual_identification, status",
        (
            (
                party,
                branch,
                1,
                person["given_name"],
                person["family_name"],
                f"{person['birth_date']}T000000Z",
                f'[{{"medium_type":"mobile","characteristic":{{"phone_number":"{person["phone"]}"}}}}]',
                f'[{{"identification_id":"{person["document"]}"}}]',
                "initialized",
            )
            for branch, party, _, person in portion
        ),
    )
    into(
        "customer",
        "id, branch, revision, name, status, engaged_party",
        (
            (
                customer,
                branch,
                1,
                f"{person['given_name']} {person['family_name']}",
                "verified",
                f'{{"id":"{party}","at_referred_type":"Individual"}}',
            )
            for branch, party, customer, person in portion
        ),
    )
    into(
        "reference",
        "target_id, referrer_id, referrer_type, branch",
        ((party, customer, "Customer", branch) for branch, party, customer, _ in portion),
    )
    into(
        "party_key",
        ", ".join(KEY_COLUMNS),
        (
            (value, kind, branch, party, source)
            for branch, party, customer, person in portion
            for source, some in ((party, keys(person)), (customer, [(w, int(Kind.NAME)) for w in name_words(person)]))
            for value, kind in some
        ),
    )
    for branch, _, _, person in portion:
        for word in name_words(person):
            if (branch, word) not in known:
                known.add((branch, word))
                vocabulary.update((filed, branch, word) for filed in filed_under(word))


def latin(text: str) -> str:
    return "".join(_LATIN.get(sign, sign) for sign in text.lower())


_LATIN = dict(zip("абвгдезиклмнопрстуфыэй", "abvgdeziklmnoprstufyey", strict=True)) | {
    "ж": "zh",
    "х": "kh",
    "ц": "ts",
    "ч": "ch",
    "ш": "sh",
    "ю": "yu",
    "я": "ya",
}

ASKED: dict[str, Callable[[Row], str]] = {
    "telephone as dialled at home": lambda person: (
        f"0{person['phone'][4:7]} {person['phone'][7:10]}-{person['phone'][10:]}"
    ),
    "e-mail": lambda person: person["email"].upper(),
    "document with its sign": lambda person: f"ID №{person['document'][2:]}",
    "both names": lambda person: f"{person['family_name']} {person['given_name']}",
    "both names in the other script": lambda person: latin(f"{person['given_name']} {person['family_name']}"),
    "family name with a slip, beginning of the given name": lambda person: (
        f"{person['family_name'][:2]}{person['family_name'][3:]} {person['given_name'][:4]}"
    ),
    "beginning of a family name": lambda person: person["family_name"][:5],
    "given name and telephone": lambda person: f"{person['given_name']} {person['phone']}",
}
# Where the person is among the answers, whoever else is called so.
UNIQUE = ("telephone as dialled at home", "e-mail", "document with its sign", "given name and telephone")


def ask(database_url: str, sample: list[tuple[str, str, Row]], queries: int) -> list[bool]:
    """Asks, tells the times."""
    database = Database(database_url, clock=Clock(), metadata=store.metadata, resources=store.RESOURCES)
    service = Matching(database, REGIONS, Entries(REGIONS))
    ok = []
    for kind, write in ASKED.items():
        times, found = [], 0
        processor = time.process_time()
        for branch, party, person in sample[:queries]:
            principal = Principal(subject="bench", roles=frozenset({"agent"}), branches=(branch,))
            request = matching_pb2.SearchPartiesRequest(query=write(person))
            begun = time.perf_counter()
            with calls.using(calls.Call(principal=principal, method="bench")):
                response = service.SearchParties(request, None)
            times.append((time.perf_counter() - begun) * 1_000)
            found += any(match.party_id == party for match in response.match)
        processor = (time.process_time() - processor) * 1_000 / len(times)
        times.sort()
        share = found / len(times)
        print(
            f"# {kind}: median {times[len(times) // 2]:.1f} ms, slowest {times[-1]:.1f} ms,"
            f" of that our processor {processor:.1f} ms; found {share:.1%}"
        )
        ok.append(report(f"search by {kind}, p95", times[int(len(times) * 0.95)], "ms", goal=GOAL_MS, lower=True))
        if kind in UNIQUE:
            ok.append(report(f"found by {kind}", share, "share", goal=0.99))
    database.close()
    return ok


def main() -> int:
    """Measures, prints the figures; 1 when a goal is missed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--customers", type=int, default=SIZE)
    parser.add_argument("--queries", type=int, default=200)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="svyaz-bench-") as name:
        directory = Path(name)
        postgres = Postgres(directory / "postgres", free_port(), Secrets(directory), notes=directory / "run")
        try:
            postgres.launch()
            postgres.wait()
            admin = postgres.admin_url
            migrate.provision(admin, "customers", password="bench", owner_password="bench")
            owner = migrate.login_url(admin, user="customers_owner", password="bench", database="customers")
            migrate.upgrade("customers", owner, "customers")
            begun = time.perf_counter()
            sample = seed(migrate.database_url(admin, "customers"), arguments.customers)
            print(f"# {arguments.customers} customers after {time.perf_counter() - begun:.0f} s", flush=True)
            url = migrate.login_url(admin, user="customers", password="bench", database="customers")
            ok = ask(url, sample, arguments.queries)
        finally:
            postgres.stop()
    return 0 if all(ok) else 1


if __name__ == "__main__":
    sys.exit(main())
