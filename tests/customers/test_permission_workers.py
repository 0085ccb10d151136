"""Eight processes contact the same customers, and are killed at any moment: nobody is contacted twice, more often than
the caps allow, or at night. `tests/study/permission_workers.py` does the same for longer."""

import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import psycopg
from google.protobuf.field_mask_pb2 import FieldMask

from svyaz.customers.v1 import permission_pb2 as pb
from tests.conftest import ROOT, ServiceDatabase
from tests.customers.permission import CUSTOMER, PERMISSION, Moved, customer, number, phone, policy
from tests.serving import Caller

NOON = datetime(2027, 3, 26, 6, tzinfo=UTC)
# Where the clocks change on the 28th, where they don't, and where nobody knows.
ZONES = ("Europe/Kyiv", "Asia/Bishkek", "Asia/Kamchatka", "")
DAILY, SLIDING = 3, 4


def work(
    place: ServiceDatabase, directory: Path, agent: Caller, admin: Caller, *, workers: int, attempts: int
) -> Counter[str]:
    """Lets them work; what was refused how often, after everything that must hold has been looked at."""
    clock = Moved(directory / "clock")
    clock.show(NOON)
    caps = [
        pb.FrequencyCap(limit=DAILY, period=pb.CAP_PERIOD_DAY),
        pb.FrequencyCap(limit=SLIDING, period=pb.CAP_PERIOD_DAY, sliding=True),
    ]
    admin(f"{PERMISSION}CreatePermissionPolicy", permission_policy=policy(frequency_cap=caps, reservation_seconds=1800))
    zones: dict[str, str] = {}
    for index in range(12):
        zone = ZONES[index % len(ZONES)]
        made = customer(agent, phone(number() if zone else f"+79150000{index:03}"))
        if zone:
            made.characteristic.add(name="timeZone", value=f'"{zone}"'.encode())
            agent(f"{CUSTOMER}UpdateCustomer", customer=made, update_mask=FieldMask(paths=["characteristic"]))
        zones[made.id] = zone
    command = [sys.executable, "-m", "tests.customers.contact_workers", place.url, str(clock.file), str(directory)]
    command += [str(workers), str(attempts), NOON.isoformat(), *zones]
    subprocess.run(command, cwd=ROOT, check=True, timeout=60 + attempts)
    failures = directory / "failures"
    assert not failures.exists(), failures.read_text()
    _check(place, directory, zones)
    return Counter((directory / "refused").read_text().split())


def _check(place: ServiceDatabase, directory: Path, zones: dict[str, str]) -> None:
    made = [line.split() for line in (directory / "contacts").read_text().splitlines()]
    assert len({decision for decision, _, _ in made}) == len(made)
    with psycopg.connect(place.admin_url) as connection:
        rows = connection.execute(
            "SELECT id, customer_id, contact_at FROM contact_decision WHERE state = 'spent' ORDER BY contact_at"
        ).fetchall()
    # Who was killed after spending has made no contact, but may have: what is spent is what must hold.
    assert {decision for decision, _, _ in made} <= {id_ for id_, _, _ in rows}
    contacts: dict[str, list[datetime]] = {}
    for _, customer_id, at in rows:
        contacts.setdefault(customer_id, []).append(at)
    everywhere = ["Europe/Kaliningrad", "Asia/Kamchatka"]
    for customer_id, instants in contacts.items():
        for zone in [zones[customer_id]] if zones[customer_id] else everywhere:
            walls = [at.astimezone(ZoneInfo(zone)) for at in instants]
            assert all(9 <= wall.hour < 21 for wall in walls), (zone, walls)
            assert max(Counter(wall.date() for wall in walls).values()) <= DAILY
        pairs = zip(instants, instants[SLIDING:], strict=False)
        assert all(last - first >= timedelta(days=1) for first, last in pairs)
    assert len(contacts) >= 6


def test_nobody_is_contacted_twice_too_often_or_at_night(
    place: ServiceDatabase, tmp_path: Path, agent: Caller, caller_of: Callable[..., Caller]
) -> None:
    refused = work(place, tmp_path, agent, caller_of("bishkek", role="admin"), workers=8, attempts=250)
    assert refused["FREQUENCY_CAP"] > 0
    assert refused["QUIET_HOURS"] > 0
    assert refused["ALREADY_SPENT"] > 0
