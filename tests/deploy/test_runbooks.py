"""Runbooks: what they tell a person to type at night exists."""

import re
import shlex
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from svyaz_cli.main import app
from tests.deploy.conftest import ROOT

RUNBOOKS = sorted((ROOT / "docs/runbooks").glob("*.md"))
COMMANDS = sorted({command for path in RUNBOOKS for command in re.findall(r"`svyaz ([^`]+)`", path.read_text())})


@pytest.mark.parametrize("typed", COMMANDS)
def test_a_command_of_a_runbook_exists_with_its_options(typed: str) -> None:
    command: Any = typer.main.get_command(app)
    words = shlex.split(typed)
    while hasattr(command, "commands"):
        found = command.get_command(None, words[0])
        assert found is not None, f"svyaz has no {words[0]}"
        command = found
        del words[0]
    # Parses what was typed, and runs nothing; refuses a missing argument and an unknown option.
    with CliRunner().isolation(env={"NATS_URL": "nats://127.0.0.1:1", "ORDERS_ADDRESS": "127.0.0.1:1"}):
        command.make_context(command.name, words)


@pytest.mark.parametrize("path", RUNBOOKS, ids=lambda path: path.stem)
def test_a_runbook_says_what_it_means_where_to_look_and_what_to_do(path: Path) -> None:
    text = path.read_text()
    for linked in re.findall(r"\]\((\w+\.md)\)", text):
        assert (ROOT / "docs/runbooks" / linked).is_file(), linked
    if path.stem != "README":
        assert "## First look" in text
        assert "## What to do" in text
