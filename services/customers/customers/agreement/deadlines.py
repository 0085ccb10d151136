"""What happens to an agreement by itself: notice ahead of its end, and the end.

An agreement has one timer, for whatever comes next. One that is recorded with an end in the past has none: who records
the past says himself what has become of it.
"""

from collections.abc import Mapping, Sequence

from chassis.timers import TimerHandler, cancel_timer, set_timer
from chassis.unit import Unit
from chassis.zones import BranchZones
from customers.agreement import store
from customers.agreement.domain import Agreement, AgreementSpecification
from customers.agreement.expiry import outlook
from customers.task.store import close_task, open_task

EXPIRY = "agreement-expiry"
# The timers of all agreements of a pattern whose notices have changed; of so many at a time.
REDATE = "agreement-redate"
BATCH = 200
# What the owner of an agreement has to do about an end to come.
ENDS_SOON = "agreementEndsSoon"
# The event that tells of an end to come: AgreementExpiryAheadEvent.
AHEAD = "ExpiryAhead"


class Deadlines:
    """Sets and carries out the timers of agreements. `notices`: the operator's numbers of days ahead, for agreements
    whose pattern says nothing of it."""

    def __init__(self, zones: BranchZones, notices: Sequence[int]) -> None:
        self.zones = zones
        self._notices = notices

    def timers(self) -> Mapping[str, TimerHandler]:
        """Purpose → what is done when it is time."""
        return {EXPIRY: self._look, REDATE: self._redate}

    def plan(self, unit: Unit, agreement: Agreement) -> None:
        """Sets the timer for what comes next; what is due already is done by it at once."""
        end = agreement.end
        if not agreement.in_force or end is None:
            self.drop(unit, agreement)
            return
        if end <= unit.at:
            # Its timer is about to end it, if it has one.
            return
        look = outlook(
            end, self._of(unit, agreement), agreement.expiry_notice_given, unit.at, self.zones.zone(agreement.branch)
        )
        due = unit.at if look.notice is not None else look.due
        assert due is not None
        set_timer(unit, agreement.id, EXPIRY, due, agreement.branch)

    def settled(self, unit: Unit, agreement: Agreement, outcome: str) -> None:
        """Nobody has to think of the agreement's end any more."""
        close_task(unit, kind=ENDS_SOON, branch=agreement.branch, subject_id=agreement.id, outcome=outcome)

    def _ask(self, unit: Unit, agreement: Agreement) -> None:
        customers = store.customers_of(unit, [party.id for party in agreement.engaged_party if party.id])
        open_task(
            unit,
            kind=ENDS_SOON,
            branch=agreement.branch,
            subject_id=agreement.id,
            subject_type=Agreement.__name__,
            customer_id=customers[0].id if customers else None,
            assignee=agreement.owner,
            due_at=agreement.end,
        )

    def drop(self, unit: Unit, agreement: Agreement) -> None:
        """Nothing happens to the agreement by itself any more."""
        cancel_timer(unit, agreement.id, EXPIRY)

    def renotice(self, unit: Unit, specification: AgreementSpecification) -> None:
        """The notices of a pattern have changed, so its agreements are planned anew."""
        self._continue(unit, specification.id, "", specification.branch)

    def _continue(self, unit: Unit, specification_id: str, after: str, branch: str) -> None:
        set_timer(unit, f"{specification_id} {after}", REDATE, unit.at, branch)

    def _of(self, unit: Unit, agreement: Agreement) -> Sequence[int]:
        reference = agreement.agreement_specification
        if reference is None or not reference.id:
            return self._notices
        # Whoever changes the pattern waits for who plans by it, and then finds what was planned.
        found = unit.load(AgreementSpecification, "id = %(id)s FOR SHARE", {"id": reference.id})
        pattern = next(iter(found), None)
        return (pattern.expiry_notice_days if pattern is not None else ()) or self._notices

    def _look(self, agreement_id: str, unit: Unit) -> None:
        agreement = unit.find(Agreement, agreement_id)
        if agreement is None or not agreement.in_force or agreement.end is None:
            return
        look = outlook(
            agreement.end,
            self._of(unit, agreement),
            agreement.expiry_notice_given,
            unit.at,
            self.zones.zone(agreement.branch),
        )
        if look.over:
            agreement.expire()
            return
        if look.notice is not None:
            agreement.expiry_notice_given = look.notice
            unit.announce(agreement, AHEAD)
            self._ask(unit, agreement)
        assert look.due is not None
        set_timer(unit, agreement.id, EXPIRY, look.due, agreement.branch)

    def _redate(self, key: str, unit: Unit) -> None:
        specification_id, _, after = key.partition(" ")
        found = store.agreements_by(unit, specification_id, after, BATCH)
        branch = None
        # Not by an end that somebody is changing at the moment: his timer would be lost.
        for agreement in unit.load(Agreement, "id = ANY (%(ids)s) ORDER BY id FOR UPDATE", {"ids": found}):
            branch = agreement.branch
            self.plan(unit, agreement)
        if branch is not None and len(found) == BATCH:
            self._continue(unit, specification_id, found[-1], branch)
