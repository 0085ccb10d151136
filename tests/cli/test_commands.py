"""What the command line refuses: in one line that names what there is, with status 2, before anything is begun."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from chassis.auth import ROLES
from svyaz_cli.operations import WITH_CONSUMERS


def svyaz(directory: Path, *words: str) -> tuple[int, str, str]:
    """The exit status of a command, and what it prints to stdout and stderr."""
    environment = {**os.environ, "SVYAZ_VAR": str(directory), "NATS_URL": "nats://127.0.0.1:1", "SVYAZ_TOKEN": ""}
    command = [sys.executable, "-m", "svyaz_cli.main", *words]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=30, check=False)
    return done.returncode, done.stdout, done.stderr


@pytest.mark.parametrize("command", [("parked", "list"), ("consumers", "list"), ("consumers", "resume")])
@pytest.mark.parametrize("service", ["nothing", "gatewy", "gateway"])
def test_who_has_no_consumers_is_refused_with_those_who_have(
    tmp_path: Path, command: tuple[str, str], service: str
) -> None:
    name = ("orders-catalog",) if command[1] == "resume" else ()
    status, out, errors = svyaz(tmp_path, *command, service, *name)
    assert (status, out) == (2, "")
    assert errors.splitlines() == [f"SERVICE: {service!r} is none of {', '.join(WITH_CONSUMERS)}"]


@pytest.mark.parametrize("role", ["nope", "agent,admin", ""])
def test_a_role_that_no_service_knows_is_refused_with_those_that_they_know(tmp_path: Path, role: str) -> None:
    status, out, errors = svyaz(tmp_path, "token", "--role", "agent", "--role", role)
    assert (status, out) == (2, "")
    assert errors.splitlines() == [f"--role: {role!r} is none of {', '.join(sorted(ROLES))}"]


@pytest.mark.parametrize("role", sorted(ROLES))
def test_there_is_a_token_of_each_role(tmp_path: Path, role: str) -> None:
    status, out, _ = svyaz(tmp_path, "token", "--role", role)
    assert status == 0
    assert out.count(".") == 2


@pytest.mark.parametrize("module", ["orders.main", "catalog.main", "customers.main", "gateway.hub"])
def test_the_help_of_a_service_shows_what_can_be_typed(module: str) -> None:
    command = [sys.executable, "-m", module, "open-epoch", "--help"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=True)
    assert done.stdout.startswith(f"usage: python -m {module} open-epoch ")
