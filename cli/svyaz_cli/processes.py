"""Child processes that die with their starter, and leave a note by which the next start finds what was left over."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, NamedTuple

import psutil

TETHER = Path(__file__).with_name("tether.py")
# A start time read twice differs by clock ticks, and by what the system's clock was corrected in between.
_START_TOLERANCE_SECONDS = 2.0


class Account(NamedTuple):
    """The system user that a process runs as."""

    user: int
    group: int


def tethered(command: Sequence[str], stop_signal: signal.Signals, account: Account | None = None) -> list[str]:
    """The command that runs this one as the account (ours unless told), and signals it when this process dies."""
    user, group = (str(account.user), str(account.group)) if account else ("-", "-")
    starter, number = str(os.getpid()), str(int(stop_signal))
    return [sys.executable, "-I", "-S", str(TETHER), starter, number, user, group, *command]


class Process:
    """One running child. Start it from the main thread: the kernel's death signal follows the thread that forked."""

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        *,
        notes: Path,
        output: IO[bytes] | int,
        environment: Mapping[str, str] | None = None,
        account: Account | None = None,
        stop_signal: signal.Signals = signal.SIGTERM,
    ) -> None:
        self.name = name
        self.started = time.monotonic()
        self._stop_signal = stop_signal
        # A session of its own: Ctrl-C in the terminal reaches the starter, which stops its children in order.
        self._process = subprocess.Popen(
            tethered(command, stop_signal, account),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            env=None if environment is None else dict(environment),
            start_new_session=True,
        )
        self._note = notes / f"{name}.json"
        write_note(self._note, self._process.pid, stop_signal)

    @property
    def pid(self) -> int:
        """The process id."""
        return self._process.pid

    def exit_code(self) -> int | None:
        """How it ended (minus the signal's number when a signal ended it); None while it runs."""
        return self._process.poll()

    def stop(self, seconds: float = 20.0) -> None:
        """Asks it to stop, and kills it when it hasn't after so many seconds."""
        if self._process.poll() is None:
            self._process.send_signal(self._stop_signal)
            try:
                self._process.wait(seconds)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
        # What it had forked would keep its port.
        _kill_group(self._process.pid)
        self._note.unlink(missing_ok=True)


def _kill_group(leader: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(leader, signal.SIGKILL)


def write_note(note: Path, pid: int, stop_signal: signal.Signals = signal.SIGTERM) -> None:
    """Notes which process was started, so that nobody mistakes a later one with the same number for it."""
    note.parent.mkdir(parents=True, exist_ok=True)
    started = psutil.Process(pid).create_time()
    text = json.dumps({"pid": pid, "started": started, "stop_signal": int(stop_signal)})
    partial = note.with_suffix(".partial")
    partial.write_text(text)
    partial.replace(note)


def noted(note: Path) -> psutil.Process | None:
    """The process that the note speaks of, if it still runs."""
    try:
        content = json.loads(note.read_text())
        process = psutil.Process(content["pid"])
        if abs(process.create_time() - content["started"]) > _START_TOLERANCE_SECONDS:
            return None
        return process if process.status() != psutil.STATUS_ZOMBIE else None
    except (FileNotFoundError, psutil.NoSuchProcess):
        return None


def stop_leftovers(notes: Path, seconds: float = 20.0) -> list[str]:
    """Stops what an earlier starter left running and returns the names; raises nothing when there is nothing."""
    left = [(note, process) for note in sorted(notes.glob("*.json")) if (process := noted(note))]
    for note, process in left:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.send_signal(json.loads(note.read_text())["stop_signal"])
    _, alive = psutil.wait_procs([process for _, process in left], timeout=seconds)
    for process in alive:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()
    psutil.wait_procs(alive, timeout=5)
    for _, process in left:
        _kill_group(process.pid)
    for note in notes.glob("*.json"):
        note.unlink(missing_ok=True)
    return [note.stem for note, _ in left]


def tail(log: Path, lines: int = 15) -> str:
    """The end of a log, for the message that says why something didn't start."""
    with contextlib.suppress(FileNotFoundError):
        return "\n".join(log.read_text(errors="replace").splitlines()[-lines:])
    return "(no log)"
