"""Leases: which one of several replicas does a thing, with an epoch that tells an old holder from the new one.

A session advisory lock isn't leadership behind a connection pooler, where two clients were seen to hold one; a row is.
"""

import logging
import os
import socket
import threading
import time
import uuid
from collections.abc import Callable
from datetime import timedelta

import sqlalchemy as sa
from sqlalchemy.orm import Session

from chassis.db import Database
from chassis.errors import Aborted
from chassis.threads import keep_running

log = logging.getLogger(__name__)

# A holder that was killed is replaced after at most this many seconds, and one more attempt.
DEFAULT_SECONDS = 6.0

_ACQUIRE = sa.text(
    """
    INSERT INTO lease (name, holder, epoch, expires_at) VALUES (:name, :holder, 1, :until)
    ON CONFLICT (name) DO UPDATE
    SET holder = excluded.holder, epoch = lease.epoch + 1, expires_at = excluded.expires_at
    WHERE lease.expires_at <= :now OR lease.holder = excluded.holder
    RETURNING epoch
    """
)
_RENEW = sa.text("UPDATE lease SET expires_at = :until WHERE name = :name AND holder = :holder AND epoch = :epoch")
_RELEASE = sa.text("UPDATE lease SET expires_at = :now WHERE name = :name AND holder = :holder AND epoch = :epoch")
_FENCE = sa.text("SELECT epoch FROM lease WHERE name = :name FOR SHARE")


class Lease:
    """One name held by at most one holder at a time; kept in the background between `start` and `stop`.

    `on_change` is called, from the background thread, whenever it is gained or lost.
    """

    def __init__(
        self,
        database: Database,
        name: str,
        *,
        seconds: float = DEFAULT_SECONDS,
        holder: str = "",
        on_change: Callable[[bool], None] = lambda held: None,
    ) -> None:
        self.name = name
        self.holder = holder or f"{socket.gethostname()}/{os.getpid()}/{uuid.uuid4().hex[:8]}"
        # Grows with each new holder; 0 before the lease was first held.
        self.epoch = 0
        self._database = database
        self._seconds = seconds
        self._on_change = on_change
        # By time.monotonic(), so that a clock that is moved can't stretch it.
        self._held_until = 0.0
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None

    def held(self) -> bool:
        """Whether we hold it and may go on for a moment without asking the database."""
        return time.monotonic() < self._held_until

    def acquire(self) -> bool:
        """Takes the lease when it is free, has expired, or was ours; whether we hold it now."""
        asked = time.monotonic()
        now = self._database.clock.now()
        until = now + timedelta(seconds=self._seconds)
        with self._database.background.begin() as connection:
            epoch = connection.execute(
                _ACQUIRE, {"name": self.name, "holder": self.holder, "now": now, "until": until}
            ).scalar()
        if epoch is None:
            return False
        self.epoch = int(epoch)
        self._extend(asked)
        return True

    def renew(self) -> bool:
        """Keeps the lease; False when somebody else has taken it since."""
        asked = time.monotonic()
        until = self._database.clock.now() + timedelta(seconds=self._seconds)
        with self._database.background.begin() as connection:
            renewed = connection.execute(_RENEW, {**self._mine(), "until": until}).rowcount == 1
        if renewed:
            self._extend(asked)
        else:
            self._held_until = 0.0
        return renewed

    def release(self) -> None:
        """Lets others take it at once."""
        self._held_until = 0.0
        with self._database.background.begin() as connection:
            connection.execute(_RELEASE, {**self._mine(), "now": self._database.clock.now()})

    def fence(self, session: Session | sa.Connection) -> None:
        """Keeps others from taking the lease until the transaction ends; raises Aborted LEASE_LOST if one has."""
        epoch = session.execute(_FENCE, {"name": self.name}).scalar()
        if epoch != self.epoch:
            raise Aborted("LEASE_LOST", f"the lease {self.name} has gone to another holder")

    def start(self) -> None:
        """Takes the lease as soon as it is free, and keeps it."""
        self._stopping.clear()
        self._thread = keep_running(self._keep, f"lease-{self.name}")
        self._thread.start()

    def stop(self) -> None:
        """Gives the lease up."""
        self._stopping.set()
        if self._thread is not None:
            self._thread.join()
            self._thread = None

    def _keep(self) -> None:
        known = False
        while True:
            held = self._try()
            if held != known:
                known = held
                log.info("lease %s", "gained" if held else "lost", extra={"fields": {"lease": self.name}})
                self._on_change(held)
            # A third of its time, so that two renewals may fail before it is lost.
            if self._stopping.wait(self._seconds / 3 if held else self._seconds / 6):
                break
        if known:
            try:
                self.release()
            except sa.exc.SQLAlchemyError:
                log.warning("a lease expires by itself", extra={"fields": {"lease": self.name}})
            self._on_change(False)

    def _try(self) -> bool:
        try:
            if self.held():
                return self.renew()
            return self.acquire()
        except sa.exc.SQLAlchemyError as error:
            log.warning("a lease can't be kept", extra={"fields": {"lease": self.name, "error": str(error)}})
            return self.held()

    def _extend(self, asked: float) -> None:
        # A little less than what the row says: others count from when the row was written.
        self._held_until = asked + self._seconds * 0.9

    def _mine(self) -> dict[str, object]:
        return {"name": self.name, "holder": self.holder, "epoch": self.epoch}
