"""Looking through a whole branch for individuals who are in it more than once.

It takes minutes of a processor and some gigabytes of memory for a million: too much for a process that serves. So one
replica of the service, by lease, has a process of its own do it, one search after the other. One that was interrupted
begins anew, and finds the same: what it has already proposed is there.
"""

import logging
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence

from chassis import calls
from chassis.auth import EVERY_BRANCH
from chassis.db import Database
from chassis.events import Failure, attempt
from chassis.leases import Lease
from chassis.threads import keep_running
from chassis.unit import Unit
from customers.matching import identifiers, phones
from customers.matching.domain import DuplicateSearch
from customers.matching.draft import parted
from customers.matching.entry import Likely, Propose, propose, reasons
from customers.matching.linkage import Linked, link
from customers.matching.model import DEFAULT, written
from customers.matching.names import words
from customers.matching.phones import BranchRegions
from customers.matching.records import records
from customers.party.domain import Individual

log = logging.getLogger(__name__)

COMMAND = "find-duplicates"
POLL_SECONDS = 2.0
_PAGE = 20_000
# Pairs that are proposed in one transaction.
_PORTION = 200
# Of fewer nothing can be learned: among them are too few pairs of one person.
_FEWEST = 1_000
_UNFINISHED = "state IN ('acknowledged', 'running') ORDER BY id LIMIT 1"

_MEDIUM = "jsonb_path_query_first(contact_medium, '$[*].characteristic ? (exists (@.{0})).{0}') #>> '{{}}'"
_ROWS = f"""
    SELECT id, given_name, family_name, middle_name, coalesce(full_name, formatted_name, legal_name),
        to_char(birth_date AT TIME ZONE 'UTC', 'YYYYMMDD'),
        jsonb_path_query_first(individual_identification, '$[*].identification_id') #>> '{{}}',
        {
    ", ".join(
        _MEDIUM.format(name)
        for name in ("phone_number", "email_address", "street1", "street2", "city", "post_code", "state_or_province")
    )
}
    FROM individual WHERE branch = %(branch)s AND id > %(after)s ORDER BY id LIMIT %(page)s
"""  # noqa: S608
_MERGED = "SELECT absorbed_id, survivor_id FROM merged_party WHERE branch = %(branch)s"


class Searches:
    """Has the searches that are asked for done, one at a time; one replica does."""

    def __init__(self, database: Database, command: Sequence[str] = (sys.executable, "-m", "customers.main")) -> None:
        self._database = database
        self._command = [*command, COMMAND]
        self._lease = Lease(database, "duplicate-searches")
        self._stopping = threading.Event()
        self._process: subprocess.Popen[bytes] | None = None
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Begins to look for searches."""
        self._stopping.clear()
        self._lease.start()
        self._thread = keep_running(self._run, "duplicate-searches")
        self._thread.start()

    def stop(self) -> None:
        """Ends the one that runs, which begins anew elsewhere or later."""
        self._stopping.set()
        if self._thread is not None:
            self._thread.join()
        self._lease.stop()

    def _run(self) -> None:
        while not self._stopping.wait(POLL_SECONDS):
            if self._lease.held():
                with calls.using(calls.Call.background("customers", COMMAND, branches=(EVERY_BRANCH,))):
                    done = attempt(self._next)
                if isinstance(done, Failure):
                    # The database is gone for a moment, say: whoever asked still waits for his search.
                    log.warning("a search waits", extra={"fields": {"error": done.error}})

    def _next(self) -> None:
        with self._database.unit() as unit:
            found = next(iter(unit.load(DuplicateSearch, _UNFINISHED, {})), None)
        if found is None:
            return
        with subprocess.Popen([*self._command, found.id, found.branch]) as process:
            while process.poll() is None:
                if self._stopping.wait(0.2) or not self._lease.held():
                    process.terminate()
                    return
        if process.returncode:
            # It said why; what it can't do it won't be able to do again.
            _failed(self._database, found, f"ended with status {process.returncode}")


def _failed(database: Database, found: DuplicateSearch, why: str) -> None:
    with calls.using(_call(found.branch)), database.unit() as unit:
        search = unit.get(DuplicateSearch, found.id)
        if not search.ended:
            search.fail(unit.at, why)


def _call(branch: str) -> calls.Call:
    return calls.Call.background("customers", COMMAND, branches=(branch,))


def run(
    database: Database,
    regions: BranchRegions,
    search_id: str,
    branch: str,
    further: Propose = lambda unit, candidate: None,
) -> None:
    """Does the search: reads the branch, compares its individuals, proposes the pairs."""
    with calls.using(_call(branch)):
        with database.unit() as unit:
            search = unit.get(DuplicateSearch, search_id)
            if search.ended:
                return
            search.begin()
            assert search.threshold is not None
            threshold = float(search.threshold)
        ids: list[str] = []
        known = records(_read(database, branch, regions.region(branch), ids))
        learned = len(ids) >= _FEWEST
        linked = link(known, model=None if learned else DEFAULT, least=threshold) if known.columns else None
        found = 0 if linked is None else _propose_all(database, branch, ids, linked, search_id, further)
        with database.unit() as unit:
            search = unit.get(DuplicateSearch, search_id)
            model = written(linked.model) if linked is not None and learned else None
            search.end(unit.at, compared=len(ids), found=found, model=model)


def _read(database: Database, branch: str, region: str, ids: list[str]) -> Iterator[Mapping[str, str | None]]:
    """The records of the branch's individuals, whose ids are appended."""
    after = ""
    while True:
        with database.unit() as unit, unit.cursor() as cursor:
            rows = cursor.execute(_ROWS, {"branch": branch, "after": after, "page": _PAGE}).fetchall()
        if not rows:
            return
        for row in rows:
            ids.append(row[0])
            yield _record(row, region)
        after = rows[-1][0]


def _record(row: tuple[str | None, ...], region: str) -> Mapping[str, str | None]:
    """As `draft.record`, of what PostgreSQL has picked out: objects would take several times as long."""
    _, given, family, middle, full, birth, document, phone, email, street1, street2, city, post_code, state = row
    if not given and not family and full:
        given, family = (*words(full), "", "")[:2]
    house, street = parted(street1) if street1 else (None, None)
    return {
        "given_name": given,
        "family_name": family,
        "middle_name": middle,
        "birth_date": birth,
        "document": identifiers.document(document) if document else None,
        "phone": phones.normalised(phone, region) if phone else None,
        "email": identifiers.email(email) if email else None,
        "house": house,
        "street": street,
        "street_2": street2,
        "city": city,
        "post_code": post_code,
        "state": state,
    }


def _propose_all(
    database: Database, branch: str, ids: Sequence[str], linked: Linked, search_id: str, further: Propose
) -> int:
    """Proposes the pairs but those that are merged already; how many there are, with those that were known before."""
    with database.unit() as unit:
        survivors = _survivors(unit, branch)
    found = 0
    for start in range(0, len(linked.pairs), _PORTION):
        with database.unit() as unit:
            for at in range(start, min(start + _PORTION, len(linked.pairs))):
                pair = int(linked.pairs[at])
                one, other = ids[pair >> 32], ids[pair & 0xFFFFFFFF]
                if survivors.get(one, one) == survivors.get(other, other):
                    continue
                found += 1
                # Whoever was deleted meanwhile isn't proposed.
                others = unit.load(Individual, "id = ANY (%(ids)s)", {"ids": [one, other]})
                if len(others) == 2:
                    likely = Likely(others[1], float(linked.probability[at]), reasons(linked, at))
                    propose(unit, branch, (one, other), likely, search_id, further)
    return found


def _survivors(unit: Unit, branch: str) -> Mapping[str, str]:
    with unit.cursor() as cursor:
        return dict(cursor.execute(_MERGED, {"branch": branch}).fetchall())
