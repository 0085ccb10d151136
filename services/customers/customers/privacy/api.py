"""What a person, or whoever serves him, can ask about his data."""

import hashlib
import tempfile
from collections.abc import Sequence
from datetime import timedelta
from typing import Any

from chassis.convert import from_timestamp, to_timestamp
from chassis.db import Database
from chassis.erasures import begin
from chassis.errors import InvalidArgument, NotFound, PermissionDenied, Violation
from chassis.resources import Collection, StandardMethods
from chassis.timers import set_timer
from chassis.types import new_id
from chassis.unit import Unit
from customers.privacy import accesses, archive, store
from customers.privacy import person as persons
from customers.privacy.accesses import Access
from customers.privacy.domain import Erasure
from customers.privacy.person import Person
from customers.privacy.store import Export
from svyaz.customers.v1 import privacy_pb2

USUAL, MOST = 100, 1000
# Of an archive in one answer, and how long it is kept.
PART_BYTES = 4 * 1024 * 1024
KEPT = timedelta(days=1)
# Of accesses in an archive.
_ALL = 1_000_000


class Privacy(StandardMethods):
    """Who has looked, everything that is kept, and that it goes."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._erasures = Collection(database, Erasure, privacy_pb2.Erasure)
        super().__init__(privacy_pb2.DESCRIPTOR.services_by_name["PrivacyService"], self._erasures)

    def ListAccesses(self, request: privacy_pb2.ListAccessesRequest, context: Any) -> privacy_pb2.ListAccessesResponse:
        """The latest first. Raises NotFound, InvalidArgument OUT_OF_RANGE."""
        limit = request.limit or USUAL
        if not 0 < limit <= MOST:
            raise InvalidArgument(
                "OUT_OF_RANGE", f"a limit is from 1 to {MOST}", violations=[Violation("limit", "out of range")]
            )
        with self._database.unit() as unit:
            person = persons.find(unit, request.id)
            before = from_timestamp(request.before) if request.HasField("before") else unit.at + timedelta(days=1)
            found = accesses.of_records(unit, _record_ids(unit, person), before, limit + 1)
        return privacy_pb2.ListAccessesResponse(access=map(_access, found[:limit]), more=len(found) > limit)

    def ExportPerson(self, request: privacy_pb2.ExportPersonRequest, context: Any) -> privacy_pb2.PersonExport:
        """An archive of everything; the same one when the request id comes again within a day. Raises NotFound."""
        with self._database.unit() as unit:
            principal = unit.call.principal
            own = f"{principal.subject} {principal.branch_setting} {request.id} {request.request_id}"
            # The answer isn't kept with the request id, as others are: it would outlive the archive.
            key = hashlib.sha256(own.encode()).hexdigest()[:32] if request.request_id else new_id()
            found = store.export_part(unit, key, 0, PART_BYTES)
            if found is not None:
                return _export(found)
            person = persons.find(unit, request.id)
            records = persons.records(unit, person)
            record_ids = sorted({record for _, record in records})
            looks = accesses.of_records(unit, record_ids, unit.at + timedelta(days=1), _ALL)
            with tempfile.SpooledTemporaryFile(max_size=PART_BYTES) as out:
                archive.write(out, unit, person, records, looks, by=principal.subject)
                out.seek(0)
                data = out.read()
            made = Export(
                id=key,
                branch=person.branch,
                party_id=person.id,
                created_at=unit.at,
                expires_at=unit.at + KEPT,
                sha256=hashlib.sha256(data).hexdigest(),
                size=len(data),
                offset=0,
                data=data,
            )
            store.keep_export(unit, made)
            unit.flush()
        return _export(made)

    def GetPersonExport(self, request: privacy_pb2.GetPersonExportRequest, context: Any) -> privacy_pb2.PersonExport:
        """A further part. Raises NotFound when the archive's day is over, InvalidArgument OUT_OF_RANGE."""
        if not 0 <= request.offset < 1 << 31:
            raise InvalidArgument("OUT_OF_RANGE", "no offset", violations=[Violation("offset", "out of range")])
        with self._database.unit() as unit:
            found = store.export_part(unit, request.id, request.offset, PART_BYTES)
        if found is None:
            raise NotFound("NOT_FOUND", f"there is no archive {request.id!r}", metadata={"resource": "PersonExport"})
        return _export(found)

    def ErasePerson(self, request: privacy_pb2.ErasePersonRequest, context: Any) -> privacy_pb2.Erasure:
        """Begins an erasure, which timers carry on; the one that is there when it is asked for again. Raises NotFound,
        InvalidArgument REQUIRED, FailedPrecondition STILL_NEEDED, PermissionDenied ROLE_REQUIRED."""

        def work(unit: Unit) -> privacy_pb2.Erasure:
            if request.force and "admin" not in unit.call.principal.roles:
                raise PermissionDenied("ROLE_REQUIRED", "only an admin may erase somebody who is still needed")
            person = persons.individual(unit, request.party_id)
            before = store.erasure_of(unit, person.id)
            if before is not None:
                return self._erasures.reply(unit, before)
            records = persons.records(unit, person)
            erasure = Erasure(
                id=new_id(),
                branch=person.branch,
                party_id=person.id,
                subject_id=person.subjects,
                reason=request.reason,
            )
            erasure.begin(persons.needs(unit, person, records), force=request.force, at=unit.at)
            unit.add(erasure)
            begin(unit, erasure.id, erasure.branch, records)
            set_timer(unit, erasure.id, store.ERASE, unit.at, erasure.branch)
            return self._erasures.reply(unit, erasure)

        return self._database.transact(request, privacy_pb2.Erasure, work)


def _record_ids(unit: Unit, person: Person) -> Sequence[str]:
    return sorted({*person.subjects, *(record for _, record in persons.records(unit, person))})


def _access(found: Access) -> privacy_pb2.Access:
    return privacy_pb2.Access(
        id=found.id,
        at=to_timestamp(found.at),
        actor=found.actor,
        purpose=found.purpose,
        method=found.method,
        record_id=found.record_id,
    )


def _export(found: Export) -> privacy_pb2.PersonExport:
    return privacy_pb2.PersonExport(
        id=found.id,
        branch=found.branch,
        party_id=found.party_id,
        created_at=to_timestamp(found.created_at),
        expires_at=to_timestamp(found.expires_at),
        size=found.size,
        sha256=found.sha256,
        offset=found.offset,
        data=found.data[:PART_BYTES],
    )
