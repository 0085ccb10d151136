"""The proof of completeness: what billing compares itself with, and where it fetches what it missed."""

from datetime import UTC, datetime, timedelta
from typing import Any

import grpc
from prometheus_client import Counter

from chassis import epochs, telemetry
from chassis.calls import current
from chassis.convert import to_timestamp
from chassis.db import Database
from chassis.errors import Aborted, FailedPrecondition, InvalidArgument, PermissionDenied, Violation
from chassis.schema import PARTITIONS
from chassis.unit import Unit
from chassis.zones import BranchZones
from orders.billing import acknowledgements, replay, store
from orders.billing.booking import AHEAD, BACK, HASH, Acknowledgement, check, news
from orders.billing.certificate_api import CertificateMethods, day_of, limit_of, require_branch
from orders.billing.certification import Certification
from orders.billing.credit_api import CreditMethods
from orders.billing.domain import SOURCE, Certificate, parse_day
from orders.billing.signing import SigningKey
from svyaz.customers.v1 import customers_pb2_grpc
from svyaz.orders.v1 import billing_pb2
from svyaz.orders.v1.billing_pb2_grpc import BillingServiceServicer

MAX_EVENTS = 1_000
# Rows of a certificate, together: a fraction of what a gRPC message may have.
MAX_ROWS = 10_000


_ATTEMPTS = 3
REFUSED = Counter(
    "svyaz_billing_acknowledgements_refused_total",
    "What billing can't have booked, or booked before",
    ["why"],
)


class Billing(CertificateMethods, CreditMethods, BillingServiceServicer):
    """Reads the chains, which nobody but the sealer makes longer, and takes what billing says of them."""

    def __init__(
        self,
        database: Database,
        zones: BranchZones,
        certification: Certification,
        key: SigningKey | None,
        customers: customers_pb2_grpc.CustomerServiceStub,
    ) -> None:
        CertificateMethods.__init__(self, database, certification, key)
        CreditMethods.__init__(self, database, customers)
        telemetry.begin_at_zero(REFUSED, (AHEAD, HASH, BACK))
        self._database = database
        self._zones = zones

    def ListBillingEvents(
        self, request: billing_pb2.ListBillingEventsRequest, context: grpc.ServicerContext
    ) -> billing_pb2.ListBillingEventsResponse:
        """Sealed events of one chain, of a day or of a partition, at most 1,000 at once."""
        if request.HasField("partition"):
            return self._of_partition(request, limit_of(request.limit, MAX_EVENTS))
        if request.day:
            return self._of_day(request, limit_of(request.limit, MAX_EVENTS))
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
        limit = limit_of(request.limit, MAX_EVENTS)
        with self._database.unit() as unit:
            rows = store.events(unit.session, request.account, request.epoch, first, limit)
        return billing_pb2.ListBillingEventsResponse(event=[_event(row) for row in rows])

    def _of_day(
        self, request: billing_pb2.ListBillingEventsRequest, limit: int
    ) -> billing_pb2.ListBillingEventsResponse:
        day = day_of(request.branch, request.day)
        start, end = self._zones.bounds(request.branch, day)
        with self._database.unit() as unit:
            rows = replay.of_day(unit.session, request.branch, start, end, _moment(request.after), limit + 1)
        page = rows[:limit]
        following = f"{page[-1].occurred_at.isoformat()} {page[-1].id}" if len(rows) > limit else ""
        return billing_pb2.ListBillingEventsResponse(event=[_event(row) for row in page], next=following)

    def _of_partition(
        self, request: billing_pb2.ListBillingEventsRequest, limit: int
    ) -> billing_pb2.ListBillingEventsResponse:
        if not 0 <= request.partition < PARTITIONS:
            wrong = Violation("partition", f"must be 0 to {PARTITIONS - 1}")
            raise InvalidArgument("CHAIN_INVALID", "there is no such partition", violations=[wrong])
        after = _number(request.after)
        with self._database.unit() as unit:
            rows = replay.of_partition(unit.session, request.partition, after, limit)
        following = str(rows[-1].position if rows else after)
        return billing_pb2.ListBillingEventsResponse(event=[_event(row) for row in rows], next=following)

    def ListBillingHeads(
        self, request: billing_pb2.ListBillingHeadsRequest, context: grpc.ServicerContext
    ) -> billing_pb2.ListBillingHeadsResponse:
        """How far those chains have come that have grown since."""
        if request.settled_seconds < 0:
            wrong = Violation("settled_seconds", "must not be negative")
            raise InvalidArgument("HEADS_INVALID", "nothing was sent in the future", violations=[wrong])
        after = [_number(part) for part in request.after.split(".")] if request.after else [0] * PARTITIONS
        if len(after) != PARTITIONS:
            raise _no_page()
        with self._database.unit() as unit:
            found = replay.heads(unit.session, after, unit.at - timedelta(seconds=request.settled_seconds))
        return billing_pb2.ListBillingHeadsResponse(
            head=[
                billing_pb2.BillingHead(account=account, epoch=epoch, sequence=sequence, hash=digest)
                for account, epoch, sequence, digest in found.heads
            ],
            next=".".join(map(str, found.next)),
            more=found.more,
        )

    def ListBillingChains(
        self, request: billing_pb2.ListBillingChainsRequest, context: grpc.ServicerContext
    ) -> billing_pb2.ListBillingChainsResponse:
        """Chains with what billing has acknowledged of each."""
        limit = limit_of(request.limit, MAX_EVENTS)
        with self._database.unit() as unit:
            rows = acknowledgements.chains(
                unit.session,
                account=request.account,
                unacknowledged=request.unacknowledged,
                after=_place(request.after),
                limit=limit + 1,
            )
        page = rows[:limit]
        return billing_pb2.ListBillingChainsResponse(
            chain=[_chain(row) for row in page],
            next=f"{page[-1].account} {page[-1].epoch}" if len(rows) > limit else "",
        )

    def AcknowledgeBillingEvents(
        self, request: billing_pb2.AcknowledgeBillingEventsRequest, context: grpc.ServicerContext
    ) -> billing_pb2.AcknowledgeBillingEventsResponse:
        """Remembers up to where billing has booked each chain; all of it, or nothing."""
        said = [Acknowledgement(one.account, one.epoch, one.sequence, one.hash) for one in request.acknowledgement]
        check(said)
        reason = request.reason.strip()

        def work(unit: Unit) -> billing_pb2.AcknowledgeBillingEventsResponse:
            new = news(said, acknowledgements.known(unit.session, said), reason)
            acknowledgements.keep(unit, new, by=unit.call.principal.subject, reason=reason)
            return billing_pb2.AcknowledgeBillingEventsResponse(changed=len(new))

        for attempt in range(_ATTEMPTS):
            try:
                return self._database.transact(request, billing_pb2.AcknowledgeBillingEventsResponse, work)
            except FailedPrecondition as refusal:
                for why, count in refusal.metadata.items():
                    REFUSED.labels(why).inc(int(count))
                raise
            except Aborted:
                # Somebody acknowledges the same: what he said is looked at then.
                if attempt == _ATTEMPTS - 1:
                    raise
        raise AssertionError("unreachable")

    def GetBillingCertificate(
        self, request: billing_pb2.GetBillingCertificateRequest, context: grpc.ServicerContext
    ) -> billing_pb2.BillingCertificate:
        """How far the chains of an account have come; for a day, of every account with charges born on it, in pages."""
        if not request.day:
            return self._of_account(request.account)
        day = parse_day(request.day)
        require_branch(request.branch)
        limit = limit_of(request.limit, MAX_ROWS)
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


def _no_page() -> InvalidArgument:
    wrong = Violation("after", "must be a `next`")
    return InvalidArgument("PAGE_INVALID", "this isn't where a page ended", violations=[wrong])


def _number(text: str) -> int:
    """Raises InvalidArgument PAGE_INVALID."""
    if text and not (text.isascii() and text.isdecimal() and len(text) < 19):
        raise _no_page()
    return int(text or 0)


def _moment(after: str) -> tuple[datetime, int]:
    """Behind which instant and row a page of a day begins. Raises InvalidArgument PAGE_INVALID."""
    if not after:
        return datetime.min.replace(tzinfo=UTC), 0
    instant, _, number = after.partition(" ")
    try:
        at = datetime.fromisoformat(instant)
    except ValueError:
        raise _no_page() from None
    if at.tzinfo is None:
        raise _no_page()
    return at, _number(number)


def _place(after: str) -> tuple[str, int]:
    """Behind which account and epoch a page begins. Raises InvalidArgument PAGE_INVALID."""
    account, _, epoch = after.rpartition(" ")
    if not after:
        return "", 0
    if not account or not epoch.isdecimal() or len(epoch) > 9:
        raise _no_page()
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
        unacknowledged=certificate.unacknowledged,
    )


def _chain(row: Any) -> billing_pb2.BillingChain:
    return billing_pb2.BillingChain(
        account=row.account,
        epoch=row.epoch,
        branch=row.branch,
        last_sequence=row.last_sequence,
        last_hash=row.last_hash,
        acknowledged_sequence=row.sequence,
        acknowledged_hash=row.hash,
        acknowledged_at=to_timestamp(row.at) if row.at is not None else None,
        acknowledged_by=row.by,
        went_back_at=to_timestamp(row.went_back_at) if row.went_back_at is not None else None,
        went_back_reason=row.went_back_reason,
    )
