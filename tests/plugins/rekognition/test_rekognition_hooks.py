from __future__ import annotations

import botocore.session
import pytest
from botocore.exceptions import ClientError, EndpointConnectionError, ReadTimeoutError

from rekognition.exceptions import RekognitionProjectVersionNotFound
from rekognition.hooks import (
    START_VISIBLE_ATTEMPTS,
    START_VISIBLE_DELAY,
    TRANSIENT_ERROR_ATTEMPTS,
    TRANSIENT_ERROR_CODES,
    RekognitionHook,
    is_transient_error,
)

ERROR_CODES_OF_THE_SERVICE = {
    "AccessDeniedException",
    "LimitExceededException",
    "ResourceInUseException",
    "ResourceNotFoundException",
}


@pytest.fixture
def hook() -> RekognitionHook:
    return RekognitionHook(aws_conn_id=None, region_name="eu-west-1")


def test_hook_is_a_rekognition_client():
    hook = RekognitionHook(aws_conn_id=None, region_name="eu-west-1")
    assert hook.client_type == "rekognition"
    assert hook.conn.meta.service_model.service_name == "rekognition"


def test_waiters_of_this_module_are_added_to_those_of_botocore(hook):
    assert {"project_version_running", "project_version_stopped"} <= {*hook.list_waiters()}
    assert "project_version_training_completed" in hook.list_waiters()


def test_states_are_those_of_the_service_model():
    model = botocore.session.get_session().get_service_model("rekognition")
    assert list(RekognitionHook.STATES) == model.shape_for("ProjectVersionStatus").enum


class TestParseProjectVersionArn:
    @pytest.mark.parametrize("partition", ["aws", "aws-cn", "aws-us-gov"])
    def test_names(self, partition):
        arn = f"arn:{partition}:rekognition:eu-west-1:123456789012:project/a_shop/version/a_shop.2026-01-02T03.04.05/17"
        assert RekognitionHook.parse_project_version_arn(arn) == ("a_shop", "a_shop.2026-01-02T03.04.05")

    @pytest.mark.parametrize(
        "arn",
        [
            "",
            "shop.v7",
            "arn:aws:rekognition:eu-west-1:123456789012:project/shop/1700000000000",
            "arn:aws:rekognition:eu-west-1:123456789012:project/shop/version/shop.v7/",
            "arn:aws:rekognition:eu-west-1:123456789012:project/shop/version/shop.v7/17\n",
            "arn:aws:sagemaker:eu-west-1:123456789012:project/shop/version/shop.v7/17",
        ],
    )
    def test_anything_else_is_refused_with_the_expected_shape(self, arn):
        with pytest.raises(ValueError, match="expected arn:aws:rekognition:REGION:ACCOUNT:project/NAME/version/"):
            RekognitionHook.parse_project_version_arn(arn)


class TestDescribeProjectVersion:
    def test_one_version_is_asked_for_by_name(self, hook, service):
        service.describes("RUNNING", MinInferenceUnits=2)
        description = hook.describe_project_version(service.project_arn, service.version_name)
        assert description["Status"] == "RUNNING"
        assert description["MinInferenceUnits"] == 2

    def test_a_version_that_is_not_there_is_named(self, hook, service):
        service.describes_nothing()
        with pytest.raises(
            RekognitionProjectVersionNotFound, match=r"project/shop/\d+ has no version 'shop\.v7': check"
        ):
            hook.describe_project_version(service.project_arn, service.version_name)

    def test_a_version_still_shown_as_stopped_after_its_start_is_looked_at_again(self, hook, service, sleeps):
        service.describes("STOPPED", "STOPPED", "STARTING")
        description = hook.describe_started_project_version(service.project_arn, service.version_name)
        assert description["Status"] == "STARTING"
        assert sleeps == [START_VISIBLE_DELAY] * 2

    def test_the_grace_for_a_start_ends(self, hook, service, sleeps):
        service.describes(*["TRAINING_COMPLETED"] * (START_VISIBLE_ATTEMPTS + 1))
        description = hook.describe_started_project_version(service.project_arn, service.version_name)
        assert description["Status"] == "TRAINING_COMPLETED"
        assert sum(sleeps) == 60


class TestTransientErrors:
    @pytest.mark.parametrize("code", sorted(TRANSIENT_ERROR_CODES))
    def test_calls_are_repeated_more_often_than_botocore_does(self, hook, service, sleeps, code):
        for _ in range(TRANSIENT_ERROR_ATTEMPTS - 1):
            service.refuses("stop_project_version", code)
        service.stops()
        assert hook.stop_project_version(service.project_version_arn) == "STOPPING"
        assert len(sleeps) == TRANSIENT_ERROR_ATTEMPTS - 1
        assert max(sleeps) <= 30

    def test_calls_are_not_repeated_for_ever(self, hook, service):
        for _ in range(TRANSIENT_ERROR_ATTEMPTS):
            service.refuses("stop_project_version", "ThrottlingException", "Slow down")
        with pytest.raises(ClientError, match="Slow down"):
            hook.stop_project_version(service.project_version_arn)

    def test_reading_the_status_is_repeated_too(self, hook, service):
        service.refuses("describe_project_versions", "ThrottlingException")
        service.describes("STOPPED")
        assert hook.describe_project_version(service.project_arn, service.version_name)["Status"] == "STOPPED"

    @pytest.mark.parametrize("code", sorted(ERROR_CODES_OF_THE_SERVICE))
    def test_an_answer_that_stays_the_same_is_raised_at_once(self, hook, service, sleeps, code):
        service.refuses("start_project_version", code)
        with pytest.raises(ClientError, match=code):
            hook.start_project_version(service.project_version_arn, 1)
        assert sleeps == []

    @pytest.mark.parametrize(
        ("error", "transient"),
        [
            (ClientError({"Error": {"Code": "503"}, "ResponseMetadata": {"HTTPStatusCode": 503}}, "Stop"), True),
            (ClientError({"Error": {"Code": "404"}, "ResponseMetadata": {"HTTPStatusCode": 404}}, "Stop"), False),
            (EndpointConnectionError(endpoint_url="https://rekognition"), True),
            (ReadTimeoutError(endpoint_url="https://rekognition"), True),
            (ValueError("a mistake"), False),
        ],
    )
    def test_faults_of_the_service_and_of_the_network_are_transient(self, error, transient):
        assert is_transient_error(error) is transient


class TestStartProjectVersion:
    @pytest.mark.parametrize("max_units", [None, 3])
    def test_units(self, hook, service, max_units):
        service.starts(2, max_units)
        assert hook.start_project_version(service.project_version_arn, 2, max_units) == "STARTING"


class TestStateError:
    @pytest.mark.parametrize("status", sorted({*RekognitionHook.STATES} - {"STARTING", "RUNNING"}))
    def test_says_which_version_why_and_what_to_do(self, service, status):
        error = RekognitionHook.state_error(
            {"ProjectVersionArn": service.project_version_arn, "Status": status, "StatusMessage": "Too few images."},
            "RUNNING",
        )
        said, advice = str(error).split("Too few images. ")
        assert said == f"Project version {service.project_version_arn} is {status} and will not become RUNNING: "
        assert advice.endswith(".")

    def test_says_when_the_service_gives_no_reason(self, service):
        error = RekognitionHook.state_error(
            {"ProjectVersionArn": service.project_version_arn, "Status": "EXPIRED"}, "RUNNING"
        )
        assert "RUNNING: the service gives no reason. It can no longer be used: train" in str(error)
