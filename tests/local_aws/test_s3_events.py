"""What an upload says to a queue: directly, through SNS and through EventBridge."""

from __future__ import annotations

import io
import json
from typing import Any
from urllib.parse import unquote_plus

import pytest
from botocore.exceptions import ClientError

from local_aws.process import LocalAws

ACCOUNT = "123456789012"


@pytest.fixture
def s3(aws: LocalAws) -> Any:
    return aws.client("s3")


@pytest.fixture
def sqs(aws: LocalAws) -> Any:
    return aws.client("sqs")


@pytest.fixture
def queue(sqs: Any, name: str) -> str:
    return str(sqs.create_queue(QueueName=name)["QueueUrl"])


def queue_arn(name: str) -> str:
    return f"arn:aws:sqs:us-east-1:{ACCOUNT}:{name}"


def notify(s3: Any, bucket: str, name: str, *events: str, rules: tuple[dict[str, str], ...] = ()) -> None:
    configuration: dict[str, Any] = {"QueueArn": queue_arn(name), "Events": list(events) or ["s3:ObjectCreated:*"]}
    if rules:
        configuration["Filter"] = {"Key": {"FilterRules": list(rules)}}
    s3.put_bucket_notification_configuration(
        Bucket=bucket, NotificationConfiguration={"QueueConfigurations": [configuration]}
    )


def bodies(sqs: Any, queue: str) -> list[dict[str, Any]]:
    """Everything in the queue, taken out."""
    found: list[dict[str, Any]] = []
    while messages := sqs.receive_message(QueueUrl=queue, MaxNumberOfMessages=10).get("Messages"):
        for message in messages:
            found.append(json.loads(message["Body"]))
            sqs.delete_message(QueueUrl=queue, ReceiptHandle=message["ReceiptHandle"])
    return found


def records(sqs: Any, queue: str) -> list[dict[str, Any]]:
    return [record for body in bodies(sqs, queue) for record in body.get("Records", [])]


def test_configuring_a_notification_sends_a_test_event(s3: Any, sqs: Any, bucket: str, name: str, queue: str) -> None:
    notify(s3, bucket, name)
    [event] = bodies(sqs, queue)
    assert (event["Service"], event["Event"], event["Bucket"]) == ("Amazon S3", "s3:TestEvent", bucket)


def test_a_queue_that_does_not_exist_cannot_be_notified(s3: Any, sqs: Any, bucket: str, name: str, queue: str) -> None:
    notify(s3, bucket, name)
    with pytest.raises(ClientError, match="Unable to validate the following destination") as error:
        notify(s3, bucket, "no-such-queue")
    assert error.value.response["Error"]["Code"] == "InvalidArgument"
    kept = s3.get_bucket_notification_configuration(Bucket=bucket)["QueueConfigurations"]
    assert [each["QueueArn"] for each in kept] == [queue_arn(name)]


@pytest.mark.parametrize(
    ("key", "encoded"),
    [
        ("folder/plain.jpg", "folder/plain.jpg"),
        ("a b+c (1).jpg", "a+b%2Bc+%281%29.jpg"),
        ("é/😀.png", "%C3%A9/%F0%9F%98%80.png"),
        ("100%.jpg", "100%25.jpg"),
    ],
)
def test_a_key_is_encoded_as_in_a_form_but_for_its_slashes(
    s3: Any, sqs: Any, bucket: str, name: str, queue: str, key: str, encoded: str
) -> None:
    notify(s3, bucket, name)
    etag = s3.put_object(Bucket=bucket, Key=key, Body=b"xyz")["ETag"]
    [record] = records(sqs, queue)
    assert (record["eventName"], record["eventSource"], record["awsRegion"]) == (
        "ObjectCreated:Put",
        "aws:s3",
        "us-east-1",
    )
    assert record["s3"]["bucket"]["name"] == bucket
    s3_object = record["s3"]["object"]
    assert s3_object["key"] == encoded
    assert unquote_plus(s3_object["key"]) == key
    assert (s3_object["size"], s3_object["eTag"]) == (3, etag.strip('"'))
    assert "versionId" not in s3_object


def test_sequencers_grow_and_versions_are_named(s3: Any, sqs: Any, bucket: str, name: str, queue: str) -> None:
    s3.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})
    notify(s3, bucket, name)
    versions = [s3.put_object(Bucket=bucket, Key="k", Body=bytes([n]))["VersionId"] for n in range(5)]
    objects = [record["s3"]["object"] for record in records(sqs, queue)]
    assert [each["versionId"] for each in objects] == versions
    sequencers = [each["sequencer"] for each in objects]
    assert sequencers == sorted(set(sequencers))
    assert all(int(each, 16) for each in sequencers)


def test_each_way_to_create_an_object_is_one_event(s3: Any, sqs: Any, bucket: str, name: str, queue: str) -> None:
    notify(s3, bucket, name, "s3:ObjectCreated:*", "s3:ObjectTagging:*", "s3:ObjectRemoved:*")
    s3.put_object(Bucket=bucket, Key="put", Body=b"x", Tagging="a=b")
    s3.copy_object(Bucket=bucket, Key="copy", CopySource={"Bucket": bucket, "Key": "put"})
    s3.upload_fileobj(io.BytesIO(b"x" * 9_000_000), bucket, "parts")
    s3.put_object_tagging(Bucket=bucket, Key="put", Tagging={"TagSet": [{"Key": "c", "Value": "d"}]})
    s3.delete_object(Bucket=bucket, Key="copy")
    seen = [(record["eventName"], record["s3"]["object"]["key"]) for record in records(sqs, queue)]
    assert seen == [
        ("ObjectCreated:Put", "put"),
        ("ObjectCreated:Copy", "copy"),
        ("ObjectCreated:CompleteMultipartUpload", "parts"),
        ("ObjectTagging:Put", "put"),
        ("ObjectRemoved:Delete", "copy"),
    ]


def test_prefix_and_suffix_choose_what_is_notified(s3: Any, sqs: Any, bucket: str, name: str, queue: str) -> None:
    rules = ({"Name": "prefix", "Value": "in/"}, {"Name": "suffix", "Value": ".jpg"})
    notify(s3, bucket, name, rules=rules)
    for key in ("in/a.jpg", "in/a.JPG", "out/a.jpg"):
        s3.put_object(Bucket=bucket, Key=key, Body=b"x")
    assert [record["s3"]["object"]["key"] for record in records(sqs, queue)] == ["in/a.jpg"]


@pytest.mark.parametrize("raw", ["false", "true"])
def test_sns_wraps_the_event_unless_delivery_is_raw(
    aws: LocalAws, s3: Any, sqs: Any, bucket: str, name: str, queue: str, raw: str
) -> None:
    sns = aws.client("sns")
    topic = sns.create_topic(Name=name)["TopicArn"]
    sns.subscribe(TopicArn=topic, Protocol="sqs", Endpoint=queue_arn(name), Attributes={"RawMessageDelivery": raw})
    configuration = {"TopicConfigurations": [{"TopicArn": topic, "Events": ["s3:ObjectCreated:*"]}]}
    s3.put_bucket_notification_configuration(Bucket=bucket, NotificationConfiguration=configuration)
    s3.put_object(Bucket=bucket, Key="a b.jpg", Body=b"x")
    test_event, event = bodies(sqs, queue)
    if raw == "false":
        assert (event["Type"], event["Subject"], event["TopicArn"]) == (
            "Notification",
            "Amazon S3 Notification",
            topic,
        )
        test_event, event = json.loads(test_event["Message"]), json.loads(event["Message"])
    assert test_event["Event"] == "s3:TestEvent"
    assert event["Records"][0]["s3"]["object"]["key"] == "a+b.jpg"


def test_event_bridge_sends_the_plain_key(aws: LocalAws, s3: Any, sqs: Any, bucket: str, name: str, queue: str) -> None:
    events = aws.client("events")
    pattern = {"source": ["aws.s3"], "detail-type": ["Object Created"], "detail": {"bucket": {"name": [bucket]}}}
    events.put_rule(Name=name, EventPattern=json.dumps(pattern))
    events.put_targets(Rule=name, Targets=[{"Id": "q", "Arn": queue_arn(name)}])
    s3.put_bucket_notification_configuration(Bucket=bucket, NotificationConfiguration={"EventBridgeConfiguration": {}})
    s3.put_object(Bucket=bucket, Key="é b+c.jpg", Body=b"xyz")
    s3.upload_fileobj(io.BytesIO(b"x" * 9_000_000), bucket, "parts")
    put, parts = bodies(sqs, queue)
    assert put["resources"] == [f"arn:aws:s3:::{bucket}"]
    assert put["detail"]["reason"] == "PutObject"
    assert put["detail"]["object"]["key"] == "é b+c.jpg"
    assert {"etag", "size", "sequencer"} <= put["detail"]["object"].keys()
    assert parts["detail"]["reason"] == "CompleteMultipartUpload"
    assert put["id"] != parts["id"]
    events.disable_rule(Name=name)
    s3.put_object(Bucket=bucket, Key="later", Body=b"x")
    assert bodies(sqs, queue) == []


def test_a_queue_deleted_later_loses_the_event_and_not_the_upload(
    s3: Any, sqs: Any, bucket: str, name: str, queue: str
) -> None:
    notify(s3, bucket, name)
    sqs.delete_queue(QueueUrl=queue)
    s3.put_object(Bucket=bucket, Key="k", Body=b"x")
    assert s3.head_object(Bucket=bucket, Key="k")["ContentLength"] == 1
