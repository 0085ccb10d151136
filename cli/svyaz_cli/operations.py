"""`svyaz consumers` and `svyaz parked`: the switches and windows for the person on call."""

import json
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import grpc
import typer
from google.protobuf.json_format import MessageToDict

from chassis import clients
from chassis.errors import DomainError
from svyaz.operations.v1 import operations_pb2, operations_pb2_grpc
from svyaz_cli import local
from svyaz_cli.refusals import require_known
from svyaz_cli.services import SERVICES

WITH_CONSUMERS = tuple(service.name for service in SERVICES if service.database)

consumers = typer.Typer(
    no_args_is_help=True, add_completion=False, help="See, pause and resume the consumers of a service."
)
parked = typer.Typer(
    no_args_is_help=True, add_completion=False, help="See and replay the keys whose next event failed for good."
)

_SERVICE = typer.Argument(help=f"A service: {', '.join(WITH_CONSUMERS)}.")
_ADDRESS = typer.Option("", help="Its host:port; the local one unless told.")
_TOKEN = typer.Option("", envvar="SVYAZ_TOKEN", help="A token of the role sre; one of the development issuer.")


@contextmanager
def calling(
    make: Callable[[grpc.Channel], Any], service: str, address: str, token: str, role: str = "sre"
) -> Iterator[Callable[[str, Any], Any]]:
    """Calls a method of one of the service's stubs by name; a refusal is printed and ends the command with status 1."""
    metadata = (("authorization", f"Bearer {local.token(token, role)()}"),)
    with grpc.insecure_channel(address or local.address(service)) as channel:
        stub = make(channel)

        def ask(method: str, request: Any) -> Any:
            try:
                return getattr(stub, method)(request, metadata=metadata, timeout=30)
            except grpc.RpcError as error:
                refusal: DomainError = clients.domain_error(error)
                typer.echo(f"{refusal.reason}: {refusal.message}", err=True)
                raise typer.Exit(1) from error

        yield ask


def shown(message: Any) -> None:
    """Prints a message as a JSON line."""
    print(json.dumps(MessageToDict(message, preserving_proto_field_name=True), ensure_ascii=False))


def _operations(service: str, address: str, token: str) -> AbstractContextManager[Callable[[str, Any], Any]]:
    require_known("SERVICE", [service], WITH_CONSUMERS)
    return calling(operations_pb2_grpc.OperationsServiceStub, service, address, token)


@consumers.command("list")
def list_consumers(service: str = _SERVICE, address: str = _ADDRESS, token: str = _TOKEN) -> None:
    """A JSON line per consumer: its stream, whether it is paused and by whom, how many keys are parked."""
    with _operations(service, address, token) as ask:
        for consumer in ask("ListConsumers", operations_pb2.ListConsumersRequest()).consumer:
            shown(consumer)


@consumers.command("pause")
def pause(
    service: str = _SERVICE,
    name: str = typer.Argument(help="The consumer, as `list` names it."),
    reason: str = typer.Option(..., help="Why; the next person on call reads it."),
    address: str = _ADDRESS,
    token: str = _TOKEN,
) -> None:
    """Stop taking events, on all replicas; they wait in the stream."""
    with _operations(service, address, token) as ask:
        shown(ask("PauseConsumer", operations_pb2.PauseConsumerRequest(name=name, reason=reason)))


@consumers.command("resume")
def resume(
    service: str = _SERVICE,
    name: str = typer.Argument(help="The consumer, as `list` names it."),
    address: str = _ADDRESS,
    token: str = _TOKEN,
) -> None:
    """Take events again."""
    with _operations(service, address, token) as ask:
        shown(ask("ResumeConsumer", operations_pb2.ResumeConsumerRequest(name=name)))


@parked.command("list")
def list_parked(service: str = _SERVICE, address: str = _ADDRESS, token: str = _TOKEN) -> None:
    """A JSON line per parked key: since when, why, how many events wait behind."""
    with _operations(service, address, token) as ask:
        for key in ask("ListParkedKeys", operations_pb2.ListParkedKeysRequest()).parked_key:
            shown(key)


@parked.command("show")
def show(
    service: str = _SERVICE,
    consumer: str = typer.Argument(help="The consumer that parked it."),
    key: str = typer.Argument(help="The ordering key."),
    address: str = _ADDRESS,
    token: str = _TOKEN,
) -> None:
    """One parked key with its events, the failed one first."""
    with _operations(service, address, token) as ask:
        shown(ask("GetParkedKey", operations_pb2.GetParkedKeyRequest(consumer=consumer, key=key)))


@parked.command("replay")
def replay(
    service: str = _SERVICE,
    consumer: str = typer.Argument(help="The consumer that parked it."),
    key: str = typer.Argument(help="The ordering key."),
    address: str = _ADDRESS,
    token: str = _TOKEN,
) -> None:
    """Try the parked events again, in order; exit status 1 when one fails again."""
    with _operations(service, address, token) as ask:
        answer = ask("ReplayParkedKey", operations_pb2.ReplayParkedKeyRequest(consumer=consumer, key=key))
        shown(answer)
        if answer.error:
            raise typer.Exit(1)


COMMANDS = {"consumers": consumers, "parked": parked}
