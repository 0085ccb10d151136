"""`svyaz view rebuild`: the 360° view of the customers, heard once more from everybody's logs."""

from contextlib import ExitStack
from typing import Any

import typer

from svyaz.customers.v1 import view_pb2, view_pb2_grpc
from svyaz.operations.v1 import operations_pb2_grpc
from svyaz_cli.operations import calling
from svyaz_cli.rebuilding import rebuild

# Whose logs the view is made of.
SOURCES = ("customers", "orders", "catalog")

view = typer.Typer(no_args_is_help=True, add_completion=False, help="The 360° view of the customers.")


@view.callback()
def _view() -> None:
    """The 360° view of the customers."""


@view.command("rebuild")
def rebuild_view(
    customers_address: str = typer.Option("", envvar="CUSTOMERS_ADDRESS", help="The customers service; the local one."),
    orders_address: str = typer.Option("", envvar="ORDERS_ADDRESS", help="The orders service; the local one."),
    catalog_address: str = typer.Option("", envvar="CATALOG_ADDRESS", help="The catalog service; the local one."),
    token: str = typer.Option("", envvar="SVYAZ_TOKEN", help="An admin's token, of all branches; a development one."),
) -> None:
    """Tell the view every event of the logs once more; what no log knows is forgotten at the end. The platform goes on
    meanwhile. Interrupted, nothing is forgotten: begin again."""
    addresses = dict(zip(SOURCES, (customers_address, orders_address, catalog_address), strict=True))
    with ExitStack() as opened:
        logs = [
            opened.enter_context(
                calling(operations_pb2_grpc.OperationsServiceStub, source, addresses[source], token, role="admin")
            )
            for source in SOURCES
        ]
        customers = opened.enter_context(
            calling(view_pb2_grpc.CustomerViewServiceStub, "customers", customers_address, token, role="admin")
        )

        def tell(**fields: Any) -> view_pb2.RebuildCustomer360Response:
            answer = customers("RebuildCustomer360", view_pb2.RebuildCustomer360Request(**fields))
            assert isinstance(answer, view_pb2.RebuildCustomer360Response)
            return answer

        # Of what it doesn't show the view itself makes nothing.
        heard, forgotten = rebuild(logs, _SHOWN, tell, typer.echo)
    typer.echo(f"{heard} events heard, {forgotten} versions forgotten that no log knows")


# The fields of the view, as the types of the aggregates that fill them.
_SHOWN = frozenset(
    {"OrderedItem": "ProductOrderItem"}.get(field.message_type.name, field.message_type.name)
    for field in view_pb2.Customer360.DESCRIPTOR.fields
    if field.message_type is not None and field.is_repeated
)

COMMANDS = {"view": view}
