"""Orders that would be late: it is said as soon as what is left can't be done any more before the promised date."""

from collections.abc import Sequence
from datetime import datetime

from prometheus_client import Counter

from chassis.unit import Unit
from orders.fulfilment.domain import FulfilmentTask
from orders.fulfilment.plan import late_from
from orders.ordering.domain import ProductOrder
from orders.ordering.values import ProductOrderState

JEOPARDY = Counter("svyaz_order_jeopardy_total", "Orders that won't be done by the date they are promised for")


def look(unit: Unit, order: ProductOrder, tasks: Sequence[FulfilmentTask]) -> datetime | None:
    """Says once of an order, and of the tasks by which it is, that it would be late; takes it back when it isn't any
    more. When it would be from, if nothing happens; None: it can't be, or has been said."""
    promised = order.promised
    if promised is None or order.state not in (ProductOrderState.IN_PROGRESS, ProductOrderState.HELD):
        order.jeopardy_date = None
        return None
    late = late_from(tasks, promised, unit.at)
    news = [task for task in tasks if task.jeopardy_at is None and task.id in late and late[task.id] <= unit.at]
    for task in tasks:
        if task.jeopardy_at is not None and not (task.id in late and late[task.id] <= unit.at):
            task.jeopardy_at = None
    in_jeopardy = any(at <= unit.at for at in late.values())
    first = in_jeopardy and order.jeopardy_date is None
    if news or first:
        # What else has happened is said in events of its own.
        unit.flush()
    for task in news:
        task.jeopardy_at = unit.at
        unit.announce(task, "Jeopardy")
    if first:
        order.jeopardy_date = unit.at
        unit.announce(order, "Jeopardy")
        unit.after_commit(JEOPARDY.inc)
    elif not in_jeopardy:
        order.jeopardy_date = None
    if news or first:
        unit.flush()
    return min((at for at in late.values() if at > unit.at), default=None)
