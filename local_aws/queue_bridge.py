"""Where moto's S3, SNS and EventBridge deliver to SQS: into the queues that this package answers for."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from moto.sqs.exceptions import QueueDoesNotExist
from moto.sqs.models import sqs_backends

from local_aws import s3_events
from local_aws.sqs.service import Queues


@dataclass(frozen=True)
class QueueFacts:
    """What SNS asks about a queue before it subscribes it."""

    fifo_queue: bool = False


class QueueBridge:
    """Stands where moto expects its own SQS backend of an account and Region. Called on moto's thread."""

    queues: ClassVar[Queues]
    loop: ClassVar[asyncio.AbstractEventLoop]

    def __init__(self, region_name: str, account_id: str) -> None:
        self._region = region_name

    def reset(self) -> None:
        """Nothing is kept here."""

    def send_message(
        self,
        queue_name: str,
        message_body: str,
        message_attributes: Mapping[str, Mapping[str, object]] | None = None,
        **_fifo_only: Any,
    ) -> None:
        """Hand a message to the event loop; it is in the queue before moto's response reaches the client."""
        arn = self._arn(queue_name)
        self.loop.call_soon_threadsafe(self.queues.deliver, arn, message_body, message_attributes or {})

    def get_queue(self, queue_name: str) -> QueueFacts:
        """QueueDoesNotExist without such a queue."""
        if not self.queues.has(self._arn(queue_name)):
            raise QueueDoesNotExist
        return QueueFacts()

    def _arn(self, queue_name: str) -> str:
        return self.queues.arn(self._region, queue_name)


def install(queues: Queues, loop: asyncio.AbstractEventLoop) -> None:
    """Have moto deliver to these queues, and S3 word its events as AWS does."""
    QueueBridge.queues = queues
    QueueBridge.loop = loop
    sqs_backends.backend = QueueBridge
    sqs_backends.clear()
    s3_events.install(queues.has)
