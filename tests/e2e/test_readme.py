"""The README's stories, pasted: what they print is what the README shows."""

import os
import re
import subprocess
from pathlib import Path

import pytest

from tests.platforms import RunningPlatform

ROOT = Path(__file__).parents[2]
# An example is its commands and, mostly, what they print.
EXAMPLE = re.compile(r"^```sh\n(.*?)^```\n(?:\n```\n(.*?)^```$)?", re.DOTALL | re.MULTILINE)
# What differs each time: identities, instants, hashes, and how long it took.
PASSING = re.compile(
    r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}|\d{4}-\d\d-\d\dT[\d:.]+Z|\b[0-9a-f]{64}\b|\d+\.\d(?= s$)"
)
MARK = "==== example"
# A machine that runs tests beside it is slower than a reader's.
PATIENCE = 4


def stories() -> list[tuple[str, str]]:
    """The commands of the README's stories with their output; the first example starts the platform."""
    text = (ROOT / "README.md").read_text().split("## The map")[0]
    return EXAMPLE.findall(text)[1:]


def expected(line: str) -> str:
    """What the shown line stands for: `…` for what it leaves out, any identity, instant, hash, duration for its own."""
    shortened = re.sub(r'"[0-9a-f]+…"', '"…"', line)
    pieces = [".*".join(map(re.escape, piece.split("…"))) for piece in PASSING.split(shortened)]
    return r"[\w:.-]+".join(pieces)


def paste(platform: RunningPlatform, commands: list[str]) -> list[str]:
    """What each of the examples prints, all in one shell."""
    script = "".join(f"echo '{MARK}'\n{one}" for one in commands)
    script = script.replace(":8080", f":{platform.base}").replace("var/", f"{platform.home.directory}/")
    script = re.sub(r"sleep (\d+)", lambda found: f"sleep {int(found[1]) * PATIENCE}", script)
    environment = {
        **os.environ,
        "SVYAZ_VAR": str(platform.home.directory),
        "SVYAZ_PORT_BASE": str(platform.base),
        "LC_ALL": "C.UTF-8",
        # The folder of a test has a longer name than `var`: no line is broken for it.
        "COLUMNS": "300",
    }
    done = subprocess.run(
        ["bash", "-c", script], cwd=ROOT, env=environment, capture_output=True, text=True, timeout=240, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout.replace(f"{platform.home.directory}/", "var/").split(f"{MARK}\n")[1:]


@pytest.mark.timeout(300)
def test_what_the_readme_shows_is_what_a_newcomer_gets(demo_platform: RunningPlatform) -> None:
    examples = stories()
    assert sum(bool(output) for _, output in examples) == 10
    outputs = paste(demo_platform, [commands for commands, _ in examples])
    for (commands, shown), printed in zip(examples, outputs, strict=True):
        lines = printed.splitlines()
        assert len(lines) == len(shown.splitlines()), f"{commands}\nprinted\n{printed}"
        for line, wanted in zip(lines, shown.splitlines(), strict=True):
            assert re.fullmatch(expected(wanted), line), f"{commands}\nprinted\n{line}\ninstead of\n{wanted}"
