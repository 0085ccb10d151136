"""How a hand-over goes on by itself, and what happens when an absence begins or ends."""

from collections.abc import Callable, Mapping
from datetime import timedelta

from chassis.timers import TimerHandler, cancel_timer, set_timer
from chassis.types import new_id
from chassis.unit import Unit
from customers.interaction import ownership_store as store
from customers.interaction.domain import PartyInteraction
from customers.interaction.ownership import Absence, AbsenceState, CustomerOwnership, HandOver, HandOverState
from customers.interaction.store import Timeline
from customers.interaction.substitution import standing_in
from customers.party.store import remember
from customers.task.domain import MOST_URGENT, UNDONE, WorkItem, WorkItemState
from customers.task.store import open_task, remind, undone_of_kind

# The purposes of our timers.
HAND_OVER, ABSENCE = "handOver", "absence"
# The kind of the work item that says that somebody is away and nobody stands in.
NOBODY_STANDS_IN = "nobody-stands-in"
# Of each kind of thing, changed in one transaction; and how long those wait for who holds the rest.
AT_ONCE, PAUSE = 100, timedelta(seconds=1)

# What gives at most so many agreements of a branch's employee to another; how many it gave. None: nothing is left.
GiveAgreements = Callable[[Unit, str, str, str, int], int]

_UNDONE = ", ".join(f"'{state}'" for state in UNDONE)


class HandingOver:
    """The steps of hand-overs and absences. Each is repeated until it has been committed, and does nothing when it is
    late."""

    def __init__(self, timeline: Timeline, give_agreements: GiveAgreements, at_once: int = AT_ONCE) -> None:
        self._timeline = timeline
        self._give_agreements = give_agreements
        self._at_once = at_once

    def timers(self) -> Mapping[str, TimerHandler]:
        """The handlers of our timers, by purpose."""
        return {HAND_OVER: self.step, ABSENCE: self.turn}

    # --- hand-overs --------------------------------------------------------------------------------------------------

    def step(self, hand_over_id: str, unit: Unit) -> None:
        """Makes some more of the one employee's the other's; completes when nothing is left."""
        hand_over = unit.find(HandOver, hand_over_id)
        if hand_over is None or hand_over.state is not HandOverState.IN_PROGRESS:
            return
        moved = (
            self._customers(unit, hand_over),
            self._work_items(unit, hand_over),
            self._planned_interactions(unit, hand_over),
            self._give_agreements(
                unit, hand_over.branch, hand_over.from_employee or "", hand_over.to_employee or "", self._at_once
            ),
        )
        hand_over.count(*moved)
        if any(moved):
            set_timer(unit, hand_over.id, HAND_OVER, unit.at, hand_over.branch)
        elif self._left(unit, hand_over):
            # Somebody else is changing it at the moment.
            set_timer(unit, hand_over.id, HAND_OVER, unit.at + PAUSE, hand_over.branch)
        else:
            self._substitutes(unit, hand_over)
            hand_over.complete(unit.at)

    def _some(self, hand_over: HandOver) -> dict[str, object]:
        return {"branch": hand_over.branch, "employee": hand_over.from_employee, "most": self._at_once}

    def _customers(self, unit: Unit, hand_over: HandOver) -> int:
        condition = "branch = %(branch)s AND owner = %(employee)s ORDER BY id LIMIT %(most)s FOR UPDATE SKIP LOCKED"
        found = unit.load(CustomerOwnership, condition, self._some(hand_over))
        for ownership in found:
            ownership.give(hand_over.to_employee, None, unit.at)
            unit.announce(ownership, "HandOver")
            self._timeline.record(unit, hand_over.told_to(ownership.customer_id or "", new_id(), unit.at))
        return len(found)

    def _work_items(self, unit: Unit, hand_over: HandOver) -> int:
        condition = (
            f"branch = %(branch)s AND assignee = %(employee)s AND state IN ({_UNDONE})"
            " ORDER BY id LIMIT %(most)s FOR UPDATE SKIP LOCKED"
        )
        found = unit.load(WorkItem, condition, self._some(hand_over))
        for item in found:
            item.assign(hand_over.to_employee, None)
            unit.announce(item, "Assignment")
        return len(found)

    def _planned_interactions(self, unit: Unit, hand_over: HandOver) -> int:
        ids = store.planned_naming(unit, hand_over.branch, hand_over.from_employee or "", self._at_once)
        condition = "id = ANY(%(ids)s) ORDER BY id FOR UPDATE SKIP LOCKED"
        found = unit.load(PartyInteraction, condition, {"ids": list(ids)}) if ids else []
        for interaction in found:
            interaction.hand_over(hand_over.from_employee or "", hand_over.to_employee or "")
            unit.announce(interaction, "HandOver")
            remember(unit, interaction)
            self._timeline.keep(unit, interaction)
        return len(found)

    def _substitutes(self, unit: Unit, hand_over: HandOver) -> None:
        """The successor stands in where the other one would have; for himself nobody does."""
        condition = "branch = %(branch)s AND substitute = %(employee)s AND state <> %(ended)s ORDER BY id FOR UPDATE"
        found = unit.load(Absence, condition, {**self._some(hand_over), "ended": str(AbsenceState.ENDED)})
        for absence in found:
            successor = hand_over.to_employee
            absence.revise({"substitute": None if successor == absence.employee else successor}, unit.at)
            unit.announce(absence, "HandOver")
        if found:
            unit.flush()
            see_to_substitutes(unit, hand_over.branch)

    def _left(self, unit: Unit, hand_over: HandOver) -> bool:
        condition = "branch = %(branch)s AND {} = %(employee)s{} LIMIT 1"
        parameters = self._some(hand_over)
        return bool(
            unit.load(CustomerOwnership, condition.format("owner", ""), parameters)
            or unit.load(WorkItem, condition.format("assignee", f" AND state IN ({_UNDONE})"), parameters)
            or store.planned_naming(unit, hand_over.branch, hand_over.from_employee or "", 1)
        )

    # --- absences ----------------------------------------------------------------------------------------------------

    def turn(self, absence_id: str, unit: Unit) -> None:
        """An absence begins or ends; when it begins with nobody standing in, somebody is told to see to that."""
        absence = unit.find(Absence, absence_id)
        happened = absence.turn(unit.at) if absence is not None else None
        if absence is not None and happened is not None:
            unit.announce(absence, happened)
            self.changed(unit, absence)

    def changed(self, unit: Unit, absence: Absence) -> None:
        """Sets the timer of the absence's next turn, and looks for whom nobody stands in now."""
        if absence.next_turn is not None:
            set_timer(unit, absence.id, ABSENCE, max(absence.next_turn, unit.at), absence.branch)
        else:
            cancel_timer(unit, absence.id, ABSENCE)
        unit.flush()
        see_to_substitutes(unit, absence.branch)

    @staticmethod
    def withdrawn(unit: Unit, absence: Absence) -> None:
        """It isn't going to be, or is over at once."""
        cancel_timer(unit, absence.id, ABSENCE)
        see_to_substitutes(unit, absence.branch, without=absence.id)


def see_to_substitutes(unit: Unit, branch: str, without: str = "") -> None:
    """Opens a work item for each absence at which a chain of substitutes ends with nobody, and closes those of the
    others: whoever enters a substitute anywhere on a chain has done what all of it asked for."""
    away = {one.employee or "": one for one in store.absences_at(unit, branch, unit.at) if one.id != without}
    names = store.as_away(away.values())
    standings = [standing_in(employee, None, names) for employee in away]
    broken = {away[one.chain[-1]].id: one for one in standings if one.employee is None}
    open_items = {item.subject_id: item for item in undone_of_kind(unit, branch, NOBODY_STANDS_IN)}
    for absence_id, standing in broken.items():
        if absence_id not in open_items:
            open_task(
                unit,
                kind=NOBODY_STANDS_IN,
                branch=branch,
                subject_id=absence_id,
                subject_type=Absence.__name__,
                description=f"{' → '.join(standing.chain)}: {standing.obstacle}",
                team=standing.team or store.team_of(unit, branch, standing.chain[0]),
                due_at=unit.at,
                priority=MOST_URGENT,
            )
    for subject_id, item in open_items.items():
        if subject_id not in broken:
            item.move(WorkItemState.DONE, unit.at, "somebody is there")
            remind(unit, item)
