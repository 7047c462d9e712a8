from __future__ import annotations

from datetime import timedelta

import pytest
from airflow.providers.common.compat.sdk import (
    AirflowException,
    AirflowFailException,
    AirflowSensorTimeout,
    AirflowSkipException,
    TaskDeferred,
)

from rekognition.exceptions import RekognitionProjectVersionStateError
from rekognition.hooks import START_VISIBLE_ATTEMPTS, RekognitionHook
from rekognition.links import RekognitionProjectVersionLink
from rekognition.sensors import RekognitionProjectVersionSensor
from rekognition.triggers import (
    RekognitionProjectVersionRunningTrigger,
    RekognitionProjectVersionStoppedTrigger,
)

AWS_PARAMETERS = {
    "aws_conn_id": "my_conn",
    "region_name": "eu-west-1",
    "verify": False,
    "botocore_config": {"read_timeout": 42},
}
HOPELESS_AT_ONCE = sorted({*RekognitionHook.STATES} - {"STARTING", "RUNNING"} - {*RekognitionHook.STARTABLE_STATES})
SUCCEEDED = {"status": "success"}
GAVE_UP = {"status": "error", "message": "Waiter error: max attempts reached"}


@pytest.fixture
def sensor(service):
    def build(**kwargs):
        return RekognitionProjectVersionSensor(
            task_id="sensor",
            **{"project_arn": service.project_arn, "project_version_arn": service.project_version_arn, **kwargs},
        )

    return build


@pytest.fixture(params=[False, True], ids=["poke", "deferrable"])
def sensor_in_both_modes(request, sensor):
    return lambda **kwargs: sensor(deferrable=request.param, **kwargs)


def deferral(sensor, context) -> TaskDeferred:
    with pytest.raises(TaskDeferred) as deferred:
        sensor.execute(context)
    return deferred.value


class TestInit:
    def test_aws_parameters_reach_the_hook(self, sensor):
        operator = sensor(**AWS_PARAMETERS)
        assert operator.hook.client_type == "rekognition"
        assert operator.hook.aws_conn_id == "my_conn"
        assert operator.hook._region_name == "eu-west-1"
        assert operator.hook._verify is False
        assert operator.hook._config.read_timeout == 42

    def test_defaults(self, sensor):
        operator = sensor()
        assert operator.target_states == ("RUNNING",)
        assert operator.poke_interval == 30
        assert operator.timeout == 40 * 60
        assert operator.deferrable is False
        assert operator.stop_on_kill is False

    def test_template_fields_are_attributes(self, sensor):
        operator = sensor()
        assert {"project_arn", "project_version_arn"} <= {*operator.template_fields}
        assert all(hasattr(operator, field) for field in operator.template_fields)

    @pytest.mark.parametrize("poke_interval", [0, 0.5, 1.5, timedelta(milliseconds=1500)])
    def test_poke_interval_is_whole_seconds(self, sensor, poke_interval):
        with pytest.raises(ValueError, match="poke_interval must be a whole number of seconds of 1 or more"):
            sensor(poke_interval=poke_interval)

    def test_states_are_those_of_the_service(self, sensor):
        with pytest.raises(ValueError, match="Not the states of a project version: BROKEN, READY"):
            sensor(target_states=("READY",), failure_states=("BROKEN",))

    @pytest.mark.parametrize(
        "given",
        [
            {"target_states": ("TRAINING_COMPLETED",)},
            {"target_states": ("RUNNING", "STOPPED")},
            {"failure_states": ("FAILED",)},
        ],
    )
    def test_what_deferrable_mode_cannot_do_is_said_when_the_dag_is_written(self, sensor, given):
        with pytest.raises(ValueError, match="set deferrable=False"):
            sensor(deferrable=True, **given)

    @pytest.mark.parametrize("target", RekognitionHook.STATES)
    def test_a_target_is_never_a_failure(self, sensor, target):
        assert target not in sensor(target_states=(target,)).failure_states


class TestBothModes:
    def test_already_there(self, sensor_in_both_modes, service, context):
        service.describes("RUNNING", "RUNNING")
        sensor_in_both_modes().execute(context)

    @pytest.mark.parametrize("status", HOPELESS_AT_ONCE)
    def test_fails_at_once_and_for_good(self, sensor_in_both_modes, service, context, status, sleeps):
        service.describes(status, status, StatusMessage="No capacity.")
        with pytest.raises(RekognitionProjectVersionStateError, match=f"is {status} .*No capacity. ") as error:
            sensor_in_both_modes().execute(context)
        assert isinstance(error.value, AirflowFailException)
        assert sleeps == []

    @pytest.mark.parametrize("status", RekognitionHook.STARTABLE_STATES)
    def test_a_start_that_shows_late_has_a_minute(self, sensor_in_both_modes, service, context, status, sleeps):
        service.describes(*[status] * (START_VISIBLE_ATTEMPTS + 2))
        with pytest.raises(RekognitionProjectVersionStateError, match=f"is {status} .* start it"):
            sensor_in_both_modes().execute(context)
        assert sum(sleeps) == 60

    def test_link_is_kept(self, sensor_in_both_modes, service, context):
        service.describes("RUNNING", "RUNNING")
        sensor_in_both_modes().execute(context)
        pushed = context["ti"].xcom_push.call_args.kwargs
        assert pushed["key"] == RekognitionProjectVersionLink.key
        assert pushed["value"]["version_name"] == "shop.v7"

    def test_waiting_for_a_stop_gives_no_grace_to_a_start(self, sensor_in_both_modes, service, context, sleeps):
        service.describes("STOPPED")
        sensor_in_both_modes(target_states=["STOPPED"]).execute(context)
        assert sleeps == []


class TestPoke:
    def test_pokes_until_running(self, sensor, service, context, sleeps):
        service.describes("STARTING", "STARTING", "STARTING", "RUNNING")
        sensor(poke_interval=7).execute(context)
        assert sleeps == [7, 7]

    def test_somebody_stops_it_meanwhile(self, sensor, service, context):
        service.describes("STARTING", "STARTING")
        service.describes("STOPPED")
        with pytest.raises(RekognitionProjectVersionStateError, match="somebody stopped it"):
            sensor().execute(context)

    def test_timeout_says_how_long_and_the_last_status(self, sensor, service, context):
        service.describes("STARTING", "STARTING", "STARTING")
        with pytest.raises(
            AirflowSensorTimeout,
            match=r"not become RUNNING, its last status is STARTING\. .* run duration of [\d.]+ seconds",
        ):
            sensor(timeout=0).execute(context)

    @pytest.mark.parametrize("target", ["TRAINING_COMPLETED", "COPYING_COMPLETED"])
    def test_other_targets(self, sensor, service, context, target):
        service.describes("TRAINING_IN_PROGRESS", "COPYING_IN_PROGRESS", target)
        sensor(target_states=(target,)).execute(context)

    def test_failure_states_of_the_user(self, sensor, service, context):
        service.describes("STOPPING", "STOPPING", "RUNNING")
        sensor(failure_states=("FAILED",)).execute(context)

    @pytest.mark.parametrize("code", ["ThrottlingException", "InternalServerError"])
    def test_throttling_is_no_failure(self, sensor, service, context, code):
        service.describes("STARTING")
        service.refuses("describe_project_versions", code)
        service.describes("RUNNING")
        sensor().execute(context)


class TestDeferrable:
    @pytest.mark.parametrize(
        ("target", "on_the_way", "trigger_class", "before"),
        [
            ("RUNNING", "STARTING", RekognitionProjectVersionRunningTrigger, 2),
            ("STOPPED", "STOPPING", RekognitionProjectVersionStoppedTrigger, 1),
        ],
    )
    def test_defers_with_its_own_connection(self, sensor, service, context, target, on_the_way, trigger_class, before):
        service.describes(*[on_the_way] * before)
        operator = sensor(
            deferrable=True,
            target_states=(target,),
            stop_on_kill=True,
            poke_interval=20,
            timeout=90,
            **AWS_PARAMETERS,
        )
        deferred = deferral(operator, context)
        assert isinstance(deferred.trigger, trigger_class)
        assert deferred.trigger.serialize()[1] == {
            "project_arn": service.project_arn,
            "project_version_arn": service.project_version_arn,
            "stop_on_kill": True,
            "waiter_delay": 20,
            "waiter_max_attempts": 6,
            **AWS_PARAMETERS,
        }
        assert deferred.timeout.total_seconds() > 90
        assert deferred.method_name == "execute_complete"
        assert {*deferred.kwargs} == {"started_at"}

    def test_resumes_running(self, sensor, service, context):
        service.describes("RUNNING")
        sensor(deferrable=True).execute_complete(context, SUCCEEDED)

    def test_a_description_that_lags_behind_the_trigger_is_no_timeout(self, sensor, service, context):
        service.describes("STARTING")
        sensor(deferrable=True).execute_complete(context, SUCCEEDED)

    def test_resumes_failed(self, sensor, service, context):
        service.describes("FAILED", StatusMessage="No capacity")
        with pytest.raises(RekognitionProjectVersionStateError, match="No capacity"):
            sensor(deferrable=True).execute_complete(context, {"status": "error", "message": "FAILED - No capacity"})

    def test_nothing_runs_but_it_was_not_stopped(self, sensor, service, context):
        service.describes("FAILED")
        with pytest.raises(RekognitionProjectVersionStateError, match="is FAILED and will not become STOPPED"):
            sensor(deferrable=True, target_states=("STOPPED",)).execute_complete(context, SUCCEEDED)

    def test_timeout_says_how_long_and_the_last_status(self, sensor, service, context, monkeypatch):
        monkeypatch.setattr("time.time", lambda: 3000.0)
        service.describes("STARTING", "STARTING")
        with pytest.raises(AirflowSensorTimeout, match=r"status is STARTING\. .* \(2500 seconds, timeout 2400\)"):
            sensor(deferrable=True).execute_complete(context, GAVE_UP, started_at=500.0)

    def test_soft_fail_skips(self, sensor, service, context):
        service.describes("FAILED")
        with pytest.raises(AirflowSkipException):
            sensor(deferrable=True, soft_fail=True).resume_execution("execute_complete", {"event": GAVE_UP}, context)

    def test_resumes_without_event(self, sensor, context):
        with pytest.raises(AirflowException, match="event is None"):
            sensor(deferrable=True).execute_complete(context)


class TestOnKill:
    def test_stops_if_told_so(self, sensor, service):
        service.stops()
        sensor(stop_on_kill=True).on_kill()

    def test_leaves_the_version_alone_by_default(self, sensor, service):
        sensor().on_kill()

    def test_tolerates_that_it_cannot_be_stopped(self, sensor, service, sleeps):
        service.refuses("stop_project_version", "ResourceInUseException")
        sensor(stop_on_kill=True).on_kill()
        assert sleeps == []
