"""Bring messages back out of the dead-letter queue: the next run drains them."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from botocore.exceptions import BotoCoreError, ClientError

from include.drain import EMPTY_RECEIVES, LONG_POLL_SECONDS, MESSAGES_PER_CALL, dead_letter_queue_url
from include.errors import TerminalError
from include.parallel import in_parallel, in_slices
from include.settings import Settings

log = logging.getLogger(__name__)

# What is looked at is hidden from others meanwhile; killed, it comes back after this.
HIDDEN_SECONDS: Final = 600
LEFT_SHOWN: Final = 50


@dataclass(frozen=True, slots=True)
class Left:
    """A message that stays in the dead-letter queue, since it announces no image: why."""

    message_id: str
    reason: str


@dataclass(slots=True)
class DeadLetters:
    """``moved``: back in the queue (on a dry run: would be). ``left`` are the first few that stay, ``reasons`` all of them."""

    moved: int = 0
    left: list[Left] = field(default_factory=list)
    reasons: Counter[str] = field(default_factory=Counter)


def redrive_dead_letters(
    sqs: Any,
    settings: Settings,
    *,
    limit: int | None = None,
    dry_run: bool = False,
    seen: Callable[[int], None] = lambda more: None,
) -> DeadLetters:
    """Put messages that SQS gave up (they have no reason) back into the queue; those with a reason announce no image and stay.

    Each is sent before it is deleted: killed in between it is there twice, which draining recognises. The others are hidden
    from other readers until this ends, or for ten minutes if it is killed.

    :param limit: so many at most.
    :param seen: told how many messages more were looked at.
    :raises TerminalError: where the queue has no dead-letter queue.
    """
    source = dead_letter_queue_url(sqs, settings.queue_url)
    if source is None:
        raise TerminalError(f"{settings.queue_url} has no dead-letter queue: give it a RedrivePolicy.")
    found = DeadLetters()
    hidden: dict[str, str] = {}  # receipt handles by message id

    def move(message: dict[str, Any]) -> None:
        attributes = {
            name: {part: value for part, value in given.items() if part in ("DataType", "StringValue", "BinaryValue")}
            for name, given in message.get("MessageAttributes", {}).items()
        }
        sqs.send_message(QueueUrl=settings.queue_url, MessageBody=message["Body"], MessageAttributes=attributes)
        sqs.delete_message(QueueUrl=source, ReceiptHandle=message["ReceiptHandle"])
        hidden.pop(message["MessageId"])

    empty_in_a_row = 0
    try:
        while empty_in_a_row < EMPTY_RECEIVES and (limit is None or found.moved < limit):
            messages = sqs.receive_message(
                QueueUrl=source,
                MaxNumberOfMessages=MESSAGES_PER_CALL,
                WaitTimeSeconds=LONG_POLL_SECONDS,
                VisibilityTimeout=HIDDEN_SECONDS,
                MessageAttributeNames=["All"],
            ).get("Messages", [])
            new = [message for message in messages if message["MessageId"] not in hidden]
            empty_in_a_row = 0 if new else empty_in_a_row + 1
            hidden |= {message["MessageId"]: message["ReceiptHandle"] for message in messages}
            for message in new:
                if reason := _reason(message):
                    found.reasons[reason] += 1
                    found.left += [Left(message["MessageId"], reason)] if len(found.left) < LEFT_SHOWN else []
            back = [message for message in new if not _reason(message)]
            back = back[: None if limit is None else limit - found.moved]
            if not dry_run:
                in_parallel(move, back, threads=settings.threads)
            found.moved += len(back)
            seen(len(new))
    finally:
        _show_again(sqs, source, list(hidden.values()), threads=settings.threads)
    return found


def _reason(message: Mapping[str, Any]) -> str:
    """Why draining put the message aside; empty where SQS did."""
    return str(message.get("MessageAttributes", {}).get("reason", {}).get("StringValue", ""))


def _show_again(sqs: Any, queue: str, handles: list[str], *, threads: int) -> None:
    def show(some: tuple[str, ...]) -> None:
        entries = [
            {"Id": str(number), "ReceiptHandle": handle, "VisibilityTimeout": 0} for number, handle in enumerate(some)
        ]
        sqs.change_message_visibility_batch(QueueUrl=queue, Entries=entries)

    try:
        in_parallel(show, in_slices(handles, MESSAGES_PER_CALL), threads=threads)
    except (ClientError, BotoCoreError) as err:
        log.warning("Messages in the dead-letter queue stay hidden for ten minutes at most (%s).", err)
