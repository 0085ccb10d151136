"""Certificates of the days that have ended: made by a timer of each branch, and made anew when something changes."""

import json
import logging
from collections.abc import Callable, Iterable, Iterator
from datetime import date, datetime, timedelta
from typing import Any

import sqlalchemy as sa

from chassis import epochs
from chassis.db import Database
from chassis.errors import FailedPrecondition
from chassis.events import acting
from chassis.timers import set_timer
from chassis.unit import Unit
from chassis.upkeep import Hourly
from chassis.zones import BranchZones
from orders.billing import certificates, source
from orders.billing.certificate import (
    Digest,
    Part,
    Subject,
    Totals,
    changed_discrepancies,
    changed_rows,
    line,
    payload,
    says_the_same,
)
from orders.billing.reconciliation import Comparison
from orders.billing.signing import SigningKey, content_of, required

log = logging.getLogger(__name__)

# The purpose of our timer; there is one for each branch.
CERTIFY = "certify billing"
# A transaction that began before midnight has ended by then, and what it charged has its place.
SETTLE = timedelta(minutes=30)
# A day that isn't booked whole is waited for, as long as that may be about to come.
PATIENCE, AGAIN = timedelta(hours=2), timedelta(minutes=10)
# Then it is looked at again, less and less often, until nobody can change it any more.
SOONEST, LATEST, WATCHED = timedelta(hours=1), timedelta(hours=24), timedelta(days=35)


class Certification:
    """Looks at days: compares what is charged with what happened, and signs what it finds."""

    def __init__(self, zones: BranchZones, key: SigningKey | None, *, settle: timedelta = SETTLE) -> None:
        self._zones = zones
        self._key = key
        self._settle = settle

    def timers(self) -> dict[str, Callable[[str, Unit], None]]:
        """The handlers of our timers, by purpose."""
        return {CERTIFY: self.certify_due}

    def certify_due(self, branch: str, unit: Unit) -> None:
        """Looks at the day of the branch that is due, and says when to look next."""
        certificates.open_days(unit, branch, self._zones, self._settle)
        if self._key is None:
            # The days stay entered, and uncertified, for whoever watches that.
            log.error("days can't be certified: BILLING_SIGNING_KEY isn't set", extra={"fields": {"branch": branch}})
            set_timer(unit, branch, CERTIFY, unit.at + SOONEST, branch)
            return
        day = certificates.due(unit, branch)
        if day is not None:
            self._look(unit, day)
        following = certificates.next_look(unit.session, branch)
        set_timer(unit, branch, CERTIFY, max(following or unit.at + SOONEST, unit.at), branch)

    def certify(self, unit: Unit, branch: str, day: date, settled: str = "") -> None:
        """Looks at a day now; `settled`: what has become of its discrepancies. Raises FailedPrecondition DAY_OPEN,
        NO_SIGNING_KEY."""
        certificates.open_days(unit, branch, self._zones, self._settle)
        entered = certificates.the_day(unit, branch, day)
        if entered is None or entered.ends_at > unit.at:
            raise FailedPrecondition("DAY_OPEN", f"{day} isn't over in {branch}, or was before its first charge")
        self._look(unit, entered, asked=True, settled=settled)

    def _look(self, unit: Unit, day: sa.Row[Any], *, asked: bool = False, settled: str = "") -> None:
        key = required(self._key)
        start, end = self._zones.bounds(day.branch, day.day)
        subject = Subject(branch=day.branch, day=day.day, zone=self._zones.zone(day.branch).key, start=start, end=end)
        look = _Look(unit, subject, key)
        before = certificates.latest(unit.session, day.branch, day.day)
        totals, digests = look.digests()
        if before is None and not totals.settled and unit.at < end + PATIENCE and not asked:
            certificates.looked(unit, day.branch, day.day, look_at=unit.at + AGAIN)
            return
        if before is None or not says_the_same(content_of(before.signed), digests):
            look.make(before)
        pause = min(SOONEST * 2 ** min(day.looked, 10), LATEST)
        later = unit.at + pause if unit.at < end + WATCHED else None
        wrong = digests[Part.DISCREPANCY].content
        if settled:
            certificates.looked(unit, day.branch, day.day, settled=settled, settled_digest=wrong["digest"])
        dealt_with = settled or day.settled_digest == wrong["digest"]
        certificates.looked(
            unit,
            day.branch,
            day.day,
            revision=look.revision or day.revision,
            discrepancies=0 if dealt_with else wrong["count"],
            looked=day.looked + 1,
            look_at=later,
        )


class _Look:
    """One look at a day. What it reads may be much: it is read anew for each use, and never kept but for what doesn't
    fit."""

    def __init__(self, unit: Unit, subject: Subject, key: SigningKey) -> None:
        self._unit = unit
        self._subject = subject
        self._key = key
        self._epoch = epochs.current(unit.session)
        self._compared = 0
        self._discrepancies = self._compare()
        self.revision = 0

    def _compare(self) -> list[str]:
        comparison = Comparison()
        branch = self._subject.branch
        for start, end in source.parts(self._subject.start, self._subject.end):
            happened = source.happened(self._unit, branch, start, end)
            comparison.part(happened, source.charged(self._unit, branch, start, end))
        self._compared = comparison.compared
        return [line(one.line()) for one in comparison.discrepancies()]

    def _rows(self, totals: Totals) -> Iterator[str]:
        subject = self._subject
        for row in certificates.rows_of(self._unit, subject.branch, subject.start, subject.end, self._epoch):
            totals.add(row)
            yield row.line()

    def digests(self) -> tuple[Totals, dict[Part, Digest]]:
        """What the rows come to, and the digests of rows and discrepancies."""
        totals = Totals()
        digests = {part: Digest() for part in Part}
        for _ in _digested(self._rows(totals), digests[Part.ROW]):
            pass
        for _ in _digested(self._discrepancies, digests[Part.DISCREPANCY]):
            pass
        return totals, digests

    def make(self, before: sa.Row[Any] | None) -> None:
        """Writes the next revision."""
        unit, subject = self._unit, self._subject
        branch, day = subject.branch, subject.day
        self.revision = (before.revision if before is not None else 0) + 1
        totals = Totals()
        digests = {part: Digest() for part in Part}

        def save(part: Part, texts: Iterable[str]) -> None:
            certificates.save_lines(unit, branch, day, self.revision, part, _digested(texts, digests[part]))

        save(Part.ROW, self._rows(totals))
        save(Part.DISCREPANCY, self._discrepancies)
        if before is not None:
            save(Part.CHANGE, self._changes(before.revision))
        signed = self._key.sign(
            payload(
                subject,
                revision=self.revision,
                made_at=unit.at,
                supersedes=before.signed if before is not None else None,
                digests=digests,
                totals=totals,
                compared=self._compared,
            )
        )
        certificates.save_key(unit, self._key.key_id, json.dumps(dict(self._key.public)))
        certificates.save(
            unit,
            branch=branch,
            day=day,
            revision=self.revision,
            made_at=unit.at,
            key_id=self._key.key_id,
            signed=signed,
            rows=digests[Part.ROW].count,
            discrepancies=digests[Part.DISCREPANCY].count,
            changes=digests[Part.CHANGE].count,
            unsealed=totals.unsealed,
            unsent=totals.unsent,
            unacknowledged=totals.unacknowledged,
        )
        if digests[Part.DISCREPANCY].count:
            fields = {"branch": branch, "day": day.isoformat(), "count": digests[Part.DISCREPANCY].count}
            log.error("charges don't fit what happened", extra={"fields": fields})

    def _changes(self, revision: int) -> Iterator[str]:
        session, branch, day = self._unit.session, self._subject.branch, self._subject.day

        def lines(of: int, part: Part) -> Iterator[str]:
            return certificates.all_lines(session, branch, day, of, part)

        yield from changed_rows(lines(revision, Part.ROW), lines(self.revision, Part.ROW))
        yield from changed_discrepancies(lines(revision, Part.DISCREPANCY), self._discrepancies)


def _digested(texts: Iterable[str], digest: Digest) -> Iterator[str]:
    for text in texts:
        digest.add(text)
        yield text


class Branches(Hourly):
    """Sets the timer of branches that have none: a branch is one by its first order or charge."""

    def __init__(self, database: Database) -> None:
        super().__init__("billing days")
        self._database = database

    def once(self) -> None:
        """Looks for branches without a timer."""
        with acting("orders", "billing days"), self._database.unit() as unit:
            for branch in certificates.branches_without(unit.session, CERTIFY):
                set_timer(unit, branch, CERTIFY, unit.at, branch)


def uncertified_seconds(ended: datetime | None, at: datetime) -> float:
    """How long the oldest day without a certificate has been over."""
    return max(0.0, (at - ended).total_seconds()) if ended is not None else 0.0
