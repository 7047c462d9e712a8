"""The environment that local AWS, Airflow and the pipeline run in on one machine: addresses, homes, tuning."""

from __future__ import annotations

import json
import os
import secrets
import socket
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parent.parent
ACCOUNT: Final = "123456789012"
REGION: Final = "us-east-1"
USER: Final = "admin"
PASSWORD: Final = "admin"  # noqa: S105 - of a server that only this machine reaches

# Two defects of Airflow 3.3's LocalExecutor make a task that defers for a few seconds fail now and then: a worker is held
# until its next heartbeat, and the stale event of its first half overwrites the second. A heartbeat a second closes the
# window (https://github.com/apache/airflow/issues/71580, https://github.com/apache/airflow/issues/72716).
TUNING: Final = {
    "AIRFLOW__WORKERS__MIN_HEARTBEAT_INTERVAL": "1",
    "AIRFLOW__SCHEDULER__SCHEDULER_IDLE_SLEEP_TIME": "0.2",
    # What a killed scheduler or worker left behind is found within seconds instead of minutes.
    "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT": "60",
    "AIRFLOW__SCHEDULER__ORPHANED_TASKS_CHECK_INTERVAL": "30",
    "AIRFLOW__DAG_PROCESSOR__REFRESH_INTERVAL": "10",
}


@dataclass(frozen=True)
class Site:
    """One local installation: a folder below ``.local/`` and the ports it listens on, all of them on loopback."""

    name: str
    airflow_port: int
    aws_port: int
    dags_folder: Path = ROOT / "dags"

    @property
    def home(self) -> Path:
        return ROOT / ".local" / self.name

    @property
    def airflow_home(self) -> Path:
        return self.home / "airflow"

    @property
    def logs(self) -> Path:
        return self.home / "logs"

    @property
    def airflow_url(self) -> str:
        return f"http://127.0.0.1:{self.airflow_port}"

    @property
    def aws_url(self) -> str:
        return f"http://127.0.0.1:{self.aws_port}"

    def airflow_environment(self, settings: dict[str, str]) -> dict[str, str]:
        """Variables for Airflow's four components.

        :param settings: the pipeline's own (``LABELS_*``).
        """
        secret = self.secret()
        return (
            _inherited()
            | TUNING
            | settings
            | {
                "AIRFLOW_HOME": str(self.airflow_home),
                "PYTHONPATH": str(ROOT),
                "AIRFLOW__CORE__DAGS_FOLDER": str(self.dags_folder),
                "AIRFLOW__CORE__PLUGINS_FOLDER": str(ROOT / "plugins"),
                "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
                "AIRFLOW__CORE__EXECUTOR": "LocalExecutor",
                "AIRFLOW__CORE__PARALLELISM": "4",
                "AIRFLOW__CORE__EXECUTION_API_SERVER_URL": f"{self.airflow_url}/execution/",
                "AIRFLOW__CORE__DAGS_ARE_PAUSED_AT_CREATION": "False",
                "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_USERS": f"{USER}:admin",
                "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_PASSWORDS_FILE": str(self.airflow_home / "passwords.json"),
                "AIRFLOW__API__HOST": "127.0.0.1",
                "AIRFLOW__API__PORT": str(self.airflow_port),
                "AIRFLOW__API__WORKERS": "1",
                "AIRFLOW__API__BASE_URL": self.airflow_url,
                "AIRFLOW__API__SECRET_KEY": secret,
                "AIRFLOW__API_AUTH__JWT_SECRET": secret,
                "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": f"sqlite:///{self.airflow_home / 'airflow.db'}",
                "AIRFLOW__TRIGGERER__CAPACITY": "100",
                "AIRFLOW_CONN_AWS_DEFAULT": self._connection(),
            }
        )

    def _connection(self) -> str:
        """The only place that knows that AWS is local: an endpoint in the connection."""
        return json.dumps(
            {
                "conn_type": "aws",
                "login": "testing",
                # Any will do; this one can be told from other words, wherever it should not stand.
                "password": self.secret(),
                "extra": {
                    "region_name": REGION,
                    "endpoint_url": self.aws_url,
                    "config_kwargs": {"s3": {"addressing_style": "path"}},
                },
            }
        )

    def secret(self) -> str:
        """Made once for each installation; sessions survive a restart."""
        file = self.home / "secret"
        if not file.exists():
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(secrets.token_hex(48))
            file.chmod(0o600)
        return file.read_text()


def _inherited() -> dict[str, str]:
    """The shell's environment without what belongs to another Airflow or to a real AWS account.

    Bytecode is written whatever the shell says: without it every process compiles Airflow anew.
    """
    left_out = ("AIRFLOW", "AWS_", "LABELS_", "PYTHONDONTWRITEBYTECODE")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(left_out)}
    return kept | {"PATH": f"{Path(sys.executable).parent}{os.pathsep}{kept.get('PATH', '')}"}


def free_port(preferred: int = 0) -> int:
    """The preferred port where it is free, else any."""
    for port in (preferred, 0):
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return int(probe.getsockname()[1])
    raise OSError("no free port on 127.0.0.1")
