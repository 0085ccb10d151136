"""`svyaz run`: it starts everything, starts again what dies, and takes over what a killed one left behind."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import psutil
import pytest

from svyaz_cli.demo import KINDS
from svyaz_cli.services import RUNNER_METRICS_OFFSET, SERVICES
from tests.platforms import RunningPlatform, running_platform

pytestmark = [pytest.mark.slow, pytest.mark.timeout(400)]

PROCESSES = ["postgres", "nats", *(service.name for service in SERVICES)]


@pytest.fixture(scope="module")
def platform(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningPlatform]:
    with running_platform(tmp_path_factory.mktemp("platform"), demo=True) as running:
        yield running


def bearer(platform: RunningPlatform, role: str, branch: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {platform.token(role, branch)}"}


def noted_pid(platform: RunningPlatform, process: str) -> int:
    return int(json.loads((platform.home.notes / f"{process}.json").read_text())["pid"])


def counts(platform: RunningPlatform) -> dict[str, int]:
    found = {}
    with httpx.Client(base_url=platform.gateway_url, headers=bearer(platform, "admin", "*"), timeout=30) as client:
        for kind in KINDS:
            answer = client.get(kind.path, params={"fields": "id", "limit": "1"})
            assert answer.is_success, answer.text
            found[kind.name] = int(answer.headers["X-Total-Count"])
    return found


def eventually(true: Callable[[], bool], seconds: float = 60.0) -> None:
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.2)


def ready(platform: RunningPlatform) -> bool:
    try:
        return httpx.get(f"{platform.gateway_url}/readyz", timeout=5).status_code == 200
    except httpx.HTTPError:
        return False


def test_the_demo_operator_is_small_and_there(platform: RunningPlatform) -> None:
    found = counts(platform)
    assert found["customer"] == found["billingAccount"] == 10
    assert found["catalog"] == 1
    assert all(1 <= count <= 50 for count in found.values())


def test_every_offering_of_the_demo_operator_is_launched(platform: RunningPlatform) -> None:
    path = next(kind.path for kind in KINDS if kind.name == "productOffering")
    answer = httpx.get(f"{platform.gateway_url}{path}", headers=bearer(platform, "agent", "osh"), timeout=30)
    assert {offering["lifecycleStatus"] for offering in answer.json()} == {"Launched"}


@pytest.mark.parametrize("process", PROCESSES)
def test_a_killed_process_is_started_again_and_the_log_says_so(platform: RunningPlatform, process: str) -> None:
    killed = noted_pid(platform, process)
    os.kill(killed, signal.SIGKILL)
    note = platform.home.notes / f"{process}.json"
    eventually(lambda: note.exists() and noted_pid(platform, process) != killed)
    eventually(lambda: ready(platform))
    log = [json.loads(line) for line in (platform.home.directory / "run.log").read_text().splitlines()]
    assert any(entry["message"] == "a process died" and entry["process"] == process for entry in log)
    metrics = httpx.get(f"http://127.0.0.1:{platform.base + RUNNER_METRICS_OFFSET}/metrics").text
    assert f'svyaz_process_restarts_total{{service="{process}"}} 1.0' in metrics


def test_a_second_runner_over_the_same_data_is_refused(platform: RunningPlatform) -> None:
    environment = {**os.environ, "SVYAZ_VAR": str(platform.home.directory), "SVYAZ_PORT_BASE": str(platform.base)}
    command = [sys.executable, "-m", "svyaz_cli.main", "run"]
    second = subprocess.run(command, check=False, env=environment, capture_output=True, text=True)
    assert second.returncode == 1
    assert "runs already" in second.stderr


def test_a_taken_port_is_named(platform: RunningPlatform, tmp_path: Path) -> None:
    environment = {**os.environ, "SVYAZ_VAR": str(tmp_path), "SVYAZ_PORT_BASE": str(platform.base)}
    command = [sys.executable, "-m", "svyaz_cli.main", "run"]
    other = subprocess.run(command, check=False, env=environment, capture_output=True, text=True)
    assert other.returncode == 1
    assert f"port {platform.base} is taken" in other.stderr


def test_a_killed_runner_leaves_nothing_that_the_next_start_cannot_take_over(tmp_path: Path) -> None:
    with running_platform(tmp_path, demo=True) as first:
        before, started = counts(first), psutil.Process(first.process.pid).children(recursive=True)
        first.process.kill()
        first.process.wait()
    # At once, while what is left behind is still ending.
    with running_platform(tmp_path, demo=True, base=first.base) as second:
        _, alive = psutil.wait_procs(started, timeout=30)
        assert alive == []
        assert counts(second) == before
        started = psutil.Process(second.process.pid).children(recursive=True)
        second.process.send_signal(signal.SIGTERM)
        assert second.process.wait(60) == 0
        assert not any(process.is_running() for process in started)
