"""The `svyaz` command. Each command imports what it needs when it is called: help comes at once."""

import typer

app = typer.Typer(no_args_is_help=True, pretty_exceptions_enable=False, help=__doc__.split(".")[0] if __doc__ else "")


@app.callback()
def svyaz() -> None:
    """Svyaz: the CRM and BSS of a telecom operator."""


@app.command()
def run(demo: bool = typer.Option(True, help="Load the demo operator when it isn't there yet.")) -> None:
    """Run the platform in the foreground; READY and the gateway's URL are printed when it serves."""
    from svyaz_cli.run import Home, run
    from svyaz_cli.services import port_base

    raise typer.Exit(run(Home.from_environment(), port_base(), with_demo=demo))


@app.command()
def up(demo: bool = typer.Option(True, help="Load the demo operator when it isn't there yet.")) -> None:
    """Run the platform in the background and return when it is ready."""
    from svyaz_cli.background import up
    from svyaz_cli.run import Home

    raise typer.Exit(up(Home.from_environment(), with_demo=demo))


@app.command()
def down() -> None:
    """Stop the platform that runs here, keeping its data."""
    from svyaz_cli.background import down
    from svyaz_cli.run import Home

    raise typer.Exit(down(Home.from_environment()))


@app.command()
def token(
    role: list[str] = typer.Option(["agent"], help="A role; may be repeated."),
    branch: list[str] = typer.Option(["bishkek"], help="A branch, or * for all; may be repeated."),
    seconds: float = typer.Option(8 * 3600.0, help="How long it is valid."),
    subject: str = typer.Option("developer", help="Who it says that you are."),
) -> None:
    """Print a token of the development issuer."""
    from svyaz_cli.run import Home

    print(Home.from_environment().issuer().token(role, branch, seconds=seconds, subject=subject))


if __name__ == "__main__":
    app()
