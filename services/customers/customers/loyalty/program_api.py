"""What can be asked of loyalty programmes, their terms and their rules."""

from chassis.db import Database
from chassis.errors import FailedPrecondition, InvalidArgument, Violation
from chassis.references import rely
from chassis.resources import Collection, StandardMethods
from chassis.unit import Unit
from customers.loyalty import store
from customers.loyalty.domain import LoyaltyProgramProductSpec
from customers.loyalty.enrolment import refuse_when_used
from customers.loyalty.rules import EarnRule, LoyaltyTerms
from customers.loyalty.values import EarnRuleState
from svyaz.customers.v1 import loyalty_pb2

_PROGRAM = "SELECT branch FROM loyalty_program_product_spec WHERE id = %(id)s"


class LoyaltyPrograms(StandardMethods):
    """TMF658's programme, and what it grants."""

    def __init__(self, database: Database) -> None:
        super().__init__(
            loyalty_pb2.DESCRIPTOR.services_by_name["LoyaltyProgramService"],
            Collection(
                database,
                LoyaltyProgramProductSpec,
                loyalty_pb2.LoyaltyProgramProductSpec,
                deleting=refuse_when_used,
            ),
            Collection(database, LoyaltyTerms, loyalty_pb2.LoyaltyTerms, creating=_creating_terms),
            Collection(
                database,
                EarnRule,
                loyalty_pb2.EarnRule,
                creating=_creating_rule,
                changed=_changed_rule,
                deleting=_deleting_rule,
            ),
        )


def _check_program(unit: Unit, program_id: str | None, branch: str) -> None:
    """Raises InvalidArgument UNKNOWN_PROGRAM; the programme isn't deleted before the end of the transaction."""
    rows = rely(unit, _PROGRAM, {"id": program_id or ""})
    if not rows or rows[0][0] != branch:
        raise InvalidArgument(
            "UNKNOWN_PROGRAM",
            f"the branch has no programme {program_id!r}",
            violations=[Violation("program_id", "unknown")],
        )


def _creating_terms(unit: Unit, terms: LoyaltyTerms) -> None:
    _check_program(unit, terms.program_id, terms.branch)
    there = store.terms_of(unit, terms.program_id or "", terms.branch)
    if there.id:
        raise FailedPrecondition("HAS_TERMS", f"programme {terms.program_id} has terms: change {there.id}")


def _creating_rule(unit: Unit, rule: EarnRule) -> None:
    _check_program(unit, rule.program_id, rule.branch)
    before = store.versions_of(unit, rule.program_id or "", rule.code or "")
    # Two who make the next one at a time meet at the index of versions.
    rule.rule_version = (before[0].rule_version or 0) + 1 if before else 1
    _activated(unit, rule)


def _changed_rule(unit: Unit, rule: EarnRule) -> None:
    _activated(unit, rule)


def _activated(unit: Unit, rule: EarnRule) -> None:
    """Of all versions of a rule only the one that was activated last is active."""
    if rule.state is not EarnRuleState.ACTIVE:
        return
    for other in store.versions_of(unit, rule.program_id or "", rule.code or ""):
        if other.id != rule.id and other.state is EarnRuleState.ACTIVE:
            other.retire()


def _deleting_rule(_: Unit, rule: EarnRule) -> None:
    if rule.state is not EarnRuleState.DRAFT:
        raise FailedPrecondition(
            "NOT_A_DRAFT", f"rule {rule.id} is {rule.state}: it explains what it has earned", metadata={"id": rule.id}
        )
