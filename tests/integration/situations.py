"""Points in a run that a test brings it to and holds it at, by what AWS does; and the promise that holds afterwards."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from include.audit import render
from tests.integration.deployment import Deployment
from tests.integration.world import World, wait_for

IMAGES = 12  # two batches
AGES = 600  # seconds: what takes so long does not end by itself within a test


@contextmanager
def starting(deployment: Deployment, world: World) -> Iterator[str]:
    """A run that waits for RUNNING, until ``world.is_running()`` says that it is."""
    world.upload(IMAGES)
    world.aws.settings(start_seconds=AGES)
    run_id = deployment.trigger()
    deployment.wait_for_task(run_id, "wait_until_running", "deferred")
    deployment.wait_for_task(run_id, "preflight", "success", map_index=1)
    assert world.status() == "STARTING"
    yield run_id


@contextmanager
def requesting_start(deployment: Deployment, world: World) -> Iterator[str]:
    """A run whose start_model has made AWS start the model, and has not heard of it yet."""
    world.upload(IMAGES)
    with world.network.holding("^StartProjectVersion") as held:
        run_id = deployment.trigger()
        held.wait()
        assert world.status() == "STARTING"
        yield run_id


@contextmanager
def labelling(deployment: Deployment, world: World) -> Iterator[str]:
    """A run that has labelled some images and waits for the model's answers for others, to the end of the block."""
    world.upload(IMAGES)
    with world.network.holding("^DetectCustomLabels", after=3) as held:
        run_id = deployment.trigger()
        held.wait()
        assert world.status() == "RUNNING"
        yield run_id


@contextmanager
def stopping(deployment: Deployment, world: World) -> Iterator[str]:
    """A run whose stop_model waits for STOPPED, until the model is set STOPPED."""
    world.upload(IMAGES)
    world.aws.settings(stop_seconds=AGES)
    run_id = deployment.trigger()
    wait_for("the model is STOPPING", lambda: world.status() == "STOPPING")
    deployment.wait_for_task(run_id, "stop_model", "running")
    yield run_id


@contextmanager
def nothing_stopped_by_infer(world: World) -> Iterator[None]:
    """The stop that infer requests with its last answer is refused in this block: left are the lines behind it."""
    world.network.refuse("^StopProjectVersion")
    try:
        yield
    finally:
        world.network.mend()


def assert_safe(world: World) -> None:
    """The promise: nothing bills, nothing is lost, the next run may start."""
    wait_for("nothing of the model runs", lambda: world.status() in ("STOPPED", "FAILED"), seconds=60)
    wait_for("the lease is given back", lambda: world.lease() is None, seconds=30)
    assert world.lost() == {}


def assert_all_labelled(world: World) -> None:
    assert world.labelled() == set(world.uploads)
    assert world.batches("pending") == {}
    found = world.audit()
    assert found.is_clean, render(found)


def has_report(world: World) -> bool:
    return bool(world.keys(prefix="results/runs/"))
