"""The Dags deployed to a real Airflow on this machine: its REST API as a user has it, and its processes, to be killed."""

from __future__ import annotations

import json
import os
import shutil
import signal
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any

import psutil  # type: ignore[import-untyped]

from local_stack import processes
from local_stack.environment import ROOT, Site
from local_stack.stack import COMPONENTS, Airflow, Stack
from tests.integration.world import wait_for

DAG = "label_images"
WATCHDOG = "stop_idle_model"
ACTIVE = ("queued", "running")

# What a crash leaves behind is found within seconds, and a changed Dag file is seen as soon.
TUNING = {
    "AIRFLOW__SCHEDULER__SCHEDULER_HEARTBEAT_SEC": "2",
    "AIRFLOW__SCHEDULER__JOB_HEARTBEAT_SEC": "2",
    "AIRFLOW__SCHEDULER__SCHEDULER_HEALTH_CHECK_THRESHOLD": "8",
    "AIRFLOW__SCHEDULER__ORPHANED_TASKS_CHECK_INTERVAL": "4",
    "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT": "16",
    "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT_DETECTION_INTERVAL": "2",
    "AIRFLOW__SCHEDULER__PARSING_CLEANUP_INTERVAL": "3",
    "AIRFLOW__TRIGGERER__JOB_HEARTBEAT_SEC": "2",
    "AIRFLOW__TRIGGERER__TRIGGERER_HEALTH_CHECK_THRESHOLD": "8",
    "AIRFLOW__DAG_PROCESSOR__REFRESH_INTERVAL": "2",
    "AIRFLOW__CORE__MIN_SERIALIZED_DAG_UPDATE_INTERVAL": "0",
    "AIRFLOW__DAG_PROCESSOR__STALE_DAG_THRESHOLD": "4",
}
# The one thing that differs from the repository's Dags: a retry comes soon.
SOONER = {
    "labelling/defaults.py": ('"retry_delay": timedelta(seconds=20)', '"retry_delay": timedelta(seconds=1)'),
    "label_images.py": ("retry_delay=timedelta(seconds=10)", "retry_delay=timedelta(seconds=1)"),
}
# What comes after runs and beside them; they are tested in process, and here they would only take the processor.
LEFT_OUT = {"compact_labels.py", "index_labels.py", "query_labels.py"}


class Deployment:
    """A site with the Dags copied to it, as a deployment does, so that a test may break one."""

    def __init__(self, site: Site, settings: dict[str, str]) -> None:
        self.site = replace(site, dags_folder=site.home / "dags")
        self.stack = Stack(self.site)
        self._settings = settings | TUNING
        self._sessions: set[int] = set()
        self.airflow: Airflow

    def start(self) -> None:
        shutil.copytree(ROOT / "dags", self.site.dags_folder, ignore=shutil.ignore_patterns("__pycache__", *LEFT_OUT))
        self._deploy()
        self.stack.prepare_airflow()
        self.start_components(*COMPONENTS)

    def stop(self) -> None:
        """Stop everything, what was orphaned by a kill included."""
        self.stack.stop()
        self.kill_processes(process.pid for process in self._own_processes())

    # The Dag files

    def change_dag(self, change: Callable[[str], str]) -> None:
        file = self.site.dags_folder / f"{DAG}.py"
        file.write_text(change(file.read_text()))

    def restore(self) -> None:
        """Everything runs, and the Dags are those of the repository and unpaused."""
        missing = [name for name in COMPONENTS if not processes.is_running(name, folder=self.site.logs)]
        if missing:
            self.start_components(*missing)
        if self._deploy():
            wait_for("the Dags are as in the repository", self._dags_are_good)
        for dag_id in (DAG, WATCHDOG):
            self.pause(dag_id, paused=False)

    def _deploy(self) -> bool:
        """Write the repository's Dags over whatever is there; whether that changed anything."""
        changed = False
        for source in (ROOT / "dags").rglob("*.py"):
            name = str(source.relative_to(ROOT / "dags"))
            if name in LEFT_OUT:
                continue
            text = source.read_text()
            if name in SOONER:
                assert SOONER[name][0] in text, f"{name} has no {SOONER[name][0]}"
                text = text.replace(*SOONER[name])
            target = self.site.dags_folder / name
            if not target.exists() or target.read_text() != text:
                target.write_text(text)
                changed = True
        return changed

    def _dags_are_good(self) -> bool:
        errors = self._get("/importErrors")["total_entries"]
        details = self._get(f"/dags/{DAG}/details")
        return not errors and not details["is_stale"] and details["dag_run_timeout"] is None

    def has_import_error(self) -> bool:
        return bool(self._get("/importErrors")["total_entries"])

    def dagrun_timeout(self) -> Any:
        return self._get(f"/dags/{DAG}/details")["dag_run_timeout"]

    # Runs and tasks, as a user sees and changes them

    def trigger(self, dag_id: str = DAG, **conf: Any) -> str:
        return self.airflow.trigger(dag_id, **conf)

    def task(self, run_id: str, task_id: str, map_index: int = -1, dag_id: str = DAG) -> dict[str, Any]:
        for task in self.airflow.tasks(dag_id, run_id):
            if task["task_id"] == task_id and task["map_index"] == map_index:
                return task
        return {"state": None, "pid": None}

    def wait_for_task(self, run_id: str, task_id: str, *states: str, map_index: int = -1) -> dict[str, Any]:
        def look() -> dict[str, Any] | None:
            task = self.task(run_id, task_id, map_index)
            return task if task["state"] in states else None

        found = wait_for(f"{task_id} is {' or '.join(states)}", look)
        assert found
        return found

    def states(self, run_id: str) -> dict[str, set[str]]:
        """The states of each task's instances."""
        states: dict[str, set[str]] = {}
        for task in self.airflow.tasks(DAG, run_id):
            states.setdefault(task["task_id"], set()).add(task["state"])
        return states

    def wait(self, run_id: str, dag_id: str = DAG, *, seconds: float = 180) -> str:
        """The state that the run ends in, once none of its tasks is under way any more."""
        state = self.airflow.wait(dag_id, run_id, seconds=seconds)
        wait_for("all tasks have ended", lambda: not self._unfinished(dag_id, run_id))
        return state

    def _unfinished(self, dag_id: str, run_id: str) -> list[str]:
        under_way = ("running", "deferred", "queued", "scheduled", "restarting")
        return [task["task_id"] for task in self.airflow.tasks(dag_id, run_id) if task["state"] in under_way]

    def mark_run(self, run_id: str, state: str) -> None:
        self.airflow.patch(f"/dags/{DAG}/dagRuns/{run_id}", state=state)

    def mark_task(self, run_id: str, task_id: str, state: str) -> None:
        self.airflow.patch(f"/dags/{DAG}/dagRuns/{run_id}/taskInstances/{task_id}", new_state=state)

    def clear(
        self, run_id: str, *tasks: str | tuple[str, int], only_failed: bool, downstream: bool = False
    ) -> list[str]:
        """What was cleared."""
        answer = self.airflow.post(
            f"/dags/{DAG}/clearTaskInstances",
            dry_run=False,
            dag_run_id=run_id,
            task_ids=list(tasks),
            only_failed=only_failed,
            include_downstream=downstream,
        )
        return sorted({str(task["task_id"]) for task in answer["task_instances"]})

    def delete_run(self, run_id: str) -> None:
        """:raises StackError: with Airflow's answer, where it refuses."""
        self.airflow._call("DELETE", f"/api/v2/dags/{DAG}/dagRuns/{run_id}")

    def pause(self, dag_id: str = DAG, *, paused: bool = True) -> None:
        self.airflow.patch(f"/dags/{dag_id}", is_paused=paused)

    def log(self, run_id: str, task_id: str, *, dag_id: str = DAG, try_number: int = 1, map_index: int = -1) -> str:
        """A task's log as JSON, tracebacks included."""
        path = f"/dags/{dag_id}/dagRuns/{run_id}/taskInstances/{task_id}/logs/{try_number}"
        return json.dumps(self._get(f"{path}?map_index={map_index}&full_content=true")["content"])

    def run_watchdog(self) -> tuple[str, str]:
        """State and log of a run of the watchdog."""
        run_id = self.trigger(WATCHDOG)
        state = self.wait(run_id, WATCHDOG)
        return state, self.log(run_id, "stop_if_idle", dag_id=WATCHDOG)

    def end_all_runs(self) -> None:
        """Fail what still runs, so that the next run can start."""
        for dag_id in (DAG, WATCHDOG):
            for run in self._get(f"/dags/{dag_id}/dagRuns?limit=100&order_by=-run_after")["dag_runs"]:
                if run["state"] in ACTIVE:
                    self.restore()
                    self.airflow.patch(f"/dags/{dag_id}/dagRuns/{run['dag_run_id']}", state="failed")
                    self.wait(run["dag_run_id"], dag_id)

    def _get(self, path: str) -> dict[str, Any]:
        return self.airflow._call("GET", f"/api/v2{path}")

    # Processes

    def start_components(self, *names: str) -> None:
        self.stack.start_airflow(self._settings, names)
        self._sessions |= {self.pid(name) for name in names}
        self.airflow = self.stack.wait_for_airflow(DAG, WATCHDOG)

    def pid(self, name: str) -> int:
        found = processes.pid(name, folder=self.site.logs)
        assert found is not None, f"{name} was never started"
        return found

    def kill(self, name: str, *, workers: bool = False, tasks: bool = False) -> None:
        """kill -9 of a component: its main process; with ``workers`` its children, with ``tasks`` everything below it."""
        main = psutil.Process(self.pid(name))
        children = main.children() if workers or tasks else []
        below = main.children(recursive=True) if tasks else []
        self.kill_processes([main.pid, *(process.pid for process in children), *(process.pid for process in below)])

    def kill_processes(self, pids: Iterable[int]) -> None:
        for pid in pids:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue

    def terminate(self, name: str) -> None:
        """SIGTERM, as a service manager does."""
        os.kill(self.pid(name), signal.SIGTERM)

    def is_alive(self, name: str) -> bool:
        """Whether the component's main process lives."""
        process = psutil.Process(self.pid(name)) if psutil.pid_exists(self.pid(name)) else None
        return process is not None and process.status() != psutil.STATUS_ZOMBIE

    def is_task_alive(self, run_id: str, task_id: str) -> bool:
        pid = self.task(run_id, task_id)["pid"]
        return bool(pid and psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE)

    def _own_processes(self) -> list[psutil.Process]:
        found = []
        for process in psutil.process_iter():
            try:
                if os.getsid(process.pid) in self._sessions and process.status() != psutil.STATUS_ZOMBIE:
                    found.append(process)
            except (ProcessLookupError, psutil.NoSuchProcess):
                continue
        return found
