"""Tables of fulfilment, and the questions asked of them."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from itertools import groupby

import sqlalchemy as sa

from chassis.schema import EnumText, Resource, aggregate_table
from chassis.types import COMMON, Aggregate
from chassis.unit import Unit
from orders.fulfilment.domain import OPEN, FulfilmentTask
from orders.fulfilment.job import FulfilmentJob, FulfilmentJobTaskState
from orders.fulfilment.refusal import RefusedFulfilmentReport
from orders.fulfilment.specification import FulfilmentSpecification
from orders.fulfilment.values import FulfilmentTaskState
from orders.schema import metadata
from svyaz.orders.v1 import fulfilment_pb2

fulfilment_specification = aggregate_table(
    metadata,
    "fulfilment_specification",
    FulfilmentSpecification,
    sa.Index(
        "fulfilment_specification_of",
        sa.text("coalesce(product_specification_id, '')"),
        "action",
        "branch",
        unique=True,
    ),
)
HELD = f"state = '{FulfilmentTaskState.HELD}'"
fulfilment_task = aggregate_table(
    metadata,
    "fulfilment_task",
    FulfilmentTask,
    sa.Index("fulfilment_task_product_order_id", "product_order_id", "position"),
    # The manual queue.
    sa.Index("fulfilment_task_held", "branch", "system", "id", postgresql_where=sa.text(HELD)),
)
refused_fulfilment_report = aggregate_table(
    metadata,
    "refused_fulfilment_report",
    RefusedFulfilmentReport,
    sa.Index("refused_fulfilment_report_task", "fulfilment_task_id"),
)
fulfilment_job = aggregate_table(metadata, "fulfilment_job", FulfilmentJob)
# What a job is about, a row for each task.
fulfilment_job_task = sa.Table(
    "fulfilment_job_task",
    metadata,
    sa.Column("job_id", sa.Text, primary_key=True),
    sa.Column("task_id", sa.Text, primary_key=True),
    sa.Column("branch", sa.Text, nullable=False),
    sa.Column("state", EnumText(FulfilmentJobTaskState), nullable=False),
    sa.Column("reason", sa.Text),
    sa.Index("fulfilment_job_task_state", "job_id", "state", "task_id"),
    sa.Index("fulfilment_job_task_waiting", "job_id", "task_id", postgresql_where=sa.text("state = 'waiting'")),
)
# How many of them are in which state, kept up with them: a step that counted would take longer the larger its job is.
fulfilment_job_progress = sa.Table(
    "fulfilment_job_progress",
    metadata,
    sa.Column("job_id", sa.Text, primary_key=True),
    sa.Column("state", EnumText(FulfilmentJobTaskState), primary_key=True),
    sa.Column("branch", sa.Text, nullable=False),
    sa.Column("count", sa.BigInteger, nullable=False),
)

RESOURCES: Mapping[type[Aggregate], Resource] = {
    FulfilmentSpecification: Resource(fulfilment_pb2.FulfilmentSpecification, fulfilment_specification),
    FulfilmentTask: Resource(fulfilment_pb2.FulfilmentTask, fulfilment_task),
    RefusedFulfilmentReport: Resource(fulfilment_pb2.RefusedFulfilmentReport, refused_fulfilment_report),
    FulfilmentJob: Resource(fulfilment_pb2.FulfilmentJob, fulfilment_job),
}

# The key under which a unit keeps the tasks of an order that it has read.
_TASKS = "fulfilment tasks"
_SPECIFICATIONS = "fulfilment specifications"


def read_ahead(unit: Unit, order_ids: Sequence[str]) -> None:
    """Reads the tasks of several orders in one statement; `tasks_of` then finds them in the unit, which holds them."""
    by_order = _by_order(unit, order_ids)
    for order_id in order_ids:
        unit.known[_TASKS, order_id] = by_order.get(order_id, [])


def tasks_of(unit: Unit, order_id: str) -> list[FulfilmentTask]:
    """The tasks of an order, in their places; what the unit adds to the list, it knows too."""
    known: list[FulfilmentTask] | None = unit.known.get((_TASKS, order_id))
    if known is None:
        known = unit.known[_TASKS, order_id] = _by_order(unit, [order_id]).get(order_id, [])
    return known


def _by_order(unit: Unit, order_ids: Sequence[str]) -> dict[str, list[FulfilmentTask]]:
    found = unit.load(
        FulfilmentTask,
        "product_order_id = ANY (%(orders)s) ORDER BY product_order_id, position",
        {"orders": list(order_ids)},
    )
    return {order_id: list(tasks) for order_id, tasks in groupby(found, key=lambda task: task.product_order_id)}


def add(unit: Unit, order_id: str, tasks: Iterable[FulfilmentTask]) -> None:
    """Keeps new tasks of an order."""
    known = tasks_of(unit, order_id)
    for task in tasks:
        unit.add(task)
        known.append(task)


def specifications(
    unit: Unit, branch: str, product_specification_ids: Collection[str], actions: Collection[str]
) -> list[FulfilmentSpecification]:
    """What a branch's plans may go by, for these product specifications and actions: its own, and everybody's."""
    of, to_do = {*product_specification_ids, ""}, set(actions)
    known = unit.known.get((_SPECIFICATIONS, branch))
    if known is not None:
        # Read for several orders together.
        read_of, read_to_do, found = known
        if of <= read_of and to_do <= read_to_do:
            kept: list[FulfilmentSpecification] = found
            return kept
    wanted = {"branches": sorted({branch, COMMON}), "specifications": sorted(of), "actions": sorted(to_do)}
    found = unit.load(
        FulfilmentSpecification,
        "coalesce(product_specification_id, '') = ANY (%(specifications)s) AND action = ANY (%(actions)s)"
        " AND branch = ANY (%(branches)s) ORDER BY id",
        wanted,
    )
    unit.known[_SPECIFICATIONS, branch] = of, to_do, found
    return found


_EXISTING = "coalesce(product_specification_id, '') = %(of)s AND action = %(action)s AND branch = %(branch)s"


def like(unit: Unit, specification: FulfilmentSpecification) -> FulfilmentSpecification | None:
    """The branch's specification of the same product specification and action."""
    wanted = {
        "of": specification.product_specification_id or "",
        "action": specification.action,
        "branch": specification.branch,
    }
    return next(iter(unit.load(FulfilmentSpecification, _EXISTING, wanted)), None)


def ids_of(unit: Unit, order_ids: Sequence[str]) -> list[str]:
    """The ids of all tasks of the orders."""
    query = "SELECT id FROM fulfilment_task WHERE product_order_id = ANY (%(orders)s) ORDER BY id"
    return [row[0] for row in unit.cursor().execute(query, {"orders": list(order_ids)})] if order_ids else []


def order_of(unit: Unit, task_id: str) -> str | None:
    """The id of a task's order; None: there is no such task. Of the task nothing is read: whoever changes it, locks its
    order before he reads it."""
    row = unit.cursor().execute("SELECT product_order_id FROM fulfilment_task WHERE id = %(id)s", {"id": task_id})
    found = row.fetchone()
    return None if found is None else str(found[0])


def refusals_about(unit: Unit, task_ids: Sequence[str]) -> list[str]:
    """The ids of the reports about these tasks that were refused."""
    query = "SELECT id FROM refused_fulfilment_report WHERE fulfilment_task_id = ANY (%(tasks)s) ORDER BY id"
    return [row[0] for row in unit.cursor().execute(query, {"tasks": list(task_ids)})] if task_ids else []


# By the table's key: jobs are few, tasks of jobs are many.
_FORGET = """
    UPDATE fulfilment_job_task touched SET reason = NULL
    FROM fulfilment_job job CROSS JOIN unnest(%(tasks)s::text[]) AS about (task_id)
    WHERE touched.job_id = job.id AND touched.task_id = about.task_id
"""


def jobs_about(unit: Unit, task_ids: Sequence[str]) -> list[str]:
    """The ids of the jobs that have been about one of these tasks."""
    query = """
        SELECT job.id FROM fulfilment_job job WHERE EXISTS (
            SELECT FROM fulfilment_job_task touched
            WHERE touched.job_id = job.id AND touched.task_id = ANY (%(tasks)s)
        ) ORDER BY job.id
    """
    return [row[0] for row in unit.cursor().execute(query, {"tasks": list(task_ids)})] if task_ids else []


def forget_reasons(unit: Unit, task_ids: Sequence[str]) -> None:
    """Why one of these tasks failed isn't known to any job any more."""
    if task_ids:
        unit.later(_FORGET, {"tasks": list(task_ids)})


def delete_tasks(unit: Unit, order_id: str) -> None:
    """Deletes the tasks of an order that is deleted."""
    for task in tasks_of(unit, order_id):
        unit.delete(task)


def any_open(tasks: Iterable[FulfilmentTask]) -> bool:
    """Whether something is still to happen to one of the tasks."""
    return any(task.state in OPEN for task in tasks)


def forget(unit: Unit, order_id: str) -> None:
    """Reads the tasks anew when they are next asked for: somebody else may have changed them meanwhile."""
    unit.known.pop((_TASKS, order_id), None)
