"""Faults that a test sets, as clients meet them."""

from __future__ import annotations

import time
import urllib.error
import urllib.request
from typing import Any

import pytest
from botocore.exceptions import ClientError, ConnectionClosedError, ReadTimeoutError

from local_aws.process import LocalAws, LocalAwsError
from tests.local_aws import drawings
from tests.local_aws.models import Model, status, wait_for

ONCE = {"total_max_attempts": 1}


@pytest.fixture
def s3(aws: LocalAws) -> Any:
    return aws.client("s3", retries=ONCE)


@pytest.fixture
def sqs(aws: LocalAws) -> Any:
    return aws.client("sqs", retries=ONCE)


@pytest.fixture
def rekognition(aws: LocalAws) -> Any:
    return aws.client("rekognition", retries=ONCE)


@pytest.fixture
def queue(sqs: Any, name: str) -> str:
    return str(sqs.create_queue(QueueName=name)["QueueUrl"])


def error_of(call: Any, **arguments: Any) -> tuple[str, int]:
    """(code, HTTP status) of the error that a call ends with."""
    with pytest.raises(ClientError) as caught:
        call(**arguments)
    response: Any = caught.value.response
    return response["Error"]["Code"], response["ResponseMetadata"]["HTTPStatusCode"]


def outcomes(call: Any, count: int, **arguments: Any) -> str:
    """One letter a call: `x` refused, `.` not."""
    letters = []
    for _ in range(count):
        try:
            call(**arguments)
            letters.append(".")
        except ClientError:
            letters.append("x")
    return "".join(letters)


def keys(s3: Any, bucket: str) -> list[str]:
    return [each["Key"] for each in s3.list_objects_v2(Bucket=bucket).get("Contents", [])]


def bodies(sqs: Any, queue: str, **more: Any) -> list[str]:
    messages = sqs.receive_message(QueueUrl=queue, **{"MaxNumberOfMessages": 10, **more}).get("Messages", [])
    return [message["Body"] for message in messages]


@pytest.mark.parametrize(
    ("fault", "expected"),
    [
        ({"error": "SlowDown"}, ("SlowDown", 503)),
        ({"error": "InternalError"}, ("InternalError", 500)),
        ({"error": "ExpiredToken"}, ("ExpiredToken", 400)),
        ({"error": "AccessDenied"}, ("AccessDenied", 403)),
        ({"error": "RequestTimeout", "status": 408}, ("RequestTimeout", 408)),
    ],
)
def test_s3_refuses_with_the_code_and_does_nothing(
    aws: LocalAws, s3: Any, bucket: str, fault: dict[str, Any], expected: tuple[str, int]
) -> None:
    aws.add_fault(service="s3", operation="PutObject", times=1, message="a < b & c", **fault)
    assert error_of(s3.put_object, Bucket=bucket, Key="k", Body=b"1") == expected
    assert keys(s3, bucket) == []
    s3.put_object(Bucket=bucket, Key="k", Body=b"1")


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        ("ThrottlingException", ("ThrottlingException", 500)),
        ("ExpiredTokenException", ("ExpiredTokenException", 400)),
        ("AccessDeniedException", ("AccessDeniedException", 400)),
        ("InternalServerError", ("InternalServerError", 500)),
    ],
)
def test_rekognition_refuses_with_the_code(
    aws: LocalAws, rekognition: Any, code: str, expected: tuple[str, int]
) -> None:
    aws.add_fault(service="rekognition", operation="DescribeProjects", error=code)
    assert error_of(rekognition.describe_projects) == expected


@pytest.mark.parametrize(
    ("code", "reported"),
    [
        ("ExpiredTokenException", "ExpiredTokenException"),
        ("RequestThrottled", "RequestThrottled"),
        ("QueueDoesNotExist", "AWS.SimpleQueueService.NonExistentQueue"),
    ],
)
def test_sqs_refuses_with_the_code_that_botocore_reports(
    aws: LocalAws, sqs: Any, queue: str, code: str, reported: str
) -> None:
    aws.add_fault(service="sqs", operation="SendMessage", error=code)
    assert error_of(sqs.send_message, QueueUrl=queue, MessageBody="m") == (reported, 400)


def test_a_refused_head_has_no_code_but_its_status(aws: LocalAws, s3: Any, bucket: str) -> None:
    aws.add_fault(service="s3", operation="HeadObject", error="SlowDown")
    assert error_of(s3.head_object, Bucket=bucket, Key="k") == ("503", 503)


def test_a_copy_can_fail_with_200(aws: LocalAws, s3: Any, bucket: str) -> None:
    s3.put_object(Bucket=bucket, Key="a", Body=b"1")
    aws.add_fault(service="s3", operation="CopyObject", error="InternalError", status=200)
    code, _ = error_of(s3.copy_object, Bucket=bucket, Key="b", CopySource={"Bucket": bucket, "Key": "a"})
    assert code == "InternalError"
    assert keys(s3, bucket) == ["a"]


def test_every_s3_operation_goes_by_its_name(aws: LocalAws, s3: Any, bucket: str) -> None:
    s3.put_object(Bucket=bucket, Key="a/b c", Body=b"1")
    upload = s3.create_multipart_upload(Bucket=bucket, Key="m")["UploadId"]
    one = {"Bucket": bucket, "Key": "a/b c"}
    part = {"Bucket": bucket, "Key": "m", "UploadId": upload}
    calls: dict[str, tuple[Any, dict[str, Any]]] = {
        "AbortMultipartUpload": (s3.abort_multipart_upload, part),
        "CompleteMultipartUpload": (s3.complete_multipart_upload, part),
        "CopyObject": (s3.copy_object, {**one, "CopySource": one}),
        "CreateMultipartUpload": (s3.create_multipart_upload, one),
        "DeleteObject": (s3.delete_object, one),
        "DeleteObjects": (s3.delete_objects, {"Bucket": bucket, "Delete": {"Objects": [{"Key": "x"}]}}),
        "GetObject": (s3.get_object, {**one, "Range": "bytes=0-0"}),
        "GetObjectTagging": (s3.get_object_tagging, one),
        "HeadBucket": (s3.head_bucket, {"Bucket": bucket}),
        "HeadObject": (s3.head_object, one),
        "ListBuckets": (s3.list_buckets, {}),
        "ListObjects": (s3.list_objects, {"Bucket": bucket, "Prefix": "a"}),
        "ListObjectsV2": (s3.list_objects_v2, {"Bucket": bucket, "Prefix": "a"}),
        "ListObjectVersions": (s3.list_object_versions, {"Bucket": bucket}),
        "ListParts": (s3.list_parts, part),
        "PutBucketNotificationConfiguration": (
            s3.put_bucket_notification_configuration,
            {"Bucket": bucket, "NotificationConfiguration": {}},
        ),
        "PutObject": (s3.put_object, {**one, "Body": b"2", "IfNoneMatch": "*"}),
        "UploadPart": (s3.upload_part, {**part, "PartNumber": 1, "Body": b"3"}),
        "UploadPartCopy": (s3.upload_part_copy, {**part, "PartNumber": 1, "CopySource": one}),
    }
    for operation in calls:
        aws.add_fault(service="s3", operation=operation, error="AccessDenied", times=1)
    for call, arguments in calls.values():
        error_of(call, **arguments)
    assert {fault["operation"]: fault["struck"] for fault in aws.faults()} == dict.fromkeys(calls, 1)
    assert keys(s3, bucket) == ["a/b c"]


def test_a_fault_can_be_limited_to_some_keys(aws: LocalAws, s3: Any, bucket: str) -> None:
    aws.add_fault(service="s3", operation="*", key=r"^batches/.*\.json$", error="SlowDown")
    s3.put_object(Bucket=bucket, Key="batches/1.txt", Body=b"")
    s3.put_object(Bucket=bucket, Key="x/batches/1.json", Body=b"")
    assert error_of(s3.put_object, Bucket=bucket, Key="batches/é 1.json", Body=b"")[0] == "SlowDown"
    assert [fault["matched"] for fault in aws.faults()] == [1]


def test_a_presigned_url_meets_faults_too(aws: LocalAws, s3: Any, bucket: str) -> None:
    s3.put_object(Bucket=bucket, Key="k", Body=b"1")
    aws.add_fault(service="s3", operation="GetObject", error="AccessDenied")
    with pytest.raises(urllib.error.HTTPError, match="403"):
        urllib.request.urlopen(s3.generate_presigned_url("get_object", Params={"Bucket": bucket, "Key": "k"}))


def test_a_fault_lets_some_pass_and_then_strikes_so_many_times(aws: LocalAws, s3: Any, bucket: str) -> None:
    aws.add_fault(service="s3", operation="HeadBucket", error="SlowDown", skip=2, times=3)
    assert outcomes(s3.head_bucket, 8, Bucket=bucket) == "..xxx..."
    [fault] = aws.faults()
    assert (fault["matched"], fault["struck"]) == (8, 3)


def test_the_same_seed_strikes_the_same_requests(aws: LocalAws, s3: Any, bucket: str) -> None:
    def play(seed: int) -> str:
        aws.clear_faults(seed=seed)
        aws.add_fault(service="s3", operation="HeadBucket", error="SlowDown", rate=0.5)
        # Another operation's fault takes nothing away from this one's chances.
        aws.add_fault(service="s3", operation="ListObjectsV2", error="SlowDown", rate=0.5)
        letters = ""
        for _ in range(30):
            letters += outcomes(s3.head_bucket, 1, Bucket=bucket)
            outcomes(s3.list_objects_v2, seed % 2, Bucket=bucket)
        return letters

    first = play(7)
    assert 5 < first.count("x") < 25
    assert play(7) == first
    assert play(8) != first


def test_faults_of_one_operation_have_their_own_chances_and_the_first_has_a_request(
    aws: LocalAws, s3: Any, bucket: str
) -> None:
    aws.add_fault(service="s3", operation="HeadBucket", error="SlowDown", times=1)
    aws.add_fault(service="s3", operation="*", error="InternalError", times=2)
    codes = [error_of(s3.head_bucket, Bucket=bucket)[0] for _ in range(3)]
    assert codes == ["503", "500", "500"]
    assert [fault["matched"] for fault in aws.faults()] == [3, 2]


def test_a_storm_refuses_every_call_until_it_is_over(aws: LocalAws, s3: Any, bucket: str) -> None:
    aws.add_fault(service="s3", operation="HeadBucket", error="SlowDown", lasts_seconds=1)
    assert outcomes(s3.head_bucket, 3, Bucket=bucket) == "xxx"
    wait_for(lambda: outcomes(s3.head_bucket, 1, Bucket=bucket) == ".")
    assert outcomes(s3.head_bucket, 3, Bucket=bucket) == "..."


def test_an_answer_takes_as_long_as_told(aws: LocalAws, s3: Any, bucket: str) -> None:
    aws.add_fault(service="s3", operation="PutObject", delay_seconds=0.3, times=1)
    began = time.monotonic()
    s3.put_object(Bucket=bucket, Key="k", Body=b"1")
    assert time.monotonic() - began >= 0.3


def test_what_is_delayed_happens_though_the_client_has_given_up(aws: LocalAws, s3: Any, bucket: str) -> None:
    aws.add_fault(service="s3", operation="PutObject", delay_seconds=1.5)
    impatient = aws.client("s3", retries=ONCE, read_timeout=0.2)
    with pytest.raises(ReadTimeoutError):
        impatient.put_object(Bucket=bucket, Key="k", Body=b"1")
    assert keys(s3, bucket) == []
    wait_for(lambda: keys(s3, bucket) == ["k"])


def test_a_connection_is_cut_before_anything_happened(aws: LocalAws, s3: Any, bucket: str) -> None:
    aws.add_fault(service="s3", operation="PutObject", drop="before", times=1)
    with pytest.raises(ConnectionClosedError):
        s3.put_object(Bucket=bucket, Key="k", Body=b"1")
    assert keys(s3, bucket) == []


def test_a_connection_is_cut_after_everything_happened(aws: LocalAws, s3: Any, bucket: str) -> None:
    aws.add_fault(service="s3", operation="PutObject", drop="after", times=1)
    with pytest.raises(ConnectionClosedError):
        s3.put_object(Bucket=bucket, Key="k", Body=b"1")
    assert keys(s3, bucket) == ["k"]


def test_a_retry_after_a_lost_answer_meets_its_own_effect(aws: LocalAws, s3: Any, bucket: str) -> None:
    aws.add_fault(service="s3", operation="PutObject", drop="after", times=1)
    retrying = aws.client("s3", retries={"total_max_attempts": 3})
    assert error_of(retrying.put_object, Bucket=bucket, Key="k", Body=b"1", IfNoneMatch="*") == (
        "PreconditionFailed",
        412,
    )


def test_received_messages_are_in_flight_though_the_answer_is_lost(aws: LocalAws, sqs: Any, queue: str) -> None:
    sqs.send_message(QueueUrl=queue, MessageBody="m")
    aws.add_fault(service="sqs", operation="ReceiveMessage", drop="after", times=1)
    with pytest.raises(ConnectionClosedError):
        sqs.receive_message(QueueUrl=queue, WaitTimeSeconds=1)
    assert bodies(sqs, queue) == []


def test_some_entries_of_a_sent_batch_fail_and_the_rest_arrive(aws: LocalAws, sqs: Any, queue: str) -> None:
    aws.add_fault(service="sqs", operation="SendMessageBatch", failed_entries=2, error="RequestThrottled", times=1)
    entries = [{"Id": each, "MessageBody": each} for each in "abcd"]
    answer = sqs.send_message_batch(QueueUrl=queue, Entries=entries)
    assert [each["Id"] for each in answer["Successful"]] == ["c", "d"]
    assert [(each["Id"], each["Code"], each["SenderFault"]) for each in answer["Failed"]] == [
        ("a", "RequestThrottled", False),
        ("b", "RequestThrottled", False),
    ]
    assert bodies(sqs, queue) == ["c", "d"]


def test_all_entries_of_a_delete_may_fail(aws: LocalAws, sqs: Any, queue: str) -> None:
    sqs.send_message(QueueUrl=queue, MessageBody="m")
    [message] = sqs.receive_message(QueueUrl=queue, VisibilityTimeout=1)["Messages"]
    aws.add_fault(service="sqs", operation="DeleteMessageBatch", failed_entries=10)
    entries = [{"Id": "a", "ReceiptHandle": message["ReceiptHandle"]}]
    answer = sqs.delete_message_batch(QueueUrl=queue, Entries=entries)
    assert ([each["Code"] for each in answer["Failed"]], answer.get("Successful", [])) == (["InternalError"], [])
    assert bodies(sqs, queue, WaitTimeSeconds=3) == ["m"]


def test_a_batch_that_sqs_refuses_is_refused_whatever_fails_in_it(aws: LocalAws, sqs: Any) -> None:
    aws.add_fault(service="sqs", operation="SendMessageBatch", failed_entries=1)
    entries = [{"Id": each, "MessageBody": each} for each in "ab"]
    code, _ = error_of(sqs.send_message_batch, QueueUrl=f"{aws.endpoint_url}/123456789012/none", Entries=entries)
    assert code == "AWS.SimpleQueueService.NonExistentQueue"


def test_a_message_is_delivered_twice_though_it_is_invisible(aws: LocalAws, sqs: Any, queue: str) -> None:
    sqs.send_message(QueueUrl=queue, MessageBody="m")
    aws.add_fault(service="sqs", operation="ReceiveMessage", redelivered_after_seconds=0.2, times=1)
    assert bodies(sqs, queue) == ["m"]
    assert bodies(sqs, queue, WaitTimeSeconds=5) == ["m"]
    assert [(fault["matched"], fault["struck"]) for fault in aws.faults()] == [(2, 1)]


def test_a_deleted_message_is_delivered_again_with_its_id(aws: LocalAws, sqs: Any, queue: str) -> None:
    sent = sqs.send_message(QueueUrl=queue, MessageBody="m")["MessageId"]
    aws.add_fault(service="sqs", operation="ReceiveMessage", redelivered_after_seconds=0.2, times=1)
    [message] = sqs.receive_message(QueueUrl=queue)["Messages"]
    sqs.delete_message(QueueUrl=queue, ReceiptHandle=message["ReceiptHandle"])
    [again] = sqs.receive_message(QueueUrl=queue, WaitTimeSeconds=5)["Messages"]
    assert (again["MessageId"], again["Body"]) == (sent, "m")
    sqs.delete_message(QueueUrl=queue, ReceiptHandle=again["ReceiptHandle"])
    assert count(sqs, queue) == 0


def count(sqs: Any, queue: str) -> int:
    """Messages in the queue, visible or not."""
    names = [f"ApproximateNumberOfMessages{suffix}" for suffix in ("", "NotVisible", "Delayed")]
    attributes = sqs.get_queue_attributes(QueueUrl=queue, AttributeNames=names)["Attributes"]
    return sum(int(attributes[name]) for name in names)


def test_a_late_message_becomes_visible_when_its_time_has_come(aws: LocalAws, sqs: Any, queue: str) -> None:
    aws.add_fault(service="sqs", operation="SendMessage", visible_after_seconds=2, times=1)
    for body in ("late", "in time"):
        sqs.send_message(QueueUrl=queue, MessageBody=body)
    assert bodies(sqs, queue) == ["in time"]
    assert bodies(sqs, queue, WaitTimeSeconds=5) == ["late"]


def test_an_s3_event_can_be_late(aws: LocalAws, s3: Any, sqs: Any, bucket: str, queue: str) -> None:
    arn = sqs.get_queue_attributes(QueueUrl=queue, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
    configuration = {"QueueConfigurations": [{"QueueArn": arn, "Events": ["s3:ObjectCreated:*"]}]}
    s3.put_bucket_notification_configuration(Bucket=bucket, NotificationConfiguration=configuration)
    assert len(bodies(sqs, queue)) == 1  # the test event
    aws.add_fault(service="sqs", operation="SendMessage", visible_after_seconds=2)
    s3.put_object(Bucket=bucket, Key="k", Body=b"1")
    assert bodies(sqs, queue) == []
    [event] = bodies(sqs, queue, WaitTimeSeconds=5)
    assert '"key": "k"' in event


def test_a_stop_is_throttled_ten_times_and_then_accepted(aws: LocalAws, rekognition: Any, running: Model) -> None:
    aws.add_fault(service="rekognition", operation="StopProjectVersion", error="ThrottlingException", times=10)
    stop = {"ProjectVersionArn": running.version_arn}
    assert outcomes(rekognition.stop_project_version, 11, **stop) == "xxxxxxxxxx."
    wait_for(lambda: status(rekognition, running) == "STOPPED")


def test_a_model_starts_though_the_answer_was_lost(aws: LocalAws, rekognition: Any, model: Model) -> None:
    aws.add_fault(service="rekognition", operation="StartProjectVersion", drop="after", times=1)
    with pytest.raises(ConnectionClosedError):
        rekognition.start_project_version(ProjectVersionArn=model.version_arn, MinInferenceUnits=1)
    wait_for(lambda: status(rekognition, model) == "RUNNING")


def test_a_model_stops_by_itself_after_so_many_calls(aws: LocalAws, rekognition: Any, running: Model) -> None:
    answer = aws.set_model(running.version_arn, stops_after_calls=2)
    assert answer["stops_after_calls"] == 2
    image = {"Bytes": drawings.scene("ball", 1)[0]}
    arn = running.version_arn
    assert outcomes(rekognition.detect_custom_labels, 2, ProjectVersionArn=arn, Image=image) == ".."
    code, _ = error_of(rekognition.detect_custom_labels, ProjectVersionArn=arn, Image=image)
    assert code == "ResourceNotReadyException"
    wait_for(lambda: status(rekognition, running) == "STOPPED")
    rekognition.start_project_version(ProjectVersionArn=arn, MinInferenceUnits=1)
    wait_for(lambda: status(rekognition, running) == "RUNNING")
    assert outcomes(rekognition.detect_custom_labels, 3, ProjectVersionArn=arn, Image=image) == "..."


def test_a_describe_lags_behind_what_a_model_does(aws: LocalAws, rekognition: Any, model: Model) -> None:
    aws.set_model(model.version_arn, status="STOPPED")
    wait_for(lambda: status(rekognition, model) == "STOPPED")
    aws.settings(describe_lag=2)
    rekognition.start_project_version(ProjectVersionArn=model.version_arn, MinInferenceUnits=1)
    image = {"Bytes": drawings.scene("ball", 1)[0]}
    arguments = {"ProjectVersionArn": model.version_arn, "Image": image}
    wait_for(lambda: outcomes(rekognition.detect_custom_labels, 1, **arguments) == ".")
    assert status(rekognition, model) != "RUNNING"
    wait_for(lambda: status(rekognition, model) == "RUNNING")


@pytest.mark.parametrize("calls", [0, 1.5, "3", True])
def test_a_model_cannot_stop_after_no_calls(aws: LocalAws, model: Model, calls: Any) -> None:
    with pytest.raises(LocalAwsError, match="stops_after_calls"):
        aws.set_model(model.version_arn, stops_after_calls=calls)


@pytest.mark.parametrize(
    ("fault", "why"),
    [
        ({}, "service: '' is none of s3, sqs, rekognition, athena"),
        ({"service": "ec2", "error": "X"}, "service: 'ec2' is none of"),
        ({"service": "s3", "operation": "PutObjekt", "error": "X"}, "operation: s3 has no PutObjekt"),
        ({"service": "s3"}, "one effect, not none"),
        ({"service": "s3", "error": "X", "drop": "after"}, "one effect, not error, drop"),
        ({"service": "s3", "error": "X", "colour": 1}, "colour: a fault has service, operation"),
        ({"service": "s3", "error": 7}, "error: 7 is not a string"),
        ({"service": "s3", "error": "X", "rate": 1.1}, "rate: 1.1 is not a number from 0 to 1"),
        ({"service": "s3", "error": "X", "times": 0}, "times: 0 is not an integer from 1"),
        ({"service": "s3", "error": "X", "skip": 1.5}, "skip: 1.5 is not an integer"),
        ({"service": "s3", "error": "X", "lasts_seconds": True}, "lasts_seconds: True is not a number"),
        ({"service": "s3", "error": "X", "key": "("}, "key: .* is no regular expression"),
        ({"service": "sqs", "error": "X", "key": "k"}, "key: only requests of s3"),
        ({"service": "sqs", "error": "X", "status": 200}, "status: 200 is neither"),
        ({"service": "s3", "drop": "after", "status": 500}, "status: goes with error"),
        ({"service": "s3", "drop": "between"}, "drop: 'between' is neither before nor after"),
        ({"service": "sqs", "failed_entries": 1}, "failed_entries: needs sqs and one of"),
        ({"service": "sqs", "visible_after_seconds": 1}, "visible_after_seconds: needs sqs SendMessage"),
        ({"service": "sqs", "redelivered_after_seconds": 1}, "redelivered_after_seconds: needs sqs ReceiveMessage"),
    ],
)
def test_a_fault_that_makes_no_sense_is_refused(aws: LocalAws, fault: dict[str, Any], why: str) -> None:
    with pytest.raises(LocalAwsError, match=why):
        aws.add_fault(**fault)
    assert aws.faults() == []


def test_everything_that_is_wrong_with_a_fault_is_said_at_once(aws: LocalAws) -> None:
    with pytest.raises(LocalAwsError, match="rate: .*; times: "):
        aws.add_fault(service="s3", error="X", rate=-1, times=-1)


def test_faults_are_listed_with_what_was_said_of_them(aws: LocalAws) -> None:
    added = aws.add_fault(service="s3", operation="PutObject", error="SlowDown", rate=0.5)
    listed = {"service": "s3", "operation": "PutObject", "error": "SlowDown", "rate": 0.5}
    assert added == {"number": 1, **listed, "matched": 0, "struck": 0}
    assert aws.faults() == [added]


def test_cleared_faults_strike_no_more(aws: LocalAws, s3: Any, bucket: str) -> None:
    aws.add_fault(service="s3", error="SlowDown")
    error_of(s3.head_bucket, Bucket=bucket)
    aws.clear_faults()
    s3.head_bucket(Bucket=bucket)
    assert aws.faults() == []


def test_the_admin_endpoint_has_no_faults(aws: LocalAws) -> None:
    for service in ("s3", "sqs", "rekognition"):
        aws.add_fault(service=service, drop="before")
    assert len(aws.faults()) == 3


def test_a_reset_clears_the_faults_and_a_restart_forgets_them(tmp_path: Any) -> None:
    with LocalAws(state_dir=tmp_path) as aws:
        aws.add_fault(service="s3", error="SlowDown")
        aws.reset()
        assert aws.faults() == []
        aws.client("s3").create_bucket(Bucket="inbox")
        aws.add_fault(service="s3", error="SlowDown")
    with LocalAws(state_dir=tmp_path) as aws:
        assert aws.faults() == []
        aws.client("s3").head_bucket(Bucket="inbox")
