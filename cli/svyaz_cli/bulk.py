"""`svyaz bulk`: mass sales. A file or a segment becomes orders by itself; the command sends the rows and looks on, and
whoever interrupts it interrupts nothing else."""

import base64
import hashlib
import os
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import typer
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from chassis import calls, clients, convert
from chassis.auth import Principal
from chassis.errors import Aborted, DeadlineExceeded, DomainError, ResourceExhausted, Unavailable
from svyaz.orders.v1 import bulk_pb2, bulk_pb2_grpc
from svyaz.type.v1 import requests_pb2
from svyaz_cli.home import Home
from svyaz_cli.services import SERVICES, port_base

# Exit statuses, beside typer's 2 for a wrong command line.
COMPLETE, FAILED, SOME_REFUSED, STOPPED = 0, 1, 3, 4
PART_BYTES = 1024 * 1024
_CALL_SECONDS = 120.0
_LOOK_SECONDS = 0.5
_RUNNING = (bulk_pb2.BULK_ORDER_STATE_RECEIVING, bulk_pb2.BULK_ORDER_STATE_IN_PROGRESS)
_STOPPED = (bulk_pb2.BULK_ORDER_STATE_PAUSED, bulk_pb2.BULK_ORDER_STATE_CANCELLED)


@dataclass(frozen=True, kw_only=True)
class Service:
    """The orders service, asked again while it is away; `patience` in seconds."""

    address: str
    # Asked again for each call, since tokens expire.
    token: Callable[[], str]
    patience: float = 60.0

    def call(self, name: str, request: Any) -> Any:
        """Raises DomainError."""
        channel = clients.channel(self.address)
        try:
            method = getattr(bulk_pb2_grpc.BulkOrderServiceStub(channel), name)
            deadline = time.monotonic() + self.patience
            while True:
                principal = Principal("bulk", frozenset(), (), token=self.token())
                try:
                    with calls.using(calls.Call(principal, "bulk", time.monotonic() + _CALL_SECONDS)):
                        return clients.call(method, request)
                except (Unavailable, ResourceExhausted, DeadlineExceeded, Aborted):
                    # Parts say where they belong, other changes have a request id: repeating them is harmless.
                    if time.monotonic() >= deadline:
                        raise
                    time.sleep(_LOOK_SECONDS)
        finally:
            channel.close()

    def job(self, id: str) -> bulk_pb2.BulkOrder:
        """How far a mass sale is. Raises DomainError."""
        found: bulk_pb2.BulkOrder = self.call("GetBulkOrder", requests_pb2.GetRequest(id=id))
        return found


def send(service: Service, job: bulk_pb2.BulkOrder, file: Path) -> bulk_pb2.BulkOrder:
    """Sends what the job hasn't of the file yet; holds no more of it than a part. Raises DomainError, OSError."""
    size = file.stat().st_size
    columns = TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TimeElapsedColumn()
    with file.open("rb") as stream, Progress(*columns, console=Console(stderr=True)) as progress:
        task = progress.add_task(f"Sending {file.name}", total=size)
        while job.state == bulk_pb2.BULK_ORDER_STATE_RECEIVING:
            offset = job.progress.received_bytes
            stream.seek(offset)
            data = stream.read(PART_BYTES)
            job = service.call(
                "UploadBulkOrderRows",
                bulk_pb2.UploadBulkOrderRowsRequest(
                    id=job.id,
                    offset=offset,
                    content=base64.b64encode(data).decode(),
                    sha256=hashlib.sha256(data).hexdigest(),
                    # By what there is of it now: a file that has become shorter ends, too.
                    last=stream.tell() >= os.fstat(stream.fileno()).st_size,
                ),
            )
            progress.update(task, completed=job.progress.received_bytes)
    return job


def watch(service: Service, id: str) -> bulk_pb2.BulkOrder:
    """The job once it doesn't go on by itself any more. Raises DomainError."""
    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn()
    with Progress(*columns, console=Console(stderr=True)) as progress:
        task = progress.add_task(f"Bulk order {id}", total=None)
        while True:
            job = service.job(id)
            done = job.progress
            told = f"Bulk order {id}: {done.ordered:,} ordered, {done.refused:,} refused"
            progress.update(task, description=told, total=done.total or None, completed=done.dealt)
            if job.state not in _RUNNING:
                return job
            time.sleep(_LOOK_SECONDS)


def report_lines(service: Service, id: str) -> Iterator[str]:
    """The report, part by part. Raises DomainError."""
    after = 0
    while True:
        part = service.call("GetBulkOrderReport", bulk_pb2.GetBulkOrderReportRequest(id=id, after=after))
        yield part.text
        if not part.HasField("next_after"):
            return
        after = part.next_after


def tell(job: bulk_pb2.BulkOrder, out: Console) -> int:
    """Prints how far a job is; an exit status."""
    state = bulk_pb2.BulkOrderState.Name(job.state).removeprefix("BULK_ORDER_STATE_").lower()
    done = job.progress
    out.print(
        f"{job.id} {state}: {done.total:,} rows, {done.dealt:,} dealt with, {done.valid:,} valid,"
        f" {done.ordered:,} ordered, {done.refused:,} refused",
        markup=False,
    )
    for one in done.total_price:
        amount = convert.from_money(one.price.tax_included_amount)
        what = " ".join(filter(None, (one.price_type, one.recurring_charge_period)))
        out.print(f"  {what}: {amount.value:,} {amount.unit}", markup=False)
    if job.status_reason:
        out.print(f"  {job.status_reason}", markup=False)
    return SOME_REFUSED if done.refused else COMPLETE


def outcome(job: bulk_pb2.BulkOrder, out: Console) -> int:
    """Prints how far a job is that doesn't go on by itself; an exit status."""
    told = tell(job, out)
    return STOPPED if job.state in _STOPPED else told


app = typer.Typer(no_args_is_help=True, help="Mass sales: rows of a file, or a segment, become an order each.")
COMMANDS = {"bulk": app}

_ADDRESS = typer.Option("", envvar="ORDERS_ADDRESS", help="The orders service; the local one.")
_TOKEN = typer.Option("", envvar="SVYAZ_TOKEN", help="A token of an admin; one of the development issuer.")


def _service(address: str, token: str, branch: str = "*") -> Service:
    def development() -> str:
        return Home.from_environment().issuer().token(["admin"], [branch], seconds=300, subject="bulk")

    local = f"127.0.0.1:{port_base() + {s.name: s.offset for s in SERVICES}['orders']}"
    return Service(address=address or local, token=(lambda: token) if token else development)


def _run(work: Callable[[Console], int]) -> None:
    # A line is a line, whoever reads it.
    out = Console(highlight=False, soft_wrap=True)
    try:
        status = work(out)
    except (OSError, UnicodeDecodeError) as error:
        out.print(str(error), markup=False)
        status = FAILED
    except DomainError as error:
        out.print(f"{error.reason}: {error.message}", markup=False)
        for violation in error.violations:
            out.print(f"  {violation.field}: {violation.description}", markup=False)
        status = FAILED
    raise typer.Exit(status)


def _create(service: Service, branch: str, job: bulk_pb2.BulkOrder) -> bulk_pb2.BulkOrder:
    request = bulk_pb2.CreateBulkOrderRequest(branch=branch, bulk_order=job, request_id=str(uuid.uuid4()))
    made: bulk_pb2.BulkOrder = service.call("CreateBulkOrder", request)
    return made


@app.command("create")
def create(
    file: Path = typer.Argument(help="CSV with a header, or JSON lines (.jsonl).", exists=True, dir_okay=False),
    template: Path = typer.Option(help="The order: TMF622 JSON with {column} in its texts.", exists=True),
    branch: str = typer.Option(help="The branch that the orders belong to."),
    rate: int = typer.Option(0, help="Orders per second; 20."),
    most_refused: int = typer.Option(0, help="Pause when more rows are refused."),
    most_refused_percent: int = typer.Option(0, help="Pause when more per cent of the rows are refused."),
    delimiter: str = typer.Option("", help="Of CSV; a comma."),
    again: bool = typer.Option(False, help="Although the same file has been ordered."),
    job: str = typer.Option("", help="Go on sending to this job."),
    address: str = _ADDRESS,
    token: str = _TOKEN,
) -> None:
    """Send the rows; nothing is ordered before `svyaz bulk start`. Interrupted, it goes on with --job."""
    service = _service(address, token, branch)

    def work(out: Console) -> int:
        lines = file.suffix in (".jsonl", ".ndjson")
        wanted = bulk_pb2.BulkOrder(
            name=file.name,
            template=template.read_text(encoding="utf-8"),
            format=bulk_pb2.BULK_ORDER_FORMAT_JSON_LINES if lines else bulk_pb2.BULK_ORDER_FORMAT_CSV,
            delimiter=delimiter or None,
            orders_per_second=rate or None,
            most_refused=most_refused or None,
            most_refused_percent=most_refused_percent or None,
            allow_repetition=again or None,
        )
        made = service.job(job) if job else _create(service, branch, wanted)
        out.print(made.id, markup=False)
        return tell(send(service, made, file), out)

    _run(work)


@app.command("segment")
def segment(
    template: Path = typer.Option(help="The order: TMF622 JSON with {productId}, {customerId} … in it.", exists=True),
    branch: str = typer.Option(help="The branch whose products are looked through."),
    offering: list[str] = typer.Option(help="Holders of this offering; may be repeated."),
    once: bool = typer.Option(False, help="One order for a customer."),
    rate: int = typer.Option(0, help="Orders per second; 20."),
    address: str = _ADDRESS,
    token: str = _TOKEN,
) -> None:
    """Find who holds an offering; nothing is ordered before `svyaz bulk start`."""
    service = _service(address, token, branch)

    def work(out: Console) -> int:
        wanted = bulk_pb2.BulkOrder(
            template=template.read_text(encoding="utf-8"),
            segment=bulk_pb2.BulkOrderSegment(product_offering=offering, once_per_customer=once or None),
            orders_per_second=rate or None,
        )
        return outcome(watch(service, _create(service, branch, wanted).id), out)

    _run(work)


@app.command("start")
def start(
    id: str,
    dry_run: bool = typer.Option(False, help="Only check and price the rows."),
    address: str = _ADDRESS,
    token: str = _TOKEN,
) -> None:
    """Begin, and look on until it is done. Exit status: 0 all rows, 3 some were refused, 4 it was paused or
    cancelled before it had dealt with all, 1 it couldn't begin."""
    service = _service(address, token)

    def work(out: Console) -> int:
        request = bulk_pb2.StartBulkOrderRequest(id=id, dry_run=dry_run, request_id=str(uuid.uuid4()))
        service.call("StartBulkOrder", request)
        return outcome(watch(service, id), out)

    _run(work)


@app.command("show")
def show(id: str, address: str = _ADDRESS, token: str = _TOKEN) -> None:
    """How far it is."""
    service = _service(address, token)
    _run(lambda out: tell(service.job(id), out))


def _verb(name: str, method: str, help: str) -> None:
    def command(id: str, address: str = _ADDRESS, token: str = _TOKEN) -> None:
        service = _service(address, token)
        request = bulk_pb2.BulkOrderRequest(id=id, request_id=str(uuid.uuid4()))
        _run(lambda out: tell(service.call(method, request), out))

    app.command(name, help=help)(command)


_verb("pause", "PauseBulkOrder", "Take no further order until it is resumed.")
_verb("resume", "ResumeBulkOrder", "Go on.")
_verb("cancel", "CancelBulkOrder", "Take no further order, for good.")


@app.command("rate")
def rate(id: str, orders_per_second: int, address: str = _ADDRESS, token: str = _TOKEN) -> None:
    """Order so fast from now on."""
    service = _service(address, token)
    request = bulk_pb2.SetBulkOrderLimitsRequest(
        id=id, orders_per_second=orders_per_second, request_id=str(uuid.uuid4())
    )
    _run(lambda out: tell(service.call("SetBulkOrderLimits", request), out))


@app.command("report")
def report(
    id: str,
    file: Path = typer.Argument(help="The CSV file to write.", dir_okay=False),
    address: str = _ADDRESS,
    token: str = _TOKEN,
) -> None:
    """Write what has become of each row: line, state, order, field, reason."""
    service = _service(address, token)

    def work(out: Console) -> int:
        partial = file.with_name(f".{file.name}.partial")
        with partial.open("w", encoding="utf-8", newline="") as stream:
            for text in report_lines(service, id):
                stream.write(text)
        partial.replace(file)
        return tell(service.job(id), out)

    _run(work)
