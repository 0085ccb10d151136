"""`svyaz train`: models of customers' value, learnt from an operator's own history and registered with the service."""

import json
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from chassis.convert import from_money, to_timestamp
from chassis.types import new_id
from svyaz.customers.v1 import value_pb2, value_pb2_grpc
from svyaz_cli.operations import calling, shown

if TYPE_CHECKING:
    from svyaz_cli.training.churn import Trained
    from svyaz_cli.training.table import Table

Ask = Callable[[str, Any], Any]

PAGE = 500

train = typer.Typer(no_args_is_help=True, add_completion=False, help="Learn who leaves, and how often customers buy.")
models = typer.Typer(no_args_is_help=True, add_completion=False, help="See and apply models that were learnt.")

_ADDRESS = typer.Option("", envvar="CUSTOMERS_ADDRESS", help="The customers service; the local one.")
_TOKEN = typer.Option("", envvar="SVYAZ_TOKEN", help="A token of an admin; one of the development issuer.")
_OUT = typer.Option(None, help="Write the model here instead of registering it.", dir_okay=False)
_NAME = typer.Option("", help="What to call it.")


@train.callback()
def _train() -> None:
    """Learn who leaves, and how often customers buy."""


@train.command("churn")
def train_churn(
    file: Path | None = typer.Argument(None, help="A CSV file with a header.", exists=True, dir_okay=False),
    from_service: bool = typer.Option(False, help="Learn from what the customers service knows."),
    branch: str = typer.Option("", help="The branch whose customers the model is for."),
    horizon_days: int = typer.Option(90, min=1, max=1_000, help="Leaving within so many days is foretold."),
    at: datetime | None = typer.Option(
        None, formats=["%Y-%m-%d"], help="What was known then is learnt from; the last day whose horizon is over."
    ),
    target: str = typer.Option("Churn", help="The column that says who has left."),
    leave_out: list[str] = typer.Option([], help="A column that isn't to be learnt from; may be repeated."),
    text: list[str] = typer.Option([], help="A column whose numbers are names; may be repeated."),
    add: list[str] = typer.Option([], help="NAME=COLUMN+COLUMN…: a feature that is their sum; may be repeated."),
    seeds: int = typer.Option(1, min=1, max=20, help="Cross-validations, whose mean counts."),
    name: str = _NAME,
    out: Path | None = _OUT,
    address: str = _ADDRESS,
    token: str = _TOKEN,
) -> None:
    """Learn who leaves. The figures (a JSON line) are out of sample; exit status 1: there is nothing to be learnt."""
    from svyaz_cli.training import churn, table

    if (file is None) != from_service:
        raise typer.BadParameter("either a file or --from-service", param_hint="FILE")
    try:
        if file is not None:
            examples = table.of_file(file, target, leave_out=leave_out, texts=text, sums=_sums(add))
        else:
            with _calling(address, token) as ask:
                examples = of_service(ask, branch, at, horizon_days, leave_out)
        trained = churn.train(examples, horizon_days, seeds=seeds)
    except table.TableError as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(1) from error
    figures = {name: round(value, 4) for name, value in trained.metrics.items()}
    typer.echo(json.dumps({"customers": len(examples), "left_out": dict(examples.left_out), **figures}))
    if out is not None:
        out.write_bytes(trained.artefact)
        return
    with _calling(address, token) as ask:
        shown(ask("RegisterValueModel", registration(trained, examples, branch, name or "churn")))


@train.command("purchases")
def train_purchases(
    file: Path | None = typer.Argument(
        None, help="A CSV file with a header: a row for each purchase.", exists=True, dir_okay=False
    ),
    from_service: bool = typer.Option(False, help="Learn from what billing has reported to the customers service."),
    currency: str = typer.Option(..., help="The currency (ISO 4217) of all that is learnt from."),
    branch: str = typer.Option("", help="The branch whose customers the model is for."),
    customer: str = typer.Option("customer_id", help="The column of the customer."),
    day: str = typer.Option("date", help="The column of the day, YYYY-MM-DD."),
    amount: str = typer.Option("amount", help="The column of the amount."),
    until: datetime | None = typer.Option(
        None, formats=["%Y-%m-%d"], help="The last day that is learnt from; today, with --from-service."
    ),
    unit_days: float = typer.Option(7.0, min=1.0, max=366.0, help="How many days the unit of time has."),
    name: str = _NAME,
    out: Path | None = _OUT,
    address: str = _ADDRESS,
    token: str = _TOKEN,
) -> None:
    """Learn how often customers without a contract buy, and for how much: BG/NBD and gamma-gamma."""
    from svyaz_cli.training import purchases

    if (file is None) != from_service:
        raise typer.BadParameter("either a file or --from-service", param_hint="FILE")
    if file is not None and until is None:
        raise typer.BadParameter("a file doesn't say how long its customers were looked at", param_hint="--until")
    last: date = (until or datetime.now(UTC)).date()
    try:
        if file is not None:
            told = purchases.of_file(file, customer, day, amount)
        else:
            with _calling(address, token) as ask:
                told = purchases_of_service(ask, branch, currency, last)
        known = purchases.histories(told, last, unit_days)
        bought, spent = purchases.fit_purchases(known), purchases.fit_spend(known)
    except purchases.FitError as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(1) from error
    made = purchases.artefact(bought, spent, unit_days, currency)
    likelihoods = {"log_likelihood": bought.log_likelihood, "spend_log_likelihood": spent.log_likelihood}
    typer.echo(json.dumps({"customers": len(known.age), **bought.parameters, **spent.parameters, **likelihoods}))
    if out is not None:
        out.write_bytes(made)
        return
    model = value_pb2.ValueModel(
        name=name or "purchases",
        kind=value_pb2.VALUE_MODEL_KIND_PURCHASES,
        training_hash=purchases.digest(told),
        training_rows=len(known.age),
        metric=_metrics(likelihoods),
        library=_libraries(("numpy", "scipy")),
    )
    request = value_pb2.RegisterValueModelRequest(request_id=new_id(), branch=branch, value_model=model, artefact=made)
    with _calling(address, token) as ask:
        shown(ask("RegisterValueModel", request))


@models.callback()
def _models() -> None:
    """See and apply models that were learnt."""


@models.command("list")
def list_models(address: str = _ADDRESS, token: str = _TOKEN) -> None:
    """A JSON line for each model, with its figures and whether it is applied."""
    from svyaz.type.v1 import requests_pb2

    with _calling(address, token) as ask:
        for model in ask("ListValueModels", requests_pb2.ListRequest()).items:
            shown(model)


@models.command("activate")
def activate(
    id: str = typer.Argument(help="The model's id, as `list` names it."), address: str = _ADDRESS, token: str = _TOKEN
) -> None:
    """Apply the model from now on, instead of the one that is applied; also one that was applied before."""
    with _calling(address, token) as ask:
        shown(ask("ActivateValueModel", value_pb2.ActivateValueModelRequest(request_id=new_id(), id=id)))


def _calling(address: str, token: str) -> Any:
    return calling(value_pb2_grpc.ValueServiceStub, "customers", address, token, role="admin")


def of_service(ask: Ask, branch: str, at: datetime | None, horizon_days: int, leave_out: Sequence[str] = ()) -> "Table":
    """The examples that the service has, page by page. Raises TableError."""
    from svyaz_cli.training.table import of_examples

    instant = (at or datetime.now(UTC) - timedelta(days=horizon_days + 1)).replace(tzinfo=UTC)
    rows: list[dict[str, float | str | None]] = []
    labels: list[int] = []
    after = ""
    while True:
        request = value_pb2.ListChurnExamplesRequest(
            branch=branch, at=to_timestamp(instant), horizon_days=horizon_days, after=after, limit=PAGE
        )
        page = ask("ListChurnExamples", request)
        for example in page.items:
            rows.append({one.name: one.text if one.HasField("text") else one.number for one in example.feature})
            labels.append(int(example.churned))
        after = page.next_after
        if not after:
            return of_examples(rows, labels, leave_out=leave_out)


def purchases_of_service(ask: Ask, branch: str, currency: str, last: date) -> list[tuple[str, date, float]]:
    """What customers without a contract had bought by the end of the day, page by page."""
    found: list[tuple[str, date, float]] = []
    at, after = datetime(last.year, last.month, last.day, 23, 59, 59, tzinfo=UTC), ""
    while True:
        request = value_pb2.ListPurchaseExamplesRequest(
            branch=branch, at=to_timestamp(at), currency=currency, after=after, limit=PAGE
        )
        page = ask("ListPurchaseExamples", request)
        for example in page.items:
            for one in example.purchase:
                amount = from_money(one.amount).value
                found.append((example.customer_id, date.fromisoformat(one.day), float(amount or 0)))
        after = page.next_after
        if not after:
            return found


def registration(trained: "Trained", examples: "Table", branch: str, name: str) -> value_pb2.RegisterValueModelRequest:
    """What is told to the service of a model that was learnt."""
    model = value_pb2.ValueModel(
        name=name,
        kind=value_pb2.VALUE_MODEL_KIND_CHURN,
        training_hash=examples.digest,
        training_rows=len(examples),
        metric=_metrics(trained.metrics),
        library=[value_pb2.LibraryVersion(name=one, version=version) for one, version in trained.libraries.items()],
    )
    return value_pb2.RegisterValueModelRequest(
        request_id=new_id(),
        branch=branch,
        value_model=model,
        artefact=trained.artefact,
        probe=[
            value_pb2.ModelProbe(
                feature=[
                    value_pb2.FeatureValue(name=one, text=value)
                    if isinstance(value, str)
                    else value_pb2.FeatureValue(name=one, number=value)
                    for one, value in features.items()
                ],
                probability=format(Decimal(repr(probability)), "f")[:40],
            )
            for features, probability in trained.probes
        ],
    )


def _metrics(found: Mapping[str, float]) -> list[value_pb2.ModelMetric]:
    return [
        value_pb2.ModelMetric(name=name, value=format(Decimal(repr(value)), "f")[:40]) for name, value in found.items()
    ]


def _libraries(names: Sequence[str]) -> list[value_pb2.LibraryVersion]:
    from importlib.metadata import version

    return [value_pb2.LibraryVersion(name=name, version=version(name)) for name in names]


def _sums(stated: Sequence[str]) -> dict[str, Sequence[str]]:
    found: dict[str, Sequence[str]] = {}
    for one in stated:
        name, equals, parts = one.partition("=")
        if not equals or not name or not parts:
            raise typer.BadParameter(f"{one!r} isn't NAME=COLUMN+COLUMN…", param_hint="--add")
        found[name] = parts.split("+")
    return found


COMMANDS = {"train": train, "models": models}
