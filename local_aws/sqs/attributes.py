"""Queue attributes: the ones SQS knows, their ranges, and what they mean to a queue."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from local_aws.sqs.queue import Limits
from local_aws.wire import AwsError

# By name: the default, the lowest and the highest value.
# https://docs.aws.amazon.com/AWSSimpleQueueService/latest/APIReference/API_SetQueueAttributes.html
_NUMBERS = {
    "DelaySeconds": (0, 0, 900),
    "MaximumMessageSize": (1_048_576, 1_024, 1_048_576),
    "MessageRetentionPeriod": (345_600, 60, 1_209_600),
    "ReceiveMessageWaitTimeSeconds": (0, 0, 20),
    "VisibilityTimeout": (30, 0, 43_200),
}
_TEXTS = {
    "KmsDataKeyReusePeriodSeconds",
    "KmsMasterKeyId",
    "Policy",
    "RedriveAllowPolicy",
    "RedrivePolicy",
    "SqsManagedSseEnabled",
}
DEFAULTS = {name: str(default) for name, (default, _, _) in _NUMBERS.items()} | {"SqsManagedSseEnabled": "true"}

READ_ONLY = {
    "ApproximateNumberOfMessages",
    "ApproximateNumberOfMessagesDelayed",
    "ApproximateNumberOfMessagesNotVisible",
    "CreatedTimestamp",
    "LastModifiedTimestamp",
    "QueueArn",
}
NAMES = READ_ONLY | _TEXTS | set(_NUMBERS)


def checked(attributes: Mapping[str, str]) -> dict[str, str]:
    """The attributes as given; InvalidAttributeName or InvalidAttributeValue where SQS refuses one."""
    for name, value in attributes.items():
        if name in ("FifoQueue", "ContentBasedDeduplication"):
            if value == "true":
                raise AwsError("UnsupportedOperation", "local AWS has standard queues only, no FIFO queues.")
            raise AwsError("InvalidAttributeName", f"Unknown Attribute {name}.")
        if name in _NUMBERS:
            _, lowest, highest = _NUMBERS[name]
            if not value.isdigit() or not lowest <= int(value) <= highest:
                message = (
                    f"Invalid value for the parameter {name}. Reason: Must be an integer from {lowest} to {highest}."
                )
                raise AwsError("InvalidAttributeValue", message)
        elif name not in _TEXTS:
            raise AwsError("InvalidAttributeName", f"Unknown Attribute {name}.")
    redrive(attributes)
    return dict(attributes)


def redrive(attributes: Mapping[str, str]) -> tuple[str, int] | None:
    """(ARN of the dead-letter queue, most receives) of a redrive policy; None without one."""
    text = attributes.get("RedrivePolicy", "")
    if not text:
        return None
    try:
        policy: dict[str, Any] = json.loads(text)
        target, most = str(policy["deadLetterTargetArn"]), int(policy["maxReceiveCount"])
    except (KeyError, TypeError, ValueError):
        message = (
            f"Value {text} for parameter RedrivePolicy is invalid. Reason: Redrive policy is not a valid JSON map."
        )
        raise AwsError("InvalidParameterValue", message) from None
    if not 1 <= most <= 1_000:
        reason = f"Invalid value for maxReceiveCount: {most}, valid values are from 1 to 1000 both inclusive."
        message = f"Value {text} for parameter RedrivePolicy is invalid. Reason: {reason}"
        raise AwsError("InvalidParameterValue", message)
    return target, most


def limits(attributes: Mapping[str, str]) -> Limits:
    """What the attributes mean to a queue."""
    policy = redrive(attributes)
    return Limits(
        visibility_seconds=int(attributes["VisibilityTimeout"]),
        delay_seconds=int(attributes["DelaySeconds"]),
        retention_seconds=int(attributes["MessageRetentionPeriod"]),
        max_message_bytes=int(attributes["MaximumMessageSize"]),
        max_receive_count=policy[1] if policy else 0,
    )
