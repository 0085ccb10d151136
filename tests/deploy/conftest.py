"""The chart, rendered by the real helm, and the tools that `make chart-tools` fetches."""

import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[2]
CHART = ROOT / "deploy/helm/svyaz"

Manifest = dict[str, Any]
Render = Callable[..., list[Manifest]]
Tool = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="session")
def tool() -> Tool:
    """Runs one of the tools: `tool("helm", "lint", ...)`; the result says how it ended."""

    def run(name: str, *arguments: object, cwd: Path = ROOT) -> subprocess.CompletedProcess[str]:
        path = ROOT / "var/tools/bin" / name
        assert path.exists(), f"{path} is missing: run `make chart-tools`"
        return subprocess.run([path, *map(str, arguments)], capture_output=True, text=True, cwd=cwd, check=False)

    return run


@pytest.fixture(scope="session")
def render(tool: Tool) -> Render:
    """Renders the chart: `render("--set", "otlp.endpoint=http://collector:4317")`."""

    def rendered(*arguments: str) -> list[Manifest]:
        done = tool("helm", "template", "svyaz", CHART, "--namespace", "svyaz", "--kube-version", "1.37.0", *arguments)
        assert done.returncode == 0, done.stderr
        return [manifest for manifest in yaml.safe_load_all(done.stdout) if manifest]

    return rendered


@pytest.fixture(scope="session")
def manifests(render: Render) -> list[Manifest]:
    """The chart with the values that it is shipped with."""
    return render()


@pytest.fixture(scope="session")
def values() -> Manifest:
    """The values that the chart is shipped with."""
    loaded: Manifest = yaml.safe_load((CHART / "values.yaml").read_text())
    return loaded


@pytest.fixture(scope="session")
def rules(manifests: list[Manifest]) -> Manifest:
    """What Prometheus reads: the rendered rule groups."""
    (found,) = [manifest["spec"] for manifest in manifests if manifest["kind"] == "PrometheusRule"]
    return dict(found)
