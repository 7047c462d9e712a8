"""Two queues in memory, and a process that dies at any call."""

from __future__ import annotations

import itertools
import logging
from collections import Counter
from typing import Any

import pytest

from include.dead_letters import DeadLetters, redrive_dead_letters
from include.errors import TerminalError
from include.settings import Settings
from tests.include.memory_queue import DEAD_LETTERS, MemoryQueue
from tests.include.memory_s3 import Killed, failure

UPLOADS = "https://sqs.us-east-1.amazonaws.com/123456789012/uploads"


class TwoQueues(MemoryQueue):
    """The queue, and the dead-letter queue with its messages; `dies_at` counts the calls that change something."""

    def __init__(self, *given_up: str, reasons: dict[str, str] | None = None) -> None:
        super().__init__()
        self.shown: dict[str, dict[str, Any]] = {}
        self.received: dict[str, dict[str, Any]] = {}
        self.sent: list[dict[str, Any]] = []
        self.dies_at: int | None = None
        self.changes = 0
        for body in given_up:
            self.put(body)
        for body, reason in (reasons or {}).items():
            self.put(body, reason={"DataType": "String", "StringValue": reason})

    def put(self, body: str, **attributes: Any) -> None:
        name = f"d{next(self._numbers)}"
        self.shown[name] = {"MessageId": name, "Body": body} | ({"MessageAttributes": attributes} if attributes else {})

    def _change(self) -> None:
        self.changes += 1
        if self.dies_at is not None and self.changes >= self.dies_at:
            raise Killed

    def receive_message(self, *, QueueUrl: str, MaxNumberOfMessages: int, **options: Any) -> dict[str, Any]:
        assert (QueueUrl, options["MessageAttributeNames"]) == (DEAD_LETTERS, ["All"])
        names = list(itertools.islice(self.shown, MaxNumberOfMessages))
        self.received |= {name: self.shown.pop(name) for name in names}
        return {"Messages": [self.received[name] | {"ReceiptHandle": f"r-{name}"} for name in names]} if names else {}

    def send_message(self, *, QueueUrl: str, MessageBody: str, MessageAttributes: dict[str, Any]) -> None:
        assert QueueUrl == UPLOADS
        self._change()
        self.sent.append({"body": MessageBody, "attributes": MessageAttributes})

    def delete_message(self, *, QueueUrl: str, ReceiptHandle: str) -> None:
        assert QueueUrl == DEAD_LETTERS
        self._change()
        self.received.pop(ReceiptHandle.removeprefix("r-"))

    def change_message_visibility_batch(self, *, QueueUrl: str, Entries: list[dict[str, Any]]) -> dict[str, Any]:
        assert QueueUrl == DEAD_LETTERS
        assert len(Entries) <= 10
        self._change()
        for entry in Entries:
            name = entry["ReceiptHandle"].removeprefix("r-")
            self.shown[name] = self.received.pop(name)
        return {}

    def come_back(self) -> None:
        self.shown, self.received = self.shown | self.received, {}

    def bodies(self) -> Counter[str]:
        """Every message that is anywhere."""
        dead = [message["Body"] for message in (self.shown | self.received).values()]
        return Counter([message["body"] for message in self.sent] + dead)


def moved(queues: TwoQueues, settings: Settings, **options: Any) -> DeadLetters:
    return redrive_dead_letters(queues, settings, **options)


def test_what_sqs_gave_up_goes_back_and_what_has_a_reason_stays(settings: Settings) -> None:
    queues = TwoQueues("a", "b", reasons={"c": "refused: bucket other", "d": "unparseable: no JSON"})
    found = moved(queues, settings)
    assert found.moved == 2
    assert sorted(message["body"] for message in queues.sent) == ["a", "b"]
    assert sorted(each.reason for each in found.left) == ["refused: bucket other", "unparseable: no JSON"]
    assert sorted(message["Body"] for message in queues.shown.values()) == ["c", "d"]
    assert queues.received == {}


def test_a_message_keeps_its_attributes(settings: Settings) -> None:
    queues = TwoQueues()
    queues.put("a", trace={"DataType": "String", "StringValue": "t", "StringListValues": []})
    moved(queues, settings)
    assert queues.sent == [{"body": "a", "attributes": {"trace": {"DataType": "String", "StringValue": "t"}}}]


@pytest.mark.parametrize(("limit", "left"), [(1, 24), (10, 15), (12, 13), (100, 0)])
def test_a_limit_is_one_and_the_others_are_seen_again_at_once(settings: Settings, limit: int, left: int) -> None:
    queues = TwoQueues(*map(str, range(25)), reasons={"bad": "refused"})
    assert moved(queues, settings, limit=limit).moved == min(limit, 25)
    assert (len(queues.sent), len(queues.shown), queues.received) == (min(limit, 25), left + 1, {})


def test_a_dry_run_changes_nothing(settings: Settings) -> None:
    queues = TwoQueues(*map(str, range(25)), reasons={"bad": "refused"})
    before = queues.bodies()
    found = moved(queues, settings, dry_run=True)
    assert (found.moved, found.reasons) == (25, {"refused": 1})
    assert (queues.bodies(), queues.sent, queues.received) == (before, [], {})


def test_an_empty_one_is_no_error(settings: Settings) -> None:
    assert moved(TwoQueues(), settings) == DeadLetters()


@pytest.mark.parametrize("dies_at", range(1, 26))
def test_killed_at_any_call_no_message_is_lost_and_the_next_time_finishes(settings: Settings, dies_at: int) -> None:
    queues = TwoQueues(*map(str, range(12)), reasons={"bad": "refused"})
    before = queues.bodies()
    queues.dies_at = dies_at
    with pytest.raises(Killed):
        moved(queues, settings)
    assert set(queues.bodies()) == set(before)
    assert queues.bodies().total() <= before.total() + 1, "one process doubles one message at most"
    queues.dies_at = None
    queues.come_back()
    moved(queues, settings)
    assert {message["body"] for message in queues.sent} == {str(number) for number in range(12)}
    assert [message["Body"] for message in queues.shown.values()] == ["bad"]


def test_a_queue_that_does_not_take_them_is_an_error_and_all_are_seen_again(settings: Settings) -> None:
    class Closed(TwoQueues):
        def send_message(self, **message: Any) -> None:
            raise failure("AccessDenied", "SendMessage")

    queues = Closed("a", "b")
    with pytest.raises(Exception, match="AccessDenied"):
        moved(queues, settings)
    assert (len(queues.shown), queues.received) == (2, {})


def test_those_that_cannot_be_shown_again_come_back_by_themselves(
    settings: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    class Hiding(TwoQueues):
        def change_message_visibility_batch(self, **options: Any) -> dict[str, Any]:
            raise failure("AccessDenied", "ChangeMessageVisibilityBatch")

    queues = Hiding("a", reasons={"b": "refused"})
    with caplog.at_level(logging.WARNING):
        assert moved(queues, settings).moved == 1
    assert "hidden for ten minutes" in caplog.text


def test_a_queue_without_one_says_what_to_do(settings: Settings) -> None:
    with pytest.raises(TerminalError, match="no dead-letter queue: give it a RedrivePolicy"):
        redrive_dead_letters(MemoryQueue(dead_letter_queue=False), settings)


def test_many_reasons_are_counted_and_a_few_are_told(settings: Settings) -> None:
    queues = TwoQueues(reasons={str(number): "refused" for number in range(120)})
    found = moved(queues, settings)
    assert (found.reasons, len(found.left)) == ({"refused": 120}, 50)
    assert len(queues.shown) == 120


def test_messages_that_are_seen_again_meanwhile_do_not_keep_it_busy_for_ever(settings: Settings) -> None:
    class Impatient(TwoQueues):
        """The visibility timeout passes between any two calls."""

        def receive_message(self, **options: Any) -> dict[str, Any]:
            self.come_back()
            return super().receive_message(**options)

    queues = Impatient("a", reasons={"b": "refused"})
    found = moved(queues, settings)
    assert (found.moved, found.reasons, len(found.left)) == (1, {"refused": 1}, 1)
