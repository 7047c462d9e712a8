from __future__ import annotations

import itertools
import json
import logging
import threading
from collections import Counter
from typing import Any

import pytest

from include import drain as drain_module
from include.batches import list_pending, read_batch
from include.decide import count_backlog
from include.drain import DrainReport, drain
from include.settings import Settings
from tests.include.conftest import BuildSettings
from tests.include.memory_queue import MemoryQueue
from tests.include.memory_s3 import Killed, MemoryS3, failure
from tests.include.samples import FINAL, INBOX, NOW
from tests.include.test_events import body, record, through_sns

TEST_EVENT = json.dumps({"Service": "Amazon S3", "Event": "s3:TestEvent", "Bucket": INBOX})


def announced(*keys: str, **fields: Any) -> list[str]:
    return [body(record(key, eTag=f"{number:032x}", **fields)) for number, key in enumerate(keys)]


def names(count: int) -> list[str]:
    return [f"photos/{number:04d}.jpg" for number in range(count)]


def run(queue: MemoryQueue, s3: MemoryS3, settings: Settings) -> DrainReport:
    return drain(queue, s3, settings, monotonic=lambda: 0.0)


def pending(s3: Any, settings: Settings) -> list[list[str]]:
    """The keys of the images in each pending batch."""
    bucket = settings.final_bucket
    found = [read_batch(s3, bucket, key) for key in list_pending(s3, bucket)]
    return [[image.key for image in batch.images] for batch in found if batch]


def test_an_empty_queue_writes_nothing(s3: MemoryS3, settings: Settings) -> None:
    queue = MemoryQueue()
    assert run(queue, s3, settings) == DrainReport()
    assert s3.calls == []
    assert queue.calls == ["receive_message"] * drain_module.EMPTY_RECEIVES


def test_messages_become_batches_and_are_deleted(s3: MemoryS3, build_settings: BuildSettings) -> None:
    settings = build_settings(batch_size=10)
    queue = MemoryQueue(announced(*names(25)))
    assert run(queue, s3, settings) == DrainReport(messages=25, images=25, batches=3)
    assert sorted(itertools.chain(*pending(s3, settings))) == names(25)
    assert Counter(map(len, pending(s3, settings))) == {10: 2, 5: 1}
    assert queue.left == []


def test_every_record_of_a_message_becomes_an_image(s3: MemoryS3, settings: Settings) -> None:
    queue = MemoryQueue([body(*(record(key) for key in names(30)))])
    assert run(queue, s3, settings) == DrainReport(messages=1, images=30, batches=1)


def test_one_empty_answer_is_not_the_end_of_the_queue(s3: MemoryS3, settings: Settings) -> None:
    queue = MemoryQueue(announced(*names(3)))
    queue.empty_answers = drain_module.EMPTY_RECEIVES - 1
    assert run(queue, s3, settings).images == 3


@pytest.mark.parametrize("threads", [1, 2, 16, 256])
def test_it_ends_with_any_number_of_threads(s3: MemoryS3, build_settings: BuildSettings, threads: int) -> None:
    queue = MemoryQueue(announced(*names(301)))
    queue.most_receives = 20_000
    settings = build_settings(threads=threads, batch_size=100)
    assert run(queue, s3, settings).images == 301
    assert sorted(itertools.chain(*pending(s3, settings))) == names(301)
    assert queue.left == []


def test_every_thread_has_room_for_its_answer(s3: MemoryS3, build_settings: BuildSettings) -> None:
    together = threading.Barrier(256, timeout=10)

    class Slow(MemoryQueue):
        def receive_message(self, **call: Any) -> dict[str, Any]:
            together.wait()
            return super().receive_message(**call)

    assert run(Slow(), s3, build_settings(threads=256)) == DrainReport()


def test_more_than_one_round(s3: MemoryS3, build_settings: BuildSettings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(drain_module, "ROUND_MESSAGES", 20)
    settings = build_settings(batch_size=20)
    queue = MemoryQueue(announced(*names(55)))
    report = run(queue, s3, settings)
    assert (report.messages, report.images, report.batches) == (55, 55, 3)
    assert sorted(itertools.chain(*pending(s3, settings))) == names(55)
    assert queue.left == []


def test_a_round_ends_when_its_time_is_over(s3: MemoryS3, settings: Settings) -> None:
    queue = MemoryQueue(announced(*names(40)))
    seconds = itertools.count(step=drain_module.ROUND_SECONDS / 3)
    report = drain(queue, s3, settings, monotonic=lambda: next(seconds))
    assert report.images == 40
    assert report.batches > 1
    assert queue.left == []


def test_doubles_within_a_drain_become_one_image(s3: MemoryS3, settings: Settings) -> None:
    twice = body(record("a.jpg", sequencer="01")), body(record("a.jpg", sequencer="02", eTag="newer"))
    queue = MemoryQueue([twice[1], twice[0], twice[0]])
    report = run(queue, s3, settings)
    assert (report.messages, report.images, report.doubles) == (3, 1, 2)
    batch = read_batch(s3, FINAL, list_pending(s3, FINAL)[0])
    assert batch is not None
    assert batch.images[0].etag == "newer"
    assert queue.left == []


def test_no_message_is_deleted_before_its_batch_is_durable(s3: MemoryS3, settings: Settings) -> None:
    durable_at_delete: list[list[str]] = []

    class Watched(MemoryQueue):
        def delete_message_batch(self, **call: Any) -> dict[str, Any]:
            durable_at_delete.append([key for keys in pending(s3, settings) for key in keys])
            return super().delete_message_batch(**call)

    run(Watched(announced(*names(12))), s3, settings)
    assert durable_at_delete == [names(12)] * 2


def test_a_batch_that_cannot_be_written_keeps_its_messages(s3: MemoryS3, settings: Settings) -> None:
    class Full(MemoryS3):
        def put_object(self, **call: Any) -> dict[str, Any]:
            raise failure("SlowDown", "PutObject", 503)

    queue = MemoryQueue(announced(*names(12)))
    with pytest.raises(Exception, match="SlowDown"):
        run(queue, Full(FINAL), settings)
    assert len(queue.left) == 12
    assert "delete_message_batch" not in queue.calls
    # Visible at once: the task's next attempt must not find an empty queue and call it a day.
    assert run(queue, s3, settings).images == 12


def test_a_crash_between_writing_and_deleting_loses_nothing_and_doubles_nothing(
    s3: MemoryS3, settings: Settings
) -> None:
    queue = MemoryQueue(announced(*names(12)))
    queue.dies_at_delete = True
    with pytest.raises(Killed):
        run(queue, s3, settings)
    written = s3.contents(FINAL)
    queue.dies_at_delete = False
    queue.come_back()
    run(queue, s3, settings)
    assert s3.contents(FINAL) == written
    assert pending(s3, settings) == [names(12)]
    assert queue.left == []


def test_messages_that_come_again_in_other_company_are_counted_once(s3: MemoryS3, settings: Settings) -> None:
    queue = MemoryQueue(announced(*names(12)))
    queue.dies_at_delete = True
    with pytest.raises(Killed):
        run(queue, s3, settings)
    queue.dies_at_delete = False
    queue.come_back()
    queue.send([body(record("late.jpg", eventTime="2026-03-01T12:00:01Z"))])
    run(queue, s3, settings)
    backlog = count_backlog(s3, settings, list_pending(s3, FINAL), now=NOW, run_id="r")
    assert (backlog.images, backlog.doubles) == (13, 12)
    assert sorted(itertools.chain(*pending(s3, settings))) == sorted([*names(12), "late.jpg"])


def test_entries_that_fail_to_be_deleted_are_tried_again(s3: MemoryS3, settings: Settings) -> None:
    queue = MemoryQueue(announced(*names(12)))
    queue.failing_deletes = 7
    run(queue, s3, settings)
    assert queue.left == []


def test_entries_that_cannot_be_deleted_come_again_and_are_recognised(
    s3: MemoryS3, settings: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    queue = MemoryQueue(announced(*names(12)))
    queue.failing_deletes = 10 * drain_module.DELETE_ATTEMPTS
    run(queue, s3, settings)
    assert len(queue.left) == 10
    assert "10 messages could not be deleted" in caplog.text
    queue.come_back()
    run(queue, s3, settings)
    assert queue.left == []
    assert count_backlog(s3, settings, list_pending(s3, FINAL), now=NOW, run_id="r").images == 12


def test_what_no_retry_can_mend_goes_to_the_dead_letter_queue_with_its_reason(s3: MemoryS3, settings: Settings) -> None:
    foreign = body(record(bucket="someone-elses"))
    queue = MemoryQueue(["no JSON", *announced("a.jpg"), foreign, through_sns("[" * 100_000)])
    report = run(queue, s3, settings)
    assert (report.images, report.unparseable, report.refused) == (1, 2, 1)
    assert [letter["body"] for letter in queue.dead] == ["no JSON", foreign, through_sns("[" * 100_000)]
    assert [letter["reason"].partition(":")[0] for letter in queue.dead] == ["unparseable", "refused", "unparseable"]
    assert all(len(letter["reason"]) <= 256 for letter in queue.dead)
    assert queue.left == []


def test_without_a_dead_letter_queue_they_stay_and_somebody_is_told(
    s3: MemoryS3, settings: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    queue = MemoryQueue(["no JSON", *announced("a.jpg"), "neither"], dead_letter_queue=False)
    report = run(queue, s3, settings)
    assert (report.images, report.unparseable) == (1, 2)
    assert queue.left == ["no JSON", "neither"]
    (told,) = [entry for entry in caplog.records if entry.levelno == logging.ERROR]
    assert "has no dead-letter queue" in told.getMessage()
    assert "Give the queue a RedrivePolicy" in told.getMessage()


def test_test_events_and_deletions_are_deleted_with_a_line_in_the_log(
    s3: MemoryS3, settings: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    queue = MemoryQueue([TEST_EVENT, through_sns(TEST_EVENT), body(record(eventName="ObjectRemoved:Delete"))])
    assert run(queue, s3, settings) == DrainReport(messages=3, tests=2, ignored=1)
    assert caplog.text.count("is S3's test event") == 2
    assert queue.left == []
    assert s3.keys(FINAL) == []


def test_no_message_body_reaches_the_log(s3: MemoryS3, settings: Settings, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    run(MemoryQueue([*announced("secret-name.jpg"), "secret-name is no JSON"]), s3, settings)
    assert "secret-name" not in caplog.text


def test_local_aws_is_drained_to_the_last_message(aws_s3: Any, sqs: Any, aws_settings: Settings, unique: str) -> None:
    dead = sqs.create_queue(QueueName=f"{unique}-dead")["QueueUrl"]
    arn = sqs.get_queue_attributes(QueueUrl=dead, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
    policy = json.dumps({"deadLetterTargetArn": arn, "maxReceiveCount": "5"})
    queue = sqs.create_queue(QueueName=unique, Attributes={"RedrivePolicy": policy})["QueueUrl"]
    settings = aws_settings.model_copy(update={"queue_url": queue, "threads": 4})
    bodies = [
        *(body(record(key, bucket=settings.source_bucket)) for key in names(43)),
        TEST_EVENT,
        "no JSON",
    ]
    for start in range(0, len(bodies), 10):
        entries = [{"Id": str(n), "MessageBody": text} for n, text in enumerate(bodies[start : start + 10])]
        sqs.send_message_batch(QueueUrl=queue, Entries=entries)
    report = drain(sqs, aws_s3, settings, monotonic=itertools.count(step=0.001).__next__)
    assert (report.messages, report.images, report.tests, report.unparseable) == (45, 43, 1, 1)
    assert sorted(itertools.chain(*pending(aws_s3, settings))) == names(43)
    counters = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"]
    left = sqs.get_queue_attributes(QueueUrl=queue, AttributeNames=counters)["Attributes"]
    assert [left[name] for name in counters] == ["0", "0"]
    (letter,) = sqs.receive_message(QueueUrl=dead, MessageAttributeNames=["All"])["Messages"]
    assert letter["Body"] == "no JSON"
    assert letter["MessageAttributes"]["reason"]["StringValue"].startswith("unparseable: ")


def test_uploads_that_never_cease_end_the_drain_after_a_while(s3: MemoryS3, settings: Settings) -> None:
    class Endless(MemoryQueue):
        def receive_message(self, **call: Any) -> dict[str, Any]:
            self.send(announced(f"photos/{len(self.calls)}.jpg"))
            return super().receive_message(**call)

    queue = Endless()
    report = drain(queue, s3, settings, monotonic=itertools.count(step=5.0).__next__)
    assert report.messages > 0
    assert report.messages == sum(map(len, pending(s3, settings)))
