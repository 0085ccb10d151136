"""What can be asked of owners, absences and hand-overs: one method, one use case, one transaction."""

from collections.abc import Iterable, Sequence
from typing import Any

from google.protobuf.message import Message

from chassis.convert import from_timestamp, to_message
from chassis.db import Database
from chassis.errors import AlreadyExists, FailedPrecondition, InvalidArgument, Violation
from chassis.resources import Collection, StandardMethods, fitting
from chassis.timers import set_timer
from chassis.types import new_id
from chassis.unit import Unit
from customers.identity.collection import MembersCollection
from customers.identity.store import survivor
from customers.interaction import ownership_store as store
from customers.interaction.handover import ABSENCE, HAND_OVER, HandingOver
from customers.interaction.ownership import Absence, CustomerOwnership, HandOver
from customers.interaction.store import interactions
from customers.interaction.substitution import looked_after_by, standing_in
from customers.party.domain import Customer
from customers.task.domain import UNDONE, WorkItem
from svyaz.customers.v1 import interaction_pb2, responsibility_pb2, task_pb2

MOST_ITEMS = 200
_UNDONE = ", ".join(f"'{state}'" for state in UNDONE)
_CUSTOMER = responsibility_pb2.RESPONSIBILITY_KIND_CUSTOMER
_WORK_ITEM = responsibility_pb2.RESPONSIBILITY_KIND_WORK_ITEM
_INTERACTION = responsibility_pb2.RESPONSIBILITY_KIND_PLANNED_INTERACTION


class Responsibilities(StandardMethods):
    """Whose customers are, who stands in, and hand-overs."""

    def __init__(self, database: Database, handing_over: HandingOver) -> None:
        self._database = database
        self._handing_over = handing_over
        self._ownerships = MembersCollection(
            database, CustomerOwnership, responsibility_pb2.CustomerOwnership, by=("customer_id",)
        )
        self._hand_overs = Collection(database, HandOver, responsibility_pb2.HandOver)
        absences = Collection(
            database,
            Absence,
            responsibility_pb2.Absence,
            creating=self._entered,
            changed=self._entered,
            deleting=handing_over.withdrawn,
        )
        service = responsibility_pb2.DESCRIPTOR.services_by_name["ResponsibilityService"]
        super().__init__(service, self._ownerships, self._hand_overs, absences)

    def _entered(self, unit: Unit, absence: Absence) -> None:
        other = store.overlapping(unit, absence)
        if other is not None:
            raise FailedPrecondition(
                "ABSENCES_OVERLAP",
                f"{absence.employee} is away at that time already: {other}",
                violations=[Violation("starts_at", f"overlaps with absence {other}")],
                metadata={"id": other},
            )
        if not absence.revision:
            set_timer(unit, absence.id, ABSENCE, max(absence.next_turn or unit.at, unit.at), absence.branch)
        else:
            self._handing_over.changed(unit, absence)

    def SetCustomerOwner(
        self, request: responsibility_pb2.SetCustomerOwnerRequest, context: Any
    ) -> responsibility_pb2.CustomerOwnership:
        """Makes the customer an employee's, or a team's; raises InvalidArgument UNKNOWN_CUSTOMER."""

        def work(unit: Unit) -> responsibility_pb2.CustomerOwnership:
            customer = unit.find(Customer, survivor(unit, request.customer_id))
            if customer is None:
                violations = [Violation("customer_id", "there is no such customer")]
                raise InvalidArgument("UNKNOWN_CUSTOMER", "nobody can be nobody's", violations=violations)
            owned = unit.load(CustomerOwnership, "customer_id = %(id)s FOR UPDATE", {"id": customer.id})
            ownership = owned[0] if owned else None
            if ownership is None:
                ownership = CustomerOwnership(id=new_id(), branch=customer.branch, customer_id=customer.id)
                ownership.give(request.owner or None, request.team or None, unit.at)
                unit.add(ownership)
            else:
                ownership.give(request.owner or None, request.team or None, unit.at)
            return self._ownerships.reply(unit, ownership)

        return self._database.transact(request, responsibility_pb2.CustomerOwnership, work)

    def GetResponsibleEmployee(
        self, request: responsibility_pb2.GetResponsibleEmployeeRequest, context: Any
    ) -> responsibility_pb2.ResponsibleEmployee:
        """Who looks after the customer at an instant; nobody named: why."""
        with self._database.unit() as unit:
            at = from_timestamp(request.at) if request.HasField("at") else unit.at
            ownership = store.ownership_of(unit, request.customer_id)
            branches = [ownership.branch] if ownership is not None else []
            away = store.away(unit, branches, at)
        owner = ownership.owner if ownership is not None else None
        team = ownership.team if ownership is not None else None
        standing = standing_in(owner, team, away.get(ownership.branch, {}) if ownership is not None else {})
        return responsibility_pb2.ResponsibleEmployee(
            owner=owner or "",
            employee=standing.employee or "",
            team=standing.team or "",
            chain=standing.chain,
            obstacle=standing.obstacle or "",
        )

    def ListResponsibilities(
        self, request: responsibility_pb2.ListResponsibilitiesRequest, context: Any
    ) -> responsibility_pb2.ListResponsibilitiesResponse:
        """What an employee looks after, his own and that of those for whom he stands in; raises InvalidArgument
        INVALID_PAGE, BRANCH_REQUIRED."""
        limit = request.limit if request.HasField("limit") else 50
        if not 1 <= limit <= MOST_ITEMS or not request.kind:
            violations = [
                Violation("limit", f"not from 1 to {MOST_ITEMS}") if request.kind else Violation("kind", "required")
            ]
            raise InvalidArgument("INVALID_PAGE", "it doesn't say what is wanted", violations=violations)
        branch = self._database.branch_for_create(CustomerOwnership, request.branch)
        with self._database.unit() as unit:
            at = from_timestamp(request.at) if request.HasField("at") else unit.at
            absent = store.away(unit, [branch], at).get(branch, {})
            owners: Iterable[str] = (
                store.left_to(unit, branch, request.team, absent)
                if request.team
                else looked_after_by(request.employee or unit.call.principal.subject, absent)
            )
            found = list(_of(unit, request, branch, owners, limit + 1))
        items = [item for _, item in found[:limit]]
        number = fitting(items)
        return responsibility_pb2.ListResponsibilitiesResponse(
            items=items[:number], next_after=found[number - 1][0] if number < len(found) else ""
        )

    def HandOverEverything(
        self, request: responsibility_pb2.HandOverRequest, context: Any
    ) -> responsibility_pb2.HandOver:
        """Begins to make everything of one employee another's; raises AlreadyExists HAND_OVER_RUNNING, InvalidArgument
        REQUIRED, SAME_EMPLOYEE, FailedPrecondition HAND_OVER_CIRCLE."""

        def work(unit: Unit) -> responsibility_pb2.HandOver:
            hand_over = HandOver(
                id=new_id(),
                branch=self._database.branch_for_create(HandOver, request.branch),
                from_employee=request.from_employee or None,
                to_employee=request.to_employee or None,
                note=request.note or None,
                requested_by=unit.call.principal.subject,
            )
            hand_over.check(unit.at)
            if store.comes_back(unit, hand_over):
                raise FailedPrecondition(
                    "HAND_OVER_CIRCLE",
                    f"everything of {request.to_employee} is being handed over to {request.from_employee}",
                    violations=[Violation("to_employee", "hands over to the first one, if by way of others")],
                )
            if not unit.add_unless_there(hand_over):
                raise AlreadyExists(
                    "HAND_OVER_RUNNING", f"everything of {request.from_employee} is being handed over already"
                )
            set_timer(unit, hand_over.id, HAND_OVER, unit.at, hand_over.branch)
            return self._hand_overs.reply(unit, hand_over)

        return self._database.transact(request, responsibility_pb2.HandOver, work)


_Item = tuple[str, responsibility_pb2.Responsibility]


def _of(
    unit: Unit,
    request: responsibility_pb2.ListResponsibilitiesRequest,
    branch: str,
    owners: Iterable[str],
    most: int,
) -> Iterable[_Item]:
    """The things of those employees, and those of the team that are nobody's, after one in the order of their ids."""
    kind, after = request.kind, request.after
    wanted = {"branch": branch, "owners": sorted(owners), "team": request.team, "after": after, "most": most}
    condition = (
        "branch = %(branch)s AND ({0} = ANY(%(owners)s) OR ({0} IS NULL AND %(team)s <> '' AND team = %(team)s))"
        " AND id > %(after)s{1} ORDER BY id LIMIT %(most)s"
    )
    if kind == _CUSTOMER:
        for one in unit.load(CustomerOwnership, condition.format("owner", f" AND {store.COUNTS}"), wanted):
            yield one.id, _item(one.owner, customer=to_message(one, responsibility_pb2.CustomerOwnership))
    elif kind == _WORK_ITEM:
        for item in unit.load(WorkItem, condition.format("assignee", f" AND state IN ({_UNDONE})"), wanted):
            yield item.id, _item(item.assignee, work_item=to_message(item, task_pb2.WorkItem))
    elif kind == _INTERACTION:
        planned: Sequence[tuple[str, str]] = store.planned_of(unit, branch, owners, after, most)
        found = interactions(unit, [one for one, _ in planned])
        for one_id, owner in planned:
            if one_id not in found:
                # It has just been deleted.
                continue
            message = to_message(found[one_id], interaction_pb2.PartyInteraction)
            yield one_id, _item(owner, planned_interaction=message)


def _item(owner: str | None, **what: Message) -> responsibility_pb2.Responsibility:
    return responsibility_pb2.Responsibility(owner=owner or "", **what)  # type: ignore[arg-type]
