"""`svyaz up` and `svyaz down`: the platform in the background."""

import os
import signal
import subprocess
import sys
import time

import psutil

from svyaz_cli.home import Home
from svyaz_cli.processes import noted, tail

UP_SECONDS = 240.0
DOWN_SECONDS = 90.0


def up(home: Home, *, with_demo: bool = True) -> int:
    """Starts `svyaz run` detached and returns 0 when it is ready, 1 when it ended instead."""
    if noted(home.runner_note) is None:
        home.ready.unlink(missing_ok=True)
        with (home.logs / "run.log").open("ab") as output:
            runner = subprocess.Popen(
                [sys.executable, "-m", "svyaz_cli.main", "run", "--demo" if with_demo else "--no-demo"],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        ended = runner.poll
    else:
        ended = _never
    deadline = time.monotonic() + UP_SECONDS
    while not home.ready.exists():
        if ended() is not None or time.monotonic() > deadline:
            print(f"the platform didn't start; the end of its log:\n{tail(home.logs / 'run.log', 40)}", file=sys.stderr)
            return 1
        time.sleep(0.1)
    print(f"READY {home.ready.read_text()}", flush=True)
    return 0


def down(home: Home) -> int:
    """Stops the runner and waits until everything has stopped; 0 too when nothing runs."""
    runner = noted(home.runner_note)
    if runner is None:
        print("nothing runs here", file=sys.stderr)
        return 0
    os.kill(runner.pid, signal.SIGTERM)
    try:
        runner.wait(DOWN_SECONDS)
    except psutil.TimeoutExpired:
        print(f"process {runner.pid} is still stopping after {DOWN_SECONDS:.0f} s", file=sys.stderr)
        return 1
    return 0


def _never() -> int | None:
    return None
