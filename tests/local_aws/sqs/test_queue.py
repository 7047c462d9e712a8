"""A queue by itself, at times and depths that no test waits for."""

from __future__ import annotations

import time

import pytest

from local_aws.sqs.messages import Outgoing
from local_aws.sqs.queue import MAX_IN_FLIGHT, Limits, Queue
from local_aws.wire import AwsError


def filled(depth: int) -> Queue:
    queue = Queue("arn:aws:sqs:us-east-1:123456789012:q")
    for number in range(depth):
        queue.send(Outgoing(str(number)), 0.0)
    return queue


def test_messages_come_oldest_first_and_once() -> None:
    queue = filled(25)
    bodies = []
    while received := queue.receive(10, 1.0)[0]:
        bodies += [each.message.body for each in received]
    assert bodies == [str(number) for number in range(25)]


def test_a_message_older_than_the_retention_period_is_gone() -> None:
    queue = filled(2)
    queue.limits = Limits(retention_seconds=60)
    assert queue.counts(60.0)["visible"] == 2
    assert queue.receive(10, 60.5) == ([], [])


def test_no_more_than_the_documented_number_is_in_flight() -> None:
    queue = filled(MAX_IN_FLIGHT + 1)
    while queue.receive(10, 0.0)[0]:
        pass
    assert queue.is_over_limit()
    assert queue.counts(0.0) == {"visible": 1, "in_flight": MAX_IN_FLIGHT, "delayed": 0}


def test_extending_does_not_go_beyond_twelve_hours_from_the_receive() -> None:
    queue = filled(1)
    [received], _ = queue.receive(1, 0.0, visibility_seconds=43_000)
    with pytest.raises(AwsError, match="beyond the limit"):
        queue.change_visibility(received.receipt_handle, 43_000, 1_000.0)
    queue.change_visibility(received.receipt_handle, 42_000, 1_000.0)
    assert queue.counts(42_999.0)["in_flight"] == 1
    assert queue.counts(43_000.0)["visible"] == 1


def test_a_message_is_shown_again_whether_it_is_in_flight_or_deleted() -> None:
    queue = Queue("arn:q")
    message = queue.send(Outgoing("x"), 1.0)
    queue.receive(1, 1.0)
    queue.redeliver(message)
    [[second], _] = queue.receive(1, 1.0)
    queue.delete(second.receipt_handle)
    queue.redeliver(message)
    [[third], _] = queue.receive(1, 1.0)
    assert third.message.id == message.id
    queue.delete(third.receipt_handle)
    assert queue.counts(1.0) == {"visible": 0, "in_flight": 0, "delayed": 0}


def test_a_message_that_has_become_another_queue_s_is_not_shown_again() -> None:
    queue, dead_letters = Queue("arn:q"), Queue("arn:dead")
    queue.limits = Limits(visibility_seconds=1, max_receive_count=1)
    message = queue.send(Outgoing("x"), 1.0)
    queue.receive(1, 1.0)
    [_, [dead]] = queue.receive(1, 3.0)
    dead_letters.accept(dead, queue.arn)
    dead_letters.receive(1, 3.0)
    queue.redeliver(message)
    assert queue.counts(3.0) == {"visible": 0, "in_flight": 0, "delayed": 0}
    assert dead_letters.counts(3.0)["in_flight"] == 1


def test_a_call_costs_the_same_however_deep_the_queue_is() -> None:
    def seconds(depth: int) -> float:
        queue = filled(depth)
        best = float("inf")
        for _ in range(5):
            started = time.perf_counter()
            for _ in range(100):
                queue.send(Outgoing("x"), 1.0)
                for received in queue.receive(1, 1.0)[0]:
                    queue.delete(received.receipt_handle)
            best = min(best, time.perf_counter() - started)
        return best

    assert seconds(20_000) < 4 * seconds(1_000)
