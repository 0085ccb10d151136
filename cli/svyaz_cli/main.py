"""The `svyaz` command."""

from importlib import import_module
from pathlib import Path
from typing import Any

import typer
from typer.core import TyperGroup

# Commands whose modules are imported when they are called: what they need (gRPC, NATS) takes a second to load.
_ELSEWHERE = {
    "billing-tail": "billing_tail",
    "billing-certificate": "billing_certificate",
    "billing-verify": "billing_certificate",
    "consumers": "operations",
    "parked": "operations",
    "hub": "hub",
    "holdings": "holdings",
    "train": "train",
    "models": "train",
    "duplicates": "duplicates",
    "view": "view",
    "bulk": "bulk",
}


class Commands(TyperGroup):
    """The commands of this module, and those that are elsewhere."""

    def list_commands(self, ctx: Any) -> list[str]:
        """Their names."""
        return [*super().list_commands(ctx), *_ELSEWHERE]

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """One of them; None when there is none of that name."""
        module = _ELSEWHERE.get(cmd_name)
        if module is None:
            return super().get_command(ctx, cmd_name)
        found = typer.main.get_command(import_module(f"svyaz_cli.{module}").COMMANDS[cmd_name])
        found.name = cmd_name
        return found


app = typer.Typer(
    cls=Commands,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help=__doc__.split(".")[0] if __doc__ else "",
)


@app.callback()
def svyaz() -> None:
    """Svyaz: the CRM and BSS of a telecom operator."""


@app.command()
def run(demo: bool = typer.Option(True, help="Load the demo operator when it isn't there yet.")) -> None:
    """Run the platform in the foreground; READY and the gateway's URL are printed when it serves."""
    from svyaz_cli.home import Home
    from svyaz_cli.run import run
    from svyaz_cli.services import port_base

    raise typer.Exit(run(Home.from_environment(), port_base(), with_demo=demo))


@app.command()
def up(demo: bool = typer.Option(True, help="Load the demo operator when it isn't there yet.")) -> None:
    """Run the platform in the background and return when it is ready."""
    from svyaz_cli.background import up
    from svyaz_cli.home import Home

    raise typer.Exit(up(Home.from_environment(), with_demo=demo))


@app.command()
def down() -> None:
    """Stop the platform that runs here, keeping its data."""
    from svyaz_cli.background import down
    from svyaz_cli.home import Home

    raise typer.Exit(down(Home.from_environment()))


@app.command()
def token(
    role: list[str] = typer.Option(["agent"], help="A role; may be repeated."),
    branch: list[str] = typer.Option(["bishkek"], help="A branch, or * for all; may be repeated."),
    seconds: float = typer.Option(8 * 3600.0, help="How long it is valid."),
    subject: str = typer.Option("developer", help="Who it says that you are."),
) -> None:
    """Print a token of the development issuer."""
    from chassis.auth import ROLES
    from svyaz_cli.home import Home
    from svyaz_cli.refusals import require_known

    # Services pass over what they don't know: the token would say less than was asked for.
    require_known("--role", role, sorted(ROLES))
    print(Home.from_environment().issuer().token(role, branch, seconds=seconds, subject=subject))


imports = typer.Typer(no_args_is_help=True, help="Bring in what another system knows.")
app.add_typer(imports, name="import")


@imports.command("customers")
def import_customers(
    file: Path = typer.Argument(help="A CSV file with a header.", exists=True, dir_okay=False, readable=True),
    mapping: str = typer.Option(help="What the columns become: a YAML file, or `ibm_telco`, which is shipped."),
    branch: str = typer.Option(help="The branch that the customers belong to."),
    report: Path = typer.Option(help="Where to write the refused rows: a CSV file of line, field and reason."),
    address: str = typer.Option("", envvar="CUSTOMERS_ADDRESS", help="The customers service; the local one."),
    token: str = typer.Option("", envvar="SVYAZ_TOKEN", help="A token of an admin; one of the development issuer."),
    batch: int = typer.Option(500, min=1, max=5000, help="Rows in a transaction."),
    in_flight: int = typer.Option(2, min=1, max=16, help="Transactions at once."),
    patience: float = typer.Option(60.0, min=0.0, help="Seconds to wait for a service that is away."),
) -> None:
    """Import customers with their parties and accounts; run again, it goes on where it stopped and adds nothing twice.

    Exit status: 0 all rows are there, 3 some were refused (the report says why), 1 not finished, 2 nothing begun.
    """
    from svyaz_cli.home import Home
    from svyaz_cli.import_customers import FileError, Options, import_customers, shipped_mapping
    from svyaz_cli.mapping import MappingError
    from svyaz_cli.services import SERVICES, port_base

    def development() -> str:
        return Home.from_environment().issuer().token(["admin"], [branch], seconds=300, subject="import")

    options = Options(
        file=file,
        mapping=Path(mapping) if Path(mapping).exists() else shipped_mapping(mapping) or Path(mapping),
        branch=branch,
        report=report,
        address=address or f"127.0.0.1:{port_base() + {s.name: s.offset for s in SERVICES}['customers']}",
        token=(lambda: token) if token else development,
        batch=batch,
        in_flight=in_flight,
        patience=patience,
    )
    try:
        status = import_customers(options)
    except (MappingError, FileError, OSError) as error:
        raise typer.BadParameter(str(error)) from error
    raise typer.Exit(status)


def _catalog(address: str, token: str) -> Any:
    """The catalog service as the options name it."""
    from svyaz_cli.catalog_files import Service
    from svyaz_cli.home import Home
    from svyaz_cli.services import SERVICES, port_base

    def development() -> str:
        return Home.from_environment().issuer().token(["admin"], ["*"], seconds=300, subject="transfer")

    local = f"127.0.0.1:{port_base() + {s.name: s.offset for s in SERVICES}['catalog']}"
    return Service(address=address or local, token=(lambda: token) if token else development)


@imports.command("catalog")
def import_catalog(
    file: list[Path] = typer.Argument(help="The files, which make one content.", exists=True, dir_okay=False),
    format: str = typer.Option("", help="tmforum, killbill or tariffs; told by the files' endings otherwise."),
    source: str = typer.Option("", help="Whose ids the files' are."),
    report: Path | None = typer.Option(None, help="Where to write what was refused or reported: a CSV file."),
    address: str = typer.Option("", envvar="CATALOG_ADDRESS", help="The catalog service; the local one."),
    token: str = typer.Option("", envvar="SVYAZ_TOKEN", help="A token of a manager or admin; a development one."),
) -> None:
    """Import a catalog: TM Forum JSON, Kill Bill XML, or an operator's tariff tables (offers.csv and prices.csv).

    Exit status: 0 everything is there, 3 some was refused (the report says why), 1 nothing was brought in.
    """
    from rich.console import Console

    from svyaz_cli import catalog_files

    if format and format not in catalog_files.FORMATS:
        raise typer.BadParameter(f"--format is one of {', '.join(catalog_files.FORMATS)}")
    service, out = _catalog(address, token), Console(highlight=False)

    def work() -> int:
        return catalog_files.import_catalog(service, file, format=format, source=source, report=report, out=out)

    raise typer.Exit(catalog_files.run(work, out))


@app.command("export-catalog")
def export_catalog(
    file: Path = typer.Argument(help="The JSON file to write.", dir_okay=False),
    path: str = typer.Option("", help="Only this collection, with what it refers to: productOffering, say."),
    query: str = typer.Option("", help="Only what of it is found so: lifecycleStatus=Launched."),
    address: str = typer.Option("", envvar="CATALOG_ADDRESS", help="The catalog service; the local one."),
    token: str = typer.Option("", envvar="SVYAZ_TOKEN", help="A token of a manager or admin; a development one."),
) -> None:
    """Write the catalog as TM Forum JSON."""
    from rich.console import Console

    from svyaz_cli import catalog_files

    service, out = _catalog(address, token), Console(highlight=False)

    def work() -> int:
        return catalog_files.export_catalog(service, file, path=path, query=query, out=out)

    raise typer.Exit(catalog_files.run(work, out))


if __name__ == "__main__":
    app()
