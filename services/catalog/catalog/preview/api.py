"""What a preview is asked for."""

import base64
import binascii
import json
from collections.abc import Sequence
from decimal import Decimal
from typing import Any

from catalog.preview import store
from catalog.preview.domain import Difference, NeverApplied, PreviewOutcome, PreviewState
from catalog.preview.job import FORGET, KEPT_FOR, STEP, Previews, compiled, proposed, timer_branch
from chassis.auth import EVERY_BRANCH
from chassis.convert import from_timestamp, to_money, to_timestamp
from chassis.db import Database
from chassis.errors import FailedPrecondition, InvalidArgument, PermissionDenied, Violation
from chassis.timers import set_timer
from chassis.types import Money, new_id
from chassis.unit import Unit
from svyaz.catalog.v1 import preview_pb2 as pb
from svyaz.catalog.v1 import preview_pb2_grpc
from svyaz.type.v1 import requests_pb2

DEFAULT_LIMIT, MAX_LIMIT = 1_000, 5_000
# A page looks at no more products than so many times its limit: of rare ones it may be short.
PAGES_LOOKED_AT = 10
WARNINGS = 100
# Upwards from nothing; as many downwards.
_STEPS = [Decimal(digit).scaleb(power) for power in range(6) for digit in (1, 2, 5)]
BOUNDS = [*(-step for step in reversed(_STEPS)), Decimal(0), *_STEPS]


class ChangePreviews(preview_pb2_grpc.PreviewServiceServicer):
    """Who pays more or less, before something is published."""

    def __init__(self, database: Database, previews: Previews) -> None:
        self._database = database
        self._previews = previews

    def PreviewChange(self, request: pb.PreviewChangeRequest, context: Any) -> pb.ChangePreview:
        """Begins a preview. Raises InvalidArgument UNKNOWN_OFFERING, UNKNOWN_PRICE, REQUIRED; PermissionDenied
        BRANCH_FORBIDDEN to who has no branch: there is nobody whose subscribers he may see."""
        if not request.product_offering_id and not request.product_offering_price:
            what = "product_offering_id or product_offering_price says what is to change"
            raise InvalidArgument("REQUIRED", what, violations=[Violation("product_offering_id", what)])

        def work(unit: Unit) -> pb.ChangePreview:
            at = from_timestamp(request.at) if request.HasField("at") else unit.at
            # Refused now rather than in a moment.
            plan = compiled(unit, proposed(request, at))
            principal = unit.call.principal
            if not principal.every_branch and not principal.branches:
                raise PermissionDenied("BRANCH_FORBIDDEN", "a preview is of a branch's subscribers, and you have none")
            branches = (EVERY_BRANCH,) if principal.every_branch else principal.branches
            made = new_id()
            store.add(unit, made, branches, request.SerializeToString(), at)
            set_timer(unit, made, STEP, unit.at, timer_branch(branches))
            set_timer(unit, made, FORGET, unit.at + KEPT_FOR, timer_branch(branches))
            return pb.ChangePreview(
                id=made,
                state=pb.PREVIEW_STATE_RUNNING,
                created_at=to_timestamp(unit.at),
                warning=_warnings(plan.never_applied),
            )

        return self._database.transact(request, pb.ChangePreview, work)

    def GetChangePreview(self, request: requests_pb2.GetRequest, context: Any) -> pb.ChangePreview:
        """How far it is, and what it comes to in the caller's branches. Raises NotFound."""
        with self._database.unit() as unit:
            return self._shown(unit, request.id)

    def CancelChangePreview(self, request: pb.CancelChangePreviewRequest, context: Any) -> pb.ChangePreview:
        """See `Previews.cancel`."""

        def work(unit: Unit) -> pb.ChangePreview:
            self._previews.cancel(unit, request.id)
            return self._shown(unit, request.id)

        return self._database.transact(request, pb.ChangePreview, work)

    @staticmethod
    def _shown(unit: Unit, preview_id: str) -> pb.ChangePreview:
        row = store.row_of(unit, preview_id)
        found = pb.ChangePreview(
            id=row.id,
            state=pb.PreviewState.Value(f"PREVIEW_STATE_{row.state.name}"),
            created_at=to_timestamp(row.created_at),
            error=row.error or "",
        )
        if row.ended_at is not None:
            found.ended_at.CopyFrom(to_timestamp(row.ended_at))
        for one in store.outcomes(unit, row.id):
            found.groups += one.groups
            found.products += int(one.products)
            if one.outcome is not None:
                found.products_priced += int(one.products)
                found.count.add(outcome=_outcome(one.outcome), products=int(one.products))
        for one in store.totals(unit, row.id):
            found.total.append(
                pb.PreviewTotal(
                    recurring_charge_period=one.period,
                    products=int(one.products),
                    before=_money(one.currency, one.before_net),
                    before_tax_included=_money(one.currency, one.before_gross),
                    after=_money(one.currency, one.after_net),
                    after_tax_included=_money(one.currency, one.after_gross),
                )
            )
        found.histogram.extend(_bucket(one) for one in store.histogram(unit, row.id, BOUNDS))
        found.warning.extend(_warnings(store.never_applied(row)))
        for one in store.refusals(unit, row.id, WARNINGS):
            found.warning.add(
                field=one.reason or "",
                description=one.description or "",
                products=int(one.products),
                product_offering_id=one.product_offering_id,
            )
        return found

    def ListPreviewedProducts(
        self, request: pb.ListPreviewedProductsRequest, context: Any
    ) -> pb.ListPreviewedProductsResponse:
        """The products of the caller's branches, a page of them.

        Raises NotFound, InvalidArgument, FailedPrecondition OUTDATED when the catalog has changed since.
        """
        if not 0 <= request.limit <= MAX_LIMIT:
            raise _invalid("limit", f"at most {MAX_LIMIT}")
        limit = request.limit or DEFAULT_LIMIT
        wanted = [
            PreviewOutcome[pb.PreviewOutcome.Name(one).removeprefix("PREVIEW_OUTCOME_")] for one in request.outcome
        ]
        start = _position(request.page_token)
        response = pb.ListPreviewedProductsResponse()
        with self._database.unit() as unit:
            row = store.row_of(unit, request.id)
            plan = self._previews.plan(unit, row)
            if row.digest not in (None, plan.digest):
                raise FailedPrecondition("OUTDATED", "the catalog has changed since: preview the change again")
            if row.looks is None:
                # Nothing has been looked at yet.
                return response
            looks = store.Looks.parse(row.looks)
            # Until it is done, what has no outcome is still to be priced.
            unknown = PreviewOutcome.OUTDATED if row.state is PreviewState.DONE else None
            looked_at = 0
            for offering, branch in store.grouped_pairs(unit, row.id, wanted):
                if (offering, branch) < start[:2] or (request.branch and branch != request.branch):
                    continue
                after = start[2] if (offering, branch) == start[:2] else ""
                while True:
                    room = limit - len(response.items)
                    if room <= 0 or looked_at >= limit * PAGES_LOOKED_AT:
                        response.next_page_token = _token(offering, branch, after)
                        return response
                    size = room if not wanted else min(limit * PAGES_LOOKED_AT - looked_at, MAX_LIMIT)
                    rows = [
                        (*one[:5], one[5] or unknown, one[6])
                        for one in store.listed(unit, row.id, (offering, branch), looks, plan.kept, after, size)
                    ]
                    looked_at += len(rows)
                    shown = [one for one in rows if one[5] and (not wanted or PreviewOutcome(one[5]) in wanted)]
                    if len(shown) > room:
                        # The rest is for the next page.
                        shown = shown[:room]
                        rows = rows[: 1 + next(i for i, one in enumerate(rows) if one is shown[-1])]
                    self._show(unit, response, plan, offering, branch, shown)
                    if len(rows) < size and len(shown) < room:
                        break
                    after = rows[-1][0]
        return response

    @staticmethod
    def _show(
        unit: Unit, response: pb.ListPreviewedProductsResponse, plan: Any, offering: str, branch: str, rows: Any
    ) -> None:
        differences = store.differences(unit, {row[4] for row in rows if row[4] is not None})
        move = plan.change.moves[offering]
        for product, customer, account, started_at, group, outcome, reason in rows:
            shown = response.items.add(
                product_id=product,
                branch=branch,
                customer_id=customer or "",
                billing_account_id=account or "",
                product_offering_id=offering,
                outcome=_outcome(PreviewOutcome(outcome)),
                reason=reason or "",
                difference=[_difference(one) for one in differences.get(group, ())],
            )
            if move.at is not None and outcome != PreviewOutcome.OUTDATED:
                shown.new_product_offering_id = move.to
                shown.effective_at.CopyFrom(to_timestamp(max(move.at, started_at or move.at)))


def _outcome(outcome: PreviewOutcome) -> "pb.PreviewOutcome.ValueType":
    return pb.PreviewOutcome.Value(f"PREVIEW_OUTCOME_{outcome.name}")


def _warnings(found: Sequence[NeverApplied]) -> list[pb.PreviewWarning]:
    return [
        pb.PreviewWarning(field=one.field, description=one.description, product_offering_id=one.product_offering_id)
        for one in found[:WARNINGS]
    ]


def _money(currency: str, value: Decimal) -> Any:
    return to_money(Money(unit=currency, value=value))


def _difference(one: Difference) -> pb.PreviewDifference:
    return pb.PreviewDifference(
        recurring_charge_period=one.period,
        before=_money(one.currency, one.before.net),
        before_tax_included=_money(one.currency, one.before.gross),
        after=_money(one.currency, one.after.net),
        after_tax_included=_money(one.currency, one.after.gross),
    )


def _bucket(row: Any) -> pb.PreviewBucket:
    bucket = pb.PreviewBucket(recurring_charge_period=row.period, products=int(row.products))
    if row.bucket > 0:
        getattr(bucket, "from").CopyFrom(_money(row.currency, BOUNDS[row.bucket - 1]))
    if row.bucket < len(BOUNDS):
        bucket.to.CopyFrom(_money(row.currency, BOUNDS[row.bucket]))
    return bucket


def _token(offering: str, branch: str, after: str) -> str:
    return base64.urlsafe_b64encode(json.dumps([offering, branch, after]).encode()).decode()


def _position(token: str) -> tuple[str, str, str]:
    if not token:
        return "", "", ""
    try:
        offering, branch, after = json.loads(base64.urlsafe_b64decode(token))
        return str(offering), str(branch), str(after)
    except (binascii.Error, ValueError, TypeError) as error:
        raise _invalid("page_token", "it isn't one of ours") from error


def _invalid(field: str, why: str) -> InvalidArgument:
    return InvalidArgument("INVALID_ARGUMENT", f"{field}: {why}", violations=[Violation(field, why)])
