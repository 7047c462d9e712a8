"""A received message as a client gets it, with what it asked to know about it."""

from __future__ import annotations

from typing import Any

from local_aws.sqs.messages import on_the_wire
from local_aws.sqs.queue import Received

Arguments = dict[str, Any]


def delivery(received: Received, arguments: Arguments, account_id: str) -> Arguments:
    """One of ReceiveMessage's `Messages`, given that call's arguments."""
    message = received.message
    system = {
        "ApproximateReceiveCount": str(message.receive_count),
        "ApproximateFirstReceiveTimestamp": str(int(message.first_received_at * 1_000)),
        "SentTimestamp": str(int(message.sent_at * 1_000)),
        "SenderId": account_id,
    } | {name: str(value.get("StringValue", "")) for name, value in message.system_attributes.items()}
    if message.source_queue_arn:
        system["DeadLetterQueueSourceArn"] = message.source_queue_arn
    wanted = {*arguments.get("AttributeNames", ()), *arguments.get("MessageSystemAttributeNames", ())}
    attributes = {
        name: value
        for name, value in message.attributes.items()
        if any(_matches(name, pattern) for pattern in arguments.get("MessageAttributeNames", ()))
    }
    answer: Arguments = {
        "MessageId": message.id,
        "ReceiptHandle": received.receipt_handle,
        "MD5OfBody": message.body_md5,
        "Body": message.body,
    }
    chosen = {name: value for name, value in system.items() if name in wanted or "All" in wanted}
    if chosen:
        answer["Attributes"] = chosen
    if attributes:
        answer["MD5OfMessageAttributes"] = message.attributes_md5
        answer["MessageAttributes"] = on_the_wire(attributes)
    return answer


def _matches(name: str, pattern: str) -> bool:
    """Whether a message attribute is asked for: by its name, `All`, `.*` or `prefix.*`."""
    if pattern in ("All", ".*"):
        return True
    return name.startswith(pattern[:-2]) if pattern.endswith(".*") else name == pattern
