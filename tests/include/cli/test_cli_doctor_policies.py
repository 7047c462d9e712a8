"""Policies and notifications as people really write them, judged without AWS."""

from __future__ import annotations

import json
from typing import Any

import pytest

from include.cli.doctor_notifications import announces, keeps_quiet
from include.cli.doctor_policy import lets_s3_send
from tests.include.cli.aws_cli import call_of

QUEUE = "arn:aws:sqs:us-east-1:123456789012:uploads"
BUCKET = "arn:aws:s3:::inbox"
ACCOUNT = "123456789012"
URL = "https://sqs.us-east-1.amazonaws.com/123456789012/uploads"

ALLOWS: dict[str, Any] = {
    "Effect": "Allow",
    "Principal": {"Service": "s3.amazonaws.com"},
    "Action": "sqs:SendMessage",
    "Resource": QUEUE,
    "Condition": {"ArnLike": {"aws:SourceArn": "arn:aws:s3:*:*:inbox"}, "StringEquals": {"aws:SourceAccount": ACCOUNT}},
}
# AWS's own advice for queues: https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/sqs-security-best-practices.html
TLS_ONLY: dict[str, Any] = {
    "Effect": "Deny",
    "Principal": "*",
    "Action": "sqs:*",
    "Resource": QUEUE,
    "Condition": {"Bool": {"aws:SecureTransport": "false"}},
}


def judged(*statements: dict[str, Any]) -> str:
    policy = json.dumps({"Version": "2012-10-17", "Statement": list(statements)})
    found = lets_s3_send({"QueueArn": QUEUE, "Policy": policy}, queue_url=URL, bucket_arn=BUCKET, account=ACCOUNT)
    if found.mend:
        # What it says to type lets S3 send, whatever was there before.
        _, method, parameters = call_of(found.mend)
        assert (method, parameters["QueueUrl"]) == ("set_queue_attributes", URL)
        mended = {"QueueArn": QUEUE, **parameters["Attributes"]}
        assert lets_s3_send(mended, queue_url=URL, bucket_arn=BUCKET, account=ACCOUNT).result == "ok"
    return found.result


@pytest.mark.parametrize(
    ("changes", "result"),
    [
        ({}, "ok"),
        ({"Principal": {"Service": ["events.amazonaws.com", "s3.amazonaws.com"]}}, "ok"),
        ({"Action": ["SQS:SendMessage", "SQS:GetQueueUrl"]}, "ok"),
        ({"Action": "sqs:*", "Resource": "*"}, "ok"),
        ({"Action": "*", "Principal": "*"}, "ok"),
        ({"Condition": {"StringLike": {"AWS:SourceArn": ["arn:aws:s3:::other", "arn:aws:s3:::in*"]}}}, "ok"),
        ({"Condition": {"ArnEqualsIfExists": {"aws:SourceArn": BUCKET}}}, "ok"),
        ({"Condition": {"StringEquals": {"aws:SourceAccount": ACCOUNT}}}, "ok"),
        ({"Condition": {"Bool": {"aws:SecureTransport": "true"}}}, "warning"),
        ({"Resource": f"{QUEUE}-dead"}, "failed"),
        ({"Action": "sqs:ReceiveMessage"}, "failed"),
        ({"Principal": {"Service": "sns.amazonaws.com"}}, "failed"),
        ({"Principal": {"AWS": "arn:aws:iam::123456789012:root"}}, "failed"),
        ({"Condition": {"ArnEquals": {"aws:SourceArn": "arn:aws:s3:::inbox-2"}}}, "failed"),
        ({"Condition": {"ArnEquals": {"aws:SourceArn": BUCKET}, "StringEquals": {"aws:SourceAccount": "1"}}}, "failed"),
        ({"Condition": {}}, "warning"),
        ({"Principal": "*", "Condition": {}}, "warning"),
        ({"Condition": {"IpAddress": {"aws:SourceIp": "10.0.0.0/8"}}}, "warning"),
    ],
)
def test_a_statement_lets_s3_send_for_the_bucket_or_not(changes: dict[str, Any], result: str) -> None:
    assert (
        judged({name: value for name, value in (ALLOWS | changes).items() if value != {} or name == "Condition"})
        == result
    )


@pytest.mark.parametrize(
    ("other", "result"),
    [
        (TLS_ONLY, "ok"),
        (TLS_ONLY | {"Condition": {}}, "failed"),
        (TLS_ONLY | {"Condition": {"StringNotEquals": {"aws:PrincipalAccount": ACCOUNT}}}, "warning"),
        (TLS_ONLY | {"Condition": {}, "Action": "sqs:DeleteQueue"}, "ok"),
        (TLS_ONLY | {"Condition": {}, "Principal": {"AWS": "arn:aws:iam::1:root"}}, "ok"),
        ({"Effect": "Deny", "NotPrincipal": {"AWS": "x"}, "Action": "sqs:*", "Resource": QUEUE}, "warning"),
        ({"Effect": "Deny", "Principal": "*", "NotAction": "sqs:SendMessage", "Resource": QUEUE}, "ok"),
        ({"Effect": "Deny", "Principal": "*", "NotAction": "sqs:GetQueueUrl", "Resource": QUEUE}, "failed"),
    ],
)
def test_another_statement_may_deny_it(other: dict[str, Any], result: str) -> None:
    assert judged(other, ALLOWS) == result


def test_one_statement_need_not_be_a_list() -> None:
    policy = json.dumps({"Statement": ALLOWS})
    found = lets_s3_send({"QueueArn": QUEUE, "Policy": policy}, queue_url=URL, bucket_arn=BUCKET, account=ACCOUNT)
    assert found.result == "ok"


def test_mending_keeps_what_lets_others_send() -> None:
    mine = {
        "Effect": "Allow",
        "Principal": {"AWS": "arn:aws:iam::123456789012:role/x"},
        "Action": "sqs:*",
        "Resource": QUEUE,
    }
    attributes = {"QueueArn": QUEUE, "Policy": json.dumps({"Id": "ours", "Statement": [mine]})}
    found = lets_s3_send(attributes, queue_url=URL, bucket_arn=BUCKET, account=ACCOUNT)
    policy = json.loads(call_of(found.mend)[2]["Attributes"]["Policy"])
    assert (policy["Id"], policy["Statement"][0], len(policy["Statement"])) == ("ours", mine, 2)


def configured(*events: str, arn: str = QUEUE, **rules: str) -> dict[str, Any]:
    filters = [{"Name": name, "Value": value} for name, value in rules.items()]
    return {"Id": "x", "QueueArn": arn, "Events": list(events), "Filter": {"Key": {"FilterRules": filters}}}


CREATED = "s3:ObjectCreated:*"
EACH = [f"s3:ObjectCreated:{how}" for how in ("Put", "Post", "Copy", "CompleteMultipartUpload")]


@pytest.mark.parametrize(
    ("configuration", "result"),
    [
        ({"QueueConfigurations": [configured(CREATED)]}, "ok"),
        ({"QueueConfigurations": [configured(*EACH, "s3:ObjectRestore:Completed")]}, "ok"),
        ({"QueueConfigurations": [configured(*EACH[:3])]}, "failed"),
        ({"QueueConfigurations": [configured(CREATED, prefix="", suffix="")]}, "ok"),
        ({"QueueConfigurations": [configured(CREATED, Suffix=".jpg"), configured(CREATED, Suffix=".png")]}, "failed"),
        ({"QueueConfigurations": [configured(CREATED, Prefix="a/"), configured(CREATED, Prefix="b/")]}, "warning"),
        ({"QueueConfigurations": [configured(CREATED, Prefix="a/", Suffix=".jpg")]}, "failed"),
        ({"QueueConfigurations": [configured(CREATED, arn=f"{QUEUE}-2")]}, "failed"),
        ({"EventBridgeConfiguration": {}}, "not tried"),
        ({"TopicConfigurations": [{"TopicArn": "arn:aws:sns:us-east-1:1:t", "Events": [CREATED]}]}, "not tried"),
        ({"LambdaFunctionConfigurations": [{"LambdaFunctionArn": "x", "Events": [CREATED]}]}, "failed"),
        ({}, "failed"),
    ],
)
def test_every_upload_is_announced_or_not(configuration: dict[str, Any], result: str) -> None:
    found = announces(configuration, bucket="inbox", queue_arn=QUEUE)
    assert found.result == result
    if found.mend:
        _, method, parameters = call_of(found.mend)
        assert (method, parameters["Bucket"]) == ("put_bucket_notification_configuration", "inbox")
        mended = parameters["NotificationConfiguration"]
        assert announces(mended, bucket="inbox", queue_arn=QUEUE).result == "ok"
        others = {name: value for name, value in configuration.items() if name != "QueueConfigurations"}
        assert others.items() <= mended.items()


def test_results_may_be_announced_elsewhere() -> None:
    elsewhere = {"QueueConfigurations": [configured(CREATED, arn=f"{QUEUE}-2")]}
    assert keeps_quiet(elsewhere, bucket="final", queue_arn=QUEUE).result == "ok"
    both = {"QueueConfigurations": [*elsewhere["QueueConfigurations"], configured("s3:ObjectRemoved:*")]}
    found = keeps_quiet(both, bucket="final", queue_arn=QUEUE)
    assert found.result == "failed"
    assert call_of(found.mend)[2]["NotificationConfiguration"] == elsewhere
