"""`svyaz hub`: the subscriptions to events, for the person on call."""

import typer

from svyaz.hub.v1 import hub_pb2, hub_pb2_grpc
from svyaz.type.v1 import requests_pb2
from svyaz_cli.operations import calling, shown

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    help="See the subscriptions to events, and resume those that are suspended.",
)

_ADDRESS = typer.Option("", envvar="HUB_ADDRESS", help="The hub's host:port; the local one unless told.")
_TOKEN = typer.Option("", envvar="SVYAZ_TOKEN", help="A token of the role sre; one of the development issuer.")


@app.command("list")
def list_subscriptions(
    suspended: bool = typer.Option(False, help="Only those that are suspended."),
    address: str = _ADDRESS,
    token: str = _TOKEN,
) -> None:
    """A JSON line per subscription: its callback and query, whether it is suspended, since when and why."""
    request = requests_pb2.ListRequest()
    if suspended:
        request.filter.add(path="state", operator=requests_pb2.Filter.OPERATOR_EQ, value=["suspended"])
    with calling(hub_pb2_grpc.HubServiceStub, "hub", address, token) as ask:
        for subscription in ask("ListSubscriptions", request).items:
            shown(subscription)


@app.command("resume")
def resume(
    subscription: str = typer.Argument(help="Its id, as `list` shows it."),
    address: str = _ADDRESS,
    token: str = _TOKEN,
) -> None:
    """Deliver what has waited, in order, then what is new."""
    with calling(hub_pb2_grpc.HubServiceStub, "hub", address, token) as ask:
        shown(ask("ResumeSubscription", hub_pb2.ResumeSubscriptionRequest(id=subscription)))


COMMANDS = {"hub": app}
