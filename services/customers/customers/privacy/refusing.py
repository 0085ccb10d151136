"""What was taken out of a person's records isn't written into them again."""

from chassis.convert import to_message
from chassis.erasures import erased
from chassis.errors import FailedPrecondition
from chassis.personal import redact
from chassis.unit import Unit
from customers.party.domain import Referrer


class ErasureWatcher:
    """Refuses changes that would make an erased person known again; others, as of a state, are made."""

    def created(self, unit: Unit, aggregate: Referrer) -> None:
        """Who comes back is a new record."""

    def changed(self, unit: Unit, aggregate: Referrer) -> None:
        """Raises FailedPrecondition ERASED."""
        cls = type(aggregate)
        if not erased(unit, cls.__name__, aggregate.id):
            return
        if redact(to_message(aggregate, unit.database.resources[cls].message)):
            raise FailedPrecondition(
                "ERASED", f"{cls.__name__} {aggregate.id} was erased: who comes back is a new record, not this one"
            )

    def deleted(self, unit: Unit, aggregate: Referrer) -> None:
        """Nothing is left to be refused."""
