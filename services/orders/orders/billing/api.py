"""The proof of completeness: what billing compares itself with, and where it fetches what it missed."""

from typing import Any

import grpc

from chassis import epochs
from chassis.calls import current
from chassis.convert import to_timestamp
from chassis.db import Database, Unit
from chassis.errors import InvalidArgument, PermissionDenied, Violation
from chassis.zones import BranchZones
from orders.billing import store
from orders.billing.domain import SOURCE, Certificate, parse_day
from svyaz.orders.v1 import billing_pb2
from svyaz.orders.v1.billing_pb2_grpc import BillingServiceServicer

MAX_EVENTS = 1_000
# Rows of a certificate, together: a fraction of what a gRPC message may have.
MAX_ROWS = 10_000


class Billing(BillingServiceServicer):
    """Reads the chains; nobody but the sealer makes them longer."""

    def __init__(self, database: Database, zones: BranchZones) -> None:
        self._database = database
        self._zones = zones

    def ListBillingEvents(
        self, request: billing_pb2.ListBillingEventsRequest, context: grpc.ServicerContext
    ) -> billing_pb2.ListBillingEventsResponse:
        """Sealed events of one chain, in sequence order, at most 1,000 at once."""
        first: int = getattr(request, "from")
        violations = []
        if not request.account:
            violations.append(Violation("account", "is missing"))
        if request.epoch < 1:
            violations.append(Violation("epoch", "must be 1 or more"))
        if first < 0:
            violations.append(Violation("from", "must not be negative"))
        if request.limit < 0:
            violations.append(Violation("limit", "must not be negative"))
        if violations:
            raise InvalidArgument("CHAIN_INVALID", "this names no part of a chain", violations=violations)
        limit = min(request.limit or MAX_EVENTS, MAX_EVENTS)
        with self._database.unit() as unit:
            rows = store.events(unit.session, request.account, request.epoch, first, limit)
        return billing_pb2.ListBillingEventsResponse(event=[_event(row) for row in rows])

    def GetBillingCertificate(
        self, request: billing_pb2.GetBillingCertificateRequest, context: grpc.ServicerContext
    ) -> billing_pb2.BillingCertificate:
        """How far the chains of an account have come; for a day, of every account with charges born on it, in pages."""
        if not request.day:
            return self._of_account(request.account)
        day = parse_day(request.day)
        if not request.branch:
            raise InvalidArgument(
                "BRANCH_REQUIRED",
                "a day is one of a branch: its zone says when it begins",
                violations=[Violation("branch", "is needed with a day")],
            )
        if not current().principal.may_see(request.branch):
            raise PermissionDenied("BRANCH_FORBIDDEN", f"the branch {request.branch!r} isn't yours")
        if request.limit < 0:
            raise InvalidArgument(
                "LIMIT_INVALID", "a page has rows", violations=[Violation("limit", "must not be negative")]
            )
        limit = min(request.limit or MAX_ROWS, MAX_ROWS)
        start, end = self._zones.bounds(request.branch, day)
        with self._database.unit() as unit:
            rows = store.day_certificates(
                unit.session,
                request.branch,
                start,
                end,
                account=request.account,
                after=_place(request.after),
                limit=limit + 1,
            )
        page = rows[:limit]
        return billing_pb2.BillingCertificate(
            source=SOURCE,
            day=request.day,
            branch=request.branch,
            time_zone=self._zones.zone(request.branch).key,
            as_of=to_timestamp(unit.at),
            row=[_row(row) for row in page],
            # An account has no blank in it.
            next=f"{page[-1].account} {page[-1].epoch}" if len(rows) > limit else "",
        )

    def _of_account(self, account: str) -> billing_pb2.BillingCertificate:
        if not account:
            raise InvalidArgument(
                "ACCOUNT_REQUIRED",
                "without a day a certificate is one of an account",
                violations=[Violation("account", "is needed without a day")],
            )
        with self._database.unit() as unit:
            rows = store.chain_certificates(unit.session, account)
        return billing_pb2.BillingCertificate(
            source=SOURCE, as_of=to_timestamp(unit.at), row=[_row(row) for row in rows]
        )

    def OpenBillingEpoch(
        self, request: billing_pb2.OpenBillingEpochRequest, context: grpc.ServicerContext
    ) -> billing_pb2.BillingEpoch:
        """After a restore: lets every chain, and the log, continue in the next epoch. Two at once: one is Aborted
        CONFLICT."""
        if not request.reason.strip():
            raise InvalidArgument(
                "REASON_REQUIRED", "say why", violations=[Violation("reason", "is needed: it stays in the books")]
            )

        if not current().principal.every_branch:
            raise PermissionDenied("EVERY_BRANCH_REQUIRED", "an epoch changes the chains of every branch")

        def work(unit: Unit) -> billing_pb2.BillingEpoch:
            number = epochs.open_next(unit.session, request.reason, unit.at)
            return billing_pb2.BillingEpoch(epoch=number, opened_at=to_timestamp(unit.at), reason=request.reason)

        return self._database.transact(request, billing_pb2.BillingEpoch, work)


def _place(after: str) -> tuple[str, int]:
    """Behind which account and epoch a page begins. Raises InvalidArgument PAGE_INVALID."""
    account, _, epoch = after.rpartition(" ")
    if not after:
        return "", 0
    if not account or not epoch.isdecimal() or len(epoch) > 9:
        raise InvalidArgument(
            "PAGE_INVALID", "this isn't where a page ended", violations=[Violation("after", "must be a `next`")]
        )
    return account, int(epoch)


def _event(row: Any) -> billing_pb2.BillingEvent:
    return billing_pb2.BillingEvent(
        id=row.event_id,
        type=row.type,
        source=SOURCE,
        account=row.account,
        epoch=row.epoch,
        sequence=row.sequence,
        previous_hash=row.previous_hash,
        hash=row.hash,
        data=row.data,
    )


def _row(certificate: Certificate) -> billing_pb2.BillingCertificateRow:
    return billing_pb2.BillingCertificateRow(
        account=certificate.account,
        epoch=certificate.epoch,
        count=certificate.count,
        first_sequence=certificate.first_sequence,
        last_sequence=certificate.last_sequence,
        last_hash=certificate.last_hash,
        unsealed=certificate.unsealed,
        unsent=certificate.unsent,
    )
