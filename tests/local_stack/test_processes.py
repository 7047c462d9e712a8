from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path

import psutil
import pytest

from local_stack import processes

# A process that starts another in a process group of its own, as Airflow does with its tasks.
PARENT = """
import subprocess, sys, time
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"], process_group=0)
print(child.pid, flush=True)
time.sleep(60)
"""


@pytest.fixture
def family(tmp_path: Path) -> list[int]:
    """Parent and child, started into ``tmp_path``."""
    processes.start("parent", [sys.executable, "-c", PARENT], folder=tmp_path, environment=os.environ)
    log = tmp_path / "parent.log"
    deadline = time.monotonic() + 20
    while not log.read_text().strip():
        assert time.monotonic() < deadline
        time.sleep(0.02)
    number = processes.pid("parent", folder=tmp_path)
    assert number is not None
    return [number, int(log.read_text())]


def is_alive(pid: int) -> bool:
    return psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE


def test_a_process_is_stopped_with_all_that_it_started(tmp_path: Path, family: list[int]) -> None:
    assert processes.is_running("parent", folder=tmp_path)
    processes.stop(["parent"], folder=tmp_path)
    assert not any(map(is_alive, family))
    assert not processes.is_running("parent", folder=tmp_path)


def test_so_are_the_orphans_of_one_that_was_killed(tmp_path: Path, family: list[int]) -> None:
    os.kill(family[0], 9)
    os.waitpid(family[0], 0)
    assert not processes.is_running("parent", folder=tmp_path)
    assert is_alive(family[1])
    processes.stop(["parent"], folder=tmp_path)
    assert not is_alive(family[1])


def test_a_stranger_with_the_same_number_is_left_alone(tmp_path: Path, family: list[int]) -> None:
    note = tmp_path / "parent.pid"
    noted = json.loads(note.read_text())
    note.write_text(json.dumps(noted | {"began": noted["began"] - 1000}))
    assert not processes.is_running("parent", folder=tmp_path)
    processes.stop(["parent"], folder=tmp_path)
    assert all(map(is_alive, family))
    note.write_text(json.dumps(noted))
    processes.stop(["parent"], folder=tmp_path)


def test_the_end_of_its_log_is_at_hand(tmp_path: Path, family: list[int]) -> None:
    assert processes.tail("parent", folder=tmp_path) == str(family[1])
    processes.stop(["parent"], folder=tmp_path)


def test_what_was_never_started_does_not_run(tmp_path: Path) -> None:
    assert not processes.is_running("nobody", folder=tmp_path)
    processes.stop(["nobody"], folder=tmp_path)
    assert processes.tail("nobody", folder=tmp_path) == ""
