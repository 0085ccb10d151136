"""`svyaz billing-tail`: what a billing system does with the stream of charges, as a program to use and to read.

It reads the stream BILLING from its own position, verifies each event, takes those of an account in their order,
fetches what is missing from the log, and prints one JSON line for each event and each fault. A line is printed before
it is remembered: after a crash the last lines may come again, with the same account, epoch and sequence.
"""

import asyncio
import re
import signal
import sys
import time
from contextlib import suppress
from datetime import date
from pathlib import Path
from typing import TextIO

import nats.errors
import typer
from nats.aio.client import Client

from svyaz_cli import local
from svyaz_cli.billing_log import RemoteLog
from svyaz_cli.billing_reader import STREAM, Reader, received
from svyaz_cli.billing_state import State, StateFileError, StateInUseError
from svyaz_cli.billing_watch import Options, Tail
from svyaz_cli.refusals import refuse
from svyaz_cli.services import READER

RETRY_SECONDS = 0.5
TICK_SECONDS = 0.25


async def _follow(tail: Tail, reader: Reader, stopping: asyncio.Event) -> None:
    """Reads until told to stop, a fault, or nothing for long enough."""
    options = tail.options
    checked = 0.0
    compared = time.monotonic()
    while not stopping.is_set() and not tail.finished():
        for message in await reader.read():
            tail.take(received(message.headers or {}, message.data), again=reader.again(message))
            reader.done(message)
            if tail.finished():
                break
        tail.commit()
        if time.monotonic() - checked >= TICK_SECONDS and not tail.finished():
            await asyncio.to_thread(tail.heal, patience=options.gap_timeout)
            if time.monotonic() - reader.caught_up < options.gap_timeout / 2 <= time.monotonic() - compared:
                await asyncio.to_thread(tail.compare)
                compared = time.monotonic()
            tail.commit()
            if options.acknowledge:
                await asyncio.to_thread(tail.acknowledge)
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
        await _follow(tail, Reader(client, tail.state, tail.options.stream), stopping)
        if not stopping.is_set() and not tail.finished():
            await asyncio.to_thread(conclude, tail)
    finally:
        for task in (connecting, waiting):
            task.cancel()
        tail.commit()
        with suppress(nats.errors.Error, OSError):
            await client.close()
    return 1 if tail.faults or tail.unproven else 0


def conclude(tail: Tail) -> None:
    """Before an idle exit nothing may be left open: what waits is fetched now, and the certificates are compared. What
    the log doesn't answer isn't proven."""
    tail.heal(patience=0.0)
    proven = tail.finished() or tail.certify()
    if tail.options.acknowledge and not tail.finished():
        tail.commit()
        proven &= tail.acknowledge()
    tail.unproven = not proven or bool(tail.state.accounts_waiting(float("inf")))


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

    Raises StateInUseError, StateFileError, nats.errors.AuthorizationError.
    """
    try:
        options.state.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StateFileError(f"{options.state} can't be made: {error.strerror}") from error
    state = State(options.state)
    log = RemoteLog(options.orders_address, options.token)
    try:
        return asyncio.run(_run(Tail(options, state, log, out)))
    finally:
        log.close()
        state.close()


def _is_day(text: str) -> bool:
    """Whether orders takes it for a day: the last representable one has no next midnight."""
    if not re.fullmatch(r"\d{4}-\d{2}-\d{2}", text) or text >= "9999":
        return False
    try:
        date.fromisoformat(text)
    except ValueError:
        return False
    return True


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
    stream: str = typer.Option(STREAM, help="Another name of the stream, where it is copied."),
    acknowledge: bool = typer.Option(False, help="Say to orders what was taken, as a billing that has booked it."),
    went_back: str = typer.Option("", help="With --acknowledge: why less was booked than was said before, if so."),
    nats_url: str = typer.Option("", envvar="NATS_URL", help="Where the stream is; the local one."),
    orders_address: str = typer.Option("", envvar="ORDERS_ADDRESS", help="host:port of orders; the local one."),
    token: str = typer.Option("", envvar="SVYAZ_TOKEN", help="Of the role billing; one of the development issuer."),
    token_file: Path | None = typer.Option(None, help="The file that holds it; read again for each call."),
) -> None:
    """Verify the stream of charges as it comes: a JSON line per event or fault.

    Exit status: 0, 1 after a fault or when an idle exit found something unproven, 2 nothing was read.
    """
    if bool(branch) != bool(day):
        raise typer.BadParameter("--branch and --day belong together")
    if day and not _is_day(day):
        refuse(f"billing-tail: --day: {day!r} is no day; it is YYYY-MM-DD and exists")
    if token_file is not None:
        _check_token_file(token_file)
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
        stream=stream,
        acknowledge=acknowledge,
        went_back=went_back,
    )
    try:
        status = run(options, sys.stdout)
    except (StateInUseError, StateFileError) as error:
        refuse(f"billing-tail: --state: {error}")
    except (nats.errors.AuthorizationError, nats.errors.NoServersError) as error:
        print(f"billing-tail: {error}", file=sys.stderr)
        raise typer.Exit(2) from error
    raise typer.Exit(status)


def _check_token_file(file: Path) -> None:
    try:
        empty = not file.read_text().strip()
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "it isn't UTF-8"
        refuse(f"billing-tail: --token-file: {file} can't be read: {why}")
    if empty:
        refuse(f"billing-tail: --token-file: {file} is empty")


if __name__ == "__main__":
    typer.run(command)


_app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
_app.command()(command)
COMMANDS = {"billing-tail": _app}
