"""A standard queue: who may receive which message when. Every operation costs O(log n) at most, whatever the depth."""

from __future__ import annotations

import base64
import binascii
import heapq
import uuid
from collections import deque
from dataclasses import dataclass

from local_aws.sqs.messages import Message, Outgoing, attributes_md5, md5
from local_aws.wire import AwsError

# https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/quotas-messages.html
MAX_IN_FLIGHT = 120_000
# "The maximum is 12 hours from the time Amazon SQS receives the ReceiveMessage request."
# https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/sqs-visibility-timeout.html
MAX_VISIBILITY_SECONDS = 43_200


@dataclass(frozen=True, slots=True)
class Received:
    """One delivery of a message: its receipt handle deletes it."""

    message: Message
    receipt_handle: str


@dataclass(frozen=True, slots=True)
class Limits:
    """The queue attributes that decide about deliveries, in seconds and bytes."""

    visibility_seconds: float = 30
    delay_seconds: float = 0
    retention_seconds: float = 345_600
    max_message_bytes: int = 1_048_576
    max_receive_count: int = 0  # 0: no redrive


class Queue:
    """The messages of one queue. Every method is told the time, in epoch seconds."""

    def __init__(self, arn: str) -> None:
        self.arn = arn
        self.limits = Limits()
        self._messages: dict[str, Message] = {}
        self._visible: deque[Message] = deque()
        # (visible_at, tie breaker, message): a hidden message is due where its own visible_at equals the entry's.
        self._hidden: list[tuple[float, int, Message]] = []
        self._ties = 0
        self._counts = {"visible": 0, "in_flight": 0, "delayed": 0}

    def send(
        self, outgoing: Outgoing, now: float, *, delay_seconds: float | None = None, source_arn: str = ""
    ) -> Message:
        """Add a message; `source_arn` names the queue that gave it up to this dead-letter queue."""
        delay = self.limits.delay_seconds if delay_seconds is None else delay_seconds
        message = Message(
            id=str(uuid.uuid4()),
            body=outgoing.body,
            body_md5=md5(outgoing.body),
            attributes=outgoing.attributes,
            attributes_md5=attributes_md5(outgoing.attributes),
            system_attributes=outgoing.system_attributes,
            sent_at=now,
            visible_at=now + delay,
            size_bytes=outgoing.size_bytes,
            source_queue_arn=source_arn,
        )
        self._add(message, "delayed" if delay > 0 else "visible")
        return message

    def accept(self, message: Message, source_arn: str) -> None:
        """Take over another queue's dead letter: it keeps its id and the time it was sent, and is visible at once."""
        message.source_queue_arn = source_arn
        message.receive_count = 0
        self._add(message, "visible")

    def redeliver(self, message: Message) -> None:
        """Show a received message again, whether it is in flight or deleted: SQS delivers at least once.

        "On rare occasions, [...] the copy of the message isn't deleted on that unavailable server, and you might get that
        message copy again":
        https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/standard-queues-at-least-once-delivery.html
        """
        if message.state == "gone":
            self._add(message, "visible")
        elif message.state == "in_flight" and message.id in self._messages:
            self._move(message, "visible")
            self._visible.append(message)

    def receive(
        self, count: int, now: float, *, visibility_seconds: float | None = None
    ) -> tuple[list[Received], list[Message]]:
        """Up to `count` messages, hidden from now on, and the dead letters met on the way, already removed."""
        self._settle(now)
        hidden_for = self.limits.visibility_seconds if visibility_seconds is None else visibility_seconds
        received: list[Received] = []
        dead: list[Message] = []
        while self._visible and len(received) < count and self._counts["in_flight"] < MAX_IN_FLIGHT:
            message = self._visible.popleft()
            if message.state != "visible":
                continue
            if now - message.sent_at > self.limits.retention_seconds:
                self._remove(message)
            elif 0 < self.limits.max_receive_count <= message.receive_count:
                self._remove(message)
                dead.append(message)
            else:
                received.append(self._deliver(message, now, hidden_for))
        return received, dead

    def is_over_limit(self) -> bool:
        """Whether as many messages are in flight as a queue allows."""
        return self._counts["in_flight"] >= MAX_IN_FLIGHT

    def delete(self, receipt_handle: str) -> None:
        """Delete a message by the handle of its latest receive, also after its visibility timeout.

        A handle of an earlier receive, or of a message that is gone, succeeds and deletes nothing ("the request
        succeeds, but the message might not be deleted"):
        https://docs.aws.amazon.com/AWSSimpleQueueService/latest/APIReference/API_DeleteMessage.html
        """
        message, is_latest = self._find(receipt_handle)
        if message is not None and is_latest:
            self._remove(message)

    def change_visibility(self, receipt_handle: str, seconds: float, now: float) -> None:
        """Hide a message in flight for `seconds` from now on; 0 gives it back. MessageNotInflight where it is not."""
        self._settle(now)
        message, is_latest = self._find(receipt_handle)
        if message is None or not is_latest or message.state != "in_flight":
            reason = "Message does not exist or is not available for visibility timeout change."
            raise AwsError("MessageNotInflight", reason)
        if now + seconds > message.received_at + MAX_VISIBILITY_SECONDS:
            reason = f"Total VisibilityTimeout for the message is beyond the limit [{MAX_VISIBILITY_SECONDS} seconds]"
            raise AwsError(
                "InvalidParameterValue",
                f"Value {seconds} for parameter VisibilityTimeout is invalid. Reason: {reason}.",
            )
        self._hide(message, now + seconds)

    def purge(self) -> None:
        """Delete every message."""
        for message in list(self._messages.values()):
            self._remove(message)
        self._visible.clear()
        self._hidden.clear()

    def take_all(self) -> list[Message]:
        """Remove and return the messages that are visible, oldest first."""
        taken = [message for message in self._messages.values() if message.state == "visible"]
        for message in taken:
            self._remove(message)
        return taken

    def counts(self, now: float) -> dict[str, int]:
        """How many messages are `visible`, `in_flight` and `delayed`."""
        self._settle(now)
        return dict(self._counts)

    def next_visible_at(self) -> float | None:
        """When the next hidden message may become visible, if any is hidden."""
        return self._hidden[0][0] if self._hidden else None

    def _add(self, message: Message, state: str) -> None:
        self._messages[message.id] = message
        message.state = state
        self._counts[state] += 1
        if state == "visible":
            self._visible.append(message)
        else:
            self._hide(message, message.visible_at)

    def _deliver(self, message: Message, now: float, hidden_for: float) -> Received:
        message.receive_count += 1
        message.first_received_at = message.first_received_at or now
        message.received_at = now
        self._move(message, "in_flight")
        self._hide(message, now + hidden_for)
        handle = f"{self.arn}|{message.id}|{message.receive_count}"
        return Received(message, base64.b64encode(handle.encode()).decode())

    def _hide(self, message: Message, until: float) -> None:
        message.visible_at = until
        self._ties += 1
        heapq.heappush(self._hidden, (until, self._ties, message))

    def _settle(self, now: float) -> None:
        """Show the messages whose time has come, and forget those older than the retention period."""
        while self._hidden and self._hidden[0][0] <= now:
            visible_at, _, message = heapq.heappop(self._hidden)
            if message.state in ("in_flight", "delayed") and message.visible_at == visible_at:
                self._move(message, "visible")
                self._visible.append(message)
        while self._messages:
            oldest = next(iter(self._messages.values()))
            if now - oldest.sent_at <= self.limits.retention_seconds:
                break
            self._remove(oldest)

    def _move(self, message: Message, state: str) -> None:
        self._counts[message.state] -= 1
        self._counts[state] += 1
        message.state = state

    def _remove(self, message: Message) -> None:
        self._counts[message.state] -= 1
        message.state = "gone"
        del self._messages[message.id]

    def _find(self, receipt_handle: str) -> tuple[Message | None, bool]:
        """The message of a handle, if it still exists, and whether the handle is that of its latest receive."""
        try:
            arn, message_id, receive = base64.b64decode(receipt_handle, validate=True).decode().split("|")
            receive_count = int(receive)
        except (binascii.Error, ValueError):
            raise AwsError(
                "ReceiptHandleIsInvalid", f'The input receipt handle "{receipt_handle}" is not valid.'
            ) from None
        if arn != self.arn:
            raise AwsError(
                "ReceiptHandleIsInvalid", f"The input receipt handle is of the queue {arn}, not of {self.arn}."
            )
        message = self._messages.get(message_id)
        return message, message is not None and message.receive_count == receive_count
