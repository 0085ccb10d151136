"""Lists of what belongs to somebody who goes by several ids: whoever asks by one of them asks by all."""

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from google.protobuf.message import Message

from chassis.db import Database
from chassis.resources import Collection
from chassis.types import Aggregate
from chassis.unit import Unit
from svyaz.type.v1 import requests_pb2

A = TypeVar("A", bound=Aggregate)
M = TypeVar("M", bound=Message)

# Ids → these, and all others by which the same are known.
Aliases = Callable[[Unit, Sequence[str]], Sequence[str]]
EQUALS = (requests_pb2.Filter.OPERATOR_EQ, requests_pb2.Filter.OPERATOR_UNSPECIFIED)


class AliasedCollection(Collection[A, M]):
    """`by`: the paths at which a thing says whose it is; `aliases` tells the other ids of these."""

    def __init__(
        self,
        database: Database,
        cls: type[A],
        message: type[M],
        *,
        aliases: Aliases,
        by: Sequence[str] = ("related_party.id",),
        **hooks: Any,
    ) -> None:
        super().__init__(database, cls, message, **hooks)
        self._aliases = aliases
        self._by = tuple(by)

    def list(self, request: requests_pb2.ListRequest, response: type[Any]) -> Any:
        """A page; filters by whose it is are by all ids of those."""
        if any(one.path in self._by and one.operator in EQUALS for one in request.filter):
            request = asking(request, self._by, self._all)
        return super().list(request, response)

    def _all(self, ids: Sequence[str]) -> Sequence[str]:
        with self.database.unit() as unit:
            return self._aliases(unit, ids)


def asking(
    request: requests_pb2.ListRequest, paths: Sequence[str], ids: Callable[[Sequence[str]], Sequence[str]]
) -> requests_pb2.ListRequest:
    """The request with other ids in its filters by these paths."""
    rewritten = requests_pb2.ListRequest()
    rewritten.CopyFrom(request)
    for one in rewritten.filter:
        # A NUL is refused where every filter is looked at.
        if one.path in paths and one.operator in EQUALS and one.value and "\0" not in "".join(one.value):
            one.value[:] = ids(one.value)
    return rewritten
