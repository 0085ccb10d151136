"""`svyaz billing-tail`: what a billing system does with the stream of charges, as a program to use and to read.

It reads the stream BILLING from its own position, verifies each event, takes those of an account in their order,
fetches what is missing from the log, and prints one JSON line for each event and each fault. A line is printed before
it is remembered: after a crash the last lines may come again, with the same account, epoch and sequence.
"""

import asyncio
import json
import signal
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TextIO

import nats.errors
import typer
from nats.aio.client import Client

from chassis import calls, clients
from chassis.auth import Principal
from chassis.errors import DomainError
from svyaz.orders.v1 import billing_pb2, billing_pb2_grpc
from svyaz_cli import local
from svyaz_cli.billing_chain import ChainVerifier, Event, Finding, Verdict
from svyaz_cli.billing_reader import Reader, received
from svyaz_cli.billing_state import State, StateInUseError
from svyaz_cli.services import READER

SOURCE = "svyaz/orders"
PAGE = 1_000
CALL_SECONDS = 10.0
RETRY_SECONDS = 0.5
TICK_SECONDS = 0.25
_SILENT = frozenset({Verdict.EARLY, Verdict.DUPLICATE})


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


class Log:
    """The orders service's log of sealed events: the truth that the stream carries."""

    def __init__(self, address: str, token: Callable[[], str]) -> None:
        self._token = token
        self._channel = clients.channel(address)
        self._stub = billing_pb2_grpc.BillingServiceStub(self._channel)

    def events(self, account: str, epoch: int, first: int, last: int) -> list[Event]:
        """The events `first` to `last` of a chain, as far as there are any. Raises DomainError."""
        found: list[Event] = []
        while first <= last:
            request = billing_pb2.ListBillingEventsRequest(
                account=account, epoch=epoch, limit=min(PAGE, last - first + 1), **{"from": first}
            )
            page = self._call(self._stub.ListBillingEvents, request).event
            found += [_listed(event) for event in page]
            if not page:
                break
            first = page[-1].sequence + 1
        return found

    def certificate(self, *, account: str = "", branch: str = "", day: str = "") -> Iterator[Any]:
        """The rows of a certificate, page by page. Raises DomainError."""
        request = billing_pb2.GetBillingCertificateRequest(account=account, branch=branch, day=day)
        while True:
            page = self._call(self._stub.GetBillingCertificate, request)
            yield from page.row
            if not page.next:
                return
            request.after = page.next

    def _call(self, method: Any, request: Any) -> Any:
        principal = Principal("billing-tail", frozenset(), (), token=self._token())
        with calls.using(calls.Call(principal, "billing-tail", time.monotonic() + CALL_SECONDS)):
            return clients.call(method, request)

    def close(self) -> None:
        """Closes the channel."""
        self._channel.close()


@dataclass
class Tail:
    """One run: the verifier, what it remembers, and where it reports."""

    options: Options
    state: State
    log: Log
    out: TextIO
    now: Callable[[], float] = time.time
    faults: int = 0
    # At an idle exit something still waits, neither fetched nor called missing, because the log didn't answer.
    unproven: bool = False
    _touched: set[str] = field(default_factory=set)
    # When what a gap misses was last asked for; its faults were told then.
    _asked: dict[tuple[str, int, int], float] = field(default_factory=dict)
    _told: set[tuple[Verdict, str, int, int, int]] = field(default_factory=set)

    def __post_init__(self) -> None:
        self._verifier = ChainVerifier(self.state, SOURCE)

    def finished(self) -> bool:
        """Whether a fault has been found that ends the run."""
        return self.faults > 0 and not self.options.keep_going

    def take(self, event: Event, *, fetched: bool = False) -> list[Finding]:
        """Verifies an event and reports what it finds."""
        if self.options.account and event.account != self.options.account:
            return []
        return self._report(self._verifier.feed(event, self.now()), fetched=event if fetched else None)

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
                    self._fetch(gap)
                if self.finished():
                    return

    def _fetch(self, gap: Finding) -> None:
        """Reports a gap and closes it from the log; what the log hasn't got either is missing."""
        self._report([gap])
        try:
            events = self.log.events(gap.account, gap.epoch, gap.sequence, gap.until)
        except DomainError as error:
            print(f"the log can't be read: {error.reason}: {error}", file=sys.stderr, flush=True)
            return
        findings = [finding for event in events for finding in self.take(event, fetched=True)]
        if any(finding.fault for finding in findings):
            return
        there = {event.sequence for event in events}
        missing = [number for number in range(gap.sequence, gap.until + 1) if number not in there]
        self._report(_missing(gap, missing))

    # --- certificates ---

    def certify(self) -> None:
        """Compares what was taken with the certificates of the accounts seen, and of the day: only they know of events
        after the last that came."""
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

    def _compare(self, rows: Iterable[Any]) -> None:
        for row in rows:
            if not row.count:
                continue
            ours = self.state.hash_at(row.account, row.epoch, row.last_sequence)
            if ours is None:
                head = self.state.heads(row.account).get(row.epoch)
                gap = Finding(
                    verdict=Verdict.GAP,
                    account=row.account,
                    epoch=row.epoch,
                    sequence=head.sequence + 1 if head else 1,
                    until=row.last_sequence,
                    reason="the log goes further than the stream",
                )
                self._fetch(gap)
            elif ours != row.last_hash:
                reason = f"its certificate says {row.last_hash}, we took {ours}"
                self._report(
                    [
                        Finding(
                            verdict=Verdict.FORK,
                            account=row.account,
                            epoch=row.epoch,
                            sequence=row.last_sequence,
                            until=row.last_sequence,
                            reason=reason,
                        )
                    ]
                )


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


def _listed(event: billing_pb2.BillingEvent) -> Event:
    return Event(
        id=event.id,
        type=event.type,
        source=event.source,
        account=event.account,
        epoch=event.epoch,
        sequence=event.sequence,
        previous_hash=event.previous_hash,
        hash=event.hash,
        data=event.data,
    )


async def _follow(tail: Tail, reader: Reader, stopping: asyncio.Event) -> None:
    """Reads until told to stop, a fault, or nothing for long enough."""
    options = tail.options
    checked = 0.0
    while not stopping.is_set() and not tail.finished():
        for message in await reader.read():
            tail.take(received(message.headers or {}, message.data))
            reader.done(message)
            if tail.finished():
                break
        tail.commit()
        if time.monotonic() - checked >= TICK_SECONDS and not tail.finished():
            await asyncio.to_thread(tail.heal, patience=options.gap_timeout)
            tail.commit()
            checked = time.monotonic()
        idle = time.monotonic() - reader.quiet_since
        if options.idle_exit is not None and idle >= options.idle_exit and reader.listening:
            return


async def _run(tail: Tail) -> int:
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopping.set)
    client = Client()
    connecting = asyncio.ensure_future(_connect(client, tail.options.nats_url))
    waiting = asyncio.ensure_future(stopping.wait())
    await asyncio.wait({connecting, waiting}, return_when=asyncio.FIRST_COMPLETED)
    try:
        if not connecting.done():
            return 0
        connecting.result()
        await _follow(tail, Reader(client, tail.state), stopping)
        if not stopping.is_set() and not tail.finished():
            await asyncio.to_thread(_conclude, tail)
    finally:
        for task in (connecting, waiting):
            task.cancel()
        tail.commit()
        with suppress(nats.errors.Error, OSError):
            await client.close()
    return 1 if tail.faults or tail.unproven else 0


def _conclude(tail: Tail) -> None:
    """Before an idle exit nothing may be left open: what waits is fetched now, and the certificates are compared."""
    tail.heal(patience=0.0)
    if not tail.finished():
        tail.certify()
    tail.unproven = bool(tail.state.accounts_waiting(float("inf")))


async def _connect(client: Client, url: str) -> None:
    async def quiet(_: Exception) -> None:
        """Reconnecting is what the client does about it."""

    while not client.is_connected:
        try:
            await client.connect(
                url,
                name="billing-tail",
                connect_timeout=2,
                max_reconnect_attempts=-1,
                reconnect_time_wait=1,
                ping_interval=5,
                max_outstanding_pings=2,
                error_cb=quiet,
            )
        except nats.errors.AuthorizationError:
            raise
        except (OSError, nats.errors.Error, TimeoutError):
            await asyncio.sleep(RETRY_SECONDS)


def run(options: Options, out: TextIO) -> int:
    """Runs the command; the exit status: 0, or 1 after a fault or when an idle exit found something unproven.

    Raises StateInUseError, nats.errors.AuthorizationError.
    """
    options.state.parent.mkdir(parents=True, exist_ok=True)
    state = State(options.state)
    log = Log(options.orders_address, options.token)
    try:
        return asyncio.run(_run(Tail(options, state, log, out)))
    finally:
        log.close()
        state.close()


def command(
    state: Path = typer.Option(..., help="The file that remembers what was taken; made when there is none."),
    account: str = typer.Option("", help="Only this account."),
    gap_timeout: float = typer.Option(30.0, help="Seconds until a gap is reported and fetched from the log."),
    idle_exit: float | None = typer.Option(
        None, help="End after so many seconds without an event, comparing certificates first."
    ),
    keep_going: bool = typer.Option(False, help="Go on after a fault; the exit status still tells."),
    branch: str = typer.Option("", help="With --day: the branch whose day is compared before an idle exit."),
    day: str = typer.Option("", help="With --branch: the local day, YYYY-MM-DD."),
    nats_url: str = typer.Option("", envvar="NATS_URL", help="Where the stream is; the local one."),
    orders_address: str = typer.Option("", envvar="ORDERS_ADDRESS", help="host:port of orders; the local one."),
    token: str = typer.Option("", envvar="SVYAZ_TOKEN", help="Of the role billing; one of the development issuer."),
    token_file: Path | None = typer.Option(None, help="The file that holds it; read again for each call."),
) -> None:
    """Verify the stream of charges as it comes: a JSON line per event or fault; exit status 1 after a fault."""
    if bool(branch) != bool(day):
        raise typer.BadParameter("--branch and --day belong together")
    options = Options(
        state=state,
        nats_url=nats_url or local.nats_url(READER),
        orders_address=orders_address or local.address("orders"),
        token=(lambda: token_file.read_text().strip()) if token_file else local.token(token, "billing"),
        account=account,
        gap_timeout=gap_timeout,
        idle_exit=idle_exit,
        keep_going=keep_going,
        branch=branch,
        day=day,
    )
    try:
        status = run(options, sys.stdout)
    except (StateInUseError, nats.errors.AuthorizationError, nats.errors.NoServersError) as error:
        print(f"billing-tail: {error}", file=sys.stderr)
        raise typer.Exit(2) from error
    raise typer.Exit(status)


if __name__ == "__main__":
    typer.run(command)


_app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
_app.command()(command)
COMMANDS = {"billing-tail": _app}
