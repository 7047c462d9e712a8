"""Processes that outlive the command that starts them: a pid file and a log each, stopped as a whole group."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

import psutil

STOP_SECONDS: Final = 15.0
KILL_SECONDS: Final = 5.0


def start(name: str, command: Sequence[str], *, folder: Path, environment: Mapping[str, str]) -> None:
    """Start a process in its own group, its output in ``folder/<name>.log``."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / f"{name}.log").open("ab") as log:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=dict(environment), start_new_session=True
        )
    began = psutil.Process(process.pid).create_time()
    _pid_file(name, folder).write_text(json.dumps({"pid": process.pid, "began": began}))


def pid(name: str, *, folder: Path) -> int | None:
    """The process's number; None where it was never started, or where somebody else has that number by now."""
    file = _pid_file(name, folder)
    if not file.exists():
        return None
    noted = json.loads(file.read_text())
    with contextlib.suppress(psutil.NoSuchProcess):
        if psutil.Process(noted["pid"]).create_time() != noted["began"]:
            return None
    return int(noted["pid"])


def is_running(name: str, *, folder: Path) -> bool:
    """Whether the process lives."""
    number = pid(name, folder=folder)
    try:
        return number is not None and _lives(psutil.Process(number))
    except psutil.NoSuchProcess:
        return False


def _lives(process: psutil.Process) -> bool:
    try:
        return bool(process.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def stop(names: Sequence[str], *, folder: Path, patience_seconds: float = STOP_SECONDS) -> None:
    """Ask all to end, wait for them together, kill what is left."""
    leaders = [pid(name, folder=folder) for name in names]
    running = [name for name in names if is_running(name, folder=folder)]
    for name in running:
        _signal(name, folder, signal.SIGTERM)
    deadline = time.monotonic() + patience_seconds
    while any(is_running(name, folder=folder) for name in running) and time.monotonic() < deadline:
        time.sleep(0.1)
    # Airflow gives tasks process groups of their own; the session is still ours, also when its leader has ended.
    left = [process for leader in leaders for process in _session(leader)]
    for process in left:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()
    deadline = time.monotonic() + KILL_SECONDS
    while any(_lives(process) for process in left) and time.monotonic() < deadline:
        time.sleep(0.02)
    for name in names:
        _pid_file(name, folder).unlink(missing_ok=True)


def tail(name: str, *, folder: Path, lines: int = 15) -> str:
    """The end of a process's log."""
    log = folder / f"{name}.log"
    return "\n".join(log.read_text(errors="replace").splitlines()[-lines:]) if log.exists() else ""


def _pid_file(name: str, folder: Path) -> Path:
    return folder / f"{name}.pid"


def _session(leader: int | None) -> list[psutil.Process]:
    """Every process of a session."""
    found = []
    for process in psutil.process_iter() if leader else []:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            if os.getsid(process.pid) == leader:
                found.append(process)
    return found


def _signal(name: str, folder: Path, number: signal.Signals) -> None:
    leader = pid(name, folder=folder)
    with contextlib.suppress(ProcessLookupError):
        if leader:
            os.killpg(leader, number)
