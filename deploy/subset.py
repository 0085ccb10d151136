"""Prints the part of requirements.lock that some distributions need, so that an image holds no compiler or test tool.

`subset.py [--build] FOLDER...`: what the pyproject.toml of each folder depends on (to be built, with --build) and, by
the lock's "via" comments, what that depends on in turn; every line with its hashes, as it stands in the lock.
"""

from __future__ import annotations

import re
import sys
import tomllib
from collections.abc import Iterable
from pathlib import Path

OURS = "svyaz-"


def name_of(requirement: str) -> str:
    """The normalised name in a requirement such as `psycopg[binary]>=3 ; python_version > "3"`."""
    found = re.match(r"[A-Za-z0-9._-]+", requirement.strip())
    if found is None:
        raise ValueError(f"not a requirement: {requirement!r}")
    return re.sub(r"[-_.]+", "-", found.group()).lower()


def entries(lock: str) -> dict[str, str]:
    """The lock's entries by name: the pinned line, its hashes, its comments."""
    blocks = re.split(r"^(?=[A-Za-z0-9])", lock, flags=re.MULTILINE)[1:]
    return {name_of(block): block for block in blocks}


def subset(lock: str, wanted: Iterable[str]) -> str:
    """The lock's entries for the wanted requirements and for what these need; raises KeyError for one not locked."""
    blocks = entries(lock)
    needed: dict[str, list[str]] = {}
    for name, block in blocks.items():
        comments = [line.strip().removeprefix("#").strip() for line in block.splitlines() if line.lstrip()[:1] == "#"]
        for via in " ".join(comments).removeprefix("via").split():
            needed.setdefault(via, []).append(name)
    found: set[str] = set()
    waiting = [name_of(requirement) for requirement in wanted if not requirement.startswith(OURS)]
    while waiting:
        name = waiting.pop()
        if name not in found:
            if name not in blocks:
                raise KeyError(f"{name} is not in the lock")
            found.add(name)
            waiting += needed.get(name, [])
    return "".join(blocks[name] for name in sorted(found))


def requirements(folder: Path, *, build: bool) -> list[str]:
    """What a distribution's pyproject.toml asks for: to run, or to be built."""
    project = tomllib.loads((folder / "pyproject.toml").read_text())
    asked: list[str] = project["build-system"]["requires"] if build else project["project"]["dependencies"]
    return asked


def main() -> None:
    """The command line; reads ./requirements.lock."""
    build = "--build" in sys.argv
    folders = [Path(argument) for argument in sys.argv[1:] if argument != "--build"]
    wanted = [requirement for folder in folders for requirement in requirements(folder, build=build)]
    sys.stdout.write(subset(Path("requirements.lock").read_text(), wanted))


if __name__ == "__main__":
    main()
