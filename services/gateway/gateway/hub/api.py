"""What the hub can be asked to do with subscriptions."""

from typing import Any

from google.protobuf.empty_pb2 import Empty

from chassis import convert
from chassis.db import Database
from chassis.errors import FailedPrecondition, InvalidArgument, Violation
from chassis.resources import Collection, StandardMethods
from chassis.types import new_id
from chassis.unit import Unit
from gateway.hub import matching, store
from gateway.hub.callbacks import Callbacks
from gateway.hub.delivery import Dispatcher
from gateway.hub.domain import MAX_SUBSCRIPTIONS, Subscription, new_secret
from svyaz.hub.v1 import hub_pb2
from svyaz.type.v1 import requests_pb2


class Hub(StandardMethods):
    """Subscriptions, each of one branch, `most` of a branch to one API."""

    def __init__(
        self, database: Database, callbacks: Callbacks, dispatcher: Dispatcher, *, most: int = MAX_SUBSCRIPTIONS
    ) -> None:
        self._database = database
        self._callbacks = callbacks
        self._dispatcher = dispatcher
        self._most = most
        self._subscriptions = Collection(database, Subscription, hub_pb2.Subscription)
        super().__init__(hub_pb2.DESCRIPTOR.services_by_name["HubService"], self._subscriptions)

    def CreateSubscription(self, request: hub_pb2.CreateSubscriptionRequest, context: Any) -> hub_pb2.Subscription:
        """Takes a callback on; the answer alone holds the secret that deliveries are signed with.

        Raises InvalidArgument, FailedPrecondition TOO_MANY_SUBSCRIPTIONS.
        """
        body = request.subscription
        self._subscriptions.require(body, ["callback"])
        if body.api not in matching.APIS:
            raise InvalidArgument(
                "UNKNOWN_API",
                f"there is no API {body.api!r}",
                violations=[Violation("subscription.api", f"must be one of {', '.join(matching.APIS)}")],
            )
        self._callbacks.check(body.callback)
        matching.check(body.api, body.query)

        def work(unit: Unit) -> hub_pb2.Subscription:
            branch = self._database.branch_for_create(Subscription, request.branch)
            if store.subscriptions(unit, body.api, branch) >= self._most:
                raise FailedPrecondition(
                    "TOO_MANY_SUBSCRIPTIONS",
                    f"the branch {branch} has {self._most} subscriptions to {body.api} already",
                )
            made = convert.from_message(
                body, Subscription, id=new_id(), branch=branch, api=body.api, signing_secret=new_secret()
            )
            unit.add(made)
            answer = self._subscriptions.reply(unit, made)
            answer.secret = made.signing_secret
            return answer

        return self._database.transact(request, hub_pb2.Subscription, work)

    def DeleteSubscription(self, request: requests_pb2.DeleteRequest, context: Any) -> Empty:
        """Ends the deliveries at once; what still waits is cleared away afterwards. Raises NotFound."""

        def work(unit: Unit) -> Empty:
            subscription = unit.get(Subscription, request.id, request.etag)
            store.forget(unit, subscription.id, subscription.branch)
            unit.delete(subscription)
            return Empty()

        return self._database.transact(request, Empty, work)

    def ResumeSubscription(self, request: hub_pb2.ResumeSubscriptionRequest, context: Any) -> hub_pb2.Subscription:
        """Delivers again what has waited, then what is new. Raises NotFound, FailedPrecondition NOT_SUSPENDED."""

        def work(unit: Unit) -> hub_pb2.Subscription:
            subscription = unit.get(Subscription, request.id)
            subscription.resume()
            store.begin_anew(unit, subscription.id)
            unit.after_commit(self._dispatcher.wake)
            return self._subscriptions.reply(unit, subscription)

        return self._database.transact(request, hub_pb2.Subscription, work)
