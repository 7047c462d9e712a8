"""What a bucket announces, judged by its notification configuration: the inbox every upload, the final bucket nothing."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, Final

from include.cli.doctor_checks import Check, typed

CREATED: Final = "s3:ObjectCreated:*"
# All that there are: https://docs.aws.amazon.com/AmazonS3/latest/userguide/notification-how-to-event-types-and-destinations.html
EACH_CREATED: Final = {f"s3:ObjectCreated:{how}" for how in ("Put", "Post", "Copy", "CompleteMultipartUpload")}


def announces(configuration: Mapping[str, Any], *, bucket: str, queue_arn: str) -> Check:
    """Whether the inbox's notification tells the queue of every upload.

    :param configuration: as GetBucketNotificationConfiguration answers.
    """
    area, name = "source bucket", "notification"
    ours = [each for each in configuration.get("QueueConfigurations", []) if each.get("QueueArn") == queue_arn]
    if not ours:
        elsewhere = [each["TopicArn"] for each in configuration.get("TopicConfigurations", [])]
        elsewhere += ["EventBridge"] if "EventBridgeConfiguration" in configuration else []
        if elsewhere:
            found = f"uploads are announced to {', '.join(elsewhere)}; whether that reaches the queue was not looked at"
            return Check(area, name, "not tried", found)
        found = f"uploads are not announced to {queue_arn}: nothing is ever labelled"
        return Check(area, name, "failed", found, _configure(configuration, bucket, queue_arn))
    complete = [each for each in ours if CREATED in each["Events"] or set(each["Events"]) >= EACH_CREATED]
    if not complete:
        found = (
            f"only {', '.join(sorted({event for each in ours for event in each['Events']}))}: other uploads are lost"
        )
        return Check(area, name, "failed", found, _configure(configuration, bucket, queue_arn))
    rules = [_rules(each) for each in complete]
    if {} in rules:
        return Check(area, name, "ok", f"every upload is announced to {queue_arn}")
    if all("suffix" in each for each in rules):
        suffixes = ", ".join(sorted({each["suffix"] for each in rules}))
        found = f"only keys that end in {suffixes} are announced, and S3 compares with case"
        return Check(area, name, "failed", found, _configure(configuration, bucket, queue_arn))
    prefixes = ", ".join(sorted({each["prefix"] for each in rules if "suffix" not in each}))
    found = f"only keys that begin with {prefixes} are announced; nothing else is labelled"
    return Check(area, name, "warning", found, _configure(configuration, bucket, queue_arn))


def keeps_quiet(configuration: Mapping[str, Any], *, bucket: str, queue_arn: str) -> Check:
    """Whether results stay out of the queue: each would be a message that announces no image."""
    area, name = "final bucket", "notification"
    others = [each for each in configuration.get("QueueConfigurations", []) if each.get("QueueArn") != queue_arn]
    if len(others) == len(configuration.get("QueueConfigurations", [])):
        return Check(area, name, "ok", "results are not announced to the queue")
    without = {**configuration, "QueueConfigurations": others}
    found = f"it announces to {queue_arn}, too: every result becomes a message for nothing"
    return Check(area, name, "failed", found, _put(bucket, without))


def _rules(configuration: Mapping[str, Any]) -> dict[str, str]:
    """A notification's filter; empty where it has none."""
    rules: Sequence[Mapping[str, str]] = configuration.get("Filter", {}).get("Key", {}).get("FilterRules", [])
    return {rule["Name"].lower(): rule["Value"] for rule in rules if rule["Value"]}


def _configure(configuration: Mapping[str, Any], bucket: str, queue_arn: str) -> str:
    """The command that announces every upload, and leaves the other notifications: it replaces all of them at once."""
    others = [each for each in configuration.get("QueueConfigurations", []) if each.get("QueueArn") != queue_arn]
    return _put(
        bucket, {**configuration, "QueueConfigurations": [*others, {"QueueArn": queue_arn, "Events": [CREATED]}]}
    )


def _put(bucket: str, configuration: Mapping[str, Any]) -> str:
    return typed(
        *("aws", "s3api", "put-bucket-notification-configuration", "--bucket", bucket),
        *("--notification-configuration", json.dumps(configuration)),
    )
