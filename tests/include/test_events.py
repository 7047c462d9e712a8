from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote_plus

import pytest

from include.events import Parsed, parse_body
from include.images import ImageRef
from tests.include.samples import AWKWARD_KEYS, INBOX

ETAG = "d41d8cd98f00b204e9800998ecf8427e"


def record(key: str = "photo.jpg", *, schema: str = "2.1", bucket: str = INBOX, **changes: Any) -> dict[str, Any]:
    """A record as S3 writes it (its key form-encoded); `changes` replace fields of the object, or of the record."""
    s3_object = {"key": quote_plus(key, safe="/"), "size": 1024, "eTag": ETAG, "sequencer": "0055AED6DCD90281E5"}
    whole: dict[str, Any] = {
        "eventVersion": schema,
        "eventSource": "aws:s3",
        "awsRegion": "us-east-1",
        "eventTime": "2026-03-01T12:00:00.000Z",
        "eventName": "ObjectCreated:Put",
        "s3": {
            "s3SchemaVersion": "1.0",
            "bucket": {"name": bucket, "arn": f"arn:aws:s3:::{bucket}"},
            "object": s3_object,
        },
    }
    for name, value in changes.items():
        (whole if name in whole else s3_object)[name] = value
    return whole


def body(*records: Any) -> str:
    return json.dumps({"Records": list(records)})


def through_sns(message: str) -> str:
    """SNS without raw delivery. With raw delivery the body is the message itself."""
    return json.dumps({"Type": "Notification", "MessageId": "1", "TopicArn": "arn:aws:sns:x", "Message": message})


def eventbridge(key: str = "photo.jpg", **changes: Any) -> str:
    event: dict[str, Any] = {
        "version": "0",
        "detail-type": "Object Created",
        "source": "aws.s3",
        "time": "2026-03-01T12:00:00Z",
        "detail": {
            "bucket": {"name": INBOX},
            "object": {"key": key, "size": 1024, "etag": ETAG, "sequencer": "0055AED6DCD90281E5"},
            "reason": "PutObject",
        },
    }
    return json.dumps(event | changes)


def parse(text: str) -> Parsed:
    return parse_body(text, source_bucket=INBOX)


def only(text: str) -> ImageRef:
    parsed = parse(text)
    assert parsed.kind == "images", parsed
    (found,) = parsed.images
    return found


def test_every_field_of_a_record_is_taken_over() -> None:
    assert only(body(record("a b.jpg", versionId="3/L4kqtJ"))) == ImageRef(
        bucket=INBOX,
        key="a b.jpg",
        etag=ETAG,
        event_time=datetime(2026, 3, 1, 12, 0, tzinfo=UTC),
        version_id="3/L4kqtJ",
        size_bytes=1024,
        sequencer="0055AED6DCD90281E5",
        origin="upload",
    )


def test_every_way_of_delivery_says_the_same() -> None:
    direct = body(record("a b.jpg"))
    assert (
        only(direct)
        == only(through_sns(direct))
        == only(eventbridge("a b.jpg"))
        == only(through_sns(eventbridge("a b.jpg")))
    )


@pytest.mark.parametrize("schema", ["2.0", "2.1", "2.2", "2.3", "2.4", "2.5", "2.6", "2.17"])
def test_every_minor_version_of_schema_2_is_understood(schema: str) -> None:
    newer = record(schema=schema) | {"somethingNew": {"nested": True}}
    assert only(body(newer)).key == "photo.jpg"


@pytest.mark.parametrize("schema", ["1.0", "3.0", "20.1", "", None])
def test_another_major_version_is_unparseable(schema: Any) -> None:
    assert parse(body(record(schema=schema))).kind == "unparseable"


@pytest.mark.parametrize("key", AWKWARD_KEYS)
def test_keys_survive_as_they_were_uploaded(key: str) -> None:
    assert only(body(record(key))).key == key
    assert only(eventbridge(key)).key == key


def test_eventbridge_keys_are_never_decoded() -> None:
    assert only(eventbridge("100%25+1.jpg")).key == "100%25+1.jpg"


@pytest.mark.parametrize("name", ["Put", "Post", "Copy", "CompleteMultipartUpload"])
@pytest.mark.parametrize("prefix", ["", "s3:"])
def test_every_way_of_creating_counts(prefix: str, name: str) -> None:
    assert only(body(record(eventName=f"{prefix}ObjectCreated:{name}"))).key == "photo.jpg"


@pytest.mark.parametrize("name", ["ObjectRemoved:Delete", "ObjectTagging:Put", "ObjectAcl:Put", "LifecycleTransition"])
def test_events_that_create_nothing_are_ignored(name: str) -> None:
    assert parse(body(record(eventName=name))).kind == "ignored"


def test_eventbridge_events_that_create_nothing_are_ignored() -> None:
    assert parse(eventbridge(**{"detail-type": "Object Deleted"})).kind == "ignored"


def test_every_record_of_a_message_counts() -> None:
    many = [record(f"{number}.jpg") for number in range(25)] + [record(eventName="ObjectRemoved:Delete")]
    assert [image.key for image in parse(body(*many)).images] == [f"{number}.jpg" for number in range(25)]


@pytest.mark.parametrize("wrap", [str, through_sns])
def test_s3s_test_event_is_known(wrap: Any) -> None:
    test_event = {"Service": "Amazon S3", "Event": "s3:TestEvent", "Bucket": INBOX, "RequestId": "1", "HostId": "2"}
    assert parse(wrap(json.dumps(test_event))).kind == "test"


def test_images_of_another_bucket_are_refused_with_its_name() -> None:
    parsed = parse(body(record(bucket="someone-elses")))
    assert parsed.kind == "refused"
    assert "someone-elses" in parsed.problem


def test_of_a_mixed_message_the_source_buckets_images_are_taken() -> None:
    assert only(body(record("theirs.jpg", bucket="someone-elses"), record("ours.jpg"))).key == "ours.jpg"


def test_folder_markers_are_not_images() -> None:
    assert parse(body(record("folder/", size=0))).kind == "ignored"
    assert only(body(record("odd but real/", size=10))).key == "odd but real/"


def test_the_version_null_is_no_version() -> None:
    assert only(body(record(versionId="null"))).version_id == ""
    assert only(body(record())).version_id == ""


def test_etags_lose_their_quotes() -> None:
    assert only(body(record(eTag=f'"{ETAG}"'))).etag == ETAG


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2026-03-01T13:00:00+01:00", datetime(2026, 3, 1, 12, tzinfo=UTC)),
        ("2026-03-01T12:00:00", datetime(2026, 3, 1, 12, tzinfo=UTC)),
        ("yesterday", datetime(1970, 1, 1, tzinfo=UTC)),
        (None, datetime(1970, 1, 1, tzinfo=UTC)),
        (17, datetime(1970, 1, 1, tzinfo=UTC)),
        ("0001-01-01T00:00:00+23:00", datetime(1970, 1, 1, tzinfo=UTC)),
        ("9999-12-31T23:59:59-23:00", datetime(1970, 1, 1, tzinfo=UTC)),
    ],
)
def test_event_times_are_utc_and_never_a_reason_to_fail(text: Any, expected: datetime) -> None:
    assert only(body(record(eventTime=text))).event_time == expected


@pytest.mark.parametrize("size", [-1, 2**63, 10**30, 1.5, "17", None])
def test_a_size_that_is_none_is_unknown(size: Any) -> None:
    assert only(body(record(size=size))).size_bytes == 0


@pytest.mark.parametrize(
    "text",
    [
        "",
        "hello",
        "null",
        "17",
        '"text"',
        "[]",
        "{}",
        '{"Records": null}',
        '{"Records": [null]}',
        '{"Records": [{}]}',
        "[" * 100_000,
        '{"a":' * 100_000,
        '{"Records": [' + "[" * 100_000,
        "1" * 5_000,
        through_sns("not JSON"),
        through_sns("[" * 100_000),
        json.dumps({"Type": "Notification", "Message": 17}),
        body(record(eventSource="aws:sqs")),
        body(record(s3={"bucket": {"name": INBOX}})),
        body(record(s3={"bucket": INBOX, "object": {"key": "a"}})),
        body(record(bucket="")),
        body(record(key="")),
        body(record() | {"s3": {"bucket": {"name": INBOX}, "object": {"key": "%ff%fe.jpg"}}}),
        body(record(), {"eventSource": "aws:s3"}),
        eventbridge(source="my.app"),
        eventbridge(detail=None),
        eventbridge(detail={"bucket": {"name": INBOX}, "object": {}}),
        eventbridge("\ud800.jpg"),
        eventbridge("é" * 513),
        body(record(eTag="é")),
        body(record(versionId="a\r\nb")),
    ],
    ids=lambda text: text[:40],
)
def test_whatever_else_comes_is_unparseable_with_a_reason_and_raises_nothing(text: str) -> None:
    parsed = parse(text)
    assert parsed.kind == "unparseable"
    assert parsed.problem
    assert not parsed.images


def test_a_key_as_long_as_s3_allows_is_taken() -> None:
    assert only(eventbridge("é" * 512)).key == "é" * 512
