"""What is heard of a person after he was erased: it is kept, and redacted too."""

from collections.abc import Callable

from chassis.cloudevents import ReceivedEvent
from chassis.personal import redacted
from chassis.unit import Unit
from customers.privacy import store
from customers.view.sections import SECTIONS

Handler = Callable[[ReceivedEvent, Unit], None]

# Without a round trip of their own: of most people nothing has been erased.
_REMEMBER = """
    INSERT INTO erased_record (record_id, branch, kind, erasure_id, done)
    SELECT %(id)s, %(branch)s, %(kind)s, erasure_id, false
    FROM erased_record WHERE record_id = ANY (%(subjects)s) ORDER BY record_id LIMIT 1
    ON CONFLICT (record_id, kind) DO UPDATE SET done = false
"""
_TIMER = """
    INSERT INTO timer (aggregate_id, purpose, due, generation, branch, attempts, not_before)
    SELECT erasure_id, %(purpose)s, %(now)s, 1, branch, 0, %(now)s
    FROM erased_record WHERE record_id = %(id)s AND kind = %(kind)s AND NOT done
    ON CONFLICT (aggregate_id, purpose) DO UPDATE SET
        due = excluded.due, generation = timer.generation + 1, attempts = 0, last_error = NULL,
        not_before = excluded.not_before
"""


_LEADING = frozenset({"ProductOrder", "LoyaltyProgramMember"})


def watched(handler: Handler) -> Handler:
    """The handler, after which an event that tells something personal of an erased person has that taken out again."""

    def handle(event: ReceivedEvent, unit: Unit) -> None:
        handler(event, unit)
        redact_again(event, unit)

    return handle


def redact_again(event: ReceivedEvent, unit: Unit) -> None:
    """Has the next step of the erasure look at what the event tells of, if that is about an erased person: an event
    that was sent before, or one of a service that hasn't heard of the erasure."""
    section = SECTIONS.get(event.aggregate_type)
    if section is None:
        return
    # What leads to others is remembered whatever it says itself: an order's items name the order and nobody else.
    if event.aggregate_type not in _LEADING and redacted(event.data, section.message) is None:
        return
    values = {
        "id": event.aggregate_id,
        "kind": event.aggregate_type,
        "branch": event.branch,
        "subjects": [event.aggregate_id, *section.subjects(event.message(section.message))],
        "purpose": store.ERASE,
        "now": unit.at,
    }
    unit.later(_REMEMBER, values)
    unit.later(_TIMER, values)
