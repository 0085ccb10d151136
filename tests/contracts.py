"""Every service that the protos define, whether or not anything serves it."""

import importlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any


def _modules(suffix: str) -> Iterator[Any]:
    # A namespace has no file of its own.
    for root in importlib.import_module("svyaz").__path__:
        for path in sorted(Path(root).rglob(f"*{suffix}.py")):
            yield importlib.import_module(".".join(("svyaz", *path.relative_to(root).with_suffix("").parts)))


def services() -> dict[str, Any]:
    """Full name → service descriptor."""
    return {service.full_name: service for m in _modules("_pb2") for service in m.DESCRIPTOR.services_by_name.values()}


def registrars() -> dict[str, Callable[[Any, Any], None]]:
    """Full name → the generated function that adds a servicer to a server."""
    found = {}
    for module in _modules("_pb2_grpc"):
        package = module.__name__.rpartition(".")[0]
        for name in dir(module):
            if name.startswith("add_") and name.endswith("Servicer_to_server"):
                service = name.removeprefix("add_").removesuffix("Servicer_to_server")
                found[f"{package}.{service}"] = getattr(module, name)
    return found
