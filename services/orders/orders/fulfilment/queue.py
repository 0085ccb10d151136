"""Jobs of the manual queue: the same for many held tasks, some at a time, until as many have failed as is allowed."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert

from chassis import calls, queries
from chassis.convert import enum_prefix, from_message, to_message
from chassis.db import Database
from chassis.errors import FailedPrecondition, InvalidArgument
from chassis.resources import Collection
from chassis.timers import cancel_timer, set_timer
from chassis.types import new_id
from chassis.unit import Unit
from orders.fulfilment import store
from orders.fulfilment.domain import FulfilmentTask
from orders.fulfilment.hands import assign, fix, give_up, retry, skip
from orders.fulfilment.job import FulfilmentJob, FulfilmentJobAction, FulfilmentJobState, FulfilmentJobTaskState
from orders.fulfilment.steps import go_on, lock
from orders.fulfilment.values import FulfilmentTaskState
from svyaz.orders.v1 import fulfilment_pb2

# The purpose of our timers.
JOB = "fulfilment job"
# Tasks that are touched in one transaction; that are tried again at a time; how often it is looked what became of them.
AT_ONCE, TRIED_AT_ONCE, PAUSE = 50, 20, timedelta(seconds=1)
MOST_LISTED = 1000

_W = FulfilmentJobTaskState
_PREFIX = enum_prefix(fulfilment_pb2.FulfilmentJobTaskState.DESCRIPTOR)


class Jobs:
    """The jobs, as callers see them and as timers carry them on."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self.collection = Collection(database, FulfilmentJob, fulfilment_pb2.FulfilmentJob, replies=replies)

    def timers(self) -> dict[str, Callable[[str, Unit], None]]:
        """The handlers of our timers, by purpose."""
        return {JOB: self.step}

    def create(self, request: fulfilment_pb2.CreateFulfilmentJobRequest) -> fulfilment_pb2.FulfilmentJob:
        """Finds the held tasks that match now, and begins."""
        self.collection.require(request.fulfilment_job, ["action"])

        def work(unit: Unit) -> fulfilment_pb2.FulfilmentJob:
            branch = self._database.branch_for_create(FulfilmentJob, request.branch)
            job = from_message(request.fulfilment_job, FulfilmentJob, id=new_id(), branch=branch)
            job.check(unit.at)
            job.requested_by = calls.current().principal.subject
            unit.add(job)
            unit.flush()
            unit.session.execute(_found(job, request.filter))
            begin_count(unit, job)
            set_timer(unit, job.id, JOB, unit.at, job.branch)
            return self.collection.reply(unit, job)

        with queries.naming(request.filter):
            return self._database.transact(request, fulfilment_pb2.FulfilmentJob, work)

    def resume(self, request: fulfilment_pb2.FulfilmentJobRequest) -> fulfilment_pb2.FulfilmentJob:
        """Goes on after it was stopped."""

        def change(unit: Unit, job: FulfilmentJob) -> None:
            job.resume(_progress(unit, [job.id])[job.id].get(_W.FAILED, 0), unit.at)
            set_timer(unit, job.id, JOB, unit.at, job.branch)

        return self._change(request, change)

    def cancel(self, request: fulfilment_pb2.FulfilmentJobRequest) -> fulfilment_pb2.FulfilmentJob:
        """Touches nothing more."""

        def change(unit: Unit, job: FulfilmentJob) -> None:
            job.move(FulfilmentJobState.CANCELLED, unit.at)
            cancel_timer(unit, job.id, JOB)

        return self._change(request, change)

    def _change(
        self, request: fulfilment_pb2.FulfilmentJobRequest, change: Callable[[Unit, FulfilmentJob], None]
    ) -> fulfilment_pb2.FulfilmentJob:
        def work(unit: Unit) -> fulfilment_pb2.FulfilmentJob:
            job = unit.get(FulfilmentJob, request.id)
            change(unit, job)
            return self.collection.reply(unit, job)

        return self._database.transact(request, fulfilment_pb2.FulfilmentJob, work)

    def tasks(
        self, request: fulfilment_pb2.ListFulfilmentJobTasksRequest
    ) -> fulfilment_pb2.ListFulfilmentJobTasksResponse:
        """What has become of each task. Raises NotFound, InvalidArgument OUT_OF_RANGE."""
        limit = request.limit if request.HasField("limit") else 100
        if not 1 <= limit <= MOST_LISTED:
            raise InvalidArgument("OUT_OF_RANGE", f"at most {MOST_LISTED} tasks at a time")
        table = store.fulfilment_job_task.c
        numbers = fulfilment_pb2.FulfilmentJobTaskState.items()
        states = {number: FulfilmentJobTaskState[name.removeprefix(_PREFIX)] for name, number in numbers if number}
        with self._database.unit() as unit:
            unit.get(FulfilmentJob, request.id)
            where = [table.job_id == request.id, table.task_id > request.after]
            if request.state:
                where.append(table.state.in_([states[number] for number in request.state if number in states]))
            rows = unit.session.execute(
                sa.select(table.task_id, table.state, table.reason).where(*where).order_by(table.task_id).limit(limit)
            ).all()
        by_state = {state: number for number, state in states.items()}
        return fulfilment_pb2.ListFulfilmentJobTasksResponse(
            items=[
                fulfilment_pb2.FulfilmentJobTask(
                    task_id=row.task_id, state=by_state[row.state], reason=row.reason or ""
                )
                for row in rows
            ]
        )

    def step(self, job_id: str, unit: Unit) -> None:
        """Sees what became of the tasks that are being tried again, and touches some more."""
        job = unit.find(FulfilmentJob, job_id)
        if job is None or job.state is not FulfilmentJobState.IN_PROGRESS:
            return
        counted = Counter(_progress(unit, [job.id])[job.id])
        moved = _settle(unit, job)
        counted.update(moved)
        allowed = job.allows(counted[_W.FAILED])
        if allowed:
            touched = self._touch_some(unit, job, counted[_W.UNDER_WAY], allowed)
            moved.update(touched)
            counted.update(touched)
        _count(unit, job, moved)
        if not allowed:
            job.move(FulfilmentJobState.STOPPED, unit.at)
        elif counted[_W.WAITING] or counted[_W.UNDER_WAY] or not job.allows(counted[_W.FAILED]):
            busy = job.action is not FulfilmentJobAction.RETRY
            set_timer(unit, job.id, JOB, unit.at if busy else unit.at + PAUSE, job.branch)
        else:
            job.move(FulfilmentJobState.COMPLETED, unit.at)

    def _touch_some(self, unit: Unit, job: FulfilmentJob, under_way: int, allowed: int) -> Counter[_W]:
        """Does it to the next tasks, until so many have failed; how many more (or less) are in which state."""
        room = AT_ONCE
        if job.action is FulfilmentJobAction.RETRY:
            # So few at a time that no more of them can fail than are allowed.
            room = max(0, min(TRIED_AT_ONCE, allowed) - under_way)
        waiting = _waiting(unit, job, room)
        tasks = {task.id: task for task in unit.load(FulfilmentTask, "id = ANY (%(ids)s)", {"ids": waiting})}
        # By orders, as the steps of several take theirs: two who want the same wait for each other, never in a ring.
        waiting.sort(key=lambda task_id: tasks[task_id].product_order_id if task_id in tasks else "")
        moved: Counter[_W] = Counter()
        for task_id in waiting:
            moved.update({self._touch(unit, job, task_id, tasks.get(task_id)): 1, _W.WAITING: -1})
            if moved[_W.FAILED] == allowed:
                break
        return moved

    @staticmethod
    def _touch(unit: Unit, job: FulfilmentJob, task_id: str, task: FulfilmentTask | None) -> _W:
        """Does to one task what the job is for; what has become of it by that."""
        try:
            if task is None:
                raise FailedPrecondition("NOT_FOUND", "the task isn't there any more")
            lock(unit, task.product_order_id)
            _act(unit, job, task)
        except (FailedPrecondition, InvalidArgument) as refusal:
            _mark(unit, job, task_id, _W.FAILED, f"{refusal.reason}: {refusal.message}")
            return _W.FAILED
        go_on(unit, task)
        state = _W.UNDER_WAY if job.action is FulfilmentJobAction.RETRY else _W.DONE
        _mark(unit, job, task_id, state)
        return state


def _act(unit: Unit, job: FulfilmentJob, task: FulfilmentTask) -> None:
    """Changes nothing when it raises."""
    reason, by = job.reason or "", job.requested_by or ""
    if job.action is FulfilmentJobAction.RETRY:
        retry(unit, task)
    elif job.action is FulfilmentJobAction.SKIP:
        skip(unit, task, reason, by=by)
    elif job.action is FulfilmentJobAction.FIX:
        fix(unit, task, reason, by=by)
    elif job.action is FulfilmentJobAction.GIVE_UP:
        give_up(unit, task, reason, by=by)
    else:
        assign(unit, task, job.assignee)


def _found(job: FulfilmentJob, filters: Any) -> Any:
    """The statement that keeps the held tasks which the job is about."""
    table = store.fulfilment_task
    where = queries.conditions(table, fulfilment_pb2.FulfilmentTask, filters)
    found = sa.select(sa.literal(job.id), table.c.id, table.c.branch, sa.literal(str(_W.WAITING)).label("state")).where(
        table.c.state == FulfilmentTaskState.HELD, table.c.branch == job.branch, *where
    )
    return insert(store.fulfilment_job_task).from_select(["job_id", "task_id", "branch", "state"], found)


_MARK = """
    UPDATE fulfilment_job_task SET state = %(state)s, reason = %(reason)s
    WHERE job_id = %(job)s AND task_id = %(task)s
"""


def _mark(
    unit: Unit, job: FulfilmentJob, task_id: str, state: FulfilmentJobTaskState, reason: str | None = None
) -> None:
    unit.later(_MARK, {"job": job.id, "task": task_id, "state": str(state), "reason": reason})


# By an index of those that wait alone: by the table's key all that have been touched would be passed over each time.
_WAITING = """
    SELECT task_id FROM fulfilment_job_task WHERE job_id = %(job)s AND state = 'waiting' ORDER BY task_id LIMIT %(most)s
"""


def _waiting(unit: Unit, job: FulfilmentJob, most: int) -> list[str]:
    wanted = {"job": job.id, "most": most}
    return [row[0] for row in unit.cursor().execute(_WAITING, wanted)] if most else []


# One that has been done, or is past being tried, has succeeded; one that is held again, or has failed for good, hasn't.
_SETTLE = """
    WITH settled AS (
        UPDATE fulfilment_job_task mine SET
            state = CASE WHEN task.state IN ('completed', 'skipped') THEN 'done' ELSE 'failed' END,
            reason = CASE
                WHEN task.state IN ('completed', 'skipped') THEN NULL ELSE coalesce(task.reason, task.state)
            END
        FROM fulfilment_task task
        WHERE mine.job_id = %(job)s AND mine.state = 'underWay' AND task.id = mine.task_id
            AND task.state <> ALL ('{pending,inProgress}')
        RETURNING mine.state
    )
    SELECT state, count(*) FROM settled GROUP BY state
"""


def _settle(unit: Unit, job: FulfilmentJob) -> Counter[_W]:
    """Sees what became of those under way; how many more (or less) are in which state."""
    moved: Counter[_W] = Counter()
    for state, number in unit.cursor().execute(_SETTLE, {"job": job.id}):
        moved.update({FulfilmentJobTaskState(state): number, _W.UNDER_WAY: -number})
    return moved


_BEGIN_COUNT = """
    INSERT INTO fulfilment_job_progress (job_id, state, branch, count)
    SELECT job_id, state, branch, count(*) FROM fulfilment_job_task WHERE job_id = %(job)s GROUP BY 1, 2, 3
"""
_COUNT = """
    INSERT INTO fulfilment_job_progress (job_id, state, branch, count)
    VALUES (%(job)s, %(state)s, %(branch)s, %(count)s)
    ON CONFLICT (job_id, state) DO UPDATE SET count = fulfilment_job_progress.count + excluded.count
"""


def begin_count(unit: Unit, job: FulfilmentJob) -> None:
    """Counts the tasks of a job that begins; from then on only what moves is counted."""
    unit.cursor().execute(_BEGIN_COUNT, {"job": job.id})


def _count(unit: Unit, job: FulfilmentJob, moved: Mapping[_W, int]) -> None:
    """So many more (or less) of a job's tasks are in a state."""
    rows = [
        {"job": job.id, "state": str(state), "branch": job.branch, "count": number}
        for state, number in sorted(moved.items())
        if number
    ]
    if rows:
        unit.later(_COUNT, *rows)


def _progress(unit: Unit, job_ids: Sequence[str]) -> Mapping[str, Mapping[FulfilmentJobTaskState, int]]:
    """How many tasks of each job are in which state."""
    counted: dict[str, dict[FulfilmentJobTaskState, int]] = {job_id: {} for job_id in job_ids}
    if job_ids:
        table = store.fulfilment_job_progress.c
        query = sa.select(table.job_id, table.state, table.count).where(table.job_id.in_(job_ids))
        for job_id, state, number in unit.session.execute(query):
            counted[job_id][state] = number
    return counted


def replies(unit: Unit, jobs: Sequence[FulfilmentJob]) -> Sequence[fulfilment_pb2.FulfilmentJob]:
    """The jobs with how far they are."""
    counted = _progress(unit, [job.id for job in jobs])
    messages = []
    for job in jobs:
        message = to_message(job, fulfilment_pb2.FulfilmentJob)
        states = counted[job.id]
        message.progress.total = sum(states.values())
        message.progress.waiting = states.get(_W.WAITING, 0)
        message.progress.under_way = states.get(_W.UNDER_WAY, 0)
        message.progress.done = states.get(_W.DONE, 0)
        message.progress.failed = states.get(_W.FAILED, 0)
        messages.append(message)
    return messages
