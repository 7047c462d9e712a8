"""The admin endpoint, and who may use it."""

from __future__ import annotations

import asyncio

import pytest

from local_aws.admin import Admin
from local_aws.faults import Faults
from local_aws.process import LocalAws, LocalAwsError
from local_aws.rekognition.account import Account
from local_aws.settings import Settings
from local_aws.wire import Request
from tests.local_aws.models import Model


def test_settings_are_read_and_changed(aws: LocalAws) -> None:
    before = aws.settings()
    assert aws.settings(tps_per_unit=7.5, stop_while_starting="refuse") == {
        **before,
        "tps_per_unit": 7.5,
        "stop_while_starting": "refuse",
    }


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"colour": 1}, "colour: no such setting"),
        ({"start_seconds": -1}, "start_seconds"),
        ({"start_seconds": "10"}, "start_seconds"),
        ({"tps_per_unit": 0}, "tps_per_unit"),
        ({"inference_latency_spread": -0.1}, "inference_latency_spread"),
        ({"stop_while_starting": "perhaps"}, "accept, refuse"),
    ],
)
def test_a_setting_that_makes_no_sense_is_refused_and_changes_nothing(
    aws: LocalAws, changes: dict[str, object], why: str
) -> None:
    before = aws.settings()
    with pytest.raises(LocalAwsError, match=why):
        aws.settings(**changes, account_tps=3)
    assert aws.settings() == before


def test_a_model_s_status_can_be_set_and_only_to_one_that_exists(aws: LocalAws, model: Model) -> None:
    rekognition = aws.client("rekognition")
    for status in ("EXPIRED", "DEPRECATED", "COPYING_FAILED"):
        aws.set_model(model.version_arn, status=status, status_message="because")
        [version] = rekognition.describe_project_versions(ProjectArn=model.project_arn)["ProjectVersionDescriptions"]
        assert (version["Status"], version["StatusMessage"]) == (status, "because")
    with pytest.raises(LocalAwsError, match="ASLEEP"):
        aws.set_model(model.version_arn, status="ASLEEP")
    with pytest.raises(LocalAwsError, match="was not found"):
        aws.set_model("arn:none", status="RUNNING")


def test_reset_drops_what_is_stored_and_keeps_the_settings() -> None:
    with LocalAws("--control-tps", "100", "--inference-latency-spread", "0.45") as aws:
        s3, sqs, rekognition = (aws.client(each) for each in ("s3", "sqs", "rekognition"))
        for _ in range(2):
            s3.create_bucket(Bucket="inbox")
            queue = sqs.create_queue(QueueName="inbox")["QueueUrl"]
            configuration = {
                "QueueArn": "arn:aws:sqs:us-east-1:123456789012:inbox",
                "Events": ["s3:ObjectCreated:*"],
            }
            s3.put_bucket_notification_configuration(
                Bucket="inbox", NotificationConfiguration={"QueueConfigurations": [configuration]}
            )
            s3.put_object(Bucket="inbox", Key="k", Body=b"x")
            rekognition.create_project(ProjectName="p")
            assert len(sqs.receive_message(QueueUrl=queue, MaxNumberOfMessages=10)["Messages"]) == 2
            aws.reset()
        assert s3.list_buckets()["Buckets"] == []
        assert "QueueUrls" not in sqs.list_queues()
        assert rekognition.describe_projects()["ProjectDescriptions"] == []
        settings = aws.settings()
        assert (settings["control_tps"], settings["inference_latency_spread"]) == (100, 0.45)


@pytest.mark.parametrize(
    ("host", "expected"), [("127.0.0.1", 200), ("::1", 200), ("192.168.0.7", 403), ("", 403), ("::ffff:10.0.0.1", 403)]
)
def test_another_machine_is_turned_away(host: str, expected: int) -> None:
    async def never() -> None:
        raise AssertionError

    admin = Admin(Account("1", Settings(), lambda: 0.0), Faults(lambda: 0.0), reset=never)
    for name in ("health", "faults"):
        path = f"/_local_aws/{name}"
        request = Request("GET", path, path, "", {}, b"", host, "s3", "us-east-1", never)
        assert asyncio.run(admin(request)).status == expected


def test_an_unknown_route_names_the_known_ones(aws: LocalAws) -> None:
    with pytest.raises(LocalAwsError, match="POST reset"):
        aws._admin("POST", "nonsense")
