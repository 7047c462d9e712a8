"""docker-compose.yaml and the Dockerfile, held to what they name; then every service's own command, run on this machine.

There need be no Docker engine: the file is resolved by Compose itself, PostgreSQL and Redis are this machine's, and the
tree that the Dockerfile copies is laid out in a folder. What differs from containers is `_on_this_machine`, nothing else.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from importlib.metadata import distribution, packages_distributions, requires
from pathlib import Path
from typing import Any, Final

import pytest
import yaml  # type: ignore[import-untyped]
from airflow.configuration import conf
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from local_stack import processes
from local_stack.environment import TUNING, Site, free_port
from local_stack.stack import Airflow

ROOT: Final = Path(__file__).resolve().parent.parent
ONE_SHOTS: Final = {"seed", "airflow-init"}
LONG_RUNNING: Final = {
    "postgres", "redis", "local-aws", "api-server", "scheduler", "dag-processor", "triggerer", "worker"
}  # fmt: skip
# Inside the containers; each is named once in docker-compose.yaml's addresses.
PORTS: Final = {"postgres": 5432, "redis": 6379, "local-aws": 4599, "api-server": 8080, "scheduler": 8974}
# What the two foreign images run by default.
FOREIGN: Final = {"postgres": "postgres -p 5432 -h 127.0.0.1", "redis": "redis-server --port 6379 --bind 127.0.0.1"}
READY_SECONDS: Final = 60.0


@dataclass(frozen=True)
class Service:
    """One service of the resolved file."""

    name: str
    image: str
    command: list[str]
    environment: dict[str, str]
    check: list[str]
    raw: dict[str, Any]

    @property
    def is_ours(self) -> bool:
        return "build" in self.raw

    @property
    def depends_on(self) -> dict[str, str]:
        return {name: each["condition"] for name, each in self.raw.get("depends_on", {}).items()}


def _compose_command() -> list[str]:
    for command in (["docker", "compose"], ["docker-compose"]):
        if shutil.which(command[0]) and subprocess.run([*command, "version"], capture_output=True, check=False).returncode == 0:
            return command
    pytest.fail("Neither `docker compose` nor `docker-compose` is here to resolve docker-compose.yaml (Debian: docker-compose)")


def _split(command: str | list[str] | None) -> list[str]:
    # `config` writes $ as $$, as the file does.
    parts = shlex.split(command) if isinstance(command, str) else command or []
    return [part.replace("$$", "$") for part in parts]


def _check(test: list[str]) -> list[str]:
    kind, *parts = test or ["NONE"]
    return {"CMD": parts, "CMD-SHELL": ["/bin/sh", "-c", *parts], "NONE": []}[kind]


@pytest.fixture(scope="module")
def services(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Service]:
    """The file as Compose resolves it where nobody has set anything."""
    empty = tmp_path_factory.mktemp("compose") / "empty.env"
    empty.touch()
    bare = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
    command = [*_compose_command(), "--file", str(ROOT / "docker-compose.yaml"), "--env-file", str(empty), "config"]
    done = subprocess.run(command, capture_output=True, text=True, env=bare, cwd=ROOT, check=False)
    assert done.returncode == 0, done.stderr
    return {
        name: Service(
            name,
            raw["image"],
            _split(raw.get("command")),
            {key: str(value).replace("$$", "$") for key, value in raw.get("environment", {}).items()},
            _check(_split(raw.get("healthcheck", {}).get("test"))),
            raw,
        )
        for name, raw in yaml.safe_load(done.stdout)["services"].items()
    }


@dataclass(frozen=True)
class Stage:
    """A stage of the Dockerfile with all that it inherits."""

    copied: tuple[str, ...] = ()
    installed: tuple[str, ...] = ()


@pytest.fixture(scope="module")
def stages() -> dict[str, Stage]:
    """The Dockerfile's stages, as far as `FROM`, `COPY` and `pip install` go."""
    found: dict[str, Stage] = {}
    name = ""
    text = "\n".join(line for line in (ROOT / "Dockerfile").read_text().splitlines() if not line.startswith("#"))
    for line in text.replace("\\\n", " ").splitlines():
        words = shlex.split(line)
        if words[:1] == ["FROM"]:
            name = words[-1]
            found[name] = found.get(words[1], Stage())
        elif words[:1] == ["COPY"]:
            sources = [word for word in words[1:-1] if not word.startswith("--")]
            found[name] = Stage(found[name].copied + tuple(sources), found[name].installed)
        elif words[:3] == ["RUN", "pip", "install"]:
            found[name] = Stage(found[name].copied, found[name].installed + tuple(_installed(words[3:])))
    return found


def _installed(words: list[str]) -> Iterator[str]:
    flags_with_values = {"--constraint", "--requirement"}
    previous = ""
    for word in words:
        if word == "&&":
            return
        if previous == "--requirement":
            yield from _requirements(word)
        elif not word.startswith("--") and previous not in flags_with_values:
            yield word
        previous = word


def _requirements(name: str) -> list[str]:
    lines = [line.partition("#")[0].strip() for line in (ROOT / name).read_text().splitlines()]
    return [line for line in lines if line and not line.startswith("-")]


# --- the file -----------------------------------------------------------------------------------------------------


def test_it_has_the_services_that_it_promises(services: dict[str, Service]) -> None:
    assert set(services) == ONE_SHOTS | LONG_RUNNING


def test_images_are_pinned_to_an_exact_version(services: dict[str, Service]) -> None:
    base = re.findall(r"^FROM (\S+:\S+)", (ROOT / "Dockerfile").read_text(), re.MULTILINE)
    foreign = [service.image for service in services.values() if not service.is_ours]
    assert base
    assert len(foreign) == len(FOREIGN)
    for image in [*base, *foreign]:
        assert re.search(r":(slim-)?\d+\.\d+(\.\d+)?-\w+", image), image
    assert {service.image for service in services.values() if service.is_ours} == {"label-images:local"}


def test_the_base_image_has_the_airflow_and_the_python_of_the_lock() -> None:
    version = distribution("apache-airflow").version
    assert f"FROM apache/airflow:slim-{version}-python3.11 " in (ROOT / "Dockerfile").read_text()


def test_every_lasting_service_is_health_checked_and_restarted_and_nothing_else(services: dict[str, Service]) -> None:
    assert {name for name, service in services.items() if service.check} == LONG_RUNNING
    assert {name for name, service in services.items() if service.raw.get("restart") == "unless-stopped"} == LONG_RUNNING


def test_the_host_listens_on_loopback_alone(services: dict[str, Service]) -> None:
    published = {name: service.raw["ports"] for name, service in services.items() if service.raw.get("ports")}
    assert set(published) == {"local-aws", "api-server"}
    for port in (port for ports in published.values() for port in ports):
        address = port["host_ip"] if isinstance(port, dict) else port.rpartition(":")[0].rpartition(":")[0]
        assert address == "127.0.0.1"
    assert not any("network_mode" in service.raw or service.raw.get("privileged") for service in services.values())


def test_up_with_wait_can_tell_a_one_shot_that_is_done_from_a_service_that_died(services: dict[str, Service]) -> None:
    """`up --wait` fails on an exited container unless some service awaits its completion (docker/compose#10596)."""
    awaited: dict[str, set[str]] = {}
    for service in services.values():
        for name, condition in service.depends_on.items():
            awaited.setdefault(name, set()).add(condition)
    for name, conditions in awaited.items():
        assert conditions == {"service_completed_successfully" if name in ONE_SHOTS else "service_healthy"}, name
    assert set(awaited) >= ONE_SHOTS


def test_airflow_waits_for_database_broker_settings_and_model(services: dict[str, Service]) -> None:
    for name in ("api-server", "scheduler", "dag-processor", "triggerer", "worker"):
        assert {"airflow-init", "seed", "redis"} <= set(services[name].depends_on), name
    assert "postgres" in services["airflow-init"].depends_on
    assert "local-aws" in services["seed"].depends_on


def test_no_service_runs_as_root_or_takes_the_entrypoint_away(services: dict[str, Service]) -> None:
    assert not re.search(r"^USER\b", (ROOT / "Dockerfile").read_text(), re.MULTILINE), "the base image's user is airflow"
    assert not any(service.raw.keys() & {"user", "entrypoint"} for service in services.values())


def test_every_airflow_variable_is_an_option_of_this_airflow(services: dict[str, Service]) -> None:
    unknown = set()
    for name in {name for service in services.values() for name in service.environment if name.startswith("AIRFLOW__")}:
        section, option = name.removeprefix("AIRFLOW__").lower().split("__", 1)
        if option not in conf.configuration_description.get(section, {}).get("options", {}):
            unknown.add(name)
    assert not unknown


def test_airflow_runs_as_in_the_other_local_stack(services: dict[str, Service], tmp_path: Path) -> None:
    """But for its executor, its databases and where things are."""
    here = {
        "AIRFLOW__CORE__EXECUTOR",
        "AIRFLOW__CORE__PARALLELISM",  # of LocalExecutor
        "AIRFLOW__CORE__DAGS_FOLDER",
        "AIRFLOW__CORE__PLUGINS_FOLDER",
        "AIRFLOW__CORE__EXECUTION_API_SERVER_URL",
        "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_PASSWORDS_FILE",
        "AIRFLOW__API__HOST",
        "AIRFLOW__API__PORT",
        "AIRFLOW__API__BASE_URL",
        "AIRFLOW__API__SECRET_KEY",
        "AIRFLOW__API_AUTH__JWT_SECRET",
        "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN",
    }
    stack = _ElsewhereSite("compose", 8080, 4599, tmp_path).airflow_environment({})
    wanted = {name: value for name, value in stack.items() if name.startswith("AIRFLOW__") and name not in here}
    for name in ("api-server", "scheduler", "dag-processor", "triggerer", "worker"):
        environment = services[name].environment
        assert {each: environment.get(each) for each in wanted} == wanted, name
        assert {each: environment[each] for each in TUNING} == TUNING
        connection = environment["AIRFLOW_CONN_AWS_DEFAULT"].replace("//local-aws:", "//127.0.0.1:")
        assert json.loads(connection) == json.loads(stack["AIRFLOW_CONN_AWS_DEFAULT"])


class _ElsewhereSite(Site):
    def __init__(self, name: str, airflow_port: int, aws_port: int, home: Path) -> None:
        super().__init__(name, airflow_port, aws_port)
        object.__setattr__(self, "_home", home)

    @property
    def home(self) -> Path:
        return Path(self.__dict__["_home"])


def test_all_of_airflow_shares_its_secrets(services: dict[str, Service]) -> None:
    for name in ("AIRFLOW__API_AUTH__JWT_SECRET", "AIRFLOW__API__SECRET_KEY", "AIRFLOW__CORE__FERNET_KEY"):
        values = {service.environment[name] for service in services.values() if name in service.environment}
        assert len(values) == 1, name
        assert all(not value or value.startswith("local-only-") for value in values), name
