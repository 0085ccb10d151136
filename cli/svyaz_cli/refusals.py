"""What a command refuses before it has begun anything."""

from collections.abc import Iterable
from typing import NoReturn

import typer


def refuse(message: str) -> NoReturn:
    """Ends the command with status 2 and one line on stderr."""
    typer.echo(message, err=True)
    raise typer.Exit(2)


def require_known(option: str, values: Iterable[str], known: Iterable[str]) -> None:
    """Refuses a value that isn't among the known ones, which it names."""
    names = tuple(known)
    for value in values:
        if value not in names:
            refuse(f"{option}: {value!r} is none of {', '.join(names)}")
