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


def start(name: str, command: Sequence[str], *, folder: Path, environment: Mapping[str, str]) -> None:
    """Start a process in its own group, its output in ``folder/<name>.log``."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / f"{name}.log").open("ab") as log:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=dict(environment), start_new_session=True
        )
    began = psutil.Process(process.pid).create_time()
    _pid_file(name, folder).write_text(json.dumps({"pid": process.pid, "began": began}))


def is_running(name: str, *, folder: Path) -> bool:
    """Whether the process is there, and the one that was started: numbers are given anew, after a restart for one."""
    return _pid(name, folder) is not None


def stop(names: Sequence[str], *, folder: Path, patience_seconds: float = STOP_SECONDS) -> None:
    """Ask all to end, wait for them together, kill what is left."""
    leaders = [_pid(name, folder) for name in names]
    running = [name for name in names if is_running(name, folder=folder)]
    for name in running:
        _signal(name, folder, signal.SIGTERM)
    deadline = time.monotonic() + patience_seconds
    while any(is_running(name, folder=folder) for name in running) and time.monotonic() < deadline:
        time.sleep(0.1)
    # Airflow gives tasks process groups of their own; the session is still ours, also when its leader has ended.
    for leader in leaders:
        for pid in _session(leader):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
    for name in names:
        _pid_file(name, folder).unlink(missing_ok=True)


def tail(name: str, *, folder: Path, lines: int = 15) -> str:
    """The end of a process's log."""
    log = folder / f"{name}.log"
    return "\n".join(log.read_text(errors="replace").splitlines()[-lines:]) if log.exists() else ""


def _pid_file(name: str, folder: Path) -> Path:
    return folder / f"{name}.pid"


def _pid(name: str, folder: Path) -> int | None:
    file = _pid_file(name, folder)
    if not file.exists():
        return None
    noted = json.loads(file.read_text())
    with contextlib.suppress(psutil.NoSuchProcess):
        process = psutil.Process(noted["pid"])
        if process.create_time() == noted["began"] and process.status() != psutil.STATUS_ZOMBIE:
            return int(noted["pid"])
    return None


def _session(leader: int | None) -> list[int]:
    """Every process of a session."""
    found = []
    for pid in psutil.pids() if leader else []:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            if os.getsid(pid) == leader:
                found.append(pid)
    return found


def _signal(name: str, folder: Path, number: signal.Signals) -> None:
    pid = _pid(name, folder)
    with contextlib.suppress(ProcessLookupError):
        if pid:
            os.killpg(pid, number)
