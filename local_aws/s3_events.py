"""What S3 says when an object is created or deleted, as AWS documents it where moto's own differs.

https://docs.aws.amazon.com/AmazonS3/latest/userguide/notification-content-structure.html
https://docs.aws.amazon.com/AmazonS3/latest/userguide/ev-events.html
"""

from __future__ import annotations

import itertools
import json
import time
import uuid
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote_plus

from moto.events.models import events_backends
from moto.s3 import notifications
from moto.s3.exceptions import S3ClientError
from moto.s3.models import FakeBucket
from moto.s3.notifications import S3NotificationEvent
from moto.sns.models import sns_backends

# (detail-type, reason) of the EventBridge form.
_EVENT_BRIDGE = {
    S3NotificationEvent.OBJECT_CREATED_PUT_EVENT: ("Object Created", "PutObject"),
    S3NotificationEvent.OBJECT_CREATED_POST_EVENT: ("Object Created", "POST Object"),
    S3NotificationEvent.OBJECT_CREATED_COPY_EVENT: ("Object Created", "CopyObject"),
    S3NotificationEvent.OBJECT_CREATED_COMPLETE_MULTIPART_UPLOAD_EVENT: ("Object Created", "CompleteMultipartUpload"),
    S3NotificationEvent.OBJECT_REMOVED_DELETE_EVENT: ("Object Deleted", "DeleteObject"),
}

# Starts at the time, so that a restarted server goes on above what it has given out.
_sequence = itertools.count(time.time_ns())


def install(queue_exists: Callable[[str], bool]) -> None:
    """Have moto's S3 send these events; `queue_exists` is told an ARN when a notification is configured."""
    notifications._get_s3_event = notification
    notifications._send_sns_message = _to_topic
    notifications._send_event_bridge_message = _to_event_bridge
    _send_one_event_an_object()
    _send_test_events(queue_exists)
    _keep_configuration_when_refused()


def _send_one_event_an_object() -> None:
    moto_send_event = notifications.send_event
    written: list[Any] = []  # the object that was written last, until moto has set its tags

    def send_event(account_id: str, event_name: S3NotificationEvent, bucket: Any, key: Any) -> None:
        if event_name is S3NotificationEvent.OBJECT_CREATED_PUT_EVENT:
            written[:] = [key]
            # moto writes a completed multipart upload with a put that says so too.
            if key.multipart is not None:
                return
        # moto sets the tags of every object that it writes, and says so; S3 says so for PutObjectTagging alone.
        elif event_name is S3NotificationEvent.OBJECT_TAGGING_PUT_EVENT and written and written.pop() is key:
            return
        moto_send_event(account_id, event_name, bucket, key)

    notifications.send_event = send_event


def _send_test_events(queue_exists: Callable[[str], bool]) -> None:
    def send_test_event(account_id: str, bucket: Any) -> None:
        queues = sorted({each.arn for each in bucket.notification_configuration.queue})
        for arn in queues:
            if not queue_exists(arn):
                reason = f"Unable to validate the following destination configurations: {arn} does not exist"
                raise S3ClientError("InvalidArgument", reason)
        for arn in queues:
            _, _, _, region, _, name = arn.split(":")
            notifications._send_sqs_message(account_id, _test_event(bucket.name), name, region)
        for arn in sorted({each.arn for each in bucket.notification_configuration.topic}):
            _to_topic(account_id, _test_event(bucket.name), arn, arn.split(":")[3])

    notifications.send_test_event = send_test_event


def _keep_configuration_when_refused() -> None:
    moto_configure = FakeBucket.set_notification_configuration

    def configure(bucket: Any, configuration: dict[str, Any] | None) -> None:
        previous = bucket.notification_configuration
        try:
            moto_configure(bucket, configuration)
        except S3ClientError:
            bucket.notification_configuration = previous
            raise

    FakeBucket.set_notification_configuration = configure


def notification(event_name: S3NotificationEvent, bucket: Any, key: Any, notification_id: str) -> dict[str, Any]:
    """The message of one event: one record, its key encoded as in a form, as S3 does."""
    name = event_name.value.removeprefix("s3:")
    s3_object: dict[str, Any] = {"key": quote_plus(key.name, safe="/")}
    if not name.startswith("ObjectRemoved"):
        s3_object |= {"size": key.size, "eTag": key.etag.strip('"')}
    if bucket.is_versioned:
        s3_object["versionId"] = key.version_id
    s3_object["sequencer"] = _sequencer()
    record = {
        "eventVersion": "2.1",
        "eventSource": "aws:s3",
        "awsRegion": bucket.region_name,
        "eventTime": _now(),
        "eventName": name,
        "userIdentity": {"principalId": "AWS:AIDAEXAMPLE"},
        "requestParameters": {"sourceIPAddress": "127.0.0.1"},
        "responseElements": {"x-amz-request-id": uuid.uuid4().hex[:16].upper(), "x-amz-id-2": uuid.uuid4().hex},
        "s3": {
            "s3SchemaVersion": "1.0",
            "configurationId": notification_id,
            "bucket": {"name": bucket.name, "ownerIdentity": {"principalId": "AEXAMPLE"}, "arn": bucket.arn},
            "object": s3_object,
        },
    }
    return {"Records": [record]}


def _sequencer() -> str:
    """Eighteen hexadecimal digits that grow, so that a later event of a key compares greater."""
    return f"{next(_sequence):018X}"


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _test_event(bucket_name: str) -> dict[str, Any]:
    return {
        "Service": "Amazon S3",
        "Event": "s3:TestEvent",
        "Time": _now(),
        "Bucket": bucket_name,
        "RequestId": uuid.uuid4().hex[:16].upper(),
        "HostId": uuid.uuid4().hex,
    }


def _to_topic(account_id: str, event: dict[str, Any], topic_arn: str, region: str) -> None:
    backend = sns_backends[account_id][region]
    if topic_arn in backend.topics:
        backend.publish(arn=topic_arn, message=json.dumps(event), subject="Amazon S3 Notification")


def _to_event_bridge(account_id: str, bucket: Any, event_name: S3NotificationEvent, key: Any) -> None:
    """Send the event to every enabled rule; the key is not encoded in this form."""
    detail_type, reason = _EVENT_BRIDGE.get(
        event_name, (notifications._detail_type(event_name), event_name.value.rpartition(":")[2])
    )
    s3_object = {"key": key.name, "sequencer": _sequencer()}
    detail: dict[str, Any] = {
        "version": "0",
        "bucket": {"name": bucket.name},
        "object": s3_object,
        "request-id": uuid.uuid4().hex[:16].upper(),
        "requester": account_id,
        "source-ip-address": "127.0.0.1",
        "reason": reason,
    }
    if detail_type == "Object Deleted":
        detail["deletion-type"] = "Permanently Deleted"
    else:
        s3_object |= {"size": key.size, "etag": key.etag.strip('"')}
    if bucket.is_versioned:
        s3_object["version-id"] = key.version_id
    event = {
        "version": "0",
        "id": str(uuid.uuid4()),
        "detail-type": detail_type,
        "source": "aws.s3",
        "account": account_id,
        "time": time.time(),
        "region": bucket.region_name,
        "resources": [bucket.arn],
        "detail": detail,
    }
    for event_bus in events_backends[account_id][bucket.region_name].event_buses.values():
        for rule in event_bus.rules.values():
            if rule.state == "ENABLED":
                rule.send_to_targets(dict(event), transform_input=False)
