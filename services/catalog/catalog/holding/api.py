"""How the knowledge of what is held is mended."""

from typing import Any

from catalog.holding import store
from catalog.holding.heard import heard_again
from chassis import calls
from chassis.convert import from_timestamp, to_timestamp
from chassis.db import Database
from chassis.errors import PermissionDenied
from svyaz.catalog.v1 import holding_pb2, holding_pb2_grpc


class Holdings(holding_pb2_grpc.HoldingServiceServicer):
    """What the catalog knows of what customers hold."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def RebuildHoldings(
        self, request: holding_pb2.RebuildHoldingsRequest, context: Any
    ) -> holding_pb2.RebuildHoldingsResponse:
        """Hears the events once more. Raises PermissionDenied for who may not act in every branch."""
        if not calls.current().principal.every_branch:
            raise PermissionDenied("BRANCH_FORBIDDEN", "what is held is rebuilt for all branches together")
        with self._database.unit() as unit:
            for event in request.event:
                heard_again(event, unit)
            unit.flush()
            forgotten = 0
            if request.HasField("forget_unseen_since"):
                forgotten = store.forget_unseen(unit, from_timestamp(request.forget_unseen_since))
            return holding_pb2.RebuildHoldingsResponse(began_at=to_timestamp(unit.at), forgotten=forgotten)
