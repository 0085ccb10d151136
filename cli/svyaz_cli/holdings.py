"""`svyaz holdings rebuild`: what the catalog knows of what customers hold, heard once more from the inventory's log."""

from collections.abc import Callable, Iterator
from typing import Any

import typer

from svyaz.catalog.v1 import holding_pb2, holding_pb2_grpc
from svyaz.operations.v1 import operations_pb2, operations_pb2_grpc
from svyaz_cli.operations import calling

PARTITIONS = 64
# Events asked for at a time, and bytes of them told at a time: a message of gRPC's has 4 MiB, an event at most 256 kB.
ASKED, TOLD_BYTES = 200, 2 * 1024 * 1024
# What the catalog hears of the inventory.
_HEARD = frozenset({"Product", "ProductOrderItem"})

Ask = Callable[[str, Any], Any]

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

    # Before the first event is read, so that what changes meanwhile isn't forgotten.
    began = tell().began_at
    heard = 0
    for partition in range(PARTITIONS):
        for events in _portions(_events(orders, partition)):
            tell(event=events)
            heard += len(events)
        progress(f"partition {partition + 1} of {PARTITIONS}: {heard} events heard")
    return heard, tell(forget_unseen_since=began).forgotten


def _events(orders: Ask, partition: int) -> Iterator[operations_pb2.Event]:
    after = 0
    while True:
        request = operations_pb2.ListEventsRequest(partition=partition, after=after, limit=ASKED)
        page = orders("ListEvents", request).event
        if not page:
            return
        after = page[-1].position
        yield from (event for event in page if event.aggregate_type in _HEARD)


def _portions(events: Iterator[operations_pb2.Event]) -> Iterator[list[operations_pb2.Event]]:
    """The events in portions that a message has room for."""
    portion: list[operations_pb2.Event] = []
    size = 0
    for event in events:
        more = event.ByteSize() + 16
        if portion and size + more > TOLD_BYTES:
            yield portion
            portion, size = [], 0
        portion.append(event)
        size += more
    if portion:
        yield portion


COMMANDS = {"holdings": holdings}
