"""Contact media one by one: listed with what is known of them, marked, verified, preferred."""

from collections.abc import Callable, Sequence
from datetime import datetime, timedelta

from chassis import convert
from chassis.db import Database
from chassis.errors import InvalidArgument, Violation
from chassis.unit import Unit, missing
from customers.party.domain import Customer
from customers.permission import media, reading, store
from customers.permission.domain import ContactPoint, point_id, refuse, required
from customers.permission.media import Owner
from customers.permission.values import LocalInterval, MediumKind, PointState
from customers.task.store import close_task, open_task
from svyaz.customers.v1 import permission_pb2

# What an employee has to do about a bad medium.
CLARIFY = "clarifyContactPoint"
_DUE = timedelta(days=7)

Named = (
    permission_pb2.MarkContactPointRequest
    | permission_pb2.VerifyContactPointRequest
    | permission_pb2.SetContactPreferencesRequest
)


class Points:
    """What can be done with the media of a customer or party."""

    def __init__(self, database: Database, region_of: Callable[[str], str]) -> None:
        self._database = database
        self._region_of = region_of

    def listed(self, request: permission_pb2.ListContactPointsRequest) -> permission_pb2.ListContactPointsResponse:
        """Those that are listed, and those of which something was said. Raises NotFound."""
        with self._database.unit() as unit:
            same = reading.same(unit, request.owner_id)
            known = reading.owners(unit, same.owners)
            found = _owner(known.owners, same, request.owner_id)
            return permission_pb2.ListContactPointsResponse(items=self._items(unit, found.branch, known))

    def mark(self, request: permission_pb2.MarkContactPointRequest) -> permission_pb2.ContactPoint:
        """Raises InvalidArgument, NotFound, FailedPrecondition NEEDS_VERIFICATION."""
        state = _STATES.get(request.state)
        refuse(required(state=state))
        assert state is not None

        def change(unit: Unit, point: ContactPoint) -> None:
            by = unit.call.principal.subject
            point.mark(state, reason=request.reason, evidence=request.evidence, by=by, at=unit.at)

        return self._change(request, change)

    def verify(self, request: permission_pb2.VerifyContactPointRequest) -> permission_pb2.ContactPoint:
        """Raises InvalidArgument, NotFound."""

        def change(unit: Unit, point: ContactPoint) -> None:
            by = unit.call.principal.subject
            point.verify(request.proof, by=by, at=unit.at)
            # A number that somebody has exists, for everybody.
            for other in store.missing_points(unit, point):
                other.doubt(by=by, at=unit.at, evidence=point.id)

        return self._change(request, change)

    def prefer(self, request: permission_pb2.SetContactPreferencesRequest) -> permission_pb2.ContactPoint:
        """Raises InvalidArgument, NotFound."""
        best = tuple(convert.from_message(one, LocalInterval) for one in request.best_time)
        usage = request.usage if request.HasField("usage") else None

        return self._change(
            request, lambda unit, point: point.prefer(usage, tuple(dict.fromkeys(request.purpose)), best)
        )

    def _change(self, request: Named, change: Callable[[Unit, ContactPoint], None]) -> permission_pb2.ContactPoint:
        kind = _KINDS.get(request.kind)
        refuse(required(owner_id=request.owner_id, kind=kind, value=request.value.strip()))
        assert kind is not None

        def work(unit: Unit) -> permission_pb2.ContactPoint:
            same = reading.locked(unit, request.owner_id)
            owners = reading.owners(unit, same.owners).owners
            asked = _owner(owners, same, request.owner_id)
            value = media.normalised(kind, request.value, self._region_of(asked.branch)).value
            owner = self._lister(asked, owners, kind, value, unit.at)
            id_ = point_id(owner.branch, owner.id, kind, value)
            point = unit.find(ContactPoint, id_)
            if point is None:
                point = ContactPoint(id=id_, branch=owner.branch, owner_id=owner.id, kind=kind, value=value)
                unit.add(point)
            said_at = point.state_at
            change(unit, point)
            if point.state_at != said_at:
                _clarify(unit, point, same.customers[0] if asked.id in same.customers else None)
            unit.flush()
            items = self._items(unit, owner.branch, reading.owners(unit, same.owners))
            return next(item for item in items if item.id == id_)

        return self._database.transact(request, permission_pb2.ContactPoint, work)

    def _lister(self, asked: Owner, owners: Sequence[Owner], kind: MediumKind, value: str, at: datetime) -> Owner:
        """Of whom something is said: of who was asked for, unless only another of the same customer lists it."""
        region = self._region_of(asked.branch)
        listing = {one.owner_id for one in media.listed(owners, region, at) if (one.kind, one.value) == (kind, value)}
        if asked.id in listing or not listing:
            return asked
        return next(owner for owner in owners if owner.id in listing)

    def _items(self, unit: Unit, branch: str, known: reading.Known) -> list[permission_pb2.ContactPoint]:
        owners, points = known.owners, known.points
        named = list(media.listed(owners, self._region_of(branch), unit.at))
        values = {one.value for one in named} | {point.value for point in points}
        absent = reading.of_values(unit, branch, values, unit.at).missing
        folded = {(one.kind, one.value): one for one in media.media(named, points, absent, {})}
        branches = {owner.id: owner.branch for owner in owners}
        full = {
            one.id: one for one in unit.load(ContactPoint, "id = ANY (%(ids)s)", {"ids": [one.id for one in points]})
        }
        items: dict[str, permission_pb2.ContactPoint] = {}
        for one in full.values():
            items[one.id] = convert.to_message(one, permission_pb2.ContactPoint)
            items[one.id].listed = False
        for listed in named:
            id_ = point_id(branches[listed.owner_id], listed.owner_id, listed.kind, listed.value)
            if id_ not in items:
                row = ContactPoint(
                    id=id_,
                    branch=branches[listed.owner_id],
                    owner_id=listed.owner_id,
                    kind=listed.kind,
                    value=listed.value,
                )
                items[id_] = convert.to_message(row, permission_pb2.ContactPoint)
            item = items[id_]
            item.listed, item.preferred = True, item.preferred or listed.preferred
            if not item.HasField("usage") and listed.usage:
                item.usage = listed.usage
        for item in items.values():
            state = folded[_KINDS[item.kind], item.value].state
            item.state = permission_pb2.ContactPointState.Value(f"CONTACT_POINT_STATE_{state.name}")
        return sorted(items.values(), key=lambda item: (item.kind, item.value, item.owner_id))


_KINDS = {permission_pb2.ContactMediumKind.Value(f"CONTACT_MEDIUM_KIND_{kind.name}"): kind for kind in MediumKind}
_STATES = {permission_pb2.ContactPointState.Value(f"CONTACT_POINT_STATE_{state.name}"): state for state in PointState}


def _clarify(unit: Unit, point: ContactPoint, customer_id: str | None) -> None:
    """Somebody has to find out how else the customer is reached, until it is known."""
    if not point.bad:
        close_task(unit, kind=CLARIFY, branch=point.branch, subject_id=point.id, outcome=str(point.state))
        return
    open_task(
        unit,
        kind=CLARIFY,
        branch=point.branch,
        subject_id=point.id,
        subject_type=ContactPoint.__name__,
        customer_id=customer_id,
        description=f"{point.kind}: {point.state}",
        due_at=unit.at + _DUE,
    )


def _owner(owners: Sequence[Owner], same: reading.Same, id_: str) -> Owner:
    """Raises NotFound."""
    found = {owner.id: owner for owner in owners}
    for wanted in (id_, same.customers[0]):
        if wanted in found:
            return found[wanted]
    raise missing(Customer, id_)


def number_of(text: str, region: str) -> str:
    """A number in E.164. Raises InvalidArgument."""
    found = media.normalised(MediumKind.PHONE, text, region)
    if not found.well_formed:
        raise InvalidArgument(
            "MALFORMED_NUMBER", "it isn't a telephone number", violations=[Violation("number", "not a number")]
        )
    return found.value
