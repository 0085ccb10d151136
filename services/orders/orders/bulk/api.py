"""What can be asked of bulk orders."""

import base64
import binascii
import csv
import hashlib
import io
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from chassis import queries
from chassis.convert import enum_prefix, to_message
from chassis.db import Database
from chassis.errors import FailedPrecondition, InvalidArgument, Violation
from chassis.resources import Collection, StandardMethods
from chassis.timers import cancel_timer, set_timer
from chassis.unit import Unit
from orders.bulk import incoming, store
from orders.bulk.domain import BulkOrder
from orders.bulk.reading import read
from orders.bulk.steps import COLLECT, FORGET, KEPT, go_on
from orders.bulk.template import parse
from orders.bulk.values import BulkOrderFormat, BulkOrderRowState, BulkOrderState
from orders.inventory.store import product
from svyaz.orders.v1 import bulk_pb2, inventory_pb2, orders_pb2

MOST_BYTES = 1024 * 1024
MOST_ROWS = 1_000
LIMITS = ("orders_per_second", "most_refused", "most_refused_percent")
_PREFIX = enum_prefix(bulk_pb2.BulkOrderRowState.DESCRIPTOR)
_COLUMNS = ("line", "state", "productOrder", "orderState", "field", "reason")


def _replies(unit: Unit, jobs: Sequence[BulkOrder]) -> Sequence[bulk_pb2.BulkOrder]:
    # One that has just been made has nothing yet, and its unit has looked at nothing.
    ids = [one.id for one in jobs if not unit.adds(one)]
    known = store.progress(unit, ids) if ids else {}
    sums = store.totals(unit, ids) if ids else {}
    messages = []
    for job in jobs:
        message = to_message(job, bulk_pb2.BulkOrder)
        row = known.get(job.id)
        if row is not None:
            for name in ("total", "dealt", "valid", "refused", "ordered"):
                setattr(message.progress, name, getattr(row, name))
            message.progress.received_bytes = row.received
            message.progress.total_price.extend(to_message(one, orders_pb2.OrderPrice) for one in sums.get(job.id, ()))
        messages.append(message)
    return messages


def _creating(unit: Unit, job: BulkOrder) -> None:
    job.requested_by = unit.call.principal.subject
    incoming.begin(unit, job)
    set_timer(unit, job.id, FORGET, unit.at + KEPT, job.branch)
    if job.segment is not None:
        try:
            queries.conditions(product, inventory_pb2.Product, incoming.filters(job))
        except ValueError as error:
            violations = [Violation("segment.filter.operator", "eq, ne, gt, gte, lt, lte or regex")]
            raise InvalidArgument("BAD_FILTER", "an operator is unknown", violations=violations) from error
        set_timer(unit, job.id, COLLECT, unit.at, job.branch)


def _deleting(unit: Unit, job: BulkOrder) -> None:
    job.require_deletable()
    store.forget(unit, job)
    for purpose in (FORGET, COLLECT):
        cancel_timer(unit, job.id, purpose)


class BulkOrders(StandardMethods):
    """Mass sales."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._jobs = Collection(
            database, BulkOrder, bulk_pb2.BulkOrder, creating=_creating, deleting=_deleting, replies=_replies
        )
        super().__init__(bulk_pb2.DESCRIPTOR.services_by_name["BulkOrderService"], self._jobs)

    def UploadBulkOrderRows(self, request: bulk_pb2.UploadBulkOrderRowsRequest, context: Any) -> bulk_pb2.BulkOrder:
        """Reads the next part of a file; one that has been read already changes nothing."""
        data = _data(request)

        def work(unit: Unit) -> bulk_pb2.BulkOrder:
            # First of all: who sends, cancels or deletes at the same time has done so before the job is looked at.
            before = incoming.intake(unit, request.id)
            job = unit.get(BulkOrder, request.id)
            if job.segment is not None:
                raise FailedPrecondition("BAD_TRANSITION", "a segment finds its rows by itself")
            here = before.offset
            if request.offset != here or job.state is not BulkOrderState.RECEIVING:
                if request.offset + len(data) <= here:
                    return self._jobs.reply(unit, job)
                if job.state is not BulkOrderState.RECEIVING:
                    raise FailedPrecondition("BAD_TRANSITION", "the file has ended already")
                raise FailedPrecondition(
                    "WRONG_OFFSET",
                    f"the next part begins at {here}",
                    violations=[Violation("offset", f"isn't {here}")],
                    metadata={"offset": str(here)},
                )
            template = parse(job.template or "")
            written = job.format or BulkOrderFormat.CSV
            after, records = read(before, data, written, job.delimiter or ",", last=request.last)
            unknown = sorted(template.columns - set(after.header)) if after.header else []
            if unknown:
                named = ", ".join(unknown)
                raise InvalidArgument(
                    "UNKNOWN_COLUMN",
                    f"the template names columns that the file hasn't: {named}",
                    violations=[Violation("content", f"no column {name!r}") for name in unknown],
                )
            incoming.take_in(unit, job, after, records, template.customer_columns)
            if request.last:
                job.received(after.hash, unit.at)
                _require_new(unit, job)
            return self._jobs.reply(unit, job)

        return self._database.transact(request, bulk_pb2.BulkOrder, work)

    def StartBulkOrder(self, request: bulk_pb2.StartBulkOrderRequest, context: Any) -> bulk_pb2.BulkOrder:
        """Begins a run; raises FailedPrecondition BAD_TRANSITION."""

        def start(unit: Unit, job: BulkOrder) -> None:
            standing = store.standing(unit, job.id)
            ordered = standing is not None and standing.ordered > 0
            job.start(unit.at, dry_run=request.dry_run, ordered=ordered)
            store.begin_run(unit, job, ordered=ordered)

        return self._change(request, start)

    def PauseBulkOrder(self, request: bulk_pb2.BulkOrderRequest, context: Any) -> bulk_pb2.BulkOrder:
        """Takes no further order; raises FailedPrecondition BAD_TRANSITION."""

        def pause(unit: Unit, job: BulkOrder) -> None:
            job.move(BulkOrderState.PAUSED, unit.at, f"paused by {unit.call.principal.subject}")

        return self._change(request, pause)

    def ResumeBulkOrder(self, request: bulk_pb2.BulkOrderRequest, context: Any) -> bulk_pb2.BulkOrder:
        """Goes on; raises FailedPrecondition BAD_TRANSITION."""

        def resume(unit: Unit, job: BulkOrder) -> None:
            job.resume(unit.at)
            store.resume(unit, job)

        return self._change(request, resume)

    def CancelBulkOrder(self, request: bulk_pb2.BulkOrderRequest, context: Any) -> bulk_pb2.BulkOrder:
        """Ends it; raises FailedPrecondition BAD_TRANSITION."""
        return self._change(request, lambda unit, job: job.cancel(unit.at))

    def SetBulkOrderLimits(self, request: bulk_pb2.SetBulkOrderLimitsRequest, context: Any) -> bulk_pb2.BulkOrder:
        """Other limits; raises InvalidArgument OUT_OF_RANGE."""
        # All of them are optional: what is listed was stated.
        stated = {field.name: value for field, value in request.ListFields()}
        wanted: Mapping[str, int] = {name: stated[name] for name in LIMITS if name in stated}
        return self._change(request, lambda unit, job: job.limit(wanted))

    def _change(self, request: Any, change: Callable[[Unit, BulkOrder], None]) -> bulk_pb2.BulkOrder:
        def work(unit: Unit) -> bulk_pb2.BulkOrder:
            # The step that is being made has been made then, and whoever is answered that no order follows gets none.
            store.standing(unit, request.id)
            job = unit.get(BulkOrder, request.id)
            state = job.state
            change(unit, job)
            if job.state is not state:
                go_on(unit, job)
            return self._jobs.reply(unit, job)

        return self._database.transact(request, bulk_pb2.BulkOrder, work)

    def ListBulkOrderRows(
        self, request: bulk_pb2.ListBulkOrderRowsRequest, context: Any
    ) -> bulk_pb2.ListBulkOrderRowsResponse:
        """What has become of the rows; raises NotFound, InvalidArgument LIMIT."""
        limit = request.limit if request.HasField("limit") else 100
        if not 1 <= limit <= MOST_ROWS:
            violations = [Violation("limit", f"from 1 to {MOST_ROWS:,}")]
            raise InvalidArgument("LIMIT", "a page has 1 to 1,000 rows", violations=violations)
        names = bulk_pb2.BulkOrderRowState.Name
        states = [BulkOrderRowState[names(state).removeprefix(_PREFIX)] for state in request.state if state]
        with self._database.unit() as unit:
            unit.get(BulkOrder, request.id)
            found = store.rows(unit, request.id, states, request.after, limit)
        return bulk_pb2.ListBulkOrderRowsResponse(items=[to_message(row, bulk_pb2.BulkOrderRow) for row, _ in found])

    def GetBulkOrderReport(
        self, request: bulk_pb2.GetBulkOrderReportRequest, context: Any
    ) -> bulk_pb2.GetBulkOrderReportResponse:
        """A part of the report; raises NotFound."""
        with self._database.unit() as unit:
            unit.get(BulkOrder, request.id)
            found = store.rows(unit, request.id, (), request.after, MOST_ROWS)
        text = io.StringIO()
        writer = csv.writer(text)
        if not request.after:
            writer.writerow(_COLUMNS)
        for row, state in found:
            told = (row.product_order_id, state, row.field, row.reason)
            writer.writerow([row.line, str(row.state), *(_plain(one) for one in told)])
        more = found[-1][0].line if len(found) == MOST_ROWS else None
        return bulk_pb2.GetBulkOrderReportResponse(id=request.id, text=text.getvalue(), next_after=more)


def _plain(value: object) -> str:
    """No formula of a spreadsheet, whatever a row made us say."""
    text = "" if value is None else str(value)
    return f"'{text}" if text[:1] in ("=", "+", "-", "@") else text


def _data(request: bulk_pb2.UploadBulkOrderRowsRequest) -> bytes:
    """The part of the file. Raises InvalidArgument TOO_LARGE, WRONG_HASH, BAD_ATTRIBUTE."""
    try:
        data = base64.b64decode(request.content, validate=True)
    except binascii.Error as error:
        raise InvalidArgument(
            "BAD_ATTRIBUTE", "the content isn't base64", violations=[Violation("content", "isn't base64")]
        ) from error
    if len(data) > MOST_BYTES:
        violations = [Violation("content", f"at most {MOST_BYTES} bytes")]
        raise InvalidArgument("TOO_LARGE", f"a part has at most {MOST_BYTES} bytes", violations=violations)
    if request.sha256 and request.sha256.lower() != hashlib.sha256(data).hexdigest():
        raise InvalidArgument(
            "WRONG_HASH", "the part isn't what was sent", violations=[Violation("sha256", "isn't the data's")]
        )
    return data


def _require_new(unit: Unit, job: BulkOrder) -> None:
    other = incoming.same_content(unit, job) if job.content_hash else None
    if other is not None:
        raise FailedPrecondition(
            "SAME_CONTENT",
            f"bulk order {other} has the same rows and template",
            metadata={"bulkOrder": other},
        )
