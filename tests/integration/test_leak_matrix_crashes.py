"""Whatever process is killed in the midst of a run, once everything is back: the model ends STOPPED and all is labelled."""

from __future__ import annotations

import pytest

from local_stack.stack import COMPONENTS
from tests.integration.deployment import Deployment
from tests.integration.situations import (
    AGES,
    IMAGES,
    assert_all_labelled,
    assert_safe,
    labelling,
    requesting_start,
    starting,
)
from tests.integration.world import World, wait_for


def test_a_killed_inference_task_is_repeated_and_the_model_stopped_after_it(
    deployment: Deployment, world: World
) -> None:
    with labelling(deployment, world) as run_id:
        deployment.kill_processes([deployment.wait_for_task(run_id, "infer", "running", map_index=0)["pid"]])
    assert deployment.wait(run_id) == "success"
    assert_safe(world)
    assert_all_labelled(world)
    assert world.times_run() == 1
    assert deployment.task(run_id, "infer", 0)["try_number"] == 2


@pytest.mark.parametrize("workers", [False, True], ids=["alone", "with its workers"])
def test_a_scheduler_killed_during_inference_and_restarted_stops_the_model(
    deployment: Deployment, world: World, workers: bool
) -> None:
    with labelling(deployment, world) as run_id:
        deployment.kill("scheduler", workers=workers)
    deployment.start_components("scheduler")
    assert deployment.wait(run_id) == "success"
    assert_safe(world)
    assert_all_labelled(world)


def test_a_scheduler_killed_during_setup_and_again_during_teardown_starts_the_model_once_and_stops_it(
    deployment: Deployment, world: World
) -> None:
    with requesting_start(deployment, world) as run_id:
        deployment.kill("scheduler", workers=True)
    world.aws.settings(stop_seconds=AGES)
    deployment.start_components("scheduler")

    wait_for("the model is STOPPING", lambda: world.status() == "STOPPING")
    deployment.kill("scheduler", workers=True)
    deployment.start_components("scheduler")
    world.aws.set_model(world.version_arn, status="STOPPED")

    assert deployment.wait(run_id) == "success"
    assert world.times_run() == 1
    assert_safe(world)
    assert_all_labelled(world)


def test_a_scheduler_told_to_end_lets_the_teardown_run_once_it_is_back(deployment: Deployment, world: World) -> None:
    with labelling(deployment, world) as run_id:
        deployment.terminate("scheduler")
    wait_for("the scheduler has ended", lambda: not deployment.is_alive("scheduler"))
    deployment.start_components("scheduler")
    assert deployment.wait(run_id) == "success"
    assert_safe(world)
    assert_all_labelled(world)


def test_a_triggerer_killed_while_the_model_starts_goes_on_waiting_once_it_is_back(
    deployment: Deployment, world: World
) -> None:
    with starting(deployment, world) as run_id:
        deployment.kill("triggerer", tasks=True)
        world.aws.set_model(world.version_arn, status="RUNNING")
    deployment.start_components("triggerer")
    assert deployment.wait(run_id) == "success"
    assert_safe(world)
    assert_all_labelled(world)


def test_an_api_server_killed_during_inference_holds_up_nothing_for_long(deployment: Deployment, world: World) -> None:
    with labelling(deployment, world) as run_id:
        deployment.kill("api-server", tasks=True)
    deployment.start_components("api-server")
    assert deployment.wait(run_id) == "success"
    assert_safe(world)
    assert_all_labelled(world)


def test_everything_killed_during_inference_and_restarted_stops_the_model(deployment: Deployment, world: World) -> None:
    with labelling(deployment, world) as run_id:
        for name in COMPONENTS:
            deployment.kill(name, tasks=True)
    deployment.start_components(*COMPONENTS)
    assert deployment.wait(run_id) == "success"
    assert_safe(world)
    assert_all_labelled(world)


@pytest.mark.parametrize("call", ["^DeleteMessageBatch", r"^PUT /[^/]+/labels/"], ids=["drains", "publishes"])
def test_everything_killed_while_a_run_drains_or_publishes_and_restarted_ends_as_if_nothing_had_happened(
    deployment: Deployment, world: World, call: str
) -> None:
    world.upload(IMAGES)
    with world.network.holding(call) as held:
        run_id = deployment.trigger()
        held.wait()
        for name in COMPONENTS:
            deployment.kill(name, tasks=True)
    deployment.start_components(*COMPONENTS)
    assert deployment.wait(run_id) == "success"
    assert_safe(world)
    assert_all_labelled(world)
    assert world.paid_calls() == IMAGES
