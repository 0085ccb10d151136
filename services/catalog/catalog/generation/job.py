"""Writes a large family by steps, each the handler of a timer.

A step is a transaction: the drafts of some cells, how far the family is, and the timer of the next step. Who is killed
loses the step that he was in, and what is there already is found unchanged by whoever goes on. Nobody else waits for
the references longer than a step takes.
"""

import threading
from collections.abc import Mapping

from catalog.generation import store
from catalog.generation.domain import GenerationState, TariffTemplate
from catalog.generation.plan import Plan, Reckoned, order, plan_of, reckoned, write
from catalog.generation.store import Generation
from catalog.product.api import Guards
from chassis.auth import EVERY_BRANCH
from chassis.calls import Call
from chassis.references import lock_references
from chassis.timers import TimerHandler, last_error, set_timer
from chassis.types import COMMON
from chassis.unit import Unit

GENERATE = "generate-family"
# Cells of one transaction.
BATCH = 200
# A step that has failed so often, half a minute in all, fails for ever.
ATTEMPTS = 6


def running(unit: Unit, template: TariffTemplate) -> Generation | None:
    """What is being written of the template as it is."""
    found = store.generation(unit, template.id)
    goes_on = found is not None and found.state is GenerationState.RUNNING and found.revision == template.revision
    return found if goes_on else None


def begin(unit: Unit, plan: Plan) -> Generation:
    """Lets the family be written by steps."""
    template = plan.template
    principal = unit.call.principal
    made = Generation(
        template.id,
        template.revision,
        GenerationState.RUNNING,
        principal.on_behalf_of or principal.subject,
        len(plan.steps),
    )
    store.keep_generation(unit, made)
    set_timer(unit, template.id, GENERATE, unit.at, COMMON)
    return made


class Families:
    """The steps of families."""

    def __init__(self, guards: Guards, *, batch: int = BATCH, attempts: int = ATTEMPTS) -> None:
        self._guards = guards
        self._batch = batch
        self._attempts = attempts
        # What was reckoned last, so that a step needn't reckon the whole grid again.
        self._last: tuple[str, int, Reckoned] | None = None
        self._lock = threading.Lock()

    def timers(self) -> Mapping[str, TimerHandler]:
        """Purpose → handler."""
        return {GENERATE: self.step}

    def step(self, template_id: str, unit: Unit) -> None:
        """Writes the next cells."""
        made = store.generation(unit, template_id)
        if made is None or made.state is not GenerationState.RUNNING:
            return
        failed = last_error(unit, template_id, GENERATE, self._attempts)
        template = unit.find(TariffTemplate, template_id)
        if template is None:
            # It has been deleted just now, and how far its family is with it.
            return
        if failed is not None:
            made.state, made.error = GenerationState.FAILED, failed
        elif template.revision != made.revision:
            made.state, made.error = GenerationState.FAILED, "the template has changed since: generate again"
        else:
            by = Call.background(
                "catalog", f"timer/{GENERATE}", branches=(EVERY_BRANCH,), on_behalf_of=made.requested_by
            )
            with unit.on_behalf(by):
                self._write(unit, template, made)
        store.keep_generation(unit, made)
        if made.state is GenerationState.RUNNING:
            set_timer(unit, template_id, GENERATE, unit.at, COMMON)

    def _write(self, unit: Unit, template: TariffTemplate, made: Generation) -> None:
        found = self._reckoned(template)
        lock_references(unit)
        store.check_unchanged(unit, template)
        keys = order(unit, found)
        some = keys[made.done : made.done + self._batch]
        write(unit, plan_of(unit, found, some), self._guards)
        made.total = len(keys)
        made.done += len(some)
        if made.done >= made.total:
            made.state = GenerationState.SUCCEEDED

    def _reckoned(self, template: TariffTemplate) -> Reckoned:
        with self._lock:
            if self._last is not None and self._last[:2] == (template.id, template.revision):
                return self._last[2]
        found = reckoned(template)
        with self._lock:
            self._last = (template.id, template.revision, found)
        return found
