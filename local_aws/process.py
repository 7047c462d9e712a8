"""The stand-in as a process that a test or a script starts and stops."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path
from types import TracebackType
from typing import Any

import boto3
from botocore.config import Config

REGION = "us-east-1"
_ROOT = Path(__file__).resolve().parent.parent
_STOP_SECONDS = 10


class LocalAwsError(RuntimeError):
    """The server did not start, or refused an admin request; the message says why."""


class LocalAws:
    """A running server: `with LocalAws("--start-seconds", "2") as aws: aws.client("s3")`."""

    def __init__(self, *flags: str, state_dir: Path | None = None, port: int = 0) -> None:
        self._flags = [*flags, *(("--state-dir", str(state_dir)) if state_dir else ())]
        self._port = port
        self._process: subprocess.Popen[str] | None = None
        self.endpoint_url = ""

    def __enter__(self) -> LocalAws:
        """Start the server; LocalAwsError when it ends before it is ready."""
        command = [sys.executable, "-m", "local_aws", "--port", str(self._port), *self._flags]
        path = os.pathsep.join(filter(None, (str(_ROOT), os.environ.get("PYTHONPATH"))))
        environment = {**os.environ, "PYTHONPATH": path}
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise LocalAwsError(
                f"the server ended with {self._process.wait()}; see standard error: {' '.join(command)}"
            )
        self.endpoint_url = str(json.loads(line)["endpoint_url"])
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop the server."""
        self.stop()

    @property
    def pid(self) -> int:
        """The server's process id."""
        if self._process is None:
            raise LocalAwsError("the server has not been started")
        return self._process.pid

    def client(self, service: str, **config: Any) -> Any:
        """A boto3 client of a service; `config` goes to botocore's Config."""
        session = boto3.Session(aws_access_key_id="testing", aws_secret_access_key="testing", region_name=REGION)
        settings = Config(s3={"addressing_style": "path"}, **config)
        return session.client(service, endpoint_url=self.endpoint_url, config=settings)

    def environment(self) -> dict[str, str]:
        """Environment variables with which any AWS client talks to this server."""
        return {
            "AWS_ENDPOINT_URL": self.endpoint_url,
            "AWS_ACCESS_KEY_ID": "testing",
            "AWS_SECRET_ACCESS_KEY": "testing",
            "AWS_DEFAULT_REGION": REGION,
        }

    def reset(self) -> None:
        """Drop everything that is stored, and every fault; settings stay."""
        self._admin("POST", "reset")

    def meter(self) -> dict[str, Any]:
        """What every model has cost so far; see `rekognition.meter.Meter.bill`."""
        return self._admin("GET", "meter")

    def settings(self, **changes: Any) -> dict[str, Any]:
        """Change settings; the settings in force."""
        return self._admin("POST", "settings", changes)

    def set_model(self, project_version_arn: str, **changes: str | int) -> dict[str, Any]:
        """Set a model's `status` (and `status_message`), `next_start_fails` with a message, or `stops_after_calls`."""
        return self._admin("POST", "model", {"project_version_arn": project_version_arn, **changes})

    def add_fault(self, **fault: Any) -> dict[str, Any]:
        """Add a fault (`faults.Fault`) to the plan: `add_fault(service="s3", operation="PutObject", error="SlowDown")`."""
        return self._admin("POST", "faults", fault)

    def faults(self) -> list[dict[str, Any]]:
        """The faults of the plan, each with how often it has `matched` and `struck`."""
        faults: list[dict[str, Any]] = self._admin("GET", "faults")["faults"]
        return faults

    def clear_faults(self, *, seed: int = 0) -> None:
        """Remove every fault; those added from then on draw from `seed`."""
        self._admin("POST", "faults/clear", {"seed": seed})

    def stop(self) -> None:
        """End the server with SIGTERM, and wait for it."""
        if self._process is None:
            return
        self._process.terminate()
        try:
            self._process.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self.kill()
        if self._process.stdout is not None:
            self._process.stdout.close()

    def kill(self) -> None:
        """End the server with SIGKILL: what was not saved is lost."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def _admin(self, method: str, name: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
        request = urllib.request.Request(
            f"{self.endpoint_url}/_local_aws/{name}",
            data=json.dumps(body or {}).encode() if method == "POST" else None,
            method=method,
            headers={"Content-Type": "application/json"},
        )
        try:
            with urllib.request.urlopen(request, timeout=30) as response:
                answer: dict[str, Any] = json.load(response)
        except urllib.error.HTTPError as error:
            raise LocalAwsError(f"{method} {name}: {json.load(error)['error']}") from error
        return answer
