"""What a billing system does to be sure that it missed no charge: the reference verifier. Pure: no I/O, no clock.

It knows nothing of how the chains are made but their published rules, so that it can be read and rewritten elsewhere:

* A chain is (source, account, epoch). Its events are numbered from 1 without a gap.
* hash = lower-case hex SHA-256(previous hash ‖ data); `previous hash` is its 64 characters in ASCII, 64 zeros before
  the first event of a chain; `data` are the message's bytes, JSON that repeats id, type, source, account, epoch and
  sequence.
* The first event of a later epoch names in `lastCommon` {epoch, sequence, hash} the last event of the account that the
  restored database still knew; charges beyond it were lost with the restore, and are superseded. Without `lastCommon`
  it knew no charge of the account.
"""

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Protocol

ZERO_HASH = "0" * 64
# Beyond it JSON numbers lose digits (RFC 8785).
_LARGEST = 2**53


class Verdict(StrEnum):
    """What became of an event, or of the place where one should be."""

    # In its place: take it.
    ACCEPTED = "accepted"
    # Waits for those before it.
    EARLY = "early"
    # Taken before: the very same event.
    DUPLICATE = "duplicate"
    # Came after one that follows it, soon enough to be taken in its place.
    REORDERED = "reordered"
    # Came after it had been fetched from the log.
    LATE = "late"
    # Lost by a restore: charges that the restored system doesn't know, and won't repeat under this number.
    SUPERSEDED = "superseded"
    # Its content isn't what its hash says.
    ALTERED = "altered"
    # Another event than the one that its chain has, or continues.
    FORK = "fork"
    # Those after it have been waiting for too long.
    GAP = "gap"
    # Not even the log has it.
    MISSING = "missing"


FAULTS = frozenset({Verdict.ALTERED, Verdict.FORK, Verdict.MISSING})


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """A charge event as it came; nothing in it is believed before it is verified."""

    id: str
    type: str
    source: str
    account: str
    epoch: int
    sequence: int
    previous_hash: str
    hash: str
    data: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """A verdict, about one event or about the places `sequence` to `until` of a chain."""

    verdict: Verdict
    account: str
    epoch: int
    sequence: int
    until: int
    reason: str = ""
    event: Event | None = None

    @property
    def fault(self) -> bool:
        """Whether it can't be healed by waiting or fetching."""
        return self.verdict in FAULTS


@dataclass(frozen=True, slots=True)
class Link:
    """The last event of a chain that was accepted."""

    sequence: int
    hash: str


@dataclass(slots=True)
class Waiting:
    """An early event, and since when (seconds of any clock) it waits."""

    event: Event
    since: float


class Ledger(Protocol):
    """What the verifier remembers. It reads back what it wrote, at once."""

    def heads(self, account: str) -> dict[int, Link]:
        """The last accepted link of each epoch of the account."""

    def hash_at(self, account: str, epoch: int, sequence: int) -> str | None:
        """The hash of an event that was accepted."""

    def accept(self, event: Event) -> None:
        """Remembers an accepted event: its chain now ends with it."""

    def waiting(self, account: str) -> Mapping[tuple[int, int], Waiting]:
        """The early events of the account by epoch and sequence."""

    def wait(self, event: Event, since: float) -> None:
        """Remembers an early event."""

    def unwait(self, account: str, epoch: int, sequence: int) -> None:
        """Forgets an early event."""

    def accounts_waiting(self, before: float) -> list[str]:
        """The accounts with an event that waits since before the instant."""

    def fetch(self, event: Event) -> None:
        """Remembers that an event was taken from the log, since it hadn't come."""

    def arrive(self, event: Event) -> bool:
        """Whether the event was taken from the log and comes for the first time; it has come then."""


class ChainVerifier:
    """Takes events in any order and says what each is; accepts those of an account strictly in their order."""

    def __init__(self, ledger: Ledger, source: str) -> None:
        self._ledger = ledger
        self._source = source

    def feed(self, event: Event, now: float, *, fetched: bool = False) -> Iterator[Finding]:
        """The verdict on the event, followed by those on the events that waited for it. `fetched`: it comes from the
        log, not from the stream."""
        wrong = altered(event) or ("" if event.source == self._source else f"it isn't from {self._source}")
        if wrong:
            yield _finding(Verdict.ALTERED, event, wrong)
            return
        ledger, account = self._ledger, event.account
        heads = ledger.heads(account)
        head = heads.get(event.epoch)
        if head is not None and event.sequence <= head.sequence:
            yield from self._again(event, ledger.hash_at(account, event.epoch, event.sequence), fetched=fetched)
            return
        if event.epoch < max(heads, default=0):
            yield _superseded(event)
            return
        waiting = ledger.waiting(account)
        known = waiting.get((event.epoch, event.sequence))
        if known is not None:
            yield from self._again(event, known.event.hash, fetched=fetched)
            return
        if fetched:
            ledger.fetch(event)
        elif any(key > (event.epoch, event.sequence) for key in waiting):
            yield _finding(Verdict.REORDERED, event, "it came after one that follows it")
        if not self._follows(event, heads):
            ledger.wait(event, now)
            yield _finding(Verdict.EARLY, event, "")
            return
        yield from self._take(event, heads)
        yield from self._release(account, heads)

    def gaps(self, account: str) -> list[Finding]:
        """The places that the account's early events wait for; the first of them first."""
        heads = self._ledger.heads(account)
        found: list[Finding] = []
        wanted: dict[int, int] = {}
        for (epoch, sequence), waiting in sorted(self._ledger.waiting(account).items()):
            head = heads.get(epoch)
            first = max(wanted.get(epoch, 0), head.sequence if head else 0) + 1
            if sequence > first:
                found.append(_gap(account, epoch, first, sequence - 1))
            elif sequence == 1:
                common = last_common(waiting.event)
                if common is not None:
                    old = heads.get(common[0])
                    found.append(_gap(account, common[0], old.sequence + 1 if old else 1, common[1]))
            wanted[epoch] = sequence
        return found

    def overdue(self, before: float) -> list[str]:
        """The accounts whose early events have been waiting since before the instant."""
        return self._ledger.accounts_waiting(before)

    def _release(self, account: str, heads: dict[int, Link]) -> Iterator[Finding]:
        """What waited, as far as it follows now."""
        ledger = self._ledger
        while waiting := ledger.waiting(account):
            latest = max(heads)
            for key in [key for key in waiting if key[0] < latest]:
                yield _superseded(waiting[key].event)
                ledger.unwait(account, *key)
            key = (latest, heads[latest].sequence + 1)
            if key not in waiting:
                # Nothing in this epoch: perhaps a later one can begin.
                begins = (key for key in waiting if key[0] > latest and self._follows(waiting[key].event, heads))
                key = min(begins, default=key)
            if key not in waiting:
                return
            event = waiting[key].event
            ledger.unwait(account, *key)
            yield from self._take(event, heads)

    def _again(self, event: Event, known: str | None, *, fetched: bool) -> Iterator[Finding]:
        if known != event.hash:
            yield _finding(Verdict.FORK, event, f"another event has this place: {known}")
        elif fetched:
            # Whoever asks the log for some gets those between them, too.
            return
        elif self._ledger.arrive(event):
            yield _finding(Verdict.LATE, event, "it had been fetched from the log")
        else:
            yield _finding(Verdict.DUPLICATE, event, "")

    def _follows(self, event: Event, heads: Mapping[int, Link]) -> bool:
        """Whether everything before the event is here, so that its links can be checked."""
        head = heads.get(event.epoch)
        if event.sequence > 1:
            return head is not None and head.sequence == event.sequence - 1
        common = last_common(event)
        if common is None:
            return True
        old = heads.get(common[0])
        return old is not None and old.sequence >= common[1]

    def _take(self, event: Event, heads: dict[int, Link]) -> Iterator[Finding]:
        """Accepts the event if it links to what is before it; also names what it leaves behind."""
        head = heads.get(event.epoch)
        previous = head.hash if head is not None else ZERO_HASH
        if event.previous_hash != previous:
            yield _finding(Verdict.FORK, event, f"it continues {event.previous_hash}, the chain ends with {previous}")
            return
        left: list[Finding] = []
        if event.sequence == 1:
            common = last_common(event)
            if common is not None:
                known = self._ledger.hash_at(event.account, common[0], common[1])
                if known != common[2]:
                    yield _finding(Verdict.FORK, event, f"its last common event is {common[2]}, ours was {known}")
                    return
            left = _left_behind(event.account, common, heads)
        self._ledger.accept(event)
        heads[event.epoch] = Link(event.sequence, event.hash)
        yield _finding(Verdict.ACCEPTED, event, "")
        yield from left


def _left_behind(account: str, common: tuple[int, int, str] | None, heads: Mapping[int, Link]) -> list[Finding]:
    epoch, sequence = (common[0], common[1]) if common else (0, 0)
    return [
        Finding(
            verdict=Verdict.SUPERSEDED,
            account=account,
            epoch=old,
            sequence=(sequence if old == epoch else 0) + 1,
            until=head.sequence,
            reason="accepted before a restore that lost them",
        )
        for old, head in sorted(heads.items())
        if old > epoch or (old == epoch and head.sequence > sequence)
    ]


def altered(event: Event) -> str:
    """Why the event can't be what was sealed; empty when its content, its envelope and its hash agree."""
    if chain_hash(event.previous_hash, event.data) != event.hash:
        return "the hash isn't that of the previous hash and the data"
    content = _content(event.data)
    if content is None:
        return "the data isn't a JSON object"
    for name in ("id", "type", "source", "account", "epoch", "sequence"):
        if content.get(name) != getattr(event, name):
            return f"the data has another {name} than the envelope"
    if not (1 <= event.epoch < _LARGEST and 1 <= event.sequence < _LARGEST and len(event.previous_hash) == 64):
        return "it has no place in any chain"
    common = content.get("lastCommon")
    if common is not None:
        try:
            epoch, sequence = common["epoch"], common["sequence"]
            if event.sequence != 1 or not 1 <= epoch < event.epoch or sequence < 1 or len(common["hash"]) != 64:
                return "its lastCommon can't be one"
        except (TypeError, KeyError):
            return "its lastCommon can't be one"
    return ""


def chain_hash(previous_hash: str, data: bytes) -> str:
    """The hash that an event must have."""
    return hashlib.sha256(previous_hash.encode("utf-8", "surrogateescape") + data).hexdigest()


def last_common(event: Event) -> tuple[int, int, str] | None:
    """Epoch, sequence and hash of the last event before a restore, as the verified event names it."""
    if event.epoch == 1 or event.sequence != 1:
        return None
    common = json.loads(event.data).get("lastCommon")
    return None if common is None else (common["epoch"], common["sequence"], common["hash"])


def _content(data: bytes) -> dict[str, Any] | None:
    try:
        content = json.loads(data)
    except ValueError:
        return None
    return content if isinstance(content, dict) else None


def _finding(verdict: Verdict, event: Event, reason: str) -> Finding:
    return Finding(
        verdict=verdict,
        account=event.account,
        epoch=event.epoch,
        sequence=event.sequence,
        until=event.sequence,
        reason=reason,
        event=event,
    )


def _superseded(event: Event) -> Finding:
    return _finding(Verdict.SUPERSEDED, event, "the account has gone on in a later epoch without it")


def _gap(account: str, epoch: int, first: int, last: int) -> Finding:
    return Finding(
        verdict=Verdict.GAP, account=account, epoch=epoch, sequence=first, until=last, reason="others wait for them"
    )
