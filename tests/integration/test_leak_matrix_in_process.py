"""What fails inside tasks: the model ends STOPPED, or was never started, and no image is lost."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import pytest

from tests.integration.in_process import DagRunner
from tests.integration.situations import assert_safe, has_report
from tests.integration.world import World

STARTED = "^StartProjectVersion"


def test_an_empty_hour_never_starts_the_model_and_is_green(dags: DagRunner, world: World) -> None:
    ended = dags.run()
    assert ended.state == "success"
    assert ended.of("infer") == ended.of("start_model") == ended.of("stop_model") == {"skipped"}
    assert world.network.count(STARTED) == 0
    assert has_report(world)


def test_a_failure_before_the_setup_never_starts_the_model(dags: DagRunner, world: World) -> None:
    world.upload(3)
    world.network.refuse("^ReceiveMessage", "AWS.SimpleQueueService.NonExistentQueue")
    ended = dags.run()
    assert ended.state == "failed"
    assert ended.of("start_model") == ended.of("stop_model") == {"upstream_failed"}
    assert world.network.count(STARTED) == 0
    assert_safe(world)
    assert has_report(world)


def test_a_setup_that_fails_before_its_request_never_starts_the_model(dags: DagRunner, world: World) -> None:
    world.upload(3)
    world.aws.set_model(world.version_arn, status="FAILED", status_message="The model could not be loaded.")
    ended = dags.run()
    assert ended.state == "failed"
    assert ended.of("start_model") == {"failed"}
    assert "The model could not be loaded." in ended.log
    assert world.network.count(STARTED) == 0
    assert_safe(world)
    assert has_report(world)


def test_a_request_that_was_carried_out_but_answered_with_an_error_is_repeated(dags: DagRunner, world: World) -> None:
    world.upload(3)
    world.network.refuse(STARTED, carry_out=True, times=1)
    ended = dags.run()
    assert ended.state == "success"
    assert world.network.count(STARTED) == 1
    assert world.times_run() == 1
    assert_safe(world)


def test_a_setup_that_fails_for_good_after_its_request_leaves_the_model_to_the_failure_callback(
    dags: DagRunner, world: World
) -> None:
    world.upload(3)
    world.network.refuse(STARTED, carry_out=True, times=1)
    dag = dags.dag()
    dag.get_task("start_model").retries = 0
    ended = dags.run_dag(dag)
    assert ended.state == "failed"
    assert ended.of("stop_model") == {"upstream_failed"}, "a teardown does not run when no setup succeeded"
    assert world.status() in ("STOPPING", "STOPPED")
    assert world.lease() is None
    assert world.lost() == {}


# The first start of a model is waited for to its end; later ones until infer should get ready, which waits for the rest.
FIRST_OR_LATER = pytest.mark.parametrize(("start_seconds", "fails"), [(None, "wait_until_running"), (1.0, "infer")])


@FIRST_OR_LATER
def test_a_model_that_fails_to_start_fails_the_run_with_its_reason(
    dags: DagRunner, world: World, start_seconds: float | None, fails: str
) -> None:
    world.upload(3)
    world.state.update(lambda state: replace(state, start_seconds=start_seconds))
    world.aws.set_model(world.version_arn, next_start_fails="There is no capacity.")
    ended = dags.run()
    assert ended.state == "failed"
    assert ended.of(fails) == {"failed"}
    assert ended.of("stop_model") == {"success"}
    assert "There is no capacity." in ended.log
    assert world.times_run() == 0
    assert_safe(world)
    assert has_report(world)
    assert "The model was RUNNING for 0 s" in ended.log, "the ledger has nothing that was not billed"
    assert not [key for key in world.keys(prefix="batches/outcomes/") if "attempt-" in key], "nobody has tried them"


@FIRST_OR_LATER
def test_a_model_that_does_not_start_in_time_is_stopped(
    dags: DagRunner, world: World, monkeypatch: pytest.MonkeyPatch, start_seconds: float | None, fails: str
) -> None:
    world.upload(3)
    world.state.update(lambda state: replace(state, start_seconds=start_seconds))
    world.aws.settings(start_seconds=600)
    monkeypatch.setenv("LABELS_START_TIMEOUT_MINUTES", "0.04")
    ended = dags.run()
    assert ended.state == "failed"
    assert ended.of(fails) == {"failed"}
    assert ended.of("stop_model") == {"success"}
    assert world.times_run() == 0
    assert_safe(world)


def test_one_failed_batch_does_not_stop_the_others_and_the_model_is_stopped_after_all(
    dags: DagRunner, world: World
) -> None:
    world.upload(12)
    world.network.refuse("^DetectCustomLabels", times=1)
    ended = dags.run()
    assert ended.state == "failed"
    assert ended.of("infer") == {"failed", "success"}
    assert len(world.batches("done")) == len(world.batches("pending")) == 1
    assert "The run is incomplete" in ended.log
    assert_safe(world)
    assert has_report(world)


def test_a_dag_that_fails_fast_still_stops_the_model(dags: DagRunner, world: World) -> None:
    world.upload(3)
    world.network.refuse("^DetectCustomLabels", times=1)
    dag = dags.dag()
    dag.fail_fast = True
    try:
        ended = dags.run_dag(dag)
    finally:
        dag.fail_fast = False
    assert ended.state == "failed"
    assert ended.of("stop_model") == {"success"}
    assert_safe(world)
    assert has_report(world)


def test_a_teardown_that_fails_for_good_leaves_the_model_to_the_failure_callback(dags: DagRunner, world: World) -> None:
    world.upload(3)
    dag = dags.dag()
    dag.get_task("stop_model").retries = 1
    world.network.refuse("^StopProjectVersion", times=3)  # of the last infer, and of both attempts
    ended = dags.run_dag(dag)
    assert ended.state == "failed"
    assert ended.of("stop_model") == {"failed"}
    assert world.status() in ("STOPPING", "STOPPED")
    assert world.lease() is None
    assert world.labelled() == set(world.uploads)


def test_a_model_that_is_not_running_is_said_so_with_what_to_do(dags: DagRunner, world: World) -> None:
    world.upload(3)

    def stop_after_the_first_image() -> None:
        first.wait()
        world.aws.set_model(world.version_arn, status="STOPPED")
        first.released.set()

    with world.network.holding("^DetectCustomLabels") as first:
        somebody = threading.Thread(target=stop_after_the_first_image)
        somebody.start()
        ended = dags.run()
        somebody.join()
    assert ended.state == "failed"
    assert "The model is not RUNNING" in ended.log
    assert "clear start_model (not only failed tasks)" in ended.log
    assert_safe(world)


def test_no_dag_has_a_timeout_of_its_own_since_airflow_then_skips_teardowns(dags: DagRunner) -> None:
    assert {dag_id: dags.dag(dag_id).dagrun_timeout for dag_id in ("label_images", "stop_idle_model")} == {
        "label_images": None,
        "stop_idle_model": None,
    }


# The failure callback


def first_line_of_failure(dag: Any) -> Callable[[dict[str, Any]], None]:
    """The first of the Dag's failure callbacks; the other one tells people."""
    stop, _ = dag.on_failure_callback
    return stop  # type: ignore[no-any-return]


def test_the_failure_callback_stops_the_model_with_the_least_that_airflow_tells_it(
    dags: DagRunner, world: World
) -> None:
    world.give_lease_to("label_images/a-run")
    world.aws.set_model(world.version_arn, status="RUNNING")
    dag = dags.dag()
    first_line_of_failure(dag)({"dag": dag, "run_id": "a-run", "reason": "timed_out"})
    assert world.status() in ("STOPPING", "STOPPED")
    assert world.lease() is None


def test_the_failure_callback_leaves_the_model_of_another_run_alone(dags: DagRunner, world: World) -> None:
    world.give_lease_to("label_images/another-run")
    world.aws.set_model(world.version_arn, status="RUNNING")
    dag = dags.dag()
    first_line_of_failure(dag)({"dag": dag, "run_id": "a-run"})
    assert world.status() == "RUNNING"


def test_a_failure_callback_that_comes_late_leaves_the_model_of_a_run_cleared_since_alone(
    dags: DagRunner, world: World
) -> None:
    world.give_lease_to("label_images/a-run")
    world.aws.set_model(world.version_arn, status="RUNNING")
    dag = dags.dag()
    ended_before = SimpleNamespace(end_date=datetime.now(UTC) - timedelta(seconds=5))
    first_line_of_failure(dag)({"dag": dag, "run_id": "a-run", "dag_run": ended_before})
    assert world.status() == "RUNNING"


# The watchdog


def test_the_watchdog_leaves_a_model_that_is_off_and_is_green(dags: DagRunner, world: World) -> None:
    assert dags.run("stop_idle_model").state == "success"
    assert world.network.count("^StopProjectVersion") == 0


@pytest.mark.parametrize("status", ["STARTING", "RUNNING"])
def test_the_watchdog_stops_a_model_that_nobody_holds_a_lease_on_and_is_red(
    dags: DagRunner, world: World, status: str
) -> None:
    world.aws.settings(start_seconds=600)
    world.rekognition.start_project_version(ProjectVersionArn=world.version_arn, MinInferenceUnits=1)
    world.aws.set_model(world.version_arn, status=status)
    ended = dags.run("stop_idle_model")
    assert ended.state == "failed"
    assert "with no run using it" in ended.log
    assert world.status() == "STOPPED"


def test_the_watchdog_respects_a_live_lease(dags: DagRunner, world: World) -> None:
    world.give_lease_to("label_images/somebody")
    world.aws.set_model(world.version_arn, status="RUNNING")
    assert dags.run("stop_idle_model").state == "success"
    assert world.status() == "RUNNING"
