"""SQS as clients see it: the documented semantics of standard queues."""

from __future__ import annotations

import hashlib
import json
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest
from botocore.exceptions import ClientError

from local_aws.process import LocalAws


@pytest.fixture
def sqs(aws: LocalAws) -> Any:
    return aws.client("sqs", retries={"total_max_attempts": 1}, parameter_validation=False)


@pytest.fixture
def queue(sqs: Any, name: str) -> str:
    return str(sqs.create_queue(QueueName=name)["QueueUrl"])


def arn(sqs: Any, queue: str) -> str:
    return str(sqs.get_queue_attributes(QueueUrl=queue, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"])


def counts(sqs: Any, queue: str) -> tuple[int, int, int]:
    """(visible, in flight, delayed)."""
    names = [f"ApproximateNumberOfMessages{suffix}" for suffix in ("", "NotVisible", "Delayed")]
    attributes = sqs.get_queue_attributes(QueueUrl=queue, AttributeNames=names)["Attributes"]
    visible, in_flight, delayed = (int(attributes[name]) for name in names)
    return visible, in_flight, delayed


def receive(sqs: Any, queue: str, **more: Any) -> list[Any]:
    return list(sqs.receive_message(QueueUrl=queue, **{"MaxNumberOfMessages": 10, **more}).get("Messages", []))


def code(error: pytest.ExceptionInfo[ClientError]) -> str:
    return str(error.value.response["Error"]["Code"])


def test_a_message_arrives_with_its_digests_and_attributes(sqs: Any, queue: str) -> None:
    sent = sqs.send_message(
        QueueUrl=queue,
        MessageBody="héllo",
        MessageAttributes={
            "n": {"DataType": "Number", "StringValue": "7"},
            "b": {"DataType": "Binary", "BinaryValue": b"\x00\xff"},
        },
    )
    [message] = receive(sqs, queue, MessageSystemAttributeNames=["All"], MessageAttributeNames=["b"])
    assert message["MessageId"] == sent["MessageId"]
    assert message["MD5OfBody"] == sent["MD5OfMessageBody"] == hashlib.md5("héllo".encode()).hexdigest()
    assert message["MessageAttributes"] == {"b": {"DataType": "Binary", "BinaryValue": b"\x00\xff"}}
    assert message["Attributes"]["ApproximateReceiveCount"] == "1"
    assert abs(int(message["Attributes"]["SentTimestamp"]) / 1000 - time.time()) < 5


def test_message_attributes_have_the_documented_digest(sqs: Any, queue: str) -> None:
    sent = sqs.send_message(
        QueueUrl=queue, MessageBody="x", MessageAttributes={"a": {"DataType": "String", "StringValue": "b"}}
    )
    encoded = b"\0\0\0\x01a" + b"\0\0\0\x06String" + b"\x01" + b"\0\0\0\x01b"
    assert sent["MD5OfMessageAttributes"] == hashlib.md5(encoded).hexdigest()


def test_a_received_message_is_hidden_until_its_timeout_and_counts_its_receives(sqs: Any, queue: str) -> None:
    sqs.send_message(QueueUrl=queue, MessageBody="x")
    assert receive(sqs, queue, VisibilityTimeout=1)
    assert counts(sqs, queue) == (0, 1, 0)
    assert receive(sqs, queue) == []
    [again] = receive(sqs, queue, WaitTimeSeconds=3, AttributeNames=["ApproximateReceiveCount"])
    assert again["Attributes"]["ApproximateReceiveCount"] == "2"


def test_a_handle_deletes_after_its_timeout_but_not_after_a_later_receive(sqs: Any, queue: str) -> None:
    sqs.send_message(QueueUrl=queue, MessageBody="x")
    [first] = receive(sqs, queue, VisibilityTimeout=0)
    [second] = receive(sqs, queue, VisibilityTimeout=0)
    sqs.delete_message(QueueUrl=queue, ReceiptHandle=first["ReceiptHandle"])
    assert counts(sqs, queue) == (1, 0, 0)
    sqs.delete_message(QueueUrl=queue, ReceiptHandle=second["ReceiptHandle"])
    assert counts(sqs, queue) == (0, 0, 0)
    sqs.delete_message(QueueUrl=queue, ReceiptHandle=second["ReceiptHandle"])


def test_a_batch_reports_the_entries_that_failed_and_does_the_others(sqs: Any, queue: str) -> None:
    sqs.send_message_batch(QueueUrl=queue, Entries=[{"Id": str(n), "MessageBody": str(n)} for n in range(2)])
    handles = [message["ReceiptHandle"] for message in receive(sqs, queue)]
    entries = [{"Id": "good", "ReceiptHandle": handles[0]}, {"Id": "bad", "ReceiptHandle": "no handle"}]
    answer = sqs.delete_message_batch(QueueUrl=queue, Entries=entries)
    assert [entry["Id"] for entry in answer["Successful"]] == ["good"]
    [failed] = answer["Failed"]
    assert (failed["Id"], failed["Code"], failed["SenderFault"]) == ("bad", "ReceiptHandleIsInvalid", True)
    assert counts(sqs, queue) == (0, 1, 0)


@pytest.mark.parametrize(
    ("entries", "expected"),
    [
        ([], "AWS.SimpleQueueService.EmptyBatchRequest"),
        (
            [{"Id": str(n), "MessageBody": "x"} for n in range(11)],
            "AWS.SimpleQueueService.TooManyEntriesInBatchRequest",
        ),
        ([{"Id": "a", "MessageBody": "x"}] * 2, "AWS.SimpleQueueService.BatchEntryIdsNotDistinct"),
        ([{"Id": "a b", "MessageBody": "x"}], "AWS.SimpleQueueService.InvalidBatchEntryId"),
        (
            [{"Id": str(n), "MessageBody": "x" * 600_000} for n in range(2)],
            "AWS.SimpleQueueService.BatchRequestTooLong",
        ),
    ],
)
def test_a_malformed_batch_is_refused_whole(sqs: Any, queue: str, entries: list[Any], expected: str) -> None:
    with pytest.raises(ClientError) as error:
        sqs.send_message_batch(QueueUrl=queue, Entries=entries)
    assert code(error) == expected
    assert counts(sqs, queue) == (0, 0, 0)


def test_a_message_of_one_mebibyte_is_the_longest(sqs: Any, queue: str) -> None:
    sqs.send_message(QueueUrl=queue, MessageBody="x" * 1_048_576)
    with pytest.raises(ClientError) as error:
        sqs.send_message(QueueUrl=queue, MessageBody="x" * 1_048_577)
    assert code(error) == "InvalidParameterValue"
    sqs.set_queue_attributes(QueueUrl=queue, Attributes={"MaximumMessageSize": "1024"})
    with pytest.raises(ClientError, match="1024 bytes"):
        sqs.send_message(QueueUrl=queue, MessageBody="x" * 1_025)


def test_an_unknown_queue_is_the_exception_that_boto3_names(sqs: Any, queue: str) -> None:
    calls: list[Callable[[], Any]] = [
        lambda: sqs.get_queue_url(QueueName="nowhere"),
        lambda: sqs.receive_message(QueueUrl=f"{queue}-gone"),
        lambda: sqs.send_message(QueueUrl=f"{queue}-gone", MessageBody="x"),
    ]
    for call in calls:
        with pytest.raises(sqs.exceptions.QueueDoesNotExist) as error:
            call()
        assert code(error) == "AWS.SimpleQueueService.NonExistentQueue"


@pytest.mark.parametrize(
    "arguments", [{"MaxNumberOfMessages": 11}, {"WaitTimeSeconds": 21}, {"VisibilityTimeout": 43_201}]
)
def test_a_receive_out_of_range_is_refused(sqs: Any, queue: str, arguments: dict[str, int]) -> None:
    with pytest.raises(ClientError) as error:
        sqs.receive_message(QueueUrl=queue, **arguments)
    assert code(error) == "InvalidParameterValue"


def test_a_missing_parameter_is_named(sqs: Any) -> None:
    with pytest.raises(ClientError, match="parameter QueueUrl") as error:
        sqs.receive_message()
    assert code(error) == "MissingParameter"


def test_a_long_poll_returns_as_soon_as_a_message_arrives(sqs: Any, queue: str) -> None:
    timer = threading.Timer(0.3, lambda: sqs.send_message(QueueUrl=queue, MessageBody="x"))
    timer.start()
    started = time.monotonic()
    [message] = receive(sqs, queue, WaitTimeSeconds=10)
    assert message["Body"] == "x"
    assert 0.2 < time.monotonic() - started < 3
    timer.join()


def test_an_empty_long_poll_lasts_as_long_as_asked_or_as_the_queue_says(sqs: Any, queue: str) -> None:
    sqs.set_queue_attributes(QueueUrl=queue, Attributes={"ReceiveMessageWaitTimeSeconds": "1"})
    started = time.monotonic()
    assert receive(sqs, queue) == []
    assert 0.9 < time.monotonic() - started < 2
    started = time.monotonic()
    assert receive(sqs, queue, WaitTimeSeconds=0) == []
    assert time.monotonic() - started < 0.5


def test_visibility_can_be_given_back_and_only_in_flight(sqs: Any, queue: str) -> None:
    sqs.send_message(QueueUrl=queue, MessageBody="x")
    [message] = receive(sqs, queue)
    handle = message["ReceiptHandle"]
    sqs.change_message_visibility(QueueUrl=queue, ReceiptHandle=handle, VisibilityTimeout=0)
    assert counts(sqs, queue) == (1, 0, 0)
    with pytest.raises(sqs.exceptions.MessageNotInflight):
        sqs.change_message_visibility(QueueUrl=queue, ReceiptHandle=handle, VisibilityTimeout=30)
    [again] = receive(sqs, queue)
    entries = [{"Id": "a", "ReceiptHandle": again["ReceiptHandle"], "VisibilityTimeout": 100}]
    assert sqs.change_message_visibility_batch(QueueUrl=queue, Entries=entries)["Successful"] == [{"Id": "a"}]
    with pytest.raises(ClientError, match="beyond the limit"):
        sqs.change_message_visibility(QueueUrl=queue, ReceiptHandle=again["ReceiptHandle"], VisibilityTimeout=43_200)


def test_a_delayed_message_waits(sqs: Any, queue: str) -> None:
    sqs.send_message(QueueUrl=queue, MessageBody="x", DelaySeconds=1)
    assert counts(sqs, queue) == (0, 0, 1)
    assert receive(sqs, queue) == []
    assert len(receive(sqs, queue, WaitTimeSeconds=3)) == 1


def test_a_message_received_too_often_goes_to_the_dead_letter_queue_and_back(sqs: Any, queue: str, name: str) -> None:
    dead = sqs.create_queue(QueueName=f"{name}-dead")["QueueUrl"]
    policy = json.dumps({"deadLetterTargetArn": arn(sqs, dead), "maxReceiveCount": 2})
    sqs.set_queue_attributes(QueueUrl=queue, Attributes={"RedrivePolicy": policy})
    assert sqs.list_dead_letter_source_queues(QueueUrl=dead)["queueUrls"] == [queue]
    sent = sqs.send_message(QueueUrl=queue, MessageBody="poison")
    for _ in range(2):
        assert len(receive(sqs, queue, VisibilityTimeout=0)) == 1
    assert receive(sqs, queue) == []
    [message] = receive(sqs, dead, AttributeNames=["All"], VisibilityTimeout=0)
    assert message["MessageId"] == sent["MessageId"]
    assert message["Attributes"]["DeadLetterQueueSourceArn"] == arn(sqs, queue)

    sqs.start_message_move_task(SourceArn=arn(sqs, dead))
    [task] = sqs.list_message_move_tasks(SourceArn=arn(sqs, dead))["Results"]
    assert (task["Status"], task["ApproximateNumberOfMessagesMoved"]) == ("COMPLETED", 1)
    assert counts(sqs, dead) == (0, 0, 0)
    assert [each["Body"] for each in receive(sqs, queue)] == ["poison"]


def test_creating_a_queue_again_is_harmless_unless_its_attributes_differ(sqs: Any, queue: str, name: str) -> None:
    assert sqs.create_queue(QueueName=name)["QueueUrl"] == queue
    with pytest.raises(sqs.exceptions.QueueNameExists):
        sqs.create_queue(QueueName=name, Attributes={"VisibilityTimeout": "5"})


@pytest.mark.parametrize(
    ("attributes", "expected"),
    [
        ({"VisibilityTimeout": "43201"}, "InvalidAttributeValue"),
        ({"Colour": "red"}, "InvalidAttributeName"),
        ({"RedrivePolicy": "{}"}, "InvalidParameterValue"),
        ({"FifoQueue": "true"}, "AWS.SimpleQueueService.UnsupportedOperation"),
    ],
)
def test_attributes_that_sqs_does_not_take_are_refused(
    sqs: Any, name: str, attributes: dict[str, str], expected: str
) -> None:
    with pytest.raises(ClientError) as error:
        sqs.create_queue(QueueName=name, Attributes=attributes)
    assert code(error) == expected


def test_queues_are_listed_in_pages_and_tagged_and_purged_and_deleted(sqs: Any, queue: str, name: str) -> None:
    urls = [queue, *(sqs.create_queue(QueueName=f"{name}-{n}")["QueueUrl"] for n in range(3))]
    pages = sqs.get_paginator("list_queues").paginate(QueueNamePrefix=name, PaginationConfig={"PageSize": 2})
    assert [url for page in pages for url in page["QueueUrls"]] == sorted(urls)
    sqs.tag_queue(QueueUrl=queue, Tags={"a": "1", "b": "2"})
    sqs.untag_queue(QueueUrl=queue, TagKeys=["a"])
    assert sqs.list_queue_tags(QueueUrl=queue)["Tags"] == {"b": "2"}
    sqs.send_message(QueueUrl=queue, MessageBody="x")
    sqs.purge_queue(QueueUrl=queue)
    assert counts(sqs, queue) == (0, 0, 0)
    sqs.delete_queue(QueueUrl=queue)
    with pytest.raises(sqs.exceptions.QueueDoesNotExist):
        sqs.get_queue_url(QueueName=name)


def test_a_client_that_goes_away_takes_no_message_with_it(aws: LocalAws, sqs: Any, queue: str) -> None:
    impatient = aws.client("sqs", read_timeout=0.5, retries={"total_max_attempts": 1})
    with pytest.raises(Exception, match="timeout|timed out"):
        impatient.receive_message(QueueUrl=queue, WaitTimeSeconds=10)
    time.sleep(0.1)
    sqs.send_message(QueueUrl=queue, MessageBody="x")
    assert counts(sqs, queue) == (1, 0, 0)
