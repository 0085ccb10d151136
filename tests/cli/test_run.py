"""`svyaz run`: it starts everything, starts again what dies, and takes over what a killed one left behind."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import httpx
import psutil
import pytest

from svyaz_cli.run import NO_CERTIFICATES
from svyaz_cli.services import RUNNER_METRICS_OFFSET, SERVICES
from tests.e2e.test_demo import counts
from tests.platforms import RunningPlatform, running_platform

pytestmark = [pytest.mark.slow, pytest.mark.timeout(400)]

PROCESSES = ["postgres", "nats", *(service.name for service in SERVICES)]


@pytest.fixture(scope="module")
def platform(demo_platform: RunningPlatform) -> RunningPlatform:
    return demo_platform


def noted_pid(platform: RunningPlatform, process: str) -> int:
    return int(json.loads((platform.home.notes / f"{process}.json").read_text())["pid"])


def eventually(true: Callable[[], bool], seconds: float = 60.0) -> None:
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.2)


def ready(platform: RunningPlatform) -> bool:
    try:
        return httpx.get(f"{platform.gateway_url}/readyz", timeout=5, verify=NO_CERTIFICATES).status_code == 200
    except httpx.HTTPError:
        return False


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


# The last one: after it there is no platform any more.
def test_a_killed_runner_leaves_nothing_that_the_next_start_cannot_take_over(platform: RunningPlatform) -> None:
    before, started = counts(platform), psutil.Process(platform.process.pid).children(recursive=True)
    platform.process.kill()
    platform.process.wait()
    # At once, while what is left behind is still ending.
    with running_platform(platform.home.directory, demo=True, base=platform.base) as second:
        _, alive = psutil.wait_procs(started, timeout=30)
        assert alive == []
        assert counts(second) == before
        started = psutil.Process(second.process.pid).children(recursive=True)
        second.process.send_signal(signal.SIGTERM)
        assert second.process.wait(60) == 0
        assert not any(process.is_running() for process in started)
