"""What the reference consumer makes of events: it verifies, reports, fetches, compares and acknowledges."""

import json
import math
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TextIO

from chassis.errors import DomainError, FailedPrecondition
from svyaz_cli.billing_chain import ChainVerifier, Event, Finding, Verdict
from svyaz_cli.billing_log import Head, Log
from svyaz_cli.billing_reader import STREAM
from svyaz_cli.billing_state import State

SOURCE = "svyaz/orders"
# Nothing that billing would have to know: an early one is told of when it is taken, or when its gap is.
_SILENT = frozenset({Verdict.EARLY})
# Chains acknowledged at a time.
_ACKNOWLEDGED = 1_000


@dataclass(frozen=True, kw_only=True)
class Options:
    """What the command is told."""

    state: Path
    nats_url: str
    orders_address: str
    # Asked again for each call, since tokens expire.
    token: Callable[[], str]
    account: str = ""
    gap_timeout: float = 30.0
    idle_exit: float | None = None
    keep_going: bool = False
    # A branch and a local day whose certificate is compared before an idle exit.
    branch: str = ""
    day: str = ""
    # Another name of the stream, where it is copied.
    stream: str = STREAM
    # Whether it is said to orders what has been taken; why it is less than before, when it is.
    acknowledge: bool = False
    went_back: str = ""


@dataclass
class Tail:
    """One run: the verifier, what it remembers, and where it reports."""

    options: Options
    state: State
    log: Log
    out: TextIO
    now: Callable[[], float] = time.time
    faults: int = 0
    # At an idle exit something wasn't fetched, compared or acknowledged, because the log didn't answer.
    unproven: bool = False
    _touched: set[str] = field(default_factory=set)
    # When what a gap misses was last asked for; its faults were told then.
    _asked: dict[tuple[str, int, int], float] = field(default_factory=dict)
    _told: set[tuple[Verdict, str, int, int, int]] = field(default_factory=set)
    # Ends of chains that orders don't have like that.
    _refused: set[Head] = field(default_factory=set)

    def __post_init__(self) -> None:
        self._verifier = ChainVerifier(self.state, SOURCE)

    def finished(self) -> bool:
        """Whether a fault has been found that ends the run."""
        return self.faults > 0 and not self.options.keep_going

    def take(self, event: Event, *, fetched: bool = False, again: bool = False) -> list[Finding]:
        """Verifies an event and reports what it finds. `again`: it may have been read before, so that it is no news
        when it is known."""
        if self.options.account and event.account != self.options.account:
            return []
        findings: Iterable[Finding] = self._verifier.feed(event, self.now(), fetched=fetched)
        if again:
            findings = (finding for finding in findings if finding.verdict is not Verdict.DUPLICATE)
        return self._report(findings, fetched=event if fetched else None)

    def _report(self, findings: Iterable[Finding], *, fetched: Event | None = None) -> list[Finding]:
        reported = list(findings)
        for finding in reported:
            if finding.fault:
                place = (finding.verdict, finding.account, finding.epoch, finding.sequence, finding.until)
                if finding.event is None and place in self._told:
                    continue
                self._told.add(place)
                self.faults += 1
                self.state.record(finding, self.now())
            if finding.verdict in (Verdict.ACCEPTED, Verdict.EARLY):
                self._touched.add(finding.account)
            if finding.verdict not in _SILENT:
                self.out.write(
                    json.dumps(
                        _line(finding, fetched=finding.event is not None and finding.event is fetched),
                        ensure_ascii=False,
                    )
                    + "\n"
                )
        return reported

    def commit(self) -> None:
        """Lets what was done so far last: first the lines, then the memory of them."""
        self.out.flush()
        self.state.commit()

    # --- gaps ---

    def heal(self, *, patience: float) -> None:
        """Reports the gaps that are older than `patience` seconds and fetches what they miss."""
        now = self.now()
        for account in self._verifier.overdue(now - patience):
            for gap in self._verifier.gaps(account):
                key = (account, gap.epoch, gap.sequence)
                if now - self._asked.get(key, float("-inf")) >= min(patience, self.options.gap_timeout):
                    self._asked[key] = now
                    try:
                        self._fetch(gap)
                    except DomainError as error:
                        print(f"the log can't be read: {error.reason}: {error}", file=sys.stderr, flush=True)
                if self.finished():
                    return

    def _fetch(self, gap: Finding) -> None:
        """Reports a gap and closes it from the log; what the log hasn't got either is missing. Raises DomainError."""
        self._report([gap])
        events = self.log.events(gap.account, gap.epoch, gap.sequence, gap.until)
        findings = [finding for event in events for finding in self.take(event, fetched=True)]
        if any(finding.fault for finding in findings):
            return
        there = {event.sequence for event in events}
        missing = [number for number in range(gap.sequence, gap.until + 1) if number not in there]
        self._report(_missing(gap, missing))

    # --- the ends of chains ---

    def compare(self) -> None:
        """Asks how far chains have come by what the stream has had for as long as a gap may last: of what was lost from
        the end of one nothing in the stream tells. Only for who has read all that the stream had by then. What can't be
        fetched now is asked for again, since nobody else would tell of it."""
        settled = math.ceil(self.options.gap_timeout)
        more = True
        try:
            while more and not self.finished():
                heads, following, more = self.log.heads(self.state.compared, settled)
                for account, epoch, sequence, digest in heads:
                    if not self.options.account or account == self.options.account:
                        self._compare_head(account, epoch, sequence, digest)
                self.state.compared = following
        except DomainError as error:
            print(f"not compared with the log: {error.reason}: {error}", file=sys.stderr, flush=True)

    def acknowledge(self) -> bool:
        """Says up to where each chain was taken; what is said lasts already. Whether all of it could be said."""
        while True:
            known = self.state.unacknowledged(_ACKNOWLEDGED + len(self._refused))
            heads = [head for head in known if head not in self._refused]
            if not heads:
                return True
            try:
                if not self._said(heads):
                    for head in heads:
                        self._said([head])
            except DomainError as error:
                print(f"not acknowledged: {error.reason}: {error}", file=sys.stderr, flush=True)
                return False

    def _said(self, heads: Sequence[Head]) -> bool:
        """Acknowledges chains; a single one that is refused is reported, of several nothing is taken then."""
        try:
            self.log.acknowledge(heads, self.options.went_back)
        except FailedPrecondition as error:
            if len(heads) == 1:
                self._refused.add(heads[0])
                self.faults += 1
                account, epoch, sequence, digest = heads[0]
                line = {"verdict": "refused", "fault": True, "account": account, "epoch": epoch, "sequence": sequence}
                self.out.write(json.dumps(line | {"hash": digest, "reason": error.message}, ensure_ascii=False) + "\n")
            return False
        self.state.acknowledged((account, epoch) for account, epoch, _, _ in heads)
        return True

    # --- certificates ---

    def certify(self) -> bool:
        """Compares what was taken with the certificates of the accounts seen, and of the day: only they know of events
        after the last that came. Whether all of it could be compared."""
        try:
            for account in sorted(self._touched):
                self._compare(self.log.certificate(account=account))
            if self.options.day:
                rows = self.log.certificate(
                    account=self.options.account, branch=self.options.branch, day=self.options.day
                )
                self._compare(rows)
        except DomainError as error:
            print(f"not compared with the certificates: {error.reason}: {error}", file=sys.stderr, flush=True)
            return False
        return True

    def _compare(self, rows: Iterable[Any]) -> None:
        for row in rows:
            if row.count:
                self._compare_head(row.account, row.epoch, row.last_sequence, row.last_hash)

    def _compare_head(self, account: str, epoch: int, sequence: int, digest: str) -> None:
        ours = self.state.hash_at(account, epoch, sequence)
        heads = self.state.heads(account)
        if ours is None and epoch >= max(heads, default=0):
            head = heads.get(epoch)
            gap = Finding(
                verdict=Verdict.GAP,
                account=account,
                epoch=epoch,
                sequence=head.sequence + 1 if head else 1,
                until=sequence,
                reason="the log goes further than the stream",
            )
            self._fetch(gap)
        elif ours is not None and ours != digest:
            fork = Finding(
                verdict=Verdict.FORK,
                account=account,
                epoch=epoch,
                sequence=sequence,
                until=sequence,
                reason=f"the log has {digest} there, we took {ours}",
            )
            self._report([fork])


def _missing(gap: Finding, numbers: Iterable[int]) -> list[Finding]:
    """One finding for each run of numbers."""
    runs: list[list[int]] = []
    for number in numbers:
        if runs and runs[-1][1] == number - 1:
            runs[-1][1] = number
        else:
            runs.append([number, number])
    return [
        Finding(
            verdict=Verdict.MISSING,
            account=gap.account,
            epoch=gap.epoch,
            sequence=first,
            until=last,
            reason="neither the stream nor the log has it",
        )
        for first, last in runs
    ]


def _line(finding: Finding, *, fetched: bool) -> dict[str, Any]:
    line: dict[str, Any] = {
        "verdict": finding.verdict.value,
        "fault": finding.fault,
        "account": finding.account,
        "epoch": finding.epoch,
        "sequence": finding.sequence,
    }
    if finding.until != finding.sequence:
        line["until"] = finding.until
    if finding.reason:
        line["reason"] = finding.reason
    event = finding.event
    if event is not None:
        line |= {"id": event.id, "type": event.type, "hash": event.hash}
        if finding.verdict is Verdict.ACCEPTED:
            line |= {"fetched": fetched, "data": json.loads(event.data)}
    return line
