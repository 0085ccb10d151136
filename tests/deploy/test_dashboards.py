"""The dashboard: written by its generator, and every query answered by a real Prometheus that scrapes our metrics."""

import json
import math
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from svyaz_cli.embedded import free_port
from tests.deploy.conftest import CHART, ROOT, Manifest

DASHBOARDS = sorted((CHART / "dashboards").glob("*.json"))
ANSWER_SECONDS = 60.0
VARIABLES = {"$__rate_interval": "5s", "$namespace": "svyaz", "$service": ".*"}


def queries() -> list[Any]:
    """(query, its place) of every line of every panel."""
    found = []
    for path in DASHBOARDS:
        for panel in json.loads(path.read_text())["panels"]:
            for target in panel.get("targets", ()):
                name = f"{path.stem}: {panel['title']}, {target['legendFormat']}"
                found.append(pytest.param(target["expr"], id=name))
    return found


@pytest.fixture(scope="module")
def prometheus(rules: Manifest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    """Prometheus with our rules, scraping a process that has all our metrics."""
    folder = tmp_path_factory.mktemp("prometheus")
    ours, port = free_port(), free_port()
    (folder / "rules.yaml").write_text(yaml.safe_dump(rules))
    target = {"targets": [f"127.0.0.1:{ours}"], "labels": {"namespace": "svyaz", "service": "svyaz-orders"}}
    configuration = {
        "global": {"scrape_interval": "1s", "evaluation_interval": "1s"},
        "rule_files": ["rules.yaml"],
        # As the chart's ServiceMonitors have it.
        "scrape_configs": [{"job_name": "svyaz", "honor_labels": True, "static_configs": [target]}],
    }
    (folder / "prometheus.yaml").write_text(yaml.safe_dump(configuration))
    server = [str(ROOT / "var/tools/bin/prometheus"), f"--config.file={folder / 'prometheus.yaml'}"]
    server += [f"--storage.tsdb.path={folder / 'data'}", f"--web.listen-address=127.0.0.1:{port}", "--log.level=warn"]
    with ExitStack() as stack:
        for command in ([sys.executable, str(Path(__file__).with_name("exposition.py")), str(ours)], server):
            process = stack.enter_context(subprocess.Popen(command, cwd=folder))
            stack.callback(process.terminate)
        client = stack.enter_context(httpx.Client(base_url=f"http://127.0.0.1:{port}"))
        yield client


def answer(prometheus: httpx.Client, path: str, **parameters: str) -> Any:
    """What Prometheus answers; waits for it to be up, fails on a query that it can't parse."""
    try:
        response = prometheus.get(path, params=parameters)
    except httpx.TransportError:
        return []
    if response.status_code == 503:
        return []
    assert response.status_code == 200, response.text
    data = response.json()["data"]
    return data["result"] if isinstance(data, dict) else data


@pytest.mark.parametrize("query", queries())
def test_every_panel_has_an_answer(query: str, prometheus: httpx.Client) -> None:
    for name, value in VARIABLES.items():
        query = query.replace(name, value)
    assert "$" not in query
    deadline = time.monotonic() + ANSWER_SECONDS
    while True:
        series = answer(prometheus, "/api/v1/query", query=query)
        if any(not math.isnan(float(one["value"][1])) for one in series):
            return
        assert time.monotonic() < deadline, f"no answer to {query}"
        time.sleep(0.5)


def test_the_choices_at_the_top_have_something_to_choose(prometheus: httpx.Client) -> None:
    for path in DASHBOARDS:
        for variable in json.loads(path.read_text())["templating"]["list"]:
            if variable["type"] != "query":
                continue
            found = re.fullmatch(r"label_values\((.+), (\w+)\)", variable["definition"])
            assert found is not None
            selector = found[1].replace("$namespace", "svyaz")
            deadline = time.monotonic() + ANSWER_SECONDS
            while not answer(prometheus, f"/api/v1/label/{found[2]}/values", **{"match[]": selector}):
                assert time.monotonic() < deadline, f"nothing to choose from: {variable['definition']}"
                time.sleep(0.5)


def test_every_metric_in_an_alert_is_one_of_ours(rules: Manifest, prometheus: httpx.Client) -> None:
    expressions = " ".join(rule["expr"] for group in rules["groups"] for rule in group["rules"])
    deadline = time.monotonic() + ANSWER_SECONDS
    wanted = set(re.findall(r"\bsvyaz_\w+", expressions))
    while wanted - (known := set(answer(prometheus, "/api/v1/label/__name__/values"))):
        assert time.monotonic() < deadline, f"in no process: {wanted - known}"
        time.sleep(0.5)


def test_the_dashboard_is_what_its_generator_writes() -> None:
    script = "from generate import rendered; print(rendered(), end='')"
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT / "deploy/dashboards", capture_output=True, text=True, check=True
    )
    assert (CHART / "dashboards/svyaz.json").read_text() == done.stdout, "run python deploy/dashboards/generate.py"


def test_panels_never_overlap() -> None:
    for path in DASHBOARDS:
        taken: set[tuple[int, int]] = set()
        for panel in json.loads(path.read_text())["panels"]:
            at = panel["gridPos"]
            cells = {(at["x"] + x, at["y"] + y) for x in range(at["w"]) for y in range(at["h"])}
            assert not cells & taken, panel["title"]
            assert at["x"] + at["w"] <= 24
            taken |= cells


def test_the_chart_hands_the_dashboard_to_grafana(manifests: list[Manifest]) -> None:
    found = [m for m in manifests if m["metadata"].get("labels", {}).get("grafana_dashboard") == "1"]
    assert [set(m["data"]) for m in found] == [{path.name for path in DASHBOARDS}]
    for path in DASHBOARDS:
        assert json.loads(found[0]["data"][path.name]) == json.loads(path.read_text())
