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
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from importlib.metadata import distribution, packages_distributions, requires
from pathlib import Path
from typing import Any, Final

import pytest
import yaml  # type: ignore[import-untyped]
from airflow.configuration import conf
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from local_stack.environment import TUNING, Site, free_port
from local_stack.stack import Airflow

ROOT: Final = Path(__file__).resolve().parents[2]
ONE_SHOTS: Final = {"seed", "airflow-init"}
AIRFLOW: Final = {"api-server", "scheduler", "dag-processor", "triggerer", "worker"}
LONG_RUNNING: Final = {"postgres", "redis", "local-aws"} | AIRFLOW
# Where they listen inside the containers.
PORTS: Final = {"postgres": 5432, "redis": 6379, "local-aws": 4599, "api-server": 8080, "scheduler": 8974}
# What the two foreign images run by default, and where they keep their data.
DATA: Final = "/var/lib/postgresql/data"
FOREIGN: Final = {
    "postgres": f"postgres -D {DATA} -k {DATA} -h 127.0.0.1 -p 5432 -F",
    "redis": "redis-server --bind 127.0.0.1 --port 6379",
}
# Debian keeps PostgreSQL's programs off the path.
PATH: Final = os.pathsep.join(
    [
        str(Path(sys.executable).parent),
        os.environ["PATH"],
        *map(str, sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)),
    ]
)
READY_SECONDS: Final = 180.0  # thrice what a busy machine of two cores takes


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
        if (
            shutil.which(command[0])
            and subprocess.run([*command, "version"], capture_output=True, check=False).returncode == 0
        ):
            return command
    pytest.fail(
        "Neither `docker compose` nor `docker-compose` is here to resolve docker-compose.yaml (Debian: docker-compose)"
    )


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
    assert {
        name for name, service in services.items() if service.raw.get("restart") == "unless-stopped"
    } == LONG_RUNNING


def test_the_host_listens_on_loopback_alone(services: dict[str, Service]) -> None:
    published = {name: service.raw["ports"] for name, service in services.items() if service.raw.get("ports")}
    assert set(published) == {"local-aws", "api-server"}
    for port in (port for ports in published.values() for port in ports):
        address = port.get("host_ip") if isinstance(port, dict) else port.rpartition(":")[0].rpartition(":")[0]
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


def test_airflow_waits_for_what_it_needs(services: dict[str, Service]) -> None:
    for name in AIRFLOW:
        assert {"airflow-init", "seed", "redis"} <= set(services[name].depends_on), name
    assert "api-server" in services["worker"].depends_on
    assert "postgres" in services["airflow-init"].depends_on
    assert "local-aws" in services["seed"].depends_on


def test_no_service_runs_as_root_or_takes_the_entrypoint_away(services: dict[str, Service]) -> None:
    assert not re.search(r"^USER\b", (ROOT / "Dockerfile").read_text(), re.MULTILINE), (
        "the base image's user is airflow"
    )
    assert not any(service.raw.keys() & {"user", "entrypoint"} for service in services.values())


def test_every_airflow_variable_is_an_option_of_this_airflow(services: dict[str, Service]) -> None:
    names = {name for service in services.values() for name in service.environment if name.startswith("AIRFLOW__")}
    assert names
    assert not {name for name in names if not _is_option(name)}


def _is_option(variable: str) -> bool:
    section, option = variable.removeprefix("AIRFLOW__").lower().split("__", 1)
    return option in conf.configuration_description.get(section, {}).get("options", {})


def test_airflow_runs_as_in_the_other_local_stack(
    services: dict[str, Service], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """But for its executor, its databases and where things are."""
    monkeypatch.setattr("local_stack.environment.ROOT", tmp_path)
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
    stack = Site("compose", 8080, 4599).airflow_environment({})
    wanted = {name: value for name, value in stack.items() if name.startswith("AIRFLOW__") and _is_option(name)}
    wanted = {name: value for name, value in wanted.items() if name not in here}
    for name in AIRFLOW:
        environment = services[name].environment
        assert {each: environment.get(each) for each in wanted} == wanted, name
        assert {each: environment[each] for each in TUNING} == TUNING
        connection = environment["AIRFLOW_CONN_AWS_DEFAULT"].replace("//local-aws:", "//127.0.0.1:")
        # Local AWS takes any password; that of the other stack is its own, to be looked for in logs.
        known = {"password": json.loads(stack["AIRFLOW_CONN_AWS_DEFAULT"])["password"]}
        assert json.loads(connection) | known == json.loads(stack["AIRFLOW_CONN_AWS_DEFAULT"])


def test_all_of_airflow_shares_its_secrets(services: dict[str, Service]) -> None:
    for name in ("AIRFLOW__API_AUTH__JWT_SECRET", "AIRFLOW__API__SECRET_KEY", "AIRFLOW__CORE__FERNET_KEY"):
        values = {service.environment[name] for service in services.values() if name in service.environment}
        assert len(values) == 1, name
        assert all(not value or value.startswith("local-only-") for value in values), name


# --- the images ---------------------------------------------------------------------------------------------------

# What an image lacks is not to be found, although the tests' own environment has it.
LACKING: Final = """\
import sys


class NotInTheImage:
    @staticmethod
    def find_spec(name, path=None, target=None):
        if name.partition(".")[0] in {lacking!r}:
            raise ModuleNotFoundError(f"{{name}} is not installed in the image", name=name)


sys.meta_path.insert(0, NotInTheImage)
"""


def _lay_out(stage: Stage, folder: Path) -> Path:
    """What /opt/airflow of the image holds, and none of the packages that it does not."""
    for name in stage.copied:
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(source, folder / name)
    for name in ("logs", "site", "local-aws-state"):
        (folder / name).mkdir()
    installed = _with_dependencies(stage.installed)
    lacking = {
        module
        for module, owners in packages_distributions().items()
        if not {canonicalize_name(owner) for owner in owners} & installed
    }
    (folder / "sitecustomize.py").write_text(LACKING.format(lacking=lacking))
    return folder


def _with_dependencies(requirements: tuple[str, ...]) -> set[str]:
    """The names of all distributions that installing these brings."""
    found: set[tuple[str, str]] = set()
    pending = [Requirement(text) for text in requirements]
    while pending:
        requirement = pending.pop()
        name = canonicalize_name(requirement.name)
        for extra in {"", *requirement.extras}:
            if (name, extra) not in found:
                found.add((name, extra))
                needed = [Requirement(text) for text in requires(name) or []]
                pending += [each for each in needed if each.marker is None or each.marker.evaluate({"extra": extra})]
    return {name for name, _ in found}


def _environment_of_image(folder: Path) -> dict[str, str]:
    return {"PATH": PATH, "HOME": str(folder), "AIRFLOW_HOME": str(folder), "PYTHONPATH": str(folder)}


def test_the_lock_pins_whatever_the_images_install(stages: dict[str, Stage]) -> None:
    pinned = {canonicalize_name(Requirement(line).name) for line in _requirements("requirements.lock")}
    for name, stage in stages.items():
        missing = {canonicalize_name(Requirement(text).name) for text in stage.installed} - pinned
        assert not missing, f"{name} installs {', '.join(sorted(missing))}, which requirements.lock does not pin"


def test_the_deployment_has_all_that_the_pipeline_imports_and_nothing_of_the_stand_in(
    stages: dict[str, Stage], tmp_path: Path
) -> None:
    stage = stages["deployment"]
    assert not {"local_aws", "local_stack"} & set(stage.copied)
    folder = _lay_out(stage, tmp_path)
    plugins = [f"rekognition.{file.stem}" for file in sorted((folder / "plugins" / "rekognition").glob("[a-z]*.py"))]
    modules = [
        "label_images",
        "stop_idle_model",
        "audit_images",
        "compact_labels",
        "airflow.providers.celery.executors.celery_executor",
        *plugins,
    ]
    environment = _environment_of_image(folder)
    environment["PYTHONPATH"] = os.pathsep.join([str(folder), str(folder / "dags"), str(folder / "plugins")])
    done = subprocess.run(
        ["python", "-c", f"import {', '.join(modules)}"],
        env=environment,
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]


def test_the_context_holds_what_the_images_copy_and_no_more(stages: dict[str, Stage]) -> None:
    lines = [line for line in (ROOT / ".dockerignore").read_text().splitlines() if line and not line.startswith("#")]
    assert lines[0] == "*"
    assert {line.removeprefix("!") for line in lines if line.startswith("!")} == set(stages["local"].copied)


# --- every service's command on this machine ----------------------------------------------------------------------


@dataclass(frozen=True)
class Here:
    """A small Compose: the services as processes of this machine, on free ports of loopback."""

    folder: Path
    data: Path
    services: dict[str, Service]
    ports: dict[str, int] = field(default_factory=lambda: {name: free_port() for name in PORTS})
    processes: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    def up(self) -> None:
        """As `up --wait`: start each service when all that it depends on is done, until all are."""
        deadline = time.monotonic() + READY_SECONDS
        done: set[str] = set()
        while missing := [name for name in self.services if name not in done]:
            assert time.monotonic() < deadline, (
                f"not ready after {READY_SECONDS:.0f} s: {missing}\n{self.log(missing[0])}"
            )
            for name in missing:
                if name not in self.processes and self.services[name].depends_on.keys() <= done:
                    self.start(name)
            # First what others wait for: most checks are an Airflow of their own and take the start's time.
            awaited = {
                each for name in missing if name not in self.processes for each in self.services[name].depends_on
            }
            started = [name for name in missing if name in self.processes]
            due = [name for name in started if name in awaited] or started
            with ThreadPoolExecutor() as pool:
                done |= {name for name, is_done in zip(due, pool.map(self._is_done, due), strict=True) if is_done}
            time.sleep(0.2)

    def start(self, name: str) -> subprocess.Popen[bytes]:
        """Run the service's command, its output in `<name>.log`."""
        service = self.services[name]
        # PostgreSQL refuses to run as root.
        who = _AS_POSTGRES if name == "postgres" else {"cwd": self.folder}
        # bash, because the image's entrypoint is one: it reads BASH_ENV.
        command = ["bash", "-c", 'exec "$@"', "entrypoint", *self._here(service.command or _split(FOREIGN[name]))]
        with (self.folder / f"{name}.log").open("wb") as log:
            self.processes[name] = subprocess.Popen(
                command,
                env=self._environment(service),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                **who,
            )
        return self.processes[name]

    def is_healthy(self, name: str) -> bool:
        """Run the service's health check."""
        service = self.services[name]
        command, environment = self._here(service.check), self._environment(service)
        return (
            subprocess.run(command, env=environment, cwd=self.folder, capture_output=True, check=False).returncode == 0
        )

    def down(self) -> None:
        """Stop everything, databases last: the others would wait for them."""
        databases = {"postgres", "redis"} & self.processes.keys()
        for names in (self.processes.keys() - databases, databases):
            for name in names:
                # PostgreSQL waits for its clients on SIGTERM.
                self._signal(name, signal.SIGINT if name == "postgres" else signal.SIGTERM)
            for name in names:
                try:
                    self.processes[name].wait(timeout=5)
                except subprocess.TimeoutExpired:
                    self._signal(name, signal.SIGKILL)
                    self.processes[name].wait()

    def log(self, name: str) -> str:
        file = self.folder / f"{name}.log"
        return (
            f"{file.name}:\n{file.read_text(errors='replace')[-3000:]}" if file.exists() else f"{name} was not started"
        )

    def _is_done(self, name: str) -> bool:
        code = self.processes[name].poll()
        if name in ONE_SHOTS:
            assert code in (None, 0), self.log(name)
            return code == 0
        assert code is None, f"{name} ended\n{self.log(name)}"
        return self.is_healthy(name)

    def _signal(self, name: str, number: signal.Signals) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.processes[name].pid, number)

    def _environment(self, service: Service) -> dict[str, str]:
        own = dict(zip(service.environment, self._here(list(service.environment.values())), strict=True))
        return _environment_of_image(self.folder) | own if service.is_ours else {"PATH": PATH} | own

    def _here(self, texts: list[str]) -> list[str]:
        """The containers' addresses and folders as this machine's: all that differs."""
        places = {"/opt/airflow": str(self.folder), DATA: str(self.data), "0.0.0.0": "127.0.0.1"}
        places |= {f"{mark}{name}:": f"{mark}127.0.0.1:" for name in PORTS for mark in "/@"}
        places |= {str(PORTS[name]): str(port) for name, port in self.ports.items()}
        whole = re.compile(
            "|".join(rf"(?<!\d){place}(?!\d)" if place.isdigit() else re.escape(place) for place in places)
        )
        return [whole.sub(lambda found: places[found[0]], text) for text in texts]


# PostgreSQL refuses to run as root.
_AS_POSTGRES: Final[dict[str, Any]] = {"cwd": "/"} | ({} if os.getuid() else {"user": "postgres", "group": "postgres"})


@contextlib.contextmanager
def _database(variables: dict[str, str]) -> Iterator[Path]:
    """A folder as the image of PostgreSQL makes it of its variables."""
    # Not pytest's folder, which no other user may enter.
    with tempfile.TemporaryDirectory(prefix="compose-postgres-") as home:
        data, password = Path(home) / "data", Path(home) / "password"
        password.write_text(variables["POSTGRES_PASSWORD"])
        if "user" in _AS_POSTGRES:
            for path in (Path(home), password):
                shutil.chown(path, "postgres", "postgres")
        user = ["--username", variables["POSTGRES_USER"], "--pwfile", str(password), "--auth", "scram-sha-256"]
        for command, text in (
            (["initdb", "--pgdata", str(data), "--no-sync", *user], None),
            (["postgres", "--single", "-D", str(data), "postgres"], f"CREATE DATABASE {variables['POSTGRES_DB']};\n"),
        ):
            subprocess.run(
                command, input=text, env={"PATH": PATH}, text=True, capture_output=True, check=True, **_AS_POSTGRES
            )
        yield data


@pytest.fixture(scope="module")
def here(
    services: dict[str, Service], stages: dict[str, Stage], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Here]:
    """Everything up and healthy, as `docker compose up --wait` leaves it."""
    packages = {
        "initdb": "postgresql",
        "redis-server": "redis-server",
        "celery": "requirements.lock",
        "curl": "curl",
    }
    missing = sorted({package for program, package in packages.items() if shutil.which(program, path=PATH) is None})
    assert not missing, f"Not every service can run on this machine: install {', '.join(missing)}"
    with _database(services["postgres"].environment) as data:
        stack = Here(_lay_out(stages["local"], tmp_path_factory.mktemp("airflow")), data, services)
        try:
            stack.up()
            yield stack
        finally:
            stack.down()


def test_everything_starts_and_a_run_goes_through_it(here: Here) -> None:
    """An hour without uploads: drained and decided by the Celery worker, with the settings that `seed` wrote."""
    airflow = Airflow(f"http://127.0.0.1:{here.ports['api-server']}")
    run_id = airflow.trigger("label_images")
    assert airflow.wait("label_images", run_id, seconds=120) == "success", here.log("worker")
    states = {task["task_id"]: task["state"] for task in airflow.tasks("label_images", run_id)}
    assert states["drain"] == states["decide"] == states["report"] == "success"
    assert states["start_model"] == "skipped"
    # Read by the API server, written by the worker.
    assert "Drained" in airflow.log("label_images", run_id, "drain")


def test_seeding_again_finds_what_is_there(here: Here) -> None:
    """`up` on a kept state must not train another model, nor lose the queue."""
    file = here.folder / "site" / "labels.sh"
    before = file.read_text()
    assert here.start("seed").wait(timeout=30) == 0, here.log("seed")
    assert file.read_text() == before
    assert before.count("export LABELS_") == 6


def test_health_checks_fail_where_nothing_answers(services: dict[str, Service], tmp_path: Path) -> None:
    nobody = Here(tmp_path, tmp_path, services)
    for name in PORTS:
        assert not nobody.is_healthy(name), name
