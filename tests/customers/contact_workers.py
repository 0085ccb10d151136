"""Workers that contact customers, killed at any moment, while the days go by:
`python -m tests.customers.contact_workers URL CLOCK NOTES WORKERS ATTEMPTS BEGIN CUSTOMER…`.

Each is a process of its own with its own connections. What they do is noted, a line for each contact that is made. Time
goes by with their attempts, and not with the machine's.
"""

import contextlib
import itertools
import os
import random
import resource
import signal
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from chassis import calls
from chassis.auth import Principal
from chassis.clock import Clock
from chassis.db import Database
from chassis.errors import DomainError, FailedPrecondition
from customers import store
from customers.permission.api import Permissions
from svyaz.customers.v1 import permission_pb2 as pb
from tests.customers.permission import Moved

DIALER = Principal(subject="service:dialer", roles=frozenset({"service"}), branches=("bishkek",))
# So much time goes by with an attempt, and of so many one of the workers doesn't see the end.
STEP, ATTEMPTS_A_DEATH = timedelta(minutes=6), 40
PAUSE_SECONDS = 0.005


def note(file: Path, *words: str) -> None:
    """Appends a line in one write: nobody's is lost or torn."""
    handle = os.open(file, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(handle, (" ".join(words) + "\n").encode())
    os.close(handle)


class Worker:
    """Reserves, sometimes dies, spends, contacts; and tries what others have reserved or spent."""

    def __init__(self, url: str, clock: Path, notes: Path, customers: list[str], seed: int) -> None:
        database = Database(
            url, clock=Clock(str(clock)), metadata=store.metadata, resources=store.RESOURCES, connections=2
        )
        self._permissions = Permissions(database, lambda branch: "KG")
        self._notes = notes
        self._customers = customers
        self._draw = random.Random(seed)
        self._seed = seed

    def run(self) -> None:
        """Works until somebody says that it is over."""
        number = 0
        while not (self._notes / "over").exists():
            number += 1
            note(self._notes / "attempts", "")
            with contextlib.suppress(_Busy):
                self._contact(f"{self._seed}-{number}")

    def _contact(self, name: str) -> None:
        wanted = pb.ReserveContactRequest(
            request_id=name,
            customer_id=self._draw.choice(self._customers),
            channel=self._draw.choice(["call", "sms"]),
            purpose="survey",
        )
        answer = self._call(self._permissions.ReserveContact, wanted)
        for refusal in answer.decision.refusal:
            note(self._notes / "refused", refusal.code)
        if not answer.token:
            return
        note(self._notes / "tokens", answer.token)
        fate = self._draw.random()
        if fate < 0.15:
            os.kill(os.getpid(), signal.SIGKILL)
        if fate < 0.25:
            with contextlib.suppress(FailedPrecondition):
                self._call(self._permissions.ReleaseContact, pb.ReleaseContactRequest(token=answer.token))
            return
        token = answer.token
        if fate < 0.45:
            # Somebody else's, who may be spending it right now.
            token = self._draw.choice((self._notes / "tokens").read_text().split("\n")[-20:-1])
        self._spend(pb.SpendContactRequest(request_id=f"{name} spends", token=token))

    def _spend(self, request: pb.SpendContactRequest) -> None:
        try:
            done = self._call(self._permissions.SpendContact, request)
        except FailedPrecondition as error:
            note(self._notes / "refused", error.reason)
            return
        if not done.spent:
            note(self._notes / "refused", "REVOKED")
            return
        one = done.decision
        at = one.contact_at.ToDatetime(UTC)
        note(self._notes / "contacts", one.id, one.customer_id, at.isoformat())
        # The answer was lost on its way: asked for again, it is the same, and nobody is contacted again.
        assert self._call(self._permissions.SpendContact, request) == done

    def _call(self, method: Callable[[Any, Any], Any], request: Any) -> Any:
        name = f"/svyaz.customers.v1.PermissionService/{method.__name__}"
        with calls.using(calls.Call(principal=DIALER, method=name, request_id=request.request_id)):
            try:
                return method(request, None)
            except DomainError as error:
                if error.reason == "CONFLICT":
                    raise _Busy from error
                raise


class _Busy(Exception):
    """Others were faster four times: the next customer, then."""


def main() -> None:
    """Keeps so many workers working, kills one after the other, and moves the clock."""
    url, clock, notes, workers, attempts, begin, *customers = sys.argv[1:]
    moved, directory, start = Moved(Path(clock)), Path(notes), datetime.fromisoformat(begin)
    seeds = itertools.count(1)
    draw = random.Random(len(customers))
    running: set[int] = set()
    # Once for all of them.
    sa.orm.configure_mappers()

    def hire() -> None:
        seed = next(seeds)
        pid = os.fork()
        if pid:
            running.add(pid)
            return
        try:
            Worker(url, Path(clock), directory, customers, seed).run()
        except BaseException as error:  # noqa: BLE001 (a worker's end is its parent's to judge)
            note(directory / "failures", repr(error))
            os._exit(1)
        os._exit(0)

    for _ in range(int(workers)):
        hire()
    (directory / "attempts").touch()
    seen = deaths = 0
    parent = os.getppid()
    while seen < int(attempts) and os.getppid() == parent:
        time.sleep(PAUSE_SECONDS)
        # A line has one sign, its end.
        made = (directory / "attempts").stat().st_size
        if made > seen:
            seen = made
            moved.show(start + seen * STEP)
        if seen // ATTEMPTS_A_DEATH > deaths:
            deaths += 1
            os.kill(draw.choice(sorted(running)), signal.SIGKILL)
        while (pid := os.waitpid(-1, os.WNOHANG)[0]) != 0:
            running.remove(pid)
            hire()
    (directory / "over").touch()
    for pid in running:
        os.waitpid(pid, 0)
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    print(f"{next(seeds) - 1} workers, {seen} attempts, {used.ru_utime + used.ru_stime:.1f} s of CPU")


if __name__ == "__main__":
    main()
