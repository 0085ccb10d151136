"""Import and export jobs of a catalog service that runs in the test's process."""

import base64
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import grpc

from catalog.main import timer_handlers
from catalog.preview.job import Previews
from catalog.product.api import CatalogItems
from catalog.publication.guards import Guards
from catalog.transfer.domain import ATTEMPTS
from catalog.transfer.files import Folder
from chassis.clients import domain_error
from chassis.db import Database
from chassis.timers import Timers
from svyaz.catalog.v1 import transfer_pb2, transfer_pb2_grpc
from svyaz.type.v1 import requests_pb2, values_pb2

FINAL = (transfer_pb2.JOB_STATE_SUCCEEDED, transfer_pb2.JOB_STATE_FAILED)
SUCCEEDED, FAILED = FINAL


def timers(
    database: Database,
    items: CatalogItems,
    guards: Guards,
    directory: str = "",
    *,
    batch: int = 100,
    attempts: int = ATTEMPTS,
) -> Timers:
    """What carries jobs out."""
    handlers = timer_handlers(items, guards, Previews(database), Folder(directory), batch=batch, attempts=attempts)
    return Timers(database, handlers, service="catalog", workers=2)


def attachments(*files: Path | tuple[str, bytes]) -> list[values_pb2.Attachment]:
    """Files, or names with what they hold."""
    found = [(file.name, file.read_bytes()) if isinstance(file, Path) else file for file in files]
    return [values_pb2.Attachment(name=name, content=base64.b64encode(data).decode()) for name, data in found]


class Jobs:
    """Calls as somebody; a refusal is raised as the error that the service raised."""

    def __init__(self, channel: grpc.Channel, token: str) -> None:
        self._stub = transfer_pb2_grpc.TransferServiceStub(channel)
        self._metadata = (("authorization", f"Bearer {token}"),)

    def call(self, name: str, request: Any) -> Any:
        """Calls a method."""
        try:
            return getattr(self._stub, name)(request, metadata=self._metadata, timeout=60)
        except grpc.RpcError as error:
            raise domain_error(error) from error

    def create(self, job: transfer_pb2.ImportJob) -> transfer_pb2.ImportJob:
        """Creates an import."""
        made = self.call("CreateImportJob", transfer_pb2.CreateImportJobRequest(import_job=job))
        assert isinstance(made, transfer_pb2.ImportJob)
        return made

    def bring_in(self, *files: Path | tuple[str, bytes], **more: Any) -> transfer_pb2.ImportJob:
        """The ended job of an import of those files."""
        job = transfer_pb2.ImportJob(url="cid:files", attachment=attachments(*files), **more)
        return self.ended(self.create(job).id)

    def get(self, key: str) -> transfer_pb2.ImportJob:
        """The import as it is now."""
        found = self.call("GetImportJob", requests_pb2.GetRequest(id=key))
        assert isinstance(found, transfer_pb2.ImportJob)
        return found

    def ended(self, key: str, seconds: float = 60) -> transfer_pb2.ImportJob:
        """The import once it is over."""
        found = self.eventually(lambda: self.get(key), seconds)
        assert isinstance(found, transfer_pb2.ImportJob)
        return found

    @staticmethod
    def eventually(look: Callable[[], Any], seconds: float) -> Any:
        """The job once it is over."""
        deadline = time.monotonic() + seconds
        while (job := look()).status not in FINAL:
            assert time.monotonic() < deadline, job
            time.sleep(0.05)
        return job

    def findings(self, key: str, kind: Any = None) -> Sequence[transfer_pb2.ImportFinding]:
        """All of them."""
        found: list[transfer_pb2.ImportFinding] = []
        while True:
            after = found[-1].position if found else 0
            request = transfer_pb2.ListImportFindingsRequest(import_job_id=key, after=after, kind=kind)
            page = self.call("ListImportFindings", request).items
            found += page
            if not page:
                return found

    def export(self, **fields: Any) -> tuple[transfer_pb2.ExportJob, bytes]:
        """An ended export, and what it wrote."""
        job = transfer_pb2.ExportJob(**{"url": "cid:catalog.json", **fields})
        made = self.call("CreateExportJob", transfer_pb2.CreateExportJobRequest(export_job=job))
        ended = self.eventually(lambda: self.call("GetExportJob", requests_pb2.GetRequest(id=made.id)), 60)
        data = b""
        while ended.size > len(data):
            request = transfer_pb2.GetExportContentRequest(export_job_id=made.id, offset=len(data))
            data += self.call("GetExportContent", request).data
        return ended, data
