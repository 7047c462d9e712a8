"""The queues of an account and what may be done with them, apart from the protocol they are asked in."""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

from local_aws.faults import Faults
from local_aws.sqs import attributes as queue_attributes
from local_aws.sqs.messages import Message, Outgoing
from local_aws.sqs.queue import Queue, Received
from local_aws.wire import AwsError

logger = logging.getLogger(__name__)

_NAME = re.compile(r"[A-Za-z0-9_-]{1,80}")


@dataclass(eq=False)
class Record:
    """A queue with its attributes and tags."""

    name: str
    queue: Queue
    attributes: dict[str, str]
    tags: dict[str, str]
    created_at: float
    modified_at: float
    move_tasks: list[dict[str, object]] = field(default_factory=list)

    def apply(self, attributes: Mapping[str, str], now: float) -> None:
        """Change attributes; an empty value removes one that has no default."""
        changed = self.attributes | queue_attributes.checked(attributes)
        self.attributes = {name: value for name, value in changed.items() if value != ""}
        self.queue.limits = queue_attributes.limits(self.attributes)
        self.modified_at = now


class Queues:
    """Every queue, by Region and name. All methods run on the event loop. `faults` disturb messages on their way."""

    def __init__(self, account_id: str, clock: Callable[[], float], faults: Faults) -> None:
        self.account_id = account_id
        self.clock = clock
        self._faults = faults
        self._records: dict[str, Record] = {}
        self._changed: dict[str, asyncio.Event] = {}

    def records(self) -> list[Record]:
        """Every queue, sorted by ARN."""
        return [self._records[arn] for arn in sorted(self._records)]

    def replace_all(self, records: Iterable[Record]) -> None:
        """Hold exactly these queues."""
        self._records = {record.queue.arn: record for record in records}

    def arn(self, region: str, name: str) -> str:
        """The ARN of a queue of this account."""
        return f"arn:aws:sqs:{region}:{self.account_id}:{name}"

    def has(self, arn: str) -> bool:
        """Whether there is such a queue."""
        return arn in self._records

    def get(self, arn: str) -> Record:
        """The queue of an ARN; QueueDoesNotExist without one."""
        if arn not in self._records:
            raise AwsError("QueueDoesNotExist", f"The specified queue does not exist: {arn}.")
        return self._records[arn]

    def create(self, region: str, name: str, attributes: Mapping[str, str], tags: Mapping[str, str]) -> Record:
        """Create a queue, or return the one that has this name and no other attributes (QueueNameExists otherwise)."""
        if name.endswith(".fifo"):
            raise AwsError("UnsupportedOperation", f"{name}: local AWS has standard queues only, no FIFO queues.")
        if not _NAME.fullmatch(name):
            reason = "Can only include alphanumeric characters, hyphens, or underscores. 1 to 80 in length"
            raise AwsError("InvalidParameterValue", f"{reason}: {name!r}")
        given = queue_attributes.checked(attributes)
        arn = self.arn(region, name)
        existing = self._records.get(arn)
        if existing is not None:
            different = sorted(key for key, value in given.items() if existing.attributes.get(key) != value)
            if different:
                reason = f"A queue already exists with the same name and a different value for attribute {different[0]}"
                raise AwsError("QueueNameExists", reason)
            return existing
        now = self.clock()
        record = Record(name, Queue(arn), dict(queue_attributes.DEFAULTS), dict(tags), now, now)
        record.apply(given, now)
        self._records[arn] = record
        return record

    def delete(self, arn: str) -> None:
        """Delete a queue and its messages."""
        self.get(arn)
        del self._records[arn]
        self._wake(arn)

    def send(self, record: Record, outgoing: Outgoing, *, delay_seconds: float | None = None) -> tuple[str, str, str]:
        """(message id, MD5 of the body, MD5 of the attributes); InvalidParameterValue for a message too long."""
        most = record.queue.limits.max_message_bytes
        if outgoing.size_bytes > most:
            reason = f"Message must be shorter than {most} bytes."
            raise AwsError("InvalidParameterValue", f"One or more parameters are invalid. Reason: {reason}")
        if self._faults and (late := self._faults.visible_after_seconds()):
            delay_seconds = max(late, record.queue.limits.delay_seconds if delay_seconds is None else delay_seconds)
        message = record.queue.send(outgoing, self.clock(), delay_seconds=delay_seconds)
        self._wake(record.queue.arn)
        return message.id, message.body_md5, message.attributes_md5

    def deliver(self, arn: str, body: str, attributes: Mapping[str, Mapping[str, object]]) -> None:
        """Another service's message, which is lost when the queue is gone or does not take it, as on AWS."""
        try:
            self.send(self.get(arn), Outgoing(body, attributes))
        except AwsError as error:
            logger.warning("a message for %s is lost: %s", arn, error)

    async def receive(
        self, record: Record, count: int, *, wait_seconds: float, visibility_seconds: float | None
    ) -> list[Received]:
        """Up to `count` messages, waiting for the first as long as told. OverLimit as AWS has it: on short polls only."""
        arn = record.queue.arn
        until = self.clock() + wait_seconds
        while True:
            now = self.clock()
            received, dead = record.queue.receive(count, now, visibility_seconds=visibility_seconds)
            self._bury(record, dead)
            if received:
                if self._faults:
                    self._plan_redeliveries(record, received)
                return received
            if now >= until:
                if wait_seconds == 0 and record.queue.is_over_limit():
                    raise AwsError("OverLimit", "Too many messages in flight.", 403)
                return []
            next_visible_at = record.queue.next_visible_at()
            wake_at = until if next_visible_at is None else min(until, next_visible_at)
            changed = self._changed.setdefault(arn, asyncio.Event())
            try:
                await asyncio.wait_for(changed.wait(), max(0.001, wake_at - now))
            except TimeoutError:
                continue
            self.get(arn)

    def change_visibility(self, record: Record, receipt_handle: str, seconds: float) -> None:
        """Hide a message in flight for `seconds` more, or give it back with 0."""
        record.queue.change_visibility(receipt_handle, seconds, self.clock())
        self._wake(record.queue.arn)

    def sources(self, arn: str) -> list[Record]:
        """The queues that use this one as their dead-letter queue."""
        return [record for record in self.records() if _target(record) == arn]

    def move(self, source: Record, destination: Record | None) -> int:
        """Move the visible messages of a dead-letter queue, each to where it came from unless told; how many moved.

        A moved message is a new one: new id, new time.
        """
        moved = 0
        for message in source.queue.take_all():
            target = destination or self._records.get(message.source_queue_arn)
            if target is None:
                source.queue.accept(message, message.source_queue_arn)
                continue
            target.queue.send(Outgoing(message.body, message.attributes, message.system_attributes), self.clock())
            self._wake(target.queue.arn)
            moved += 1
        return moved

    def _bury(self, record: Record, dead: list[Message]) -> None:
        target = self._records.get(_target(record))
        for message in dead:
            if target is not None:
                target.queue.accept(message, record.queue.arn)
                self._wake(target.queue.arn)

    def _plan_redeliveries(self, record: Record, received: list[Received]) -> None:
        def redeliver(message: Message) -> None:
            record.queue.redeliver(message)
            self._wake(record.queue.arn)

        for each in received:
            seconds = self._faults.redelivered_after_seconds()
            if seconds is not None:
                asyncio.get_running_loop().call_later(seconds, redeliver, each.message)

    def _wake(self, arn: str) -> None:
        """Let everyone who waits for a message look again."""
        changed = self._changed.pop(arn, None)
        if changed is not None:
            changed.set()


def _target(record: Record) -> str:
    policy = queue_attributes.redrive(record.attributes)
    return policy[0] if policy else ""
