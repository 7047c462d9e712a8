"""Whatever fails, kills, marks, clears, pauses or breaks: the model ends STOPPED and no image is lost.

On a real scheduler, LocalExecutor and triggerer; what happens inside tasks alone is in ``test_leak_matrix_in_process.py``.
Each test brings a run to a certain point, held there by what AWS does, and then does what users, crashes and bad deployments do.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tests.integration.deployment import DAG, Deployment
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
    yield run_id


def assert_safe(world: World) -> None:
    """The promise: nothing bills, nothing is lost, the next run may start."""
    wait_for("the model is STOPPED", lambda: world.status() == "STOPPED", seconds=60)
    wait_for("the lease is given back", lambda: world.lease() is None, seconds=30)
    assert world.lost() == {}


def assert_all_labelled(world: World) -> None:
    assert world.labelled() == set(world.uploads)
    assert world.batches("pending") == {}


def has_report(world: World) -> bool:
    return bool(world.keys(prefix="results/runs/"))


# Users


def test_a_waiter_marked_failed_stops_the_starting_model(deployment: Deployment, world: World) -> None:
    with starting(deployment, world) as run_id:
        deployment.mark_task(run_id, "wait_until_running", "failed")
    assert deployment.wait(run_id) == "failed"
    assert_safe(world)
    assert world.times_run() == 0
    assert deployment.states(run_id)["infer"] == {"upstream_failed"}
    assert has_report(world)


def test_a_run_marked_failed_while_the_model_starts_stops_it(deployment: Deployment, world: World) -> None:
    with starting(deployment, world) as run_id:
        deployment.mark_run(run_id, "failed")
    assert deployment.wait(run_id) == "failed"
    assert_safe(world)
    assert world.times_run() == 0
    assert has_report(world)


def test_a_run_marked_failed_while_the_start_is_requested_stops_the_model(
    deployment: Deployment, world: World
) -> None:
    world.aws.settings(start_seconds=AGES)
    with requesting_start(deployment, world) as run_id:
        deployment.mark_run(run_id, "failed")
        wait_for("the model is stopped", lambda: world.status() == "STOPPED")
    assert deployment.wait(run_id) == "failed"
    assert_safe(world)
    assert world.times_run() == 0


def test_a_run_marked_failed_while_it_labels_stops_the_model_and_says_what_is_incomplete(
    deployment: Deployment, world: World
) -> None:
    with labelling(deployment, world) as run_id:
        deployment.mark_run(run_id, "failed")
    assert deployment.wait(run_id) == "failed"
    assert_safe(world)
    assert "failed" in deployment.states(run_id)["infer"]
    assert deployment.states(run_id)["stop_model"] == {"success"}
    assert "The run is incomplete" in deployment.log(run_id, "report")
    assert has_report(world)


def test_a_run_cannot_be_deleted_midway_and_marked_success_it_stops_the_model_and_is_red(
    deployment: Deployment, world: World
) -> None:
    with labelling(deployment, world) as run_id:
        with pytest.raises(RuntimeError, match="409"):
            deployment.delete_run(run_id)
        deployment.mark_run(run_id, "success")
    assert deployment.wait(run_id) == "failed", "a run that did not do its work is no success, whoever says so"
    assert_safe(world)
    assert has_report(world)


def test_a_run_marked_failed_while_it_stops_the_model_goes_on_stopping_it(deployment: Deployment, world: World) -> None:
    with stopping(deployment, world) as run_id:
        deployment.mark_run(run_id, "failed")
        assert deployment.task(run_id, "stop_model")["state"] == "running"
        world.aws.set_model(world.version_arn, status="STOPPED")
    deployment.wait(run_id)
    assert deployment.states(run_id)["stop_model"] == {"success"}
    assert_safe(world)


def test_a_teardown_marked_success_by_hand_leaves_the_model_to_the_watchdog(
    deployment: Deployment, world: World
) -> None:
    with labelling(deployment, world) as run_id:
        # The teardown first looks at the model: that is where it is killed.
        held = world.network.holding("^DescribeProjectVersions")
        looking = held.__enter__()
    looking.wait()
    deployment.wait_for_task(run_id, "stop_model", "running")
    deployment.mark_task(run_id, "stop_model", "success")
    wait_for("the teardown is gone", lambda: deployment.task(run_id, "stop_model")["state"] == "success")
    wait_for("its process is gone", lambda: not deployment.is_task_alive(run_id, "stop_model"))
    held.__exit__(None, None, None)
    deployment.wait(run_id)
    assert world.status() == "RUNNING", "nothing inside the Dag can know"

    assert deployment.run_watchdog()[0] == "success", "a live lease is respected"
    assert world.status() == "RUNNING"
    world.let_lease_run_out()
    assert_watchdog_stops_it(deployment, world, run_id)


def assert_watchdog_stops_it(deployment: Deployment, world: World, run_id: str) -> None:
    state, log = deployment.run_watchdog()
    assert state == "failed", "somebody must hear of it"
    assert f"{DAG}/{run_id}" in log, "and of whom it was left by"
    assert world.status() == "STOPPED"
    assert world.lost() == {}


# Bad deployments


def test_a_dag_paused_midway_leaves_the_model_to_the_watchdog(deployment: Deployment, world: World) -> None:
    with labelling(deployment, world) as run_id:
        deployment.pause()
    wait_for("inference has ended", lambda: deployment.states(run_id)["infer"] == {"success"})
    assert deployment.run_watchdog()[0] == "success", "a live lease is respected"
    assert world.status() == "RUNNING", "nothing more is scheduled, the teardown neither"
    world.let_lease_run_out()
    assert_watchdog_stops_it(deployment, world, run_id)

    deployment.pause(paused=False)
    assert deployment.wait(run_id) == "success"
    assert_safe(world)
    assert_all_labelled(world)


def test_a_dag_file_broken_midway_leaves_the_model_to_the_watchdog(deployment: Deployment, world: World) -> None:
    with labelling(deployment, world) as run_id:
        deployment.change_dag(lambda text: text + "\nimport there_is_no_such_module\n")
        wait_for("the broken Dag is noticed", deployment.has_import_error)
    wait_for("inference has ended", lambda: deployment.states(run_id)["infer"] <= {"success", "failed", "up_for_retry"})
    world.let_lease_run_out()
    assert_watchdog_stops_it(deployment, world, run_id)

    deployment.restore()
    deployment.wait(run_id)
    assert_safe(world)


def test_a_dagrun_timeout_skips_the_teardown_and_the_failure_callback_stops_the_model(
    deployment: Deployment, world: World
) -> None:
    deployment.change_dag(lambda text: text.replace("    catchup=False,", "    catchup=False,\n    dagrun_timeout=timedelta(seconds=25),"))
    wait_for("the timeout is known", lambda: deployment.dagrun_timeout() is not None)
    with labelling(deployment, world) as run_id:
        assert deployment.airflow.wait(DAG, run_id, seconds=60) == "failed"
    assert deployment.states(run_id)["stop_model"] == {"skipped"}
    assert_safe(world)


# Clearing


def test_clearing_failed_tasks_only_says_what_to_do_and_clearing_one_batch_starts_and_stops_the_model_again(
    deployment: Deployment, world: World
) -> None:
    world.upload(IMAGES)
    world.network.refuse("^DetectCustomLabels", times=1)
    run_id = deployment.trigger()
    assert deployment.wait(run_id) == "failed"
    assert_safe(world)
    assert deployment.states(run_id)["infer"] == {"success", "failed"}
    failed = next(index for index in (0, 1) if deployment.task(run_id, "infer", index)["state"] == "failed")
    assert len(world.batches("pending")) == 1
    assert len(world.batches("done")) == 1

    cleared = deployment.clear(run_id, ("infer", failed), only_failed=True)
    assert "start_model" not in cleared
    assert deployment.wait(run_id) == "failed"
    message = deployment.log(run_id, "infer", try_number=2, map_index=failed)
    assert "The model is not RUNNING" in message
    assert "clear start_model (not only failed tasks)" in message
    assert world.times_run() == 1, "the model was not started for it"
    assert_safe(world)

    cleared = deployment.clear(run_id, ("infer", failed), only_failed=False, downstream=True)
    assert {"start_model", "wait_until_running", "infer", "stop_model", "publish", "report"} <= set(cleared)
    assert deployment.wait(run_id) == "success"
    assert world.times_run() == 2
    assert_safe(world)
    assert_all_labelled(world)

    deployment.clear(run_id, "start_model", only_failed=False)
    deployment.wait(run_id)
    assert_safe(world)


# Crashes


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


def test_a_killed_start_task_is_repeated_and_the_model_is_started_once(deployment: Deployment, world: World) -> None:
    with requesting_start(deployment, world) as run_id:
        deployment.kill_processes([deployment.wait_for_task(run_id, "start_model", "running")["pid"]])
    assert deployment.wait(run_id) == "success"
    assert_safe(world)
    assert_all_labelled(world)
    assert world.times_run() == 1


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


def test_a_scheduler_killed_while_the_start_is_requested_starts_the_model_once_and_stops_it(
    deployment: Deployment, world: World
) -> None:
    with requesting_start(deployment, world) as run_id:
        deployment.kill("scheduler", workers=True)
    deployment.start_components("scheduler")
    assert deployment.wait(run_id) == "success"
    assert world.times_run() == 1
    assert_safe(world)
    assert_all_labelled(world)


def test_a_scheduler_killed_during_the_teardown_stops_the_model_once_it_is_back(
    deployment: Deployment, world: World
) -> None:
    with stopping(deployment, world) as run_id:
        deployment.kill("scheduler", workers=True)
        deployment.start_components("scheduler")
        world.aws.set_model(world.version_arn, status="STOPPED")
    deployment.wait(run_id)
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
    names = ("api-server", "scheduler", "dag-processor", "triggerer")
    with labelling(deployment, world) as run_id:
        for name in names:
            deployment.kill(name, tasks=True)
    deployment.start_components(*names)
    assert deployment.wait(run_id) == "success"
    assert_safe(world)
    assert_all_labelled(world)
