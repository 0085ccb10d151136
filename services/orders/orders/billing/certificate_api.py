"""Certificates of days over gRPC."""

import json
from datetime import date
from typing import Any

import grpc

from chassis.calls import current
from chassis.convert import to_timestamp
from chassis.db import Database
from chassis.errors import InvalidArgument, NotFound, PermissionDenied, Violation
from chassis.unit import Unit
from orders.billing import certificates
from orders.billing.certificate import Part
from orders.billing.certification import Certification
from orders.billing.domain import parse_day
from orders.billing.signing import SigningKey
from svyaz.orders.v1 import billing_pb2

MAX_CERTIFICATES, MAX_LINES = 100, 5_000


class CertificateMethods:
    """Reads what was signed, and has a day looked at again."""

    def __init__(self, database: Database, certification: Certification, key: SigningKey | None) -> None:
        self._certified = database
        self._certification = certification
        self._key = key

    def GetBillingDayCertificate(
        self, request: billing_pb2.GetBillingDayCertificateRequest, context: grpc.ServicerContext
    ) -> billing_pb2.BillingDayCertificate:
        """A certificate; raises NotFound."""
        day = day_of(request.branch, request.day)
        with self._certified.unit() as unit:
            return _found(unit, request.branch, day, request.revision)

    def ListBillingDayCertificates(
        self, request: billing_pb2.ListBillingDayCertificatesRequest, context: grpc.ServicerContext
    ) -> billing_pb2.ListBillingDayCertificatesResponse:
        """The latest revisions of a branch's days, the latest day first."""
        require_branch(request.branch)
        before = parse_day(request.before) if request.before else None
        limit = limit_of(request.limit, MAX_CERTIFICATES)
        with self._certified.unit() as unit:
            rows = certificates.of_branch(
                unit.session, request.branch, before, discrepant=request.discrepant, limit=limit
            )
        return billing_pb2.ListBillingDayCertificatesResponse(certificate=[_message(row) for row in rows])

    def ListBillingDayCertificateLines(
        self, request: billing_pb2.ListBillingDayCertificateLinesRequest, context: grpc.ServicerContext
    ) -> billing_pb2.ListBillingDayCertificateLinesResponse:
        """Lines of a certificate, in pages."""
        day = day_of(request.branch, request.day)
        if request.revision < 1 or request.part == billing_pb2.BILLING_CERTIFICATE_PART_UNSPECIFIED:
            raise InvalidArgument(
                "LINES_INVALID",
                "lines are those of a part of a revision",
                violations=[Violation("revision", "must be 1 or more"), Violation("part", "must be said")],
            )
        limit = limit_of(request.limit, MAX_LINES)
        with self._certified.unit() as unit:
            found = certificates.lines(
                unit.session,
                request.branch,
                day,
                request.revision,
                Part(request.part),
                after=request.after,
                limit=limit,
            )
        return billing_pb2.ListBillingDayCertificateLinesResponse(line=found)

    def CertifyBillingDay(
        self, request: billing_pb2.CertifyBillingDayRequest, context: grpc.ServicerContext
    ) -> billing_pb2.BillingDayCertificate:
        """Looks at a day that has ended again, now."""
        day = day_of(request.branch, request.day)

        def work(unit: Unit) -> billing_pb2.BillingDayCertificate:
            self._certification.certify(unit, request.branch, day, request.settled.strip())
            return _found(unit, request.branch, day, 0)

        return self._certified.transact(request, billing_pb2.BillingDayCertificate, work)

    def ListBillingKeys(
        self, request: billing_pb2.ListBillingKeysRequest, context: grpc.ServicerContext
    ) -> billing_pb2.BillingKeySet:
        """The public keys: that which signs now, and all that ever did."""
        with self._certified.unit() as unit:
            known = [json.loads(jwk) for jwk in certificates.keys(unit.session)]
        ours = dict(self._key.public) if self._key is not None else None
        if ours is not None and ours not in known:
            known.append(ours)
        return billing_pb2.BillingKeySet(keys=[billing_pb2.BillingKey(**jwk) for jwk in known])


def day_of(branch: str, text: str) -> date:
    """The day; raises InvalidArgument DAY_INVALID, BRANCH_REQUIRED, PermissionDenied BRANCH_FORBIDDEN."""
    day = parse_day(text)
    require_branch(branch)
    return day


def require_branch(branch: str) -> None:
    """Raises InvalidArgument BRANCH_REQUIRED, PermissionDenied BRANCH_FORBIDDEN."""
    if not branch:
        raise InvalidArgument(
            "BRANCH_REQUIRED",
            "a day is one of a branch: its zone says when it begins",
            violations=[Violation("branch", "is needed with a day")],
        )
    if not current().principal.may_see(branch):
        raise PermissionDenied("BRANCH_FORBIDDEN", f"the branch {branch!r} isn't yours")


def limit_of(asked: int, most: int) -> int:
    """How many make a page; raises InvalidArgument LIMIT_INVALID."""
    if asked < 0:
        raise InvalidArgument(
            "LIMIT_INVALID", "a page has rows", violations=[Violation("limit", "must not be negative")]
        )
    return min(asked or most, most)


def _found(unit: Unit, branch: str, day: date, revision: int) -> billing_pb2.BillingDayCertificate:
    row = certificates.latest(unit.session, branch, day, revision)
    if row is None:
        raise NotFound("NOT_FOUND", f"there is no certificate of {day} in {branch!r}, or not this revision")
    return _message(row)


def _message(row: Any) -> billing_pb2.BillingDayCertificate:
    return billing_pb2.BillingDayCertificate(
        branch=row.branch,
        day=row.day.isoformat(),
        revision=row.revision,
        made_at=to_timestamp(row.made_at),
        key_id=row.key_id,
        signed=row.signed,
        rows=row.rows,
        discrepancies=row.discrepancies,
        changes=row.changes,
        unsealed=row.unsealed,
        unsent=row.unsent,
        unacknowledged=row.unacknowledged,
    )
