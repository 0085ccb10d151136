"""`make`: the names that it takes are those that there are."""

import os
import re
import subprocess

import pytest

from tests.e2e.test_readme import ROOT

# Processes that benches start.
PARTS = {"echo", "inserts"}
BENCHES = {
    path.stem for path in (ROOT / "tests/bench").glob("*.py") if '__name__ == "__main__"' in path.read_text()
} - PARTS


def make(*words: str) -> subprocess.CompletedProcess[str]:
    # What an outer make tells its children is nothing for this one.
    environment = {name: value for name, value in os.environ.items() if name not in ("MAKEFLAGS", "MFLAGS", "NAME")}
    command = ["make", "-s", *words]
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=120, check=False)


@pytest.mark.parametrize("name", ["nope", "", "echo"])
def test_a_bench_that_is_none_is_refused_with_those_that_there_are(name: str) -> None:
    done = make("bench", f"NAME={name}")
    assert (done.returncode, done.stdout) == (2, "")
    said, *rest = done.stderr.splitlines()
    assert said.startswith(f"NAME: {name!r} is none of ")
    assert set(said.partition(" is none of ")[2].split(", ")) == BENCHES
    assert [line for line in rest if not line.startswith("make")] == []


def test_the_document_for_contributors_names_every_bench() -> None:
    told = re.search(r"`make bench NAME=orders` \| [^:]*: ([^|]*) \|", (ROOT / "CONTRIBUTING.md").read_text())
    assert told is not None
    assert set(told[1].split(", ")) == BENCHES
