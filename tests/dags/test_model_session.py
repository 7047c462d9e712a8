"""The model's session: what is asked of the service, and by whom."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any
from unittest import mock

import pytest
from airflow.sdk.exceptions import AirflowSensorTimeout, AirflowSkipException, TaskDeferred

from include.model_state import ModelState, ModelStateStore
from include.settings import load_settings
from labelling import model_session
from labelling.model_session import StartModel, WaitUntilRunning, request_stop
from tests.include.memory_s3 import MemoryS3, failure
from tests.include.samples import FINAL, MODEL_ARN, PROJECT_ARN, VALUES


@pytest.fixture(autouse=True)
def _environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in VALUES.items():
        monkeypatch.setenv(f"LABELS_{name.upper()}", str(value))


@pytest.fixture
def state(monkeypatch: pytest.MonkeyPatch) -> ModelStateStore:
    store = ModelStateStore(MemoryS3(FINAL), FINAL, "state/model/shop/v7.json")
    monkeypatch.setattr(model_session, "model_state", lambda settings: store)
    return store


def start(decision: dict[str, object]) -> mock.MagicMock:
    """Run start_model after a decision; the calls that reached the hook."""
    task = StartModel(task_id="start_model")
    task.project_arn, task.project_version_arn = PROJECT_ARN, MODEL_ARN
    context = {
        "ti": mock.MagicMock(**{"xcom_pull.return_value": decision}),
        "dag": SimpleNamespace(dag_id="label_images"),
        "run_id": "r",
    }
    with (
        mock.patch.object(StartModel, "hook", new_callable=mock.PropertyMock) as hook,
        mock.patch.object(StartModel, "_persist_link"),
    ):
        hook.return_value.describe_project_version.return_value = {"Status": "STOPPED"}
        hook.return_value.STARTABLE_STATES = ("STOPPED",)
        hook.return_value.start_project_version.return_value = "STARTING"
        task.execute(context)  # type: ignore[arg-type]
        return hook.return_value


def test_the_units_that_were_decided_are_started(state: ModelStateStore) -> None:
    hook = start({"start": True, "inference_units": 4, "reason": ""})
    assert hook.start_project_version.call_args.args == (MODEL_ARN, 4, None)


def test_the_lease_is_taken_before_the_model_is_started(state: ModelStateStore) -> None:
    start({"start": True, "inference_units": 1, "reason": ""})
    lease = state.read().lease
    assert lease is not None
    assert lease.holder == "label_images/r"


def test_a_run_without_work_takes_nothing_and_starts_nothing(state: ModelStateStore) -> None:
    with pytest.raises(AirflowSkipException, match="Nothing is pending"):
        start({"start": False, "inference_units": 0, "reason": "Nothing is pending"})
    assert state.read().lease is None


class Waiting:
    """wait_until_running on a model in some state: whether it deferred, for how long, and what it pushed."""

    def __init__(self, status: str) -> None:
        self.task = WaitUntilRunning(task_id="wait_until_running")
        self.task.project_arn, self.task.project_version_arn = PROJECT_ARN, MODEL_ARN
        self.status = status
        self.ti = mock.MagicMock()
        self.context: Any = {"ti": self.ti, "dag": SimpleNamespace(dag_id="label_images"), "run_id": "r"}

    def run(self, call: Callable[[], None]) -> TaskDeferred | None:
        description = {"Status": self.status, "MinInferenceUnits": 2}
        with (
            mock.patch.object(WaitUntilRunning, "hook", new_callable=mock.PropertyMock) as hook,
            mock.patch.object(WaitUntilRunning, "_persist_link"),
        ):
            hook.return_value.describe_project_version.return_value = description
            hook.return_value.describe_started_project_version.return_value = description
            hook.return_value.state_error.side_effect = lambda *args: RuntimeError("FAILED for good")
            try:
                call()
            except TaskDeferred as deferred:
                return deferred
        return None

    def execute(self) -> TaskDeferred | None:
        return self.run(lambda: self.task.execute(self.context))

    def resume(self, event: dict[str, Any], *, waited: float) -> TaskDeferred | None:
        started_at = time.time() - waited
        return self.run(lambda: self.task.execute_complete(self.context, event, started_at))

    @property
    def pushed(self) -> set[str]:
        return {call.kwargs["key"] for call in self.ti.xcom_push.call_args_list}


def seconds_of(deferred: TaskDeferred | None) -> float:
    assert deferred is not None
    trigger: Any = deferred.trigger
    return float((trigger.attempts - 1) * trigger.waiter_delay)


TOO_LATE = {"status": "error", "message": "max attempts reached"}


class TestWaitUntilRunning:
    def test_a_first_start_is_waited_for_to_its_end(self, state: ModelStateStore) -> None:
        assert seconds_of(Waiting("STARTING").execute()) == 40 * 60

    def test_a_start_that_is_known_is_waited_for_until_workers_should_get_ready(self, state: ModelStateStore) -> None:
        state.update(lambda _: ModelState(start_seconds=600))
        assert seconds_of(Waiting("STARTING").execute()) == 480

    def test_of_a_quick_start_fifteen_seconds_are_left(self, state: ModelStateStore) -> None:
        state.update(lambda _: ModelState(start_seconds=40))
        assert seconds_of(Waiting("STARTING").execute()) == 25

    def test_a_very_quick_one_is_not_waited_for_at_all(self, state: ModelStateStore) -> None:
        state.update(lambda _: ModelState(start_seconds=10))
        waiting = Waiting("STARTING")
        assert waiting.execute() is None
        assert waiting.pushed == {"not_running_at", "inference_units"}

    def test_workers_get_ready_when_it_usually_runs_soon(self, state: ModelStateStore) -> None:
        state.acquire("label_images/r", minutes=50, now=datetime.now(UTC))
        waiting = Waiting("STARTING")
        assert waiting.resume(TOO_LATE, waited=480) is None
        assert waiting.pushed == {"not_running_at", "inference_units"}
        # It may still take the rest of the longest start.
        lease = state.read().lease
        assert lease is not None
        assert lease.expires_at > datetime.now(UTC) + timedelta(minutes=40)

    def test_a_start_that_took_too_long_fails(self, state: ModelStateStore) -> None:
        with pytest.raises(AirflowSensorTimeout, match="did not become RUNNING"):
            Waiting("STARTING").resume(TOO_LATE, waited=40 * 60)

    def test_a_start_that_failed_meanwhile_fails(self, state: ModelStateStore) -> None:
        with pytest.raises(RuntimeError, match="FAILED for good"):
            Waiting("FAILED").resume(TOO_LATE, waited=480)

    def test_once_it_runs_the_lease_is_what_a_crash_may_cost(self, state: ModelStateStore) -> None:
        waiting = Waiting("RUNNING")
        assert waiting.resume({"status": "success"}, waited=30) is None
        assert waiting.pushed == {"running_at", "inference_units"}
        lease = state.read().lease
        assert lease is not None
        assert lease.expires_at < datetime.now(UTC) + timedelta(minutes=11)


class TestRequestStop:
    """Asked for by the last infer; the teardown does it where this does not."""

    @pytest.fixture
    def rekognition(self, monkeypatch: pytest.MonkeyPatch) -> mock.MagicMock:
        service = mock.MagicMock()
        monkeypatch.setattr(model_session, "client", lambda name, settings: service)
        return service

    @pytest.fixture
    def context(self) -> dict[str, Any]:
        return {"ti": mock.MagicMock(), "dag": SimpleNamespace(dag_id="label_images"), "run_id": "r"}

    def test_of_the_model_whose_lease_is_ours(
        self, state: ModelStateStore, rekognition: mock.MagicMock, context: dict[str, Any]
    ) -> None:
        state.acquire("label_images/r", minutes=10, now=datetime.now(UTC))
        request_stop(context, load_settings())
        rekognition.stop_project_version.assert_called_once_with(ProjectVersionArn=MODEL_ARN)
        assert context["ti"].xcom_push.call_args.kwargs["key"] == "stop_requested_at"

    @pytest.mark.parametrize("holder", [None, "label_images/another"])
    def test_never_of_a_model_that_another_run_uses(
        self, state: ModelStateStore, rekognition: mock.MagicMock, context: dict[str, Any], holder: str | None
    ) -> None:
        if holder:
            state.acquire(holder, minutes=10, now=datetime.now(UTC))
        request_stop(context, load_settings())
        rekognition.stop_project_version.assert_not_called()

    def test_a_refusal_is_left_to_the_teardown(
        self, state: ModelStateStore, rekognition: mock.MagicMock, context: dict[str, Any]
    ) -> None:
        state.acquire("label_images/r", minutes=10, now=datetime.now(UTC))
        rekognition.stop_project_version.side_effect = failure("ThrottlingException", "StopProjectVersion")
        request_stop(context, load_settings())
        context["ti"].xcom_push.assert_not_called()
