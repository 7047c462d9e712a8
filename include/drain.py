"""Stage 1: the queue becomes pending batches, and only then are the messages deleted.

A crash anywhere loses nothing: messages not deleted come again, and images already pending or labelled are recognised
later. Never decides from the queue's counters, which lag by a minute or more.
"""

from __future__ import annotations

import json
import logging
import math
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from typing import Any, Final

from botocore.exceptions import ClientError

from include.batches import plan_batches, write_batches
from include.events import Parsed, parse_body
from include.images import without_doubles
from include.parallel import in_parallel, in_slices
from include.settings import Settings

log = logging.getLogger(__name__)

MESSAGES_PER_CALL: Final = 10  # the most that ReceiveMessage gives and DeleteMessageBatch takes
# An empty answer to a long poll is rare while messages exist, but happens (SQS developer guide, "short and long
# polling"): the queue counts as empty after this many in a row in every thread.
EMPTY_RECEIVES: Final = 2
LONG_POLL_SECONDS: Final = 1
# Messages of a round are hidden from others until its batches are written; a crash brings them back after this.
VISIBILITY_SECONDS: Final = 300
ROUND_MESSAGES: Final = 2_000
ROUND_SECONDS: Final = 60.0
# Uploads that never cease must not keep a run from labelling: what comes later is the next run's.
DRAIN_SECONDS: Final = 600.0
DELETE_ATTEMPTS: Final = 3


@dataclass(frozen=True, slots=True)
class DrainReport:
    """Counts of one drain. ``refused`` and ``unparseable`` messages go to the dead-letter queue."""

    messages: int = 0
    images: int = 0
    doubles: int = 0
    batches: int = 0
    tests: int = 0
    ignored: int = 0
    refused: int = 0
    unparseable: int = 0

    def plus(self, other: DrainReport) -> DrainReport:
        return DrainReport(**{name: value + getattr(other, name) for name, value in asdict(self).items()})


@dataclass(slots=True)
class _Round:
    """Messages received together, shared by the receiving threads."""

    room: int
    deadline: float
    messages: list[dict[str, Any]] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)
    empty: bool = False

    def take_room(self, now: float) -> bool:
        """Whether there is room, and time, for what one more call may bring."""
        with self.lock:
            if self.room < MESSAGES_PER_CALL or now >= self.deadline:
                return False
            self.room -= MESSAGES_PER_CALL
            return True

    def add(self, messages: list[dict[str, Any]]) -> None:
        with self.lock:
            self.room += MESSAGES_PER_CALL - len(messages)
            self.messages.extend(messages)


def drain(sqs: Any, s3: Any, settings: Settings, *, monotonic: Callable[[], float]) -> DrainReport:
    """Empty the queue into pending batches, in rounds: while one is being received, the one before is made durable."""
    # Room for a full answer to every thread at once: one that finds none cannot say that the queue is empty.
    room = max(ROUND_MESSAGES, settings.threads * MESSAGES_PER_CALL)
    size = math.ceil(room / settings.batch_size) * settings.batch_size
    total = DrainReport()
    deadline = monotonic() + DRAIN_SECONDS
    with ThreadPoolExecutor(max_workers=1) as settler:
        settled: Future[DrainReport] | None = None
        while True:
            received = _receive_round(sqs, settings, size=size, monotonic=monotonic)
            if settled:
                try:
                    total = total.plus(settled.result())
                except BaseException:
                    _show_again(sqs, settings.queue_url, received.messages, threads=settings.threads)
                    raise
                log.info(
                    "Drained so far: %s messages, %s images, %s batches.", total.messages, total.images, total.batches
                )
            settled = settler.submit(_settle_round, sqs, s3, settings, received.messages)
            if not received.empty and monotonic() >= deadline:
                log.info(
                    "Uploads keep coming after %.0f minutes of draining: the rest is the next run's.",
                    DRAIN_SECONDS / 60,
                )
            if received.empty or monotonic() >= deadline:
                return total.plus(settled.result())


def _receive_round(sqs: Any, settings: Settings, *, size: int, monotonic: Callable[[], float]) -> _Round:
    current = _Round(room=size, deadline=monotonic() + ROUND_SECONDS)

    def receive() -> bool:
        empty_in_a_row = 0
        while empty_in_a_row < EMPTY_RECEIVES:
            if not current.take_room(monotonic()):
                return False
            messages = sqs.receive_message(
                QueueUrl=settings.queue_url,
                MaxNumberOfMessages=MESSAGES_PER_CALL,
                WaitTimeSeconds=LONG_POLL_SECONDS,
                VisibilityTimeout=VISIBILITY_SECONDS,
            ).get("Messages", [])
            empty_in_a_row = 0 if messages else empty_in_a_row + 1
            current.add(messages)
        return True

    with ThreadPoolExecutor(max_workers=settings.threads) as pool:
        current.empty = all([future.result() for future in [pool.submit(receive) for _ in range(settings.threads)]])
    return current


def _settle_round(sqs: Any, s3: Any, settings: Settings, messages: list[dict[str, Any]]) -> DrainReport:
    parsed = [(message, parse_body(message["Body"], source_bucket=settings.source_bucket)) for message in messages]
    announced = [image for _, result in parsed for image in result.images]
    images = without_doubles(announced)
    batches = plan_batches(images, batch_size=settings.batch_size)
    try:
        write_batches(s3, settings.final_bucket, batches, threads=settings.threads)
    except BaseException:
        _show_again(sqs, settings.queue_url, messages, threads=settings.threads)
        raise

    bad = [(message, result) for message, result in parsed if result.kind in ("refused", "unparseable")]
    good = [message for message, result in parsed if result.kind not in ("refused", "unparseable")]
    _delete(sqs, settings.queue_url, good, threads=settings.threads)
    _move_to_dead_letter_queue(sqs, settings.queue_url, bad)
    for message, result in parsed:
        if result.kind == "test":
            log.info("Message %s is S3's test event; deleted.", message["MessageId"])
    kinds = [result.kind for _, result in parsed]
    return DrainReport(
        messages=len(messages),
        images=len(images),
        doubles=len(announced) - len(images),
        batches=len(batches),
        tests=kinds.count("test"),
        ignored=kinds.count("ignored"),
        refused=kinds.count("refused"),
        unparseable=kinds.count("unparseable"),
    )


def _delete(sqs: Any, queue: str, messages: list[dict[str, Any]], *, threads: int) -> None:
    """Delete in tens. DeleteMessageBatch answers 200 even where entries failed; those are tried again."""

    def delete(some: tuple[dict[str, Any], ...]) -> int:
        handles = {str(number): message["ReceiptHandle"] for number, message in enumerate(some)}
        for _ in range(DELETE_ATTEMPTS):
            entries = [{"Id": number, "ReceiptHandle": handle} for number, handle in handles.items()]
            failed = sqs.delete_message_batch(QueueUrl=queue, Entries=entries).get("Failed", [])
            handles = {entry["Id"]: handles[entry["Id"]] for entry in failed}
            if not handles:
                break
        return len(handles)

    left = sum(in_parallel(delete, in_slices(messages, MESSAGES_PER_CALL), threads=threads))
    if left:
        log.warning(
            "%s messages could not be deleted. They come again and are recognised then: nothing is paid twice.", left
        )


def _show_again(sqs: Any, queue: str, messages: list[dict[str, Any]], *, threads: int) -> None:
    """Make messages visible at once, so that the task's next attempt finds them instead of an empty queue."""

    def show(some: tuple[dict[str, Any], ...]) -> None:
        entries = [
            {"Id": str(number), "ReceiptHandle": message["ReceiptHandle"], "VisibilityTimeout": 0}
            for number, message in enumerate(some)
        ]
        sqs.change_message_visibility_batch(QueueUrl=queue, Entries=entries)

    in_parallel(show, in_slices(messages, MESSAGES_PER_CALL), threads=threads)


def _move_to_dead_letter_queue(sqs: Any, queue: str, bad: list[tuple[dict[str, Any], Parsed]]) -> None:
    """Hand over what no retry can mend, with the reason, instead of receiving it until SQS has counted enough."""
    if not bad:
        return
    dead_letter_queue = dead_letter_queue_url(sqs, queue)
    for message, result in bad:
        if dead_letter_queue is None:
            continue
        reason = {"DataType": "String", "StringValue": f"{result.kind}: {result.problem}"[:256]}
        sqs.send_message(QueueUrl=dead_letter_queue, MessageBody=message["Body"], MessageAttributes={"reason": reason})
        sqs.delete_message(QueueUrl=queue, ReceiptHandle=message["ReceiptHandle"])
        log.warning(
            "Message %s is %s (%s): moved to the dead-letter queue.", message["MessageId"], result.kind, result.problem
        )
    if dead_letter_queue is None:
        log.error(
            "%s messages announce no image of the source bucket, and %s has no dead-letter queue: they come again with "
            "every run until they expire. Give the queue a RedrivePolicy.",
            len(bad),
            queue,
        )


def dead_letter_queue_url(sqs: Any, queue: str) -> str | None:
    """Where the queue's RedrivePolicy sends messages to; None where it has none."""
    attributes = sqs.get_queue_attributes(QueueUrl=queue, AttributeNames=["RedrivePolicy"]).get("Attributes", {})
    arn = json.loads(attributes.get("RedrivePolicy") or "{}").get("deadLetterTargetArn")
    if not arn:
        return None
    account, name = arn.split(":")[-2:]
    return str(sqs.get_queue_url(QueueName=name, QueueOwnerAWSAccountId=account)["QueueUrl"])


def count_dead_letters(sqs: Any, queue: str) -> int:
    """Messages in the dead-letter queue, about; 0 where there is none or it may not be looked at."""
    try:
        url = dead_letter_queue_url(sqs, queue)
        names = ["ApproximateNumberOfMessages"]
        return int(sqs.get_queue_attributes(QueueUrl=url, AttributeNames=names)["Attributes"][names[0]]) if url else 0
    except ClientError as err:
        log.warning("Could not look at the dead-letter queue of %s (%s).", queue, err)
        return 0
