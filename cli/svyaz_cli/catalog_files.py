"""`svyaz import catalog` and `svyaz export-catalog`: files into the catalog and out of it, as jobs of its service.

The file goes with the job, which the service carries out by itself: who interrupts the command interrupts nothing else,
and sees how it has gone on by the job's id.
"""

import base64
import csv
import gzip
import hashlib
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from chassis import calls, clients
from chassis.auth import Principal
from chassis.errors import DomainError, ResourceExhausted, Unavailable
from svyaz.catalog.v1 import transfer_pb2, transfer_pb2_grpc
from svyaz.type.v1 import requests_pb2, values_pb2

# Exit statuses, beside typer's 2 for a wrong command line.
COMPLETE, FAILED, SOME_REFUSED = 0, 1, 3
FORMATS = {
    "tmforum": transfer_pb2.TRANSFER_FORMAT_TM_FORUM,
    "killbill": transfer_pb2.TRANSFER_FORMAT_KILL_BILL,
    "tariffs": transfer_pb2.TRANSFER_FORMAT_OPERATOR_TARIFFS,
}
_FINAL = (transfer_pb2.JOB_STATE_SUCCEEDED, transfer_pb2.JOB_STATE_FAILED)
_CALL_SECONDS = 120.0
_LOOK_SECONDS = 0.3
_REPORT_COLUMNS = ("place", "kind", "code", "element", "field", "reason")


@dataclass(frozen=True, kw_only=True)
class Service:
    """The catalog service, asked again while it is away; `patience` in seconds."""

    address: str
    # Asked again for each call, since tokens expire.
    token: Callable[[], str]
    patience: float = 60.0

    def call(self, name: str, request: Any) -> Any:
        """Raises DomainError."""
        channel = clients.channel(self.address)
        try:
            method = getattr(transfer_pb2_grpc.TransferServiceStub(channel), name)
            deadline = time.monotonic() + self.patience
            while True:
                principal = Principal("transfer", frozenset(), (), token=self.token())
                try:
                    with calls.using(calls.Call(principal, "transfer", time.monotonic() + _CALL_SECONDS)):
                        return clients.call(method, request)
                except (Unavailable, ResourceExhausted):
                    # A creation has a request id, so that its repetition is harmless.
                    if time.monotonic() >= deadline:
                        raise
                    time.sleep(_LOOK_SECONDS)
        finally:
            channel.close()


def import_catalog(
    service: Service, files: Sequence[Path], *, format: str, source: str, report: Path | None, out: Console
) -> int:
    """Brings the files in as one content; prints a summary. Returns an exit status; raises DomainError, OSError."""
    attachments = [_attachment(file) for file in files]
    job = transfer_pb2.ImportJob(url=f"cid:{files[0].name}", attachment=attachments)
    if format:
        job.format = FORMATS[format]
    if source:
        job.source = source
    request = transfer_pb2.CreateImportJobRequest(import_job=job, request_id=f"{time.time_ns()}-{_digest(attachments)}")
    made = service.call("CreateImportJob", request)
    ended = _watched(service, made)
    if report is not None:
        with report.open("w", encoding="utf-8", newline="") as stream:
            writer = csv.writer(stream)
            writer.writerow(_REPORT_COLUMNS)
            for finding in _findings(service, made.id):
                kind = transfer_pb2.FindingKind.Name(finding.kind).removeprefix("FINDING_KIND_").lower()
                writer.writerow((finding.place, kind, finding.code, finding.element, finding.field, finding.reason))
    return _tell(ended, out)


def _attachment(file: Path) -> values_pb2.Attachment:
    data = gzip.compress(file.read_bytes(), mtime=0)
    return values_pb2.Attachment(name=f"{file.name}.gz", content=base64.b64encode(data).decode())


def _digest(attachments: Sequence[values_pb2.Attachment]) -> str:
    return hashlib.sha256("".join(one.content for one in attachments).encode()).hexdigest()[:16]


def _watched(service: Service, job: Any) -> Any:
    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn()
    with Progress(*columns, console=Console(stderr=True)) as progress:
        task = progress.add_task(f"Job {job.id}", total=None)
        while job.status not in _FINAL:
            time.sleep(_LOOK_SECONDS)
            job = service.call("GetImportJob", requests_pb2.GetRequest(id=job.id))
            progress.update(task, total=job.total or None, completed=job.done)
    return job


def _findings(service: Service, job_id: str) -> Iterator[transfer_pb2.ImportFinding]:
    after = 0
    while True:
        request = transfer_pb2.ListImportFindingsRequest(import_job_id=job_id, after=after)
        items = service.call("ListImportFindings", request).items
        if not items:
            return
        yield from items
        after = items[-1].position


def _tell(job: Any, out: Console) -> int:
    if job.status == transfer_pb2.JOB_STATE_FAILED:
        out.print(f"Nothing was brought in: {job.error_log}", markup=False)
        return FAILED
    out.print(
        f"{job.created:,} created, {job.changed:,} changed, {job.unchanged:,} unchanged, {job.refused:,} refused;"
        f" {job.rules_resolved:,} rules resolved, {job.rules_reported:,} reported"
    )
    if job.refused:
        out.print(job.error_log, markup=False)
    return SOME_REFUSED if job.refused else COMPLETE


def export_catalog(service: Service, file: Path, *, path: str, query: str, out: Console) -> int:
    """Writes the catalog into the file, whole or not at all. Returns an exit status; raises DomainError, OSError."""
    job = transfer_pb2.ExportJob(url=f"cid:{file.name}")
    if path:
        job.path = path
    if query:
        job.query = query
    made = service.call("CreateExportJob", transfer_pb2.CreateExportJobRequest(export_job=job))
    while made.status not in _FINAL:
        time.sleep(_LOOK_SECONDS)
        made = service.call("GetExportJob", requests_pb2.GetRequest(id=made.id))
    if made.status == transfer_pb2.JOB_STATE_FAILED:
        out.print(f"Nothing was written: {made.error_log}", markup=False)
        return FAILED
    partial = file.with_name(f".{file.name}.partial")
    with partial.open("wb") as stream:
        while stream.tell() < made.size:
            request = transfer_pb2.GetExportContentRequest(export_job_id=made.id, offset=stream.tell())
            stream.write(service.call("GetExportContent", request).data)
    partial.replace(file)
    out.print(f"{made.done:,} things in {made.size:,} bytes: {file}")
    return COMPLETE


def run(work: Callable[[], int], out: Console) -> int:
    """The status of the work; a refusal is told."""
    try:
        return work()
    except DomainError as error:
        out.print(f"{error.reason}: {error.message}", markup=False)
        return FAILED
