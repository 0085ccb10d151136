"""`svyaz duplicates`: who is in a branch more than once."""

import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import typer

from svyaz.customers.v1 import matching_pb2, matching_pb2_grpc
from svyaz.type.v1 import requests_pb2
from svyaz_cli.operations import calling

POLL_SECONDS = 2.0
_PAGE = 100
_ENDED = (matching_pb2.DUPLICATE_SEARCH_STATE_DONE, matching_pb2.DUPLICATE_SEARCH_STATE_FAILED)

Ask = Callable[[str, Any], Any]

duplicates = typer.Typer(no_args_is_help=True, add_completion=False, help="Who is in a branch more than once.")

_ADDRESS = typer.Option("", envvar="CUSTOMERS_ADDRESS", help="The customers service; the local one.")
_TOKEN = typer.Option("", envvar="SVYAZ_TOKEN", help="An admin's token; a development one of all branches.")


@duplicates.callback()
def _duplicates() -> None:
    """Who is in a branch more than once."""


@duplicates.command("find")
def find(
    branch: str = typer.Option(help="The branch to look through: no pair is of two branches."),
    threshold: str = typer.Option("0.5", help="Pairs of at least this probability are proposed."),
    address: str = _ADDRESS,
    token: str = _TOKEN,
) -> None:
    """Look through a branch, and wait until it is done; interrupted, it goes on without us."""
    with calling(matching_pb2_grpc.MatchingServiceStub, "customers", address, token, role="admin") as ask:
        raise typer.Exit(find_duplicates(ask, branch, threshold))


def find_duplicates(ask: Ask, branch: str, threshold: str, pause: float = POLL_SECONDS) -> int:
    """Asks for a search and waits; 1 when it has failed."""
    search = ask("CreateDuplicateSearch", matching_pb2.CreateDuplicateSearchRequest(branch=branch, threshold=threshold))
    typer.echo(f"search {search.id} of {branch}")
    while search.state not in _ENDED:
        time.sleep(pause)
        search = ask("GetDuplicateSearch", requests_pb2.GetRequest(id=search.id))
    if search.state != matching_pb2.DUPLICATE_SEARCH_STATE_DONE:
        typer.echo(f"failed: {search.error}", err=True)
        return 1
    typer.echo(f"{search.compared} individuals compared, {search.found} pairs that may be one person")
    return 0


@duplicates.command("file")
def in_files(
    files: list[Path] = typer.Argument(help="CSV files with a header."),
    column: list[str] = typer.Option([], help="COLUMN=FIELD, where a column's name doesn't say what it is."),
    region: str = typer.Option("ZZ", help="Whose national telephone numbers these are (KG); none: with their country."),
    threshold: float = typer.Option(0.5, min=0.01, max=0.99, help="Pairs of at least this probability."),
    between: bool = typer.Option(False, "--between", help="Only pairs of two files: neither has anybody twice."),
    encoding: str = typer.Option("utf-8-sig", help="Of the files."),
    out: Path | None = typer.Option(None, help="Where the pairs are written; else they are printed."),
) -> None:
    """Find who is in files more than once, without a platform: nothing is imported and nothing kept."""
    options = [*(part for one in column for part in ("--column", one)), *(["--between"] if between else [])]
    options += ["--region", region, "--threshold", str(threshold), "--encoding", encoding]
    options += ["--out", str(out)] if out is not None else []
    # The engine is the service's; a process of its own, as it is there.
    command = [sys.executable, "-m", "customers.matching.files", *map(str, files), *options]
    raise typer.Exit(subprocess.run(command, check=False).returncode)


@duplicates.command("list")
def list_pairs(
    state: str = typer.Option("open", help="open, confirmed or rejected."),
    limit: int = typer.Option(_PAGE, help="How many."),
    address: str = _ADDRESS,
    token: str = _TOKEN,
) -> None:
    """Show pairs, the most probable first, with the evidence of each field in bits."""
    with calling(matching_pb2_grpc.MatchingServiceStub, "customers", address, token, role="admin") as ask:
        request = requests_pb2.ListRequest(limit=limit, sort=["-score"])
        request.filter.add(path="state", operator=requests_pb2.Filter.OPERATOR_EQ, value=[state])
        for pair in ask("ListDuplicateCandidates", request).items:
            evidence = ", ".join(f"{reason.field} {reason.code} {reason.weight}" for reason in pair.reason)
            typer.echo(f"{pair.id} {pair.score} {pair.first_id} {pair.second_id} {evidence}")


@duplicates.command("decide")
def decide(
    pair: str = typer.Argument(help="The id of the pair."),
    same: bool = typer.Option(help="Whether they are one person; merging them is another matter."),
    note: str = typer.Option("", help="Why."),
    address: str = _ADDRESS,
    token: str = _TOKEN,
) -> None:
    """Say whether the two are one: those who aren't are never proposed again."""
    method = "ConfirmDuplicate" if same else "RejectDuplicate"
    with calling(matching_pb2_grpc.MatchingServiceStub, "customers", address, token, role="admin") as ask:
        ask(method, matching_pb2.DecideDuplicateRequest(id=pair, note=note))


COMMANDS = {"duplicates": duplicates}
