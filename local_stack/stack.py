"""Local AWS and Airflow's four components, started, watched and stopped together.

Not ``airflow standalone``: that listens on every address of the machine and prints a random password.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import metadata
from typing import Any, Final

import boto3
import httpx
from botocore.config import Config

from local_stack import processes
from local_stack.environment import PASSWORD, REGION, ROOT, USER, Site

COMPONENTS: Final = ("api-server", "scheduler", "dag-processor", "triggerer")
LOCAL_AWS: Final = "local-aws"
READY_SECONDS: Final = 120.0


class StackError(RuntimeError):
    """Raised when something did not start; the message holds the end of its log."""


@dataclass(frozen=True)
class Stack:
    """The processes of one :class:`Site`."""

    site: Site

    def start_local_aws(self, *flags: str) -> None:
        """Start local AWS and wait until it answers (about three seconds)."""
        command = [sys.executable, "-m", "local_aws", "--port", str(self.site.aws_port), *flags]
        self._start(LOCAL_AWS, command, self.site.airflow_environment({}))
        self._wait(LOCAL_AWS, lambda: httpx.get(f"{self.site.aws_url}/_local_aws/health").is_success)

    def prepare_airflow(self) -> None:
        """Make Airflow's database and login; nothing to do where this version of Airflow has made them before."""
        home = self.site.airflow_home
        home.mkdir(parents=True, exist_ok=True)
        (home / "passwords.json").write_text(json.dumps({USER: PASSWORD}))
        made = home / f"database-{metadata.version('apache-airflow')}"
        if made.exists():
            return
        environment = self.site.airflow_environment({})
        done = subprocess.run(
            [_airflow(), "db", "migrate"], env=environment, capture_output=True, text=True, check=False
        )
        if done.returncode:
            raise StackError(f"`airflow db migrate` failed:\n{done.stdout[-2000:]}\n{done.stderr[-2000:]}")
        made.touch()

    def start_airflow(self, settings: dict[str, str], components: Sequence[str] = COMPONENTS) -> None:
        """Start the components; all four are ready some eight seconds later (:meth:`wait_for_airflow`)."""
        environment = self.site.airflow_environment(settings)
        for component in components:
            # The log servers cannot be bound to loopback, and the UI reads the logs from this disk anyway.
            quiet = ["--skip-serve-logs"] if component in ("scheduler", "triggerer") else []
            self._start(component, [_airflow(), component, *quiet], environment)

    def wait_for_airflow(self, *dag_ids: str) -> Airflow:
        """Wait until every component is healthy and the Dags are there.

        :raises StackError: with the log of the component that is missing.
        """
        for component in COMPONENTS:
            self._wait(component, lambda component=component: self._is_healthy(component))
        airflow = Airflow(self.site.airflow_url)
        for dag_id in dag_ids:
            self._wait("dag-processor", lambda dag_id=dag_id: airflow.has_dag(dag_id))
        return airflow

    def stop(self, *, patience_seconds: float = processes.STOP_SECONDS) -> None:
        """Stop everything, local AWS last. Airflow may use its patience to let tasks finish."""
        processes.stop(COMPONENTS, folder=self.site.logs, patience_seconds=patience_seconds)
        processes.stop((LOCAL_AWS,), folder=self.site.logs)

    def is_running(self) -> bool:
        return any(processes.is_running(name, folder=self.site.logs) for name in (*COMPONENTS, LOCAL_AWS))

    def client(self, service: str) -> Any:
        """A boto3 client of local AWS."""
        return boto3.client(
            service,
            endpoint_url=self.site.aws_url,
            region_name=REGION,
            aws_access_key_id="testing",
            aws_secret_access_key="testing",
            config=Config(s3={"addressing_style": "path"}, max_pool_connections=32),
        )

    def _start(self, name: str, command: list[str], environment: dict[str, str]) -> None:
        (self.site.logs / f"{name}.log").unlink(missing_ok=True)
        processes.start(name, command, folder=self.site.logs, environment=environment)

    def _is_healthy(self, component: str) -> bool:
        health = httpx.get(f"{self.site.airflow_url}/api/v2/monitor/health").json()
        name = "metadatabase" if component == "api-server" else component.replace("-", "_")
        return bool(health[name]["status"] == "healthy")

    def _wait(self, name: str, is_ready: Any) -> None:
        deadline = time.monotonic() + READY_SECONDS
        while time.monotonic() < deadline:
            if not processes.is_running(name, folder=self.site.logs):
                raise StackError(f"{name} ended:\n{processes.tail(name, folder=self.site.logs)}")
            try:
                if is_ready():
                    return
            except (httpx.HTTPError, ValueError, KeyError):
                pass
            time.sleep(0.2)
        raise StackError(
            f"{name} is not ready after {READY_SECONDS:.0f} s:\n{processes.tail(name, folder=self.site.logs)}"
        )


class Airflow:
    """Airflow's REST API, as far as the demo and the tests use it.

    SQLite under load now and then answers a write with 500 (``database is locked``): calls are repeated.
    """

    def __init__(self, url: str) -> None:
        self._http = httpx.Client(base_url=url, timeout=30)
        token = self._call("POST", "/auth/token", json={"username": USER, "password": PASSWORD})["access_token"]
        self._http.headers["Authorization"] = f"Bearer {token}"

    def has_dag(self, dag_id: str) -> bool:
        return bool(self._http.get(f"/api/v2/dags/{dag_id}").status_code == 200)

    def trigger(self, dag_id: str, **conf: Any) -> str:
        """Start a run by hand; its run id."""
        body = {"logical_date": None, "conf": conf}
        return str(self._call("POST", f"/api/v2/dags/{dag_id}/dagRuns", json=body)["dag_run_id"])

    def run(self, dag_id: str, run_id: str) -> dict[str, Any]:
        return self._call("GET", f"/api/v2/dags/{dag_id}/dagRuns/{run_id}")

    def tasks(self, dag_id: str, run_id: str) -> list[dict[str, Any]]:
        """Task instances of a run."""
        path = f"/api/v2/dags/{dag_id}/dagRuns/{run_id}/taskInstances"
        return list(self._call("GET", path, params={"limit": 1000})["task_instances"])

    def xcom(self, dag_id: str, run_id: str, task_id: str, key: str = "return_value") -> Any:
        path = f"/api/v2/dags/{dag_id}/dagRuns/{run_id}/taskInstances/{task_id}/xcomEntries/{key}"
        return self._call("GET", path, params={"deserialize": False})["value"]

    def log(self, dag_id: str, run_id: str, task_id: str, try_number: int = 1, map_index: int = -1) -> str:
        path = f"/api/v2/dags/{dag_id}/dagRuns/{run_id}/taskInstances/{task_id}/logs/{try_number}"
        answer = self._call("GET", path, params={"map_index": map_index, "full_content": True})
        return "\n".join(
            str(line.get("event", line)) if isinstance(line, dict) else str(line) for line in answer["content"]
        )

    def patch(self, path: str, **body: Any) -> dict[str, Any]:
        return self._call("PATCH", f"/api/v2{path}", json=body)

    def post(self, path: str, **body: Any) -> dict[str, Any]:
        return self._call("POST", f"/api/v2{path}", json=body)

    def wait(self, dag_id: str, run_id: str, *, seconds: float) -> str:
        """Wait for a run's end; its state."""
        deadline = time.monotonic() + seconds
        while (state := self.run(dag_id, run_id)["state"]) not in ("success", "failed"):
            if time.monotonic() > deadline:
                raise StackError(f"{dag_id} {run_id} is still {state} after {seconds:.0f} s")
            time.sleep(0.3)
        return str(state)

    def _call(self, method: str, path: str, **kwargs: Any) -> dict[str, Any]:
        for attempt in range(6):
            answer = self._http.request(method, path, **kwargs)
            if answer.status_code < 500:
                break
            time.sleep(0.3 * 2**attempt)
        if answer.is_error:
            raise StackError(f"{method} {path}: {answer.status_code} {answer.text[:500]}")
        return dict(answer.json()) if answer.content else {}


def _airflow() -> str:
    return str((ROOT / ".venv" / "bin" / "airflow") if (ROOT / ".venv").exists() else "airflow")
