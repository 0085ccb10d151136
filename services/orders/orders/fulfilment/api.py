"""What can be asked of fulfilment: its specifications, its tasks, and the manual queue."""

from collections.abc import Callable, Collection
from typing import Any

from chassis import calls
from chassis.convert import from_message
from chassis.db import Database
from chassis.errors import AlreadyExists, PermissionDenied
from chassis.resources import Collection as Resources
from chassis.resources import StandardMethods
from chassis.types import COMMON, new_id
from chassis.unit import Unit
from orders.fulfilment import store
from orders.fulfilment.domain import FulfilmentTask
from orders.fulfilment.hands import assign, fix, give_up, retry, skip
from orders.fulfilment.queue import Jobs
from orders.fulfilment.refusal import RefusedFulfilmentReport
from orders.fulfilment.reporters import Reporters
from orders.fulfilment.reports import characteristics_of, completed, not_done, resources_of
from orders.fulfilment.specification import FulfilmentSpecification
from orders.fulfilment.steps import go_on, lock
from svyaz.orders.v1 import fulfilment_pb2

# Who says nothing of it lets no system speak.
NOBODY = Reporters()


class Fulfilments(StandardMethods):
    """How orders are fulfilled."""

    def __init__(self, database: Database, systems: Collection[str], jobs: Jobs, reporters: Reporters = NOBODY) -> None:
        self._database = database
        self._systems = systems
        self._jobs = jobs
        self._reporters = reporters
        self._specifications = Resources(
            database,
            FulfilmentSpecification,
            fulfilment_pb2.FulfilmentSpecification,
            changed=lambda unit, one: one.require_systems(systems),
        )
        self._tasks = Resources(database, FulfilmentTask, fulfilment_pb2.FulfilmentTask)
        super().__init__(
            fulfilment_pb2.DESCRIPTOR.services_by_name["FulfilmentService"],
            self._specifications,
            self._tasks,
            Resources(database, RefusedFulfilmentReport, fulfilment_pb2.RefusedFulfilmentReport),
            jobs.collection,
        )

    # --- specifications ----------------------------------------------------------------------------------------------

    def CreateFulfilmentSpecification(
        self, request: fulfilment_pb2.CreateFulfilmentSpecificationRequest, context: Any
    ) -> fulfilment_pb2.FulfilmentSpecification:
        """Says how something is fulfilled from now on. Raises InvalidArgument INVALID_SPECIFICATION, AlreadyExists
        SPECIFICATION_EXISTS."""

        def work(unit: Unit) -> fulfilment_pb2.FulfilmentSpecification:
            branch = self._branch(request.branch)
            made = from_message(request.fulfilment_specification, FulfilmentSpecification, id=new_id(), branch=branch)
            made.check(unit.at)
            made.require_systems(self._systems)
            if not unit.add_unless_there(made):
                there = store.like(unit, made)
                raise AlreadyExists(
                    "SPECIFICATION_EXISTS",
                    f"the branch has a specification for {made.action!r} of {made.product_specification_id or 'all'}",
                    metadata={"id": there.id} if there is not None else {},
                )
            return self._specifications.reply(unit, made)

        return self._database.transact(request, fulfilment_pb2.FulfilmentSpecification, work)

    def _branch(self, named: str) -> str:
        if named != COMMON:
            return self._database.branch_for_create(FulfilmentSpecification, named)
        if not calls.current().principal.every_branch:
            raise PermissionDenied("BRANCH_FORBIDDEN", "only who may see every branch says something for all of them")
        return COMMON

    # --- what external systems say -----------------------------------------------------------------------------------

    def CompleteFulfilmentTask(
        self, request: fulfilment_pb2.CompleteFulfilmentTaskRequest, context: Any
    ) -> fulfilment_pb2.FulfilmentTask:
        """It is done, by whichever attempt; the attempt that has done it may say so again. Raises FailedPrecondition
        TASK_CLOSED, BAD_ATTEMPT for one that is still to come, PermissionDenied OTHER_SYSTEM."""
        result, resource = characteristics_of(request.result), resources_of(request.resource)
        return self._told(request, lambda unit, task: completed(unit, task, request.attempt, result, resource))

    def FailFulfilmentTask(
        self, request: fulfilment_pb2.FailFulfilmentTaskRequest, context: Any
    ) -> fulfilment_pb2.FulfilmentTask:
        """The attempt has failed. Raises FailedPrecondition TASK_CLOSED, STALE_ATTEMPT for another than the present,
        PermissionDenied OTHER_SYSTEM."""
        reason, retryable = request.reason, request.retryable
        return self._told(
            request, lambda unit, task: not_done(unit, task, request.attempt, reason, retryable=retryable)
        )

    def _told(self, request: Any, take: Callable[[Unit, FulfilmentTask], object]) -> fulfilment_pb2.FulfilmentTask:
        def by_its_system(unit: Unit, task: FulfilmentTask) -> None:
            self._reporters.require(calls.current().principal, task.system)
            take(unit, task)

        return self._report(request, by_its_system)

    # --- the manual queue --------------------------------------------------------------------------------------------

    def AssignFulfilmentTask(
        self, request: fulfilment_pb2.AssignFulfilmentTaskRequest, context: Any
    ) -> fulfilment_pb2.FulfilmentTask:
        """Gives a held task to somebody; raises FailedPrecondition BAD_TRANSITION."""
        return self._change(request, lambda unit, task: assign(unit, task, request.assignee))

    def RetryFulfilmentTask(
        self, request: fulfilment_pb2.FulfilmentTaskRequest, context: Any
    ) -> fulfilment_pb2.FulfilmentTask:
        """Tries a held task again; raises FailedPrecondition BAD_TRANSITION."""
        return self._change(request, retry)

    def FixFulfilmentTask(
        self, request: fulfilment_pb2.FixFulfilmentTaskRequest, context: Any
    ) -> fulfilment_pb2.FulfilmentTask:
        """A held task has been done by hand; raises InvalidArgument REQUIRED, FailedPrecondition BAD_TRANSITION."""
        result, resource = characteristics_of(request.result), resources_of(request.resource)
        return self._change(request, lambda unit, task: fix(unit, task, request.reason, result, resource))

    def SkipFulfilmentTask(
        self, request: fulfilment_pb2.FulfilmentTaskRequest, context: Any
    ) -> fulfilment_pb2.FulfilmentTask:
        """The order goes on without a held task; raises InvalidArgument REQUIRED, FailedPrecondition BAD_TRANSITION."""
        return self._change(request, lambda unit, task: skip(unit, task, request.reason))

    def GiveUpFulfilmentTask(
        self, request: fulfilment_pb2.FulfilmentTaskRequest, context: Any
    ) -> fulfilment_pb2.FulfilmentTask:
        """A held task won't be done. Raises InvalidArgument REQUIRED, FailedPrecondition BAD_TRANSITION,
        POINT_OF_NO_RETURN."""
        return self._change(request, lambda unit, task: give_up(unit, task, request.reason))

    def _change(self, request: Any, change: Callable[[Unit, FulfilmentTask], None]) -> fulfilment_pb2.FulfilmentTask:
        def changed(unit: Unit, task: FulfilmentTask) -> None:
            change(unit, task)
            go_on(unit, task)

        return self._report(request, changed)

    def _report(self, request: Any, take: Callable[[Unit, FulfilmentTask], object]) -> fulfilment_pb2.FulfilmentTask:
        def work(unit: Unit) -> fulfilment_pb2.FulfilmentTask:
            task = unit.get(FulfilmentTask, request.id, getattr(request, "etag", ""))
            # The step that is being made, if any, comes first.
            lock(unit, task.product_order_id)
            take(unit, task)
            return self._tasks.reply(unit, task)

        return self._database.transact(request, fulfilment_pb2.FulfilmentTask, work)

    # --- jobs --------------------------------------------------------------------------------------------------------

    def CreateFulfilmentJob(
        self, request: fulfilment_pb2.CreateFulfilmentJobRequest, context: Any
    ) -> fulfilment_pb2.FulfilmentJob:
        """Begins to do the same to all held tasks that match."""
        return self._jobs.create(request)

    def ResumeFulfilmentJob(
        self, request: fulfilment_pb2.FulfilmentJobRequest, context: Any
    ) -> fulfilment_pb2.FulfilmentJob:
        """Goes on after the threshold; raises FailedPrecondition BAD_TRANSITION."""
        return self._jobs.resume(request)

    def CancelFulfilmentJob(
        self, request: fulfilment_pb2.FulfilmentJobRequest, context: Any
    ) -> fulfilment_pb2.FulfilmentJob:
        """Touches no further task; raises FailedPrecondition BAD_TRANSITION."""
        return self._jobs.cancel(request)

    def ListFulfilmentJobTasks(
        self, request: fulfilment_pb2.ListFulfilmentJobTasksRequest, context: Any
    ) -> fulfilment_pb2.ListFulfilmentJobTasksResponse:
        """What has become of each task of a job; raises NotFound."""
        return self._jobs.tasks(request)
