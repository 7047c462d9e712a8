"""A queue and its dead-letter queue in memory: hidden while received, back when told so, failing as SQS fails."""

from __future__ import annotations

import itertools
import json
import threading
from collections.abc import Iterable
from typing import Any

from tests.include.memory_s3 import Killed

DEAD_LETTERS = "https://sqs.us-east-1.amazonaws.com/123456789012/uploads-dead"


class MemoryQueue:
    """The SQS client's methods that draining calls."""

    def __init__(self, bodies: Iterable[str] = (), *, dead_letter_queue: bool = True) -> None:
        self.dead: list[dict[str, Any]] = []
        self.calls: list[str] = []
        self.empty_answers = 0  # how many receives answer nothing although messages are there
        self.failing_deletes = 0  # how many entries of DeleteMessageBatch fail
        self.dies_at_delete = False
        self.most_receives: int | None = None
        self._policy = {"deadLetterTargetArn": "arn:aws:sqs:us-east-1:123456789012:uploads-dead", "maxReceiveCount": 5}
        self._has_dead_letter_queue = dead_letter_queue
        self._visible: dict[str, str] = {}
        self._hidden: dict[str, str] = {}
        self._numbers = itertools.count(1)
        self._lock = threading.Lock()
        self.send(bodies)

    def send(self, bodies: Iterable[str]) -> None:
        self._visible |= {f"m{next(self._numbers)}": body for body in bodies}

    @property
    def left(self) -> list[str]:
        """Bodies of the messages that were not deleted."""
        return [*self._visible.values(), *self._hidden.values()]

    def come_back(self) -> None:
        """Let the visibility timeout of every received message pass."""
        self._visible, self._hidden = self._visible | self._hidden, {}

    def change_message_visibility_batch(self, *, QueueUrl: str, Entries: list[dict[str, Any]]) -> dict[str, Any]:
        with self._lock:
            self.calls.append("change_message_visibility_batch")
            for entry in Entries:
                assert entry["VisibilityTimeout"] == 0
                name = entry["ReceiptHandle"].removeprefix("r-")
                self._visible[name] = self._hidden.pop(name)
            return {"Successful": [{"Id": entry["Id"]} for entry in Entries]}

    def receive_message(self, *, QueueUrl: str, MaxNumberOfMessages: int, **options: int) -> dict[str, Any]:
        with self._lock:
            self.calls.append("receive_message")
            if self.most_receives is not None and len(self.calls) > self.most_receives:
                raise AssertionError(f"still receiving after {self.most_receives} calls")
            if self.empty_answers:
                self.empty_answers -= 1
                return {}
            ids = list(itertools.islice(self._visible, MaxNumberOfMessages))
            self._hidden |= {name: self._visible.pop(name) for name in ids}
            found = [{"MessageId": name, "ReceiptHandle": f"r-{name}", "Body": self._hidden[name]} for name in ids]
            return {"Messages": found} if found else {}

    def delete_message_batch(self, *, QueueUrl: str, Entries: list[dict[str, str]]) -> dict[str, Any]:
        with self._lock:
            self.calls.append("delete_message_batch")
            if self.dies_at_delete:
                raise Killed("delete_message_batch")
            assert len({entry["Id"] for entry in Entries}) == len(Entries) <= 10
            failed = Entries[: self.failing_deletes]
            self.failing_deletes -= len(failed)
            for entry in Entries[len(failed) :]:
                self._hidden.pop(entry["ReceiptHandle"].removeprefix("r-"))
            return {"Failed": [{"Id": entry["Id"], "Code": "InternalError", "SenderFault": False} for entry in failed]}

    def delete_message(self, *, QueueUrl: str, ReceiptHandle: str) -> None:
        self._hidden.pop(ReceiptHandle.removeprefix("r-"))

    def send_message(self, *, QueueUrl: str, MessageBody: str, MessageAttributes: dict[str, Any]) -> None:
        assert QueueUrl == DEAD_LETTERS
        self.dead.append({"body": MessageBody, "reason": MessageAttributes["reason"]["StringValue"]})

    def get_queue_attributes(self, *, QueueUrl: str, AttributeNames: list[str]) -> dict[str, Any]:
        assert AttributeNames == ["RedrivePolicy"], "counters lag: they are never asked for"
        return {"Attributes": {"RedrivePolicy": json.dumps(self._policy)}} if self._has_dead_letter_queue else {}

    def get_queue_url(self, *, QueueName: str, QueueOwnerAWSAccountId: str) -> dict[str, str]:
        return {"QueueUrl": f"https://sqs.us-east-1.amazonaws.com/{QueueOwnerAWSAccountId}/{QueueName}"}
