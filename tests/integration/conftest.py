"""One local AWS with one trained model for all whole-Dag tests, and what runs the Dags on it."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from local_aws.process import LocalAws
from local_stack import seed
from local_stack.environment import Site, free_port
from local_stack.scenes import HELD_OUT_SEEDS, draw_scene, encode
from tests.integration.deployment import WATCHDOG, Deployment
from tests.integration.in_process import DagRunner
from tests.integration.network import Network
from tests.integration.world import QUICK, World

IMAGES = 24
SETTINGS = {
    "LABELS_SCHEDULE": "",
    "LABELS_AUDIT_SCHEDULE": "",
    "LABELS_COMPACT_SCHEDULE": "",
    "LABELS_BATCH_SIZE": "6",
    "LABELS_POLL_SECONDS": "1",
    "LABELS_LEASE_MINUTES": "1",
    "LABELS_THREADS": "4",
}


@pytest.fixture(scope="session")
def shared_world(request: pytest.FixtureRequest) -> Iterator[World]:
    """Local AWS as a process of its own, seeded as a new account is."""
    flags = [flag for name, value in QUICK.items() for flag in (f"--{name.replace('_', '-')}", str(value))]
    with LocalAws(*flags) as aws:
        network = Network(aws.endpoint_url)
        site = Site(f"integration-{os.getpid()}", free_port(), network.port)
        try:
            seed.create_buckets_and_queues(aws.client("s3"), aws.client("sqs"))
            with ThreadPoolExecutor(max_workers=2) as pool:
                drawn = pool.map(lambda number: encode(draw_scene(number).image, "JPEG"), HELD_OUT_SEEDS[:IMAGES])
                project_arn, version_arn = seed.train_model(aws.client("s3"), aws.client("rekognition"))
                seed.wait_until_trained(aws.client("rekognition"), project_arn)
                settings = SETTINGS | seed.pipeline_settings(site, project_arn, version_arn)
                yield World(aws, network, site, settings, list(drawn))
        finally:
            network.close()
            if not request.session.testsfailed:
                shutil.rmtree(site.home, ignore_errors=True)  # logs are of use only when something failed


@pytest.fixture
def world(shared_world: World) -> Iterator[World]:
    """The world as on the first day; the model is off afterwards as well, whatever the test did."""
    shared_world.clean()
    yield shared_world
    shared_world.network.clear()
    shared_world.aws.set_model(shared_world.version_arn, status="STOPPED")


@pytest.fixture(scope="session")
def airflow_in_process(shared_world: World) -> Iterator[None]:
    """Airflow's database for runs inside this process."""
    from airflow.utils.db import initdb

    shared_world.site.home.mkdir(parents=True, exist_ok=True)
    initdb()
    connection = shared_world.site.airflow_environment({})["AIRFLOW_CONN_AWS_DEFAULT"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AIRFLOW_CONN_AWS_DEFAULT", connection)
        yield


@pytest.fixture
def dags(
    airflow_in_process: None,
    world: World,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> DagRunner:
    """Runs the real Dags in this process, task after task."""
    for name, value in world.settings.items():
        monkeypatch.setenv(name, value)
    return DagRunner(capsys, caplog)


@pytest.fixture(scope="session")
def shared_deployment(shared_world: World) -> Iterator[Deployment]:
    """The Dags deployed to Airflow's four components with LocalExecutor."""
    deployment = Deployment(shared_world.site, shared_world.settings)
    try:
        deployment.start()
        yield deployment
    finally:
        deployment.stop()


@pytest.fixture
def deployment(shared_deployment: Deployment, world: World) -> Iterator[Deployment]:
    """The deployment, with everything running, the Dags as they are in the repository, and no run under way."""
    # A task that defers for less than this hits a known race of LocalExecutor.
    world.aws.settings(start_seconds=4)
    shared_deployment.restore()
    yield shared_deployment
    world.network.clear()
    shared_deployment.end_all_runs()
    # Or its schedule, every ten minutes, comes between the tests that run Dags in process on the same model.
    shared_deployment.pause(WATCHDOG)
