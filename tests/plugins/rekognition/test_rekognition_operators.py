from __future__ import annotations

from unittest import mock

import pytest
from airflow.providers.common.compat.sdk import AirflowException, AirflowFailException, TaskDeferred
from botocore.exceptions import ClientError

from rekognition.exceptions import RekognitionProjectVersionError, RekognitionProjectVersionStateError
from rekognition.hooks import START_VISIBLE_ATTEMPTS, RekognitionHook
from rekognition.links import RekognitionProjectVersionLink
from rekognition.operators import (
    START_DECISIONS,
    RekognitionStartProjectVersionOperator,
    RekognitionStopProjectVersionOperator,
)
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
NOT_STARTABLE = sorted({*RekognitionHook.STATES} - {*RekognitionHook.ACTIVE_STATES, *RekognitionHook.STARTABLE_STATES})
IDLE = sorted({*RekognitionHook.STATES} - {*RekognitionHook.ACTIVE_STATES})


@pytest.fixture
def start(service):
    def build(**kwargs):
        return RekognitionStartProjectVersionOperator(
            task_id="start",
            **{
                "project_arn": service.project_arn,
                "project_version_arn": service.project_version_arn,
                "wait_for_completion": False,
                **kwargs,
            },
        )

    return build


@pytest.fixture
def stop(service):
    def build(**kwargs):
        return RekognitionStopProjectVersionOperator(
            task_id="stop",
            **{"project_arn": service.project_arn, "project_version_arn": service.project_version_arn, **kwargs},
        )

    return build


def deferral(operator, method, *args, **kwargs) -> TaskDeferred:
    with pytest.raises(TaskDeferred) as deferred:
        getattr(operator, method)(*args, **kwargs)
    return deferred.value


@pytest.mark.parametrize(
    "operator_class", [RekognitionStartProjectVersionOperator, RekognitionStopProjectVersionOperator]
)
class TestBoth:
    def test_init(self, operator_class):
        operator = operator_class(task_id="task", project_arn="p", project_version_arn="v", **AWS_PARAMETERS)
        assert operator.hook.client_type == "rekognition"
        assert operator.hook.aws_conn_id == "my_conn"
        assert operator.hook._region_name == "eu-west-1"
        assert operator.hook._verify is False
        assert operator.hook._config.read_timeout == 42

    def test_init_defaults(self, operator_class):
        operator = operator_class(task_id="task", project_arn="p", project_version_arn="v")
        assert operator.wait_for_completion is True
        assert operator.deferrable is False
        assert operator.hook.aws_conn_id == "aws_default"
        assert operator.hook._region_name is None

    def test_template_fields_are_arguments_and_attributes(self, operator_class):
        operator = operator_class(task_id="task", project_arn="p", project_version_arn="v")
        assert {"project_arn", "project_version_arn", "aws_conn_id", "region_name", "verify"} <= {
            *operator.template_fields
        }
        for field in operator.template_fields:
            assert hasattr(operator, field)

    def test_link_is_kept(self, operator_class, service, context):
        service.describes("RUNNING" if operator_class is RekognitionStartProjectVersionOperator else "STOPPED")
        operator = operator_class(
            task_id="task", project_arn=service.project_arn, project_version_arn=service.project_version_arn
        )
        operator.execute(context)
        context["ti"].xcom_push.assert_called_once_with(
            key=RekognitionProjectVersionLink.key,
            value={
                "region_name": "eu-west-1",
                "aws_domain": "aws.amazon.com",
                "project_name": "shop",
                "version_name": "shop.v7",
            },
        )

    def test_a_wrong_arn_is_named(self, operator_class, service, context):
        operator = operator_class(task_id="task", project_arn="p", project_version_arn="shop.v7")
        with pytest.raises(ValueError, match=r"'shop\.v7' is not the ARN of a Rekognition project version"):
            operator.execute(context)


class TestRekognitionStartProjectVersionOperator:
    @pytest.mark.parametrize("status", RekognitionHook.STARTABLE_STATES)
    def test_requests_the_start_and_does_not_look_again(self, start, service, context, status, sleeps):
        service.describes(status)
        service.starts()
        assert start().execute(context) == "STARTING"
        assert sleeps == []

    @pytest.mark.parametrize(
        ("given", "sent"),
        [
            ({"min_inference_units": "2"}, (2, None)),
            ({"min_inference_units": " 1 ", "max_inference_units": "3"}, (1, 3)),
            ({"min_inference_units": 4, "max_inference_units": 5}, (4, 5)),
        ],
    )
    def test_rendered_units_become_numbers(self, start, service, context, given, sent):
        service.describes("STOPPED")
        service.starts(*sent)
        start(**given).execute(context)

    @pytest.mark.parametrize("units", ["", "None", "two", "0", -1, "1.5"])
    @pytest.mark.parametrize("name", ["min_inference_units", "max_inference_units"])
    def test_units_that_are_no_number_are_named_before_any_call(self, start, service, context, name, units):
        with pytest.raises(ValueError, match=f"{name} must be a whole number of 1 or more, not {units!r}"):
            start(**{name: units}).execute(context)

    @pytest.mark.parametrize("status", ["RUNNING", "STARTING"])
    def test_a_version_that_is_up_is_a_success(self, start, service, context, status):
        service.describes(status)
        assert start().execute(context) == status

    @pytest.mark.parametrize("status", NOT_STARTABLE)
    def test_a_version_that_cannot_start_fails_at_once_and_for_good(self, start, service, context, status):
        service.describes(status, StatusMessage="Internal trouble.")
        with pytest.raises(RekognitionProjectVersionStateError, match=f"is {status} .* Internal trouble") as error:
            start().execute(context)
        assert isinstance(error.value, AirflowFailException)

    def test_a_version_that_is_stopping_is_started_once_it_has_stopped(self, start, service, context, sleeps):
        service.describes("STOPPING")
        service.describes("STOPPING", "STOPPING", "STOPPED")  # the waiter
        service.describes("STOPPED")
        service.starts()
        assert start().execute(context) == "STARTING"
        assert sleeps == [10, 10]

    def test_a_version_that_is_stopping_is_waited_for_in_the_triggerer(self, start, service, context):
        operator = start(deferrable=True, **AWS_PARAMETERS)
        service.describes("STOPPING")
        deferred = deferral(operator, "execute", context)
        assert isinstance(deferred.trigger, RekognitionProjectVersionStoppedTrigger)
        assert deferred.trigger.stop_on_kill is False
        assert deferred.timeout.total_seconds() > deferred.trigger.waiter_delay * deferred.trigger.attempts

        service.describes("STOPPED")
        service.starts()
        resumed = getattr(operator, deferred.method_name)
        assert resumed(context, event={"status": "success"}) == "STARTING"

    def test_a_version_that_does_not_stop_fails_the_resumed_start(self, start, context):
        with pytest.raises(RekognitionProjectVersionError, match=r"did not stop within 1800 seconds \(max attempts\)"):
            start(deferrable=True).execute(context, event={"status": "error", "message": "max attempts"})

    def test_a_version_that_does_not_stop_fails_the_waiting_start(self, start, service, context):
        service.describes("STOPPING")
        service.describes_nothing()  # the waiter
        with pytest.raises(RekognitionProjectVersionError, match="was not started: it was STOPPING and did not stop"):
            start().execute(context)

    def test_a_refusal_because_the_version_changes_is_decided_again(self, start, service, context):
        service.describes("STOPPED")
        service.refuses("start_project_version", "ResourceInUseException")
        service.describes("STARTING")
        assert start().execute(context) == "STARTING"

    def test_refusals_end(self, start, service, context):
        for _ in range(START_DECISIONS):
            service.describes("STOPPED")
            service.refuses("start_project_version", "ResourceInUseException")
        with pytest.raises(RekognitionProjectVersionError, match="kept refusing to start, last from STOPPED"):
            start().execute(context)

    def test_a_used_up_quota_is_named(self, start, service, context, sleeps):
        service.describes("STOPPED")
        service.refuses("start_project_version", "LimitExceededException", "too many")
        with pytest.raises(
            RekognitionProjectVersionError, match="too many.*5 inference units for a model and 2 running models"
        ):
            start().execute(context)
        assert sleeps == []

    def test_other_errors_are_raised_as_they_are(self, start, service, context):
        service.describes("STOPPED")
        service.refuses("start_project_version", "AccessDeniedException")
        with pytest.raises(ClientError, match="AccessDeniedException"):
            start().execute(context)

    @pytest.mark.parametrize(
        ("wait_for_completion", "deferrable"),
        [
            pytest.param(False, False, id="no_wait"),
            pytest.param(True, False, id="wait"),
            pytest.param(True, True, id="defer"),
            pytest.param(False, True, id="no_wait_where_deferrable_is_the_default"),
        ],
    )
    def test_wait_combinations(self, start, service, context, wait_for_completion, deferrable):
        operator = start(wait_for_completion=wait_for_completion, deferrable=deferrable)
        service.describes("STOPPED")
        service.starts()
        if wait_for_completion and deferrable:
            service.describes("STARTING")
            assert isinstance(deferral(operator, "execute", context).trigger, RekognitionProjectVersionRunningTrigger)
        elif wait_for_completion:
            service.describes("STARTING", "RUNNING")
            assert operator.execute(context) == "RUNNING"
        else:
            assert operator.execute(context) == "STARTING"

    def test_waits_until_running(self, start, service, context, sleeps):
        service.describes("STOPPED")
        service.starts()
        service.describes("STOPPED", "STARTING")  # shown late
        service.describes("STARTING", "STARTING", "RUNNING")
        assert start(wait_for_completion=True).execute(context) == "RUNNING"
        assert sleeps == [5, 30, 30]

    def test_waits_for_a_start_of_somebody_else(self, start, service, context):
        service.describes("STARTING", "STARTING", "RUNNING")
        assert start(wait_for_completion=True).execute(context) == "RUNNING"

    def test_does_not_wait_for_what_runs(self, start, service, context):
        service.describes("STOPPED")
        service.starts()
        service.describes("RUNNING")
        assert start(wait_for_completion=True, deferrable=True).execute(context) == "RUNNING"

    def test_a_start_that_fails_gives_the_reason(self, start, service, context):
        service.describes("STOPPED")
        service.starts()
        service.describes("STARTING", "FAILED")
        service.describes("FAILED", StatusMessage="No capacity")
        with pytest.raises(
            RekognitionProjectVersionStateError, match="is FAILED .*: No capacity. Start it in the console"
        ):
            start(wait_for_completion=True).execute(context)

    def test_a_start_that_is_never_seen_fails(self, start, service, context):
        service.describes("STOPPED")
        service.starts()
        service.describes(*["STOPPED"] * (START_VISIBLE_ATTEMPTS + 1))
        with pytest.raises(RekognitionProjectVersionStateError, match="is STOPPED .* somebody stopped it"):
            start(wait_for_completion=True).execute(context)

    def test_a_start_that_takes_too_long_says_how_long_and_that_it_bills(self, start, service, context):
        service.describes("STARTING", "STARTING", "STARTING", "STARTING")
        service.describes("STARTING")
        operator = start(wait_for_completion=True, waiter_delay=20, waiter_max_attempts=2)
        with pytest.raises(RekognitionProjectVersionError, match="not RUNNING within 40 seconds and is STARTING now"):
            operator.execute(context)

    def test_waits_for_forty_minutes_unless_told_otherwise(self, start):
        operator = start()
        assert operator.waiter_delay * operator.waiter_max_attempts == 40 * 60

    @pytest.mark.parametrize("stop_on_kill", [True, False])
    def test_defers_with_its_own_connection(self, start, service, context, stop_on_kill):
        service.describes("STOPPED")
        service.starts()
        service.describes("STARTING")
        operator = start(
            wait_for_completion=True,
            deferrable=True,
            stop_on_kill=stop_on_kill,
            waiter_delay=7,
            waiter_max_attempts=8,
            **AWS_PARAMETERS,
        )
        deferred = deferral(operator, "execute", context)
        assert isinstance(deferred.trigger, RekognitionProjectVersionRunningTrigger)
        assert deferred.trigger.serialize()[1] == {
            "project_arn": service.project_arn,
            "project_version_arn": service.project_version_arn,
            "stop_on_kill": stop_on_kill,
            "waiter_delay": 7,
            "waiter_max_attempts": 8,
            **AWS_PARAMETERS,
        }
        assert deferred.method_name == "execute_complete"
        assert deferred.timeout.total_seconds() > 7 * 8

    def test_a_start_of_somebody_else_is_not_stopped_on_kill(self, start, service, context):
        service.describes("STARTING", "STARTING")
        deferred = deferral(start(wait_for_completion=True, deferrable=True), "execute", context)
        assert deferred.trigger.stop_on_kill is False

    def test_resumes_with_success(self, start, service, context):
        assert start().execute_complete(context, {"status": "success"}) == "RUNNING"

    def test_resumes_with_failure(self, start, service, context):
        service.describes("FAILED", StatusMessage="No capacity")
        with pytest.raises(RekognitionProjectVersionStateError, match="No capacity"):
            start().execute_complete(context, {"status": "error", "message": "FAILED"})

    def test_resumes_without_event(self, start, context):
        with pytest.raises(AirflowException, match="event is None"):
            start().execute_complete(context)


class TestKilledStart:
    def test_stops_what_it_has_started(self, start, service, context):
        operator = start()
        service.describes("STOPPED")
        service.starts()
        operator.execute(context)
        service.stops()
        operator.on_kill()

    def test_leaves_what_it_has_not_started(self, start, service, context):
        operator = start()
        operator.on_kill()
        service.describes("RUNNING")
        operator.execute(context)

    def test_does_not_start_any_more(self, start, service, context):
        operator = start()
        operator.on_kill()
        service.describes("STOPPED")
        with pytest.raises(RekognitionProjectVersionError, match="Killed before the start"):
            operator.execute(context)

    def test_a_kill_while_the_request_is_under_way_stops_once_more_after_it(self, start, service, context):
        operator = start()
        service.describes("STOPPED")
        calls = mock.MagicMock()
        operator.hook.start_project_version = calls.start
        operator.hook.conn.stop_project_version = calls.stop
        calls.start.side_effect = lambda *_: operator.on_kill() or "STARTING"
        operator.execute(context)
        assert [call[0] for call in calls.mock_calls if call[0] in ("start", "stop")] == ["start", "stop", "stop"]

    @pytest.mark.parametrize("code", ["ResourceInUseException", "ResourceNotFoundException", "ThrottlingException"])
    def test_tolerates_that_it_cannot_be_stopped(self, start, service, context, code, sleeps):
        operator = start()
        service.describes("STOPPED")
        service.starts()
        operator.execute(context)
        service.refuses("stop_project_version", code)
        operator.on_kill()
        assert sleeps == []  # Airflow leaves on_kill five seconds

    def test_does_not_stop_if_told_so(self, start, service, context):
        operator = start(stop_on_kill=False)
        service.describes("STOPPED")
        service.starts()
        operator.execute(context)
        operator.on_kill()


class TestRekognitionStopProjectVersionOperator:
    def test_stops_and_makes_sure(self, stop, service, context, sleeps):
        service.describes("RUNNING")
        service.stops()
        service.describes("STOPPING", "STOPPING", "STOPPED")  # the waiter
        service.describes("STOPPED")
        assert stop().execute(context) == "STOPPED"
        assert sleeps == [15, 15]

    @pytest.mark.parametrize("status", IDLE)
    def test_nothing_to_stop_is_a_success(self, stop, service, context, status):
        service.describes(status)
        assert stop().execute(context) == status

    def test_waits_for_a_stop_of_somebody_else(self, stop, service, context):
        service.describes("STOPPING", "STOPPING", "STOPPED", "STOPPED")
        assert stop().execute(context) == "STOPPED"

    def test_a_version_that_fails_while_it_stops_bills_no_more(self, stop, service, context):
        service.describes("RUNNING")
        service.stops()
        service.describes("STOPPING", "FAILED")
        service.describes("FAILED", StatusMessage="Internal trouble")
        assert stop().execute(context) == "FAILED"

    def test_throttling_does_not_keep_it_from_stopping(self, stop, service, context):
        service.refuses("describe_project_versions", "ThrottlingException")
        service.describes("RUNNING")
        for code in ("ThrottlingException", "ProvisionedThroughputExceededException", "InternalServerError") * 2:
            service.refuses("stop_project_version", code)
        service.stops()
        service.refuses("describe_project_versions", "ThrottlingException")
        service.describes("STOPPED", "STOPPED")
        assert stop().execute(context) == "STOPPED"

    def test_a_starting_version_is_asked_to_stop_too(self, stop, service, context):
        service.describes("STARTING")
        service.stops()
        service.describes("STOPPED", "STOPPED")
        assert stop().execute(context) == "STOPPED"

    @pytest.mark.parametrize("wait_for_completion", [True, False])
    def test_a_starting_version_that_refuses_is_asked_until_it_stops(self, stop, service, context, wait_for_completion):
        for _ in range(2):
            service.describes("STARTING")
            service.refuses("stop_project_version", "ResourceInUseException")
            service.describes(*["STARTING"] * 5)  # a minute
        service.describes("RUNNING")
        service.stops()
        if wait_for_completion:
            service.describes("STOPPING", "STOPPED")
            service.describes("STOPPED")
        status = stop(wait_for_completion=wait_for_completion).execute(context)
        assert status == ("STOPPED" if wait_for_completion else "STOPPING")

    def test_a_version_still_shown_as_running_is_asked_again(self, stop, service, context, sleeps):
        service.describes("RUNNING")
        service.stops()
        service.describes(*["RUNNING"] * 5)
        service.describes("RUNNING")
        service.stops()
        service.describes("STOPPING", "STOPPED")
        service.describes("STOPPED")
        assert stop().execute(context) == "STOPPED"
        assert sum(sleeps[:4]) == 60

    def test_a_version_that_does_not_stop_fails_and_says_that_it_bills(self, stop, service, context):
        service.describes("RUNNING")
        service.stops()
        service.describes("RUNNING", "RUNNING", "RUNNING")
        service.describes("RUNNING")
        operator = stop(waiter_max_attempts=3)
        with pytest.raises(RekognitionProjectVersionError, match="still RUNNING after 3 checks.* bills until"):
            operator.execute(context)

    @pytest.mark.parametrize("waiter_delay", [0, 1, 15, 45, 60, 600])
    def test_polls_have_a_delay_between_them(self, stop, service, context, waiter_delay, sleeps):
        service.describes("RUNNING")
        service.stops()
        service.describes("STOPPING", "STOPPED")
        service.describes("STOPPED")
        stop(waiter_delay=waiter_delay).execute(context)
        assert sleeps == [waiter_delay]

    @pytest.mark.parametrize("code", ["AccessDeniedException", "ResourceNotFoundException"])
    def test_other_errors_are_raised_as_they_are(self, stop, service, context, code):
        service.describes("RUNNING")
        service.refuses("stop_project_version", code)
        with pytest.raises(ClientError, match=code):
            stop().execute(context)

    @pytest.mark.parametrize(
        ("wait_for_completion", "deferrable"),
        [
            pytest.param(False, False, id="no_wait"),
            pytest.param(True, False, id="wait"),
            pytest.param(True, True, id="defer"),
            pytest.param(False, True, id="no_wait_where_deferrable_is_the_default"),
        ],
    )
    def test_wait_combinations(self, stop, service, context, wait_for_completion, deferrable):
        operator = stop(wait_for_completion=wait_for_completion, deferrable=deferrable)
        service.describes("RUNNING")
        service.stops()
        if wait_for_completion and deferrable:
            assert isinstance(deferral(operator, "execute", context).trigger, RekognitionProjectVersionStoppedTrigger)
        elif wait_for_completion:
            service.describes("STOPPED", "STOPPED")
            assert operator.execute(context) == "STOPPED"
        else:
            assert operator.execute(context) == "STOPPING"

    def test_defers_a_minute_and_then_to_the_end(self, stop, service, context):
        operator = stop(deferrable=True, **AWS_PARAMETERS)
        service.describes("RUNNING")
        service.stops()
        first = deferral(operator, "execute", context)
        assert first.trigger.serialize()[1] == {
            "project_arn": service.project_arn,
            "project_version_arn": service.project_version_arn,
            "stop_on_kill": True,
            "waiter_delay": 15,
            "waiter_max_attempts": 5,
            **AWS_PARAMETERS,
        }
        assert first.kwargs == {"attempts_left": 115}

        service.describes("STOPPING")
        event = {"status": "error", "message": "max attempts reached"}
        second = deferral(operator, first.method_name, context, event=event, **first.kwargs)
        assert second.trigger.attempts == 115
        assert second.kwargs == {"attempts_left": 0}

        service.describes("STOPPED")
        resumed = getattr(operator, second.method_name)
        assert resumed(context, event={"status": "success"}, **second.kwargs) == "STOPPED"

    def test_a_deferred_stop_that_never_ends_fails(self, stop, service, context):
        service.describes("STOPPING")
        with pytest.raises(RekognitionProjectVersionError, match="still STOPPING"):
            stop(deferrable=True).execute_complete(context, {"status": "error", "message": "max"}, attempts_left=0)
