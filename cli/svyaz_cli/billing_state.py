"""What the reference consumer remembers: a SQLite file that changes only by whole batches."""

import sqlite3
from collections.abc import Iterable, Mapping
from pathlib import Path

from svyaz_cli.billing_chain import Event, Finding, Link, Waiting

_SCHEMA = """
CREATE TABLE IF NOT EXISTS position (only INTEGER PRIMARY KEY CHECK (only = 1), stream TEXT NOT NULL,
    sequence INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS link (account TEXT, epoch INTEGER, sequence INTEGER, hash TEXT NOT NULL,
    PRIMARY KEY (account, epoch, sequence)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS head (account TEXT, epoch INTEGER, sequence INTEGER NOT NULL, hash TEXT NOT NULL,
    PRIMARY KEY (account, epoch)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS early (account TEXT, epoch INTEGER, sequence INTEGER, since REAL NOT NULL, id TEXT NOT NULL,
    type TEXT NOT NULL, source TEXT NOT NULL, previous_hash TEXT NOT NULL, hash TEXT NOT NULL, data BLOB NOT NULL,
    PRIMARY KEY (account, epoch, sequence));
CREATE TABLE IF NOT EXISTS fetched (account TEXT, epoch INTEGER, sequence INTEGER,
    PRIMARY KEY (account, epoch, sequence)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS unacknowledged (account TEXT, epoch INTEGER,
    PRIMARY KEY (account, epoch)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS compared (only INTEGER PRIMARY KEY CHECK (only = 1), next TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS fault (number INTEGER PRIMARY KEY, verdict TEXT NOT NULL, account TEXT NOT NULL,
    epoch INTEGER NOT NULL, sequence INTEGER NOT NULL, until INTEGER NOT NULL, reason TEXT NOT NULL, at REAL NOT NULL);
"""
# What every state has had from the first.
_TABLES = frozenset({"position", "link", "head"})
# Heads kept in memory; beyond it they are read again.
_CACHED_ACCOUNTS = 100_000


class StateInUseError(Exception):
    """Another consumer has the file open."""


class StateFileError(Exception):
    """The file is no state, or can't be opened and written; it is as it was."""


class State:
    """The verifier's ledger, and how far the stream was read. Nothing lasts before `commit`; a batch lasts whole or not
    at all. Raises StateInUseError while another process has it, StateFileError for what isn't one."""

    def __init__(self, file: Path | str) -> None:
        try:
            self._connection = sqlite3.connect(file, isolation_level=None, check_same_thread=False)
        except sqlite3.OperationalError as error:
            raise StateFileError(f"{file} can't be opened: {error}") from error
        execute = self._connection.execute
        try:
            execute("PRAGMA busy_timeout = 0")
            execute("PRAGMA locking_mode = EXCLUSIVE")
            # Looked at before anything is written: it may be another program's.
            tables = {name for (name,) in execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
            if tables and not tables >= _TABLES:
                raise sqlite3.DatabaseError("it has other tables")
            execute("PRAGMA journal_mode = WAL")
            execute("PRAGMA synchronous = FULL")
            execute("BEGIN IMMEDIATE")
            for statement in filter(str.strip, _SCHEMA.split(";")):
                execute(statement)
            execute("COMMIT")
        except sqlite3.DatabaseError as error:
            self._connection.close()
            if "locked" in str(error):
                raise StateInUseError(f"{file} is in use by another consumer") from error
            raise StateFileError(f"{file} is no state of billing-tail: {error}") from error
        self._begun = False
        self._heads: dict[str, dict[int, Link]] = {}
        self._early: dict[str, dict[tuple[int, int], Waiting]] = {}
        for account, epoch, sequence, since, *rest in execute(
            "SELECT account, epoch, sequence, since, id, type, source, previous_hash, hash, data FROM early"
        ):
            id_, type_, source, previous_hash, hash_, data = rest
            event = Event(
                id=id_,
                type=type_,
                source=source,
                account=account,
                epoch=epoch,
                sequence=sequence,
                previous_hash=previous_hash,
                hash=hash_,
                data=data,
            )
            self._early.setdefault(account, {})[epoch, sequence] = Waiting(event, since)

    # --- the ledger ---

    def heads(self, account: str) -> dict[int, Link]:
        """The last accepted link of each epoch of the account."""
        known = self._heads.get(account)
        if known is None:
            if len(self._heads) >= _CACHED_ACCOUNTS:
                self._heads.clear()
            rows = self._connection.execute("SELECT epoch, sequence, hash FROM head WHERE account = ?", (account,))
            known = self._heads[account] = {epoch: Link(sequence, digest) for epoch, sequence, digest in rows}
        return dict(known)

    def hash_at(self, account: str, epoch: int, sequence: int) -> str | None:
        """The hash of an event that was accepted."""
        row = self._connection.execute(
            "SELECT hash FROM link WHERE account = ? AND epoch = ? AND sequence = ?", (account, epoch, sequence)
        ).fetchone()
        return None if row is None else str(row[0])

    def accept(self, event: Event) -> None:
        """Remembers an accepted event."""
        self._begin()
        place = (event.account, event.epoch, event.sequence, event.hash)
        self._connection.execute("INSERT INTO link (account, epoch, sequence, hash) VALUES (?, ?, ?, ?)", place)
        self._connection.execute(
            "INSERT INTO head (account, epoch, sequence, hash) VALUES (?, ?, ?, ?)"
            " ON CONFLICT (account, epoch) DO UPDATE SET sequence = excluded.sequence, hash = excluded.hash",
            place,
        )
        self._connection.execute("INSERT OR IGNORE INTO unacknowledged (account, epoch) VALUES (?, ?)", place[:2])
        if event.account in self._heads:
            self._heads[event.account][event.epoch] = Link(event.sequence, event.hash)

    def waiting(self, account: str) -> Mapping[tuple[int, int], Waiting]:
        """The early events of the account."""
        return self._early.get(account, {})

    def wait(self, event: Event, since: float) -> None:
        """Remembers an early event."""
        self._begin()
        self._connection.execute(
            "INSERT INTO early (account, epoch, sequence, since, id, type, source, previous_hash, hash, data)"
            " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (
                event.account,
                event.epoch,
                event.sequence,
                since,
                event.id,
                event.type,
                event.source,
                event.previous_hash,
                event.hash,
                event.data,
            ),
        )
        self._early.setdefault(event.account, {})[event.epoch, event.sequence] = Waiting(event, since)

    def unwait(self, account: str, epoch: int, sequence: int) -> None:
        """Forgets an early event."""
        self._begin()
        self._connection.execute(
            "DELETE FROM early WHERE account = ? AND epoch = ? AND sequence = ?", (account, epoch, sequence)
        )
        early = self._early[account]
        del early[epoch, sequence]
        if not early:
            del self._early[account]

    def accounts_waiting(self, before: float) -> list[str]:
        """The accounts with an event that waits since before the instant."""
        return [
            account for account, early in self._early.items() if any(item.since <= before for item in early.values())
        ]

    def fetch(self, event: Event) -> None:
        """Remembers that an event was taken from the log."""
        self._begin()
        place = (event.account, event.epoch, event.sequence)
        self._connection.execute("INSERT OR IGNORE INTO fetched (account, epoch, sequence) VALUES (?, ?, ?)", place)

    def arrive(self, event: Event) -> bool:
        """Whether the event was taken from the log and comes for the first time."""
        self._begin()
        place = (event.account, event.epoch, event.sequence)
        deleted = self._connection.execute(
            "DELETE FROM fetched WHERE account = ? AND epoch = ? AND sequence = ?", place
        )
        return deleted.rowcount > 0

    # --- what is acknowledged, and compared with the log ---

    def unacknowledged(self, limit: int) -> list[tuple[str, int, int, str]]:
        """(account, epoch, sequence, hash) of chains whose end wasn't acknowledged yet."""
        return self._connection.execute(
            "SELECT account, epoch, sequence, hash FROM unacknowledged JOIN head USING (account, epoch)"
            " ORDER BY account, epoch LIMIT ?",
            (limit,),
        ).fetchall()

    def acknowledged(self, chains: Iterable[tuple[str, int]]) -> None:
        """What was taken of these chains is acknowledged."""
        self._begin()
        self._connection.executemany("DELETE FROM unacknowledged WHERE account = ? AND epoch = ?", chains)

    @property
    def compared(self) -> str:
        """Up to where the log was compared with what was taken; empty: not yet."""
        row = self._connection.execute("SELECT next FROM compared").fetchone()
        return "" if row is None else str(row[0])

    @compared.setter
    def compared(self, following: str) -> None:
        self._begin()
        self._connection.execute("INSERT OR REPLACE INTO compared (only, next) VALUES (1, ?)", (following,))

    # --- the stream ---

    def knows_another(self, stream: str) -> bool:
        """Whether another stream than this has been read."""
        row = self._connection.execute("SELECT 1 FROM position WHERE stream <> ?", (stream,)).fetchone()
        return row is not None

    def position(self, stream: str) -> int:
        """The last message read of the stream (named by its creation, as a new one counts anew); 0: none."""
        row = self._connection.execute("SELECT sequence FROM position WHERE stream = ?", (stream,)).fetchone()
        return 0 if row is None else int(row[0])

    def advance(self, stream: str, sequence: int) -> None:
        """Remembers the last message read."""
        self._begin()
        self._connection.execute(
            "INSERT OR REPLACE INTO position (only, stream, sequence) VALUES (1, ?, ?)", (stream, sequence)
        )

    def record(self, fault: Finding, at: float) -> None:
        """Keeps a fault for whoever looks into it."""
        self._begin()
        self._connection.execute(
            "INSERT INTO fault (verdict, account, epoch, sequence, until, reason, at) VALUES (?, ?, ?, ?, ?, ?, ?)",
            (fault.verdict.value, fault.account, fault.epoch, fault.sequence, fault.until, fault.reason, at),
        )

    def commit(self) -> None:
        """Makes everything since the last commit last."""
        if self._begun:
            self._connection.execute("COMMIT")
            self._begun = False

    def close(self) -> None:
        """Commits and lets others use the file."""
        self.commit()
        self._connection.close()

    def _begin(self) -> None:
        if not self._begun:
            self._connection.execute("BEGIN")
            self._begun = True
