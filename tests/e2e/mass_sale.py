"""A mass sale while what carries it out is killed: each row is one order in the end, and one product."""

import base64
import csv
import io
import json
import os
import signal
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import httpx
import psutil

from tests.e2e.branch import INVENTORY, ORDERING, Branch, eventually, price
from tests.platforms import RunningPlatform

_PART = 256 * 1024


@dataclass(frozen=True)
class Sold:
    """What has come of it, and how long it took, in seconds."""

    rows: int
    ordered: int
    orders: int
    products: int
    killed: tuple[str, ...]
    ordering: float
    fulfilling: float


def sell(
    platform: RunningPlatform, branch: Branch, *, rows: int, kills: Sequence[str], rate: int = 200, seconds: float = 300
) -> Sold:
    """Orders so many rows; kills one after the other with -9, evenly over the rows."""
    offering = branch.offering("Mass product", [price("Monthly fee", "100")])
    customers = [branch.customer(f"Mass{number}", "Sale") for number in range(5)]
    lines = [f"{customers[n % 5][0]},{customers[n % 5][1]}\n" for n in range(rows)]
    job = _created(branch, offering, rate)
    _send(branch, job, ("customer,account\n" + "".join(lines)).encode())
    begun = time.monotonic()
    _ask(branch, "startBulkOrder", {"id": job})
    killed: list[str] = []
    for number, victim in enumerate(kills, 1):
        threshold = rows * number // (len(kills) + 1)
        eventually(partial(_reached, branch, job, threshold), seconds, lambda: f"{_ordered(branch, job)} ordered")
        _kill(platform, victim)
        killed.append(victim)
    eventually(lambda: _state(branch, job) == "completed", seconds, lambda: f"{_ordered(branch, job)} ordered")
    ordering = time.monotonic() - begun
    by_line = _report(branch, job)
    assert sorted(by_line) == list(range(2, rows + 2)), "every row is told of once"
    assert len(set(by_line.values())) == rows, "no two rows have one order"

    def completed() -> int:
        return _count(branch, f"{ORDERING}/productOrder?category=bulk&state=completed")

    eventually(lambda: completed() == rows, seconds, lambda: f"{completed()} of {rows} orders are completed")
    return Sold(
        rows,
        _ordered(branch, job),
        _count(branch, f"{ORDERING}/productOrder?category=bulk"),
        _count(branch, f"{INVENTORY}/product?productOffering.id={offering}&status=active"),
        tuple(killed),
        ordering,
        time.monotonic() - begun - ordering,
    )


def _created(branch: Branch, offering: str, rate: int) -> str:
    template = {
        "relatedParty": [{"id": "{customer}", "role": "customer", "@referredType": "Customer"}],
        "billingAccount": {"id": "{account}"},
        "category": "bulk",
        "productOrderItem": [{"id": "1", "action": "add", "productOffering": {"id": offering}}],
    }
    name = f"sale {time.time_ns()}"
    wanted = {"template": json.dumps(template | {"description": name}), "ordersPerSecond": rate}
    return str(_ask(branch, "createBulkOrder", {"bulkOrder": wanted})["id"])


def _send(branch: Branch, job: str, data: bytes) -> None:
    for offset in range(0, len(data), _PART):
        part = data[offset : offset + _PART]
        last = offset + _PART >= len(data)
        content = base64.b64encode(part).decode()
        _ask(branch, "uploadBulkOrderRows", {"id": job, "offset": offset, "content": content, "last": last})


def _ask(branch: Branch, action: str, body: Any) -> Any:
    return branch.persist("POST", f"/bulkOrder/v1/{action}", body, role="admin")


def _progress(branch: Branch, job: str) -> dict[str, Any]:
    found: dict[str, Any] = _ask(branch, "getBulkOrder", {"id": job})
    return found


def _ordered(branch: Branch, job: str) -> int:
    return int(_progress(branch, job)["progress"].get("ordered", 0))


def _reached(branch: Branch, job: str, ordered: int) -> bool:
    return _ordered(branch, job) >= ordered


def _state(branch: Branch, job: str) -> str:
    return str(_progress(branch, job)["state"])


def _report(branch: Branch, job: str) -> dict[int, str]:
    found: dict[int, str] = {}
    after: int | None = 0
    while after is not None:
        part = _ask(branch, "getBulkOrderReport", {"id": job, "after": after})
        for row in csv.reader(io.StringIO(part.get("text", ""))):
            if row[0] != "line":
                assert int(row[0]) not in found, f"line {row[0]} is told of twice"
                assert row[1] == "ordered", row
                found[int(row[0])] = row[2]
        after = part.get("nextAfter")
    return found


def _count(branch: Branch, path: str) -> int:
    """How many there are: the header of a list says so."""
    deadline = time.monotonic() + 60
    while True:
        try:
            answer = branch.send("GET", f"{path}&limit=1&fields=id")
            if answer.is_success:
                return int(answer.headers["X-Total-Count"])
            failure = answer.text
        except httpx.TransportError as error:
            failure = str(error)
        assert time.monotonic() < deadline, failure
        time.sleep(0.2)


def _kill(platform: RunningPlatform, victim: str) -> None:
    deadline = time.monotonic() + 60
    while True:
        try:
            os.kill(platform.pid(victim), signal.SIGKILL)
            return
        except (LookupError, ProcessLookupError, psutil.NoSuchProcess):
            assert time.monotonic() < deadline, f"{victim} doesn't come back to be killed"
            time.sleep(0.2)
