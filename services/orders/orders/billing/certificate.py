"""What a certificate of a day says, and how it is told from the one before. Pure: no I/O, no clock.

A certificate is three lists of lines (rows, discrepancies, changes) and a payload with their digests. A line is
canonical JSON (RFC 8785); the digest of a list is the hex SHA-256 of its lines, each ended by a line feed.
"""

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from decimal import Decimal
from enum import IntEnum
from typing import Any

from orders.billing.domain import SOURCE, canonical


class Part(IntEnum):
    """The lists of a certificate, by the numbers that the contract gives them."""

    ROW = 1
    DISCREPANCY = 2
    CHANGE = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """What was charged to an account on a day, in one epoch. `sums`: count and total by charge type and currency."""

    account: str
    epoch: int
    count: int
    first_sequence: int
    last_sequence: int
    last_hash: str
    unsealed: int
    unsent: int
    unacknowledged: int
    sums: Sequence[tuple[str, str, int, Decimal]] = ()

    def line(self) -> str:
        """As a certificate says it."""
        return line(
            {
                "account": self.account,
                "epoch": self.epoch,
                "count": self.count,
                "firstSequence": self.first_sequence,
                "lastSequence": self.last_sequence,
                "lastHash": self.last_hash,
                "unsealed": self.unsealed,
                "unsent": self.unsent,
                "unacknowledged": self.unacknowledged,
                "sums": [_sum(*one) for one in self.sums],
            }
        )


def line(content: Mapping[str, Any]) -> str:
    """A line of a certificate."""
    return canonical(content).decode()


def _sum(kind: str, unit: str, count: int, value: Decimal) -> dict[str, Any]:
    return {"type": kind, "unit": unit, "count": count, "value": f"{value:f}"}


@dataclass
class Digest:
    """Of a list of lines, as they come."""

    count: int = 0
    _sha: Any = field(default_factory=hashlib.sha256)

    def add(self, text: str) -> None:
        """The next line."""
        self.count += 1
        self._sha.update(text.encode() + b"\n")

    @property
    def content(self) -> dict[str, Any]:
        """As a payload says it."""
        return {"count": self.count, "digest": self._sha.hexdigest()}


@dataclass
class Totals:
    """What the rows come to."""

    unsealed: int = 0
    unsent: int = 0
    unacknowledged: int = 0
    _sums: dict[tuple[str, str], tuple[int, Decimal]] = field(default_factory=dict)

    def add(self, row: Row) -> None:
        """One more row."""
        self.unsealed += row.unsealed
        self.unsent += row.unsent
        self.unacknowledged += row.unacknowledged
        for kind, unit, count, value in row.sums:
            before = self._sums.get((kind, unit), (0, Decimal()))
            self._sums[kind, unit] = (before[0] + count, before[1] + value)

    @property
    def settled(self) -> bool:
        """Whether billing has booked everything."""
        return not (self.unsealed or self.unsent or self.unacknowledged)

    @property
    def sums(self) -> list[dict[str, Any]]:
        """Count and total by type and currency."""
        return [_sum(kind, unit, *total) for (kind, unit), total in sorted(self._sums.items())]


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """Which day is certified."""

    branch: str
    day: date
    zone: str
    start: datetime
    end: datetime


def payload(
    subject: Subject,
    *,
    revision: int,
    made_at: datetime,
    supersedes: str | None,
    digests: Mapping[Part, Digest],
    totals: Totals,
    compared: int,
) -> bytes:
    """What is signed. `supersedes`: the signed revision before; `compared`: charges held against their cause."""
    content: dict[str, Any] = {
        "iss": SOURCE,
        "branch": subject.branch,
        "day": subject.day.isoformat(),
        "timeZone": subject.zone,
        "from": _instant(subject.start),
        "until": _instant(subject.end),
        "revision": revision,
        "madeAt": _instant(made_at),
        "rows": digests[Part.ROW].content,
        "discrepancies": digests[Part.DISCREPANCY].content,
        "changes": digests[Part.CHANGE].content,
        "sums": totals.sums,
        "unsealed": totals.unsealed,
        "unsent": totals.unsent,
        "unacknowledged": totals.unacknowledged,
        "compared": compared,
    }
    if supersedes is not None:
        content["supersedes"] = hashlib.sha256(supersedes.encode()).hexdigest()
    return canonical(content)


def says_the_same(before: Mapping[str, Any], digests: Mapping[Part, Digest]) -> bool:
    """Whether rows and discrepancies are those of an earlier payload."""
    return bool(
        before["rows"] == digests[Part.ROW].content and before["discrepancies"] == digests[Part.DISCREPANCY].content
    )


def changed_rows(before: Iterable[str], after: Iterable[str]) -> Iterator[str]:
    """What has changed between the rows of two revisions, both in the order of account and epoch."""
    for old, new in _side_by_side(before, after):
        if old != new:
            known = new or old
            assert known is not None
            account, epoch = _key(known)
            content = {"account": account, "epoch": epoch, "before": _read(old), "after": _read(new)}
            yield line({name: value for name, value in content.items() if value is not None})


def changed_discrepancies(before: Iterable[str], after: Iterable[str]) -> Iterator[str]:
    """Which discrepancies are gone and which have appeared."""
    old, new = set(before), set(after)
    for text in sorted(old - new):
        yield line({"gone": _read(text)})
    for text in sorted(new - old):
        yield line({"appeared": _read(text)})


def _side_by_side(before: Iterable[str], after: Iterable[str]) -> Iterator[tuple[str | None, str | None]]:
    olds, news = iter(before), iter(after)
    old, new = next(olds, None), next(news, None)
    while old is not None or new is not None:
        behind = old is None or (new is not None and _key(new) < _key(old))
        ahead = new is None or (old is not None and _key(old) < _key(new))
        yield (None if behind else old), (None if ahead else new)
        if not behind:
            old = next(olds, None)
        if not ahead:
            new = next(news, None)


def _key(text: str) -> tuple[str, int]:
    content = json.loads(text)
    return content["account"], content["epoch"]


def _read(text: str | None) -> Any:
    return None if text is None else json.loads(text)


def _instant(at: datetime) -> str:
    return at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
