"""One message, its size and its digests."""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from local_aws.wire import AwsError

# Characters outside these are refused:
# https://docs.aws.amazon.com/AWSSimpleQueueService/latest/APIReference/API_SendMessage.html
_NOT_ALLOWED = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")

Attributes = Mapping[str, Mapping[str, Any]]


@dataclass(slots=True, eq=False)
class Message:
    """A message in a queue. Times are epoch seconds; `visible_at` is when a receive may next return it."""

    id: str
    body: str
    body_md5: str
    attributes: Attributes
    attributes_md5: str
    system_attributes: Attributes
    sent_at: float
    visible_at: float
    size_bytes: int
    source_queue_arn: str = ""
    receive_count: int = 0
    first_received_at: float = 0.0
    received_at: float = 0.0
    state: str = "visible"  # visible, in_flight, delayed or gone


@dataclass(frozen=True, slots=True)
class Outgoing:
    """What a sender hands in, checked."""

    body: str
    attributes: Attributes = field(default_factory=dict)
    system_attributes: Attributes = field(default_factory=dict)

    @property
    def size_bytes(self) -> int:
        """What counts towards the size limits: the body, and each attribute's name, type and value."""
        return len(self.body.encode()) + sum(
            len(name.encode()) + len(value["DataType"].encode()) + len(_value_bytes(value))
            for name, value in self.attributes.items()
        )


def outgoing(arguments: Mapping[str, Any]) -> Outgoing:
    """The message of a SendMessage request or batch entry; InvalidMessageContents for characters that SQS refuses."""
    body = arguments["MessageBody"]
    if not body:
        raise AwsError("MissingParameter", "The request must contain the parameter MessageBody.")
    bad = _NOT_ALLOWED.search(body)
    if bad:
        message = (
            f"Invalid characters found. Valid unicode characters are #x9 | #xA | #xD | #x20 to #xD7FF; got {bad[0]!r}"
        )
        raise AwsError("InvalidMessageContents", message)
    return Outgoing(body, arguments.get("MessageAttributes", {}), arguments.get("MessageSystemAttributes", {}))


def md5(text: str) -> str:
    """The digest that clients compare with what they sent."""
    return hashlib.md5(text.encode(), usedforsecurity=False).hexdigest()


def attributes_md5(attributes: Attributes) -> str:
    """The digest of message attributes, empty without any.

    https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/sqs-message-metadata.html
    """
    if not attributes:
        return ""
    digest = hashlib.md5(usedforsecurity=False)
    for name in sorted(attributes):
        value = attributes[name]
        transport = b"\x02" if "BinaryValue" in value else b"\x01"
        for part in (name.encode(), value["DataType"].encode()):
            digest.update(len(part).to_bytes(4, "big") + part)
        data = _value_bytes(value)
        digest.update(transport + len(data).to_bytes(4, "big") + data)
    return digest.hexdigest()


def _value_bytes(value: Mapping[str, Any]) -> bytes:
    if "BinaryValue" in value:
        binary: bytes = value["BinaryValue"]
        return binary
    return str(value.get("StringValue", "")).encode()


def on_the_wire(attributes: Attributes) -> dict[str, dict[str, Any]]:
    """Message attributes as JSON has them: binary values in base64."""
    return {
        name: {
            key: base64.b64encode(item).decode() if key == "BinaryValue" else item
            for key, item in value.items()
            if key in ("DataType", "StringValue", "BinaryValue")
        }
        for name, value in attributes.items()
    }
