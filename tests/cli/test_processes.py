"""Children: they die with their starter, and are found by the next one where they don't."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import psutil

from svyaz_cli.processes import Process, noted, stop_leftovers, tail, write_note

SLEEP = [sys.executable, "-c", "import time; time.sleep(60)"]
STUBBORN = [
    sys.executable,
    "-c",
    "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print(1, flush=True); time.sleep(60)",
]
STARTER = """
import subprocess, sys, time
from pathlib import Path
from svyaz_cli.processes import Process
child = Process("child", [sys.executable, "-c", "import time; time.sleep(60)"], notes=Path(sys.argv[1]), output=2)
print(child.pid, flush=True)
time.sleep(60)
"""


def test_a_child_dies_with_its_killed_starter(tmp_path: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", STARTER, str(tmp_path)], stdout=subprocess.PIPE, text=True) as starter:
        assert starter.stdout is not None
        child = psutil.Process(int(starter.stdout.readline()))
        starter.kill()
    psutil.wait_procs([child], timeout=10)
    assert not child.is_running()


def test_what_was_left_behind_is_found_by_its_note_and_stopped(tmp_path: Path) -> None:
    child = Process("child", SLEEP, notes=tmp_path, output=subprocess.DEVNULL)
    assert noted(tmp_path / "child.json") is not None
    assert stop_leftovers(tmp_path) == ["child"]
    assert not psutil.pid_exists(child.pid)
    assert child.exit_code() is not None
    assert stop_leftovers(tmp_path) == []


def test_a_process_that_got_the_number_of_another_is_left_alone(tmp_path: Path) -> None:
    note = tmp_path / "child.json"
    write_note(note, os.getpid())
    note.write_text(json.dumps({**json.loads(note.read_text()), "started": 1.0}))
    assert noted(note) is None
    assert stop_leftovers(tmp_path) == []


def test_a_child_that_does_not_want_to_stop_is_killed(tmp_path: Path) -> None:
    read, write = os.pipe()
    child = Process("child", STUBBORN, notes=tmp_path, output=write)
    os.close(write)
    assert os.read(read, 1) == b"1"
    child.stop(0.2)
    os.close(read)
    assert child.exit_code() == -signal.SIGKILL


def test_the_end_of_a_log_that_is_not_there_is_said_to_be_missing(tmp_path: Path) -> None:
    (tmp_path / "log").write_text("one\ntwo\nthree\n")
    assert tail(tmp_path / "log", 2) == "two\nthree"
    assert tail(tmp_path / "nowhere") == "(no log)"
