"""Stopping, starting again, and what is still there."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

import pytest

from local_aws.process import LocalAws
from tests.local_aws import drawings
from tests.local_aws.models import DATA_BUCKET, Model, put_examples, put_manifest, status, wait_for

FLAGS = ("--control-tps", "1000", "--start-seconds", "0.2", "--stop-seconds", "0.1")


def test_everything_outlives_a_restart(tmp_path: Path) -> None:
    with LocalAws(*FLAGS, state_dir=tmp_path) as aws:
        s3, sqs, rekognition = (aws.client(each) for each in ("s3", "sqs", "rekognition"))
        s3.create_bucket(Bucket=DATA_BUCKET)
        queue_name = "inbox"
        queue = sqs.create_queue(QueueName=queue_name)["QueueUrl"]
        configuration = {"QueueArn": "arn:aws:sqs:us-east-1:123456789012:inbox", "Events": ["s3:ObjectCreated:*"]}
        s3.put_bucket_notification_configuration(
            Bucket=DATA_BUCKET, NotificationConfiguration={"QueueConfigurations": [configuration]}
        )
        [test_event] = sqs.receive_message(QueueUrl=queue)["Messages"]
        topic = aws.client("sns").create_topic(Name="t")["TopicArn"]
        aws.client("events").put_rule(Name="r", EventPattern='{"source": ["aws.s3"]}')
        aws.client("glue").create_database(DatabaseInput={"Name": "d"})
        aws.client("iam").create_role(RoleName="r", AssumeRolePolicyDocument="{}")
        aws.client("dynamodb").create_table(
            TableName="t",
            KeySchema=[{"AttributeName": "id", "KeyType": "HASH"}],
            AttributeDefinitions=[{"AttributeName": "id", "AttributeType": "S"}],
            BillingMode="PAY_PER_REQUEST",
        )
        project_arn = rekognition.create_project(ProjectName="p")["ProjectArn"]
        lines = put_examples(s3, 8, prefix="train", first_seed=0)
        data = {"Assets": [put_manifest(s3, "train.manifest", lines)]}
        version_arn = rekognition.create_project_version(
            ProjectArn=project_arn, VersionName="v", OutputConfig={"S3Bucket": DATA_BUCKET}, TrainingData=data
        )["ProjectVersionArn"]
        model = Model(project_arn, version_arn, "v")
        wait_for(lambda: status(rekognition, model) == "TRAINING_COMPLETED", seconds=60)
        rekognition.start_project_version(ProjectVersionArn=version_arn, MinInferenceUnits=1)
        asked_at = time.time()
        wait_for(lambda: status(rekognition, model) == "RUNNING")
        # Once the start is saved, the one call is all that is left to save.
        wait_for(lambda: (tmp_path / "state.pickle").stat().st_mtime > asked_at)
        image = {"S3Object": {"Bucket": DATA_BUCKET, "Name": "train/ball 0.jpg"}}
        found = rekognition.detect_custom_labels(ProjectVersionArn=version_arn, Image=image)["CustomLabels"]

    with LocalAws(*FLAGS, state_dir=tmp_path) as aws:
        s3, sqs, rekognition = (aws.client(each) for each in ("s3", "sqs", "rekognition"))
        assert s3.get_object(Bucket=DATA_BUCKET, Key="train/ball 0.jpg")["Body"].read() == drawings.scene("ball", 0)[0]
        queue = sqs.get_queue_url(QueueName=queue_name)["QueueUrl"]
        sqs.delete_message(QueueUrl=queue, ReceiptHandle=test_event["ReceiptHandle"])
        before = sqs.get_queue_attributes(QueueUrl=queue, AttributeNames=["All"])["Attributes"]
        assert before["ApproximateNumberOfMessagesNotVisible"] == "0"
        s3.put_object(Bucket=DATA_BUCKET, Key="more", Body=b"x")
        after = sqs.get_queue_attributes(QueueUrl=queue, AttributeNames=["All"])["Attributes"]
        added = [int(each["ApproximateNumberOfMessages"]) for each in (before, after)]
        assert added[1] == added[0] + 1 > 16
        assert status(rekognition, model) == "RUNNING"
        again = rekognition.detect_custom_labels(ProjectVersionArn=version_arn, Image=image)["CustomLabels"]
        assert again == found
        assert aws.meter()["models"][0]["calls_served"] == 2
        assert [each["TopicArn"] for each in aws.client("sns").list_topics()["Topics"]] == [topic]
        assert [each["Name"] for each in aws.client("events").list_rules()["Rules"]] == ["r"]
        assert [each["Name"] for each in aws.client("glue").get_databases()["DatabaseList"]] == ["d"]
        assert [each["RoleName"] for each in aws.client("iam").list_roles()["Roles"]] == ["r"]
        assert aws.client("dynamodb").list_tables()["TableNames"] == ["t"]


def test_a_killed_server_loses_the_last_seconds_at_most(tmp_path: Path) -> None:
    aws = LocalAws(state_dir=tmp_path).__enter__()
    aws.client("s3").create_bucket(Bucket="inbox")
    wait_for((tmp_path / "state.pickle").exists)
    aws.kill()
    aws.stop()
    with LocalAws(state_dir=tmp_path) as again:
        assert [each["Name"] for each in again.client("s3").list_buckets()["Buckets"]] == ["inbox"]


@pytest.mark.parametrize(
    "content",
    [b"", b"not json\n", b'{"format": 0}\nxyz', None],
    ids=["empty", "foreign", "of another version", "cut off"],
)
def test_a_state_that_cannot_be_used_is_set_aside_and_said_so(
    tmp_path: Path, content: bytes | None, capfd: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "state.pickle"
    with LocalAws(state_dir=tmp_path) as aws:
        aws.client("s3").create_bucket(Bucket="inbox")
    path.write_bytes(path.read_bytes()[:-20] if content is None else content)
    with LocalAws(state_dir=tmp_path) as aws:
        assert aws.client("s3").list_buckets()["Buckets"] == []
        aws.client("s3").create_bucket(Bucket="other")
    assert "starts empty" in capfd.readouterr().err
    assert len(list(tmp_path.glob("state-set-aside-*.pickle"))) == 1
    with LocalAws(state_dir=tmp_path) as aws:
        assert [each["Name"] for each in aws.client("s3").list_buckets()["Buckets"]] == ["other"]


def test_it_says_where_it_listens_within_seconds_and_ends_within_two(tmp_path: Path) -> None:
    started = time.monotonic()
    aws = LocalAws(state_dir=tmp_path).__enter__()
    assert time.monotonic() - started < 5
    sqs = aws.client("sqs", retries={"total_max_attempts": 1})
    queue = sqs.create_queue(QueueName="q")["QueueUrl"]
    waiting = subprocess.Popen([sys.executable, "-c", WAIT, aws.endpoint_url, queue], stdout=subprocess.PIPE, text=True)
    assert waiting.stdout is not None
    assert waiting.stdout.readline() == "waiting\n"
    started = time.monotonic()
    aws.stop()
    assert time.monotonic() - started < 2.5
    waiting.wait(10)
    waiting.stdout.close()
    with LocalAws(state_dir=tmp_path) as again:
        assert again.client("sqs").get_queue_url(QueueName="q")


WAIT = """
import sys, boto3
from botocore.config import Config
session = boto3.Session(aws_access_key_id="testing", aws_secret_access_key="testing", region_name="us-east-1")
sqs = session.client("sqs", endpoint_url=sys.argv[1], config=Config(retries={"total_max_attempts": 1}))
print("waiting", flush=True)
try:
    sqs.receive_message(QueueUrl=sys.argv[2], WaitTimeSeconds=20)
except Exception:
    pass
"""


@pytest.mark.parametrize(
    ("flags", "why"),
    [
        (("--host", "0.0.0.0"), "--allow-remote"),
        (("--start-seconds", "-1"), "start_seconds"),
        (("--inference-latency-spread", "-1"), "inference_latency_spread"),
        (("--stop-while-starting", "maybe"), "accept"),
    ],
)
def test_flags_that_make_no_sense_end_it_with_the_reason(flags: tuple[str, ...], why: str) -> None:
    ended = subprocess.run(
        [sys.executable, "-m", "local_aws", "--port", "0", *flags], capture_output=True, text=True, timeout=30
    )
    assert ended.returncode == 2
    assert why in ended.stderr


def test_a_port_in_use_is_said_so(server: LocalAws) -> None:
    port = server.endpoint_url.rpartition(":")[2]
    command = [sys.executable, "-m", "local_aws", "--port", port]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=30)
    assert ended.returncode == 2
    assert f"cannot listen on 127.0.0.1:{port}" in ended.stderr


def test_the_ready_line_is_one_json_object(tmp_path: Path) -> None:
    process = subprocess.Popen([sys.executable, "-m", "local_aws", "--port", "0"], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    ready = json.loads(process.stdout.readline())
    assert ready["pid"] == process.pid
    assert ready["endpoint_url"].startswith("http://127.0.0.1:")
    process.terminate()
    assert process.wait(5) == 0
    process.stdout.close()
