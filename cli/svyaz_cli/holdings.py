"""`svyaz holdings rebuild`: what the catalog knows of what customers hold, heard once more from the inventory's log."""

from collections.abc import Callable
from typing import Any

import typer

from svyaz.catalog.v1 import holding_pb2, holding_pb2_grpc
from svyaz.operations.v1 import operations_pb2_grpc
from svyaz_cli import rebuilding
from svyaz_cli.operations import calling
from svyaz_cli.rebuilding import Ask

# What the catalog hears of the inventory.
_HEARD = frozenset({"Product", "ProductOrderItem"})

holdings = typer.Typer(no_args_is_help=True, add_completion=False, help="What the catalog knows of what is held.")


@holdings.callback()
def _holdings() -> None:
    """What the catalog knows of what is held."""


@holdings.command("rebuild")
def rebuild(
    orders_address: str = typer.Option("", envvar="ORDERS_ADDRESS", help="The orders service; the local one."),
    address: str = typer.Option("", envvar="CATALOG_ADDRESS", help="The catalog service; the local one."),
    token: str = typer.Option("", envvar="SVYAZ_TOKEN", help="An admin's token, of all branches; a development one."),
) -> None:
    """Tell the catalog every event of the inventory's log once more; what neither log nor bus knows is forgotten at the
    end. The platform goes on meanwhile. Interrupted, nothing is forgotten: begin again."""
    with (
        calling(operations_pb2_grpc.OperationsServiceStub, "orders", orders_address, token, role="admin") as orders,
        calling(holding_pb2_grpc.HoldingServiceStub, "catalog", address, token, role="admin") as catalog,
    ):
        heard, forgotten = rebuild_holdings(orders, catalog)
    typer.echo(f"{heard} events heard, {forgotten} products forgotten that the log doesn't know")


def rebuild_holdings(orders: Ask, catalog: Ask, progress: Callable[[str], None] = typer.echo) -> tuple[int, int]:
    """How many events were heard, and how many holdings forgotten. `orders` and `catalog` call their methods."""

    def tell(**fields: Any) -> holding_pb2.RebuildHoldingsResponse:
        answer = catalog("RebuildHoldings", holding_pb2.RebuildHoldingsRequest(**fields))
        assert isinstance(answer, holding_pb2.RebuildHoldingsResponse)
        return answer

    return rebuilding.rebuild([orders], _HEARD, tell, progress)


COMMANDS = {"holdings": holdings}
