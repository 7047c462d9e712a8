"""Whatever users mark, clear, pause or deploy in the midst of a run: the model ends STOPPED and no image is lost.

On a real scheduler, LocalExecutor and triggerer. Crashes are in ``test_leak_matrix_crashes.py``, what fails inside tasks in
``test_leak_matrix_in_process.py``.
"""

from __future__ import annotations

import pytest

from tests.integration.deployment import DAG, Deployment
from tests.integration.situations import (
    AGES,
    IMAGES,
    assert_all_labelled,
    assert_safe,
    has_report,
    labelling,
    nothing_stopped_by_infer,
    requesting_start,
    starting,
    stopping,
)
from tests.integration.world import World, wait_for


def assert_watchdog_stops_it(deployment: Deployment, world: World, run_id: str) -> None:
    state, log = deployment.run_watchdog()
    assert state == "failed", "somebody must hear of it"
    assert f"{DAG}/{run_id}" in log, "and of whom it was left by"
    assert world.status() == "STOPPED"
    assert world.lost() == {}


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


def test_a_run_marked_failed_while_the_start_is_requested_stops_the_model(deployment: Deployment, world: World) -> None:
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
    with nothing_stopped_by_infer(world):
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


# Bad deployments


def test_a_dag_paused_midway_leaves_the_model_to_the_watchdog(deployment: Deployment, world: World) -> None:
    with nothing_stopped_by_infer(world):
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
    ended = {"success", "failed", "up_for_retry"}
    with nothing_stopped_by_infer(world):
        with labelling(deployment, world) as run_id:
            deployment.change_dag(lambda text: text + "\nimport there_is_no_such_module\n")
            wait_for("the broken Dag is noticed", deployment.has_import_error)
        wait_for("inference has ended", lambda: deployment.states(run_id)["infer"] <= ended)
    world.let_lease_run_out()
    assert_watchdog_stops_it(deployment, world, run_id)

    deployment.restore()
    deployment.wait(run_id)
    assert_safe(world)


def test_a_dagrun_timeout_skips_the_teardown_and_the_failure_callback_stops_the_model(
    deployment: Deployment, world: World
) -> None:
    deployment.change_dag(
        lambda text: text.replace("    catchup=False,", "    catchup=False,\n    dagrun_timeout=timedelta(seconds=25),")
    )
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
    assert "The model is STOPPED" in message
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
