"""What can be asked of jobs: TMF620's importJob and exportJob, what an import found, and what an export wrote."""

import base64
import binascii
from dataclasses import replace
from decimal import Decimal
from typing import Any

from catalog.transfer import exports, store
from catalog.transfer.domain import ATTACHED, ExportJob, File, Finding, FindingKind, ImportJob
from catalog.transfer.exports import EXPORT
from catalog.transfer.imports import IMPORT
from chassis.db import Database
from chassis.errors import InvalidArgument, Violation
from chassis.resources import Collection, StandardMethods
from chassis.timers import cancel_timer, set_timer
from chassis.types import Attachment, Quantity
from chassis.unit import Unit, missing
from svyaz.catalog.v1 import transfer_pb2

_PIECE = 4 * 1024 * 1024
_FINDINGS = 1_000
_ADMIN = "admin"
_KINDS = {
    transfer_pb2.FINDING_KIND_REFUSED: FindingKind.REFUSED,
    transfer_pb2.FINDING_KIND_REPORTED: FindingKind.REPORTED,
}
_NUMBERS = {kind: number for number, kind in _KINDS.items()}


def _creating_import(unit: Unit, job: ImportJob) -> None:
    principal = unit.call.principal
    job.begin_for(principal.subject, admin=_ADMIN in principal.roles)
    files = [_file(attachment, index) for index, attachment in enumerate(job.attachment)]
    if (job.url or "").startswith(ATTACHED) and not files:
        raise InvalidArgument(
            "REQUIRED", "the URL names an attachment", violations=[Violation("attachment", "required")]
        )
    job.attachment = tuple(
        replace(attachment, content=None, size=Quantity(amount=Decimal(len(file.data)), units="byte"))
        for attachment, file in zip(job.attachment, files, strict=True)
    )
    store.keep_content(unit, job.id, files)
    set_timer(unit, job.id, IMPORT, unit.at, job.branch)


def _file(attachment: Attachment, index: int) -> File:
    """The attachment as it came: the job unpacks it, where it holds nobody up."""
    path = f"attachment[{index}].content"
    try:
        data = base64.b64decode(attachment.content or "", validate=True)
    except binascii.Error as error:
        reason = "isn't base64"
        raise InvalidArgument("BAD_ATTRIBUTE", f"{path} {reason}", violations=[Violation(path, reason)]) from error
    if not data:
        raise InvalidArgument("REQUIRED", f"{path} is empty", violations=[Violation(path, "required")])
    return File(attachment.name or f"attachment-{index + 1}", data)


def _creating_export(unit: Unit, job: ExportJob) -> None:
    exports.check(job)
    job.requested_by = unit.call.principal.subject
    set_timer(unit, job.id, EXPORT, unit.at, job.branch)


def _deleting(purpose: str) -> Any:
    def delete(unit: Unit, job: ImportJob | ExportJob) -> None:
        job.check_deletable()
        store.forget(unit, job.id)
        cancel_timer(unit, job.id, purpose)

    return delete


class Transfers(StandardMethods):
    """Import and export jobs."""

    def __init__(self, database: Database) -> None:
        self._database = database
        super().__init__(
            transfer_pb2.DESCRIPTOR.services_by_name["TransferService"],
            Collection(
                database,
                ImportJob,
                transfer_pb2.ImportJob,
                creating=_creating_import,
                deleting=_deleting(IMPORT),
            ),
            Collection(
                database,
                ExportJob,
                transfer_pb2.ExportJob,
                creating=_creating_export,
                deleting=_deleting(EXPORT),
            ),
        )

    def ListImportFindings(
        self, request: transfer_pb2.ListImportFindingsRequest, context: Any
    ) -> transfer_pb2.ListImportFindingsResponse:
        """What the import has to say, in the order of its content; raises NotFound."""
        limit = min(request.limit, _FINDINGS) if request.limit > 0 else _FINDINGS
        with self._database.unit() as unit:
            unit.get(ImportJob, request.import_job_id)
            found = store.findings(unit, request.import_job_id, _KINDS.get(request.kind), request.after, limit)
            counts = store.finding_counts(unit, request.import_job_id)
        return transfer_pb2.ListImportFindingsResponse(
            items=[_message(position, finding) for position, finding in found], count=counts
        )

    def GetExportContent(
        self, request: transfer_pb2.GetExportContentRequest, context: Any
    ) -> transfer_pb2.ExportContent:
        """A piece of what the export has written; raises NotFound, also while it hasn't."""
        with self._database.unit() as unit:
            job = unit.get(ExportJob, request.export_job_id)
            if job.size is None:
                raise missing(ExportJob, f"{job.id} (its content)")
            data = store.piece(unit, job.id, max(0, request.offset), _PIECE)
        return transfer_pb2.ExportContent(data=data, size=job.size)


def _message(position: int, finding: Finding) -> transfer_pb2.ImportFinding:
    return transfer_pb2.ImportFinding(
        position=position,
        kind=_NUMBERS[finding.kind],
        code=finding.code,
        place=finding.place,
        element=finding.element,
        field=finding.field,
        reason=finding.reason,
    )
