"""What the catalog does when something happens elsewhere, beside what its sub-domains do."""

from catalog.qualification.domain import ProductOfferingQualification
from catalog.recommendation.domain import QueryProductRecommendation
from chassis.cloudevents import ReceivedEvent
from chassis.erasures import carry_out, redact_aggregate
from chassis.unit import Unit
from svyaz.customers.v1 import privacy_pb2

# What a customer once asked, and was answered.
_ASKED = (ProductOfferingQualification, QueryProductRecommendation)


def person_erased(event: ReceivedEvent, unit: Unit) -> None:
    """What an erased person has asked is in nobody's books: it goes, and what is personal of it goes from the log."""
    if event.aggregate_type != "Erasure":
        return
    erasure = event.message(privacy_pb2.Erasure)
    records = [(record.kind, record.id) for record in erasure.record]
    for cls in _ASKED:
        for kind, key in records:
            found = unit.find(cls, key) if kind == cls.__name__ else None
            if found is not None:
                # Its last event is sent before the log is looked through.
                redact_aggregate(found, unit.database.resources[cls].message)
                unit.delete(found)
    carry_out(unit, erasure.id, erasure.branch, records)
