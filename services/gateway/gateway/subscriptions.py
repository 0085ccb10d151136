"""The hubs of the TM Forum APIs over REST: `POST /hub {callback, query}`, on the hub's own service."""

from collections.abc import Sequence
from typing import Any

from flask import Response

from chassis.errors import NotFound
from chassis.tmfjson import descriptor_of
from gateway.collection import Collection
from gateway.resources import CREATE, DELETE, GET, LIST, RESOURCES, Resource
from svyaz.hub.v1 import hub_pb2, hub_pb2_grpc
from svyaz.type.v1 import requests_pb2

NAME = "hub"
_ALLOWED = frozenset({GET, LIST, CREATE, DELETE})

HUBS: Sequence[Resource] = tuple(
    Resource(api, NAME, hub_pb2.Subscription, hub_pb2_grpc.HubServiceStub, _ALLOWED)
    for api in dict.fromkeys(resource.api for resource in RESOURCES)
)


class Hub(Collection):
    """The hub of one API: the subscriptions to its resources, and nobody else's."""

    def get(self, id: str) -> Response:
        """GET of one subscription."""
        self._require_ours(id)
        return super().get(id)

    def delete(self, id: str) -> Response:
        """DELETE of one subscription."""
        # One that isn't there may have been deleted by this very request, sent again: the hub remembers.
        self._require_ours(id, unless_absent=True)
        return super().delete(id)

    def _require_ours(self, id: str, *, unless_absent: bool = False) -> None:
        try:
            found = super()._call(GET, requests_pb2.GetRequest(id=id))
        except NotFound:
            if unless_absent:
                return
            raise
        if found.api != self.resource.api:
            kind = descriptor_of(self.resource.message_class).name
            raise NotFound("NOT_FOUND", f"there is no {kind} {id!r}", metadata={"resource": kind, "id": id})

    def _call(self, verb: str, arguments: Any, *, repeatable: bool = True) -> Any:
        if verb == CREATE:
            arguments.subscription.api = self.resource.api
        elif verb == LIST:
            arguments.filter.add(path="api", operator=requests_pb2.Filter.OPERATOR_EQ, value=[self.resource.api])
        return super()._call(verb, arguments, repeatable=repeatable)
