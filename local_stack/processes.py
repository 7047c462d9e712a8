"""Processes that outlive the command that starts them: a pid file and a log each, stopped as a whole group."""

from __future__ import annotations

import contextlib
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
    _pid_file(name, folder).write_text(str(process.pid))


def is_running(name: str, *, folder: Path) -> bool:
    """Whether the process is there and not a leftover entry."""
    pid = _pid(name, folder)
    if pid is None:
        return False
    with contextlib.suppress(ChildProcessError):
        os.waitpid(pid, os.WNOHANG)
    try:
        os.killpg(pid, 0)
    except ProcessLookupError:
        return False
    return True


def stop(names: Sequence[str], *, folder: Path, patience_seconds: float = STOP_SECONDS) -> None:
    """Ask all to end, wait for them together, kill what is left."""
    running = [name for name in names if is_running(name, folder=folder)]
    for name in running:
        _signal(name, folder, signal.SIGTERM)
    deadline = time.monotonic() + patience_seconds
    while any(is_running(name, folder=folder) for name in running) and time.monotonic() < deadline:
        time.sleep(0.1)
    for name in names:
        # Airflow gives tasks process groups of their own; the session is still ours.
        for pid in _session(_pid(name, folder)):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        _pid_file(name, folder).unlink(missing_ok=True)


def tail(name: str, *, folder: Path, lines: int = 15) -> str:
    """The end of a process's log."""
    log = folder / f"{name}.log"
    return "\n".join(log.read_text(errors="replace").splitlines()[-lines:]) if log.exists() else ""


def _pid_file(name: str, folder: Path) -> Path:
    return folder / f"{name}.pid"


def _pid(name: str, folder: Path) -> int | None:
    file = _pid_file(name, folder)
    return int(file.read_text()) if file.exists() else None


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
