"""The SQS operations as clients call them: AWS JSON in, AWS JSON out.

https://docs.aws.amazon.com/AWSSimpleQueueService/latest/APIReference/API_Operations.html
"""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Awaitable
from typing import Any

from local_aws.json_service import JsonService, Operation, Problem
from local_aws.sqs import attributes as queue_attributes
from local_aws.sqs.batches import MAX_BATCH_BYTES, act_on_each, check_entries, query_code
from local_aws.sqs.deliveries import delivery
from local_aws.sqs.messages import outgoing
from local_aws.sqs.queue import MAX_VISIBILITY_SECONDS, Received
from local_aws.sqs.service import Queues, Record
from local_aws.wire import AwsError, Request

Arguments = dict[str, Any]


def sqs_service(queues: Queues) -> JsonService:
    """SQS over these queues."""
    return JsonService("sqs", _Operations(queues).by_name(), invalid=_invalid, error_headers=_error_headers)


def _invalid(problems: list[Problem]) -> AwsError | None:
    """What is missing. The model's other constraints are not the service's own, which the operations check."""
    missing = [problem.path.rpartition(".")[2] for problem in problems if problem.missing]
    if not missing:
        return None
    name = missing[0][:1].upper() + missing[0][1:]
    return AwsError("MissingParameter", f"The request must contain the parameter {name}.")


def _error_headers(error: AwsError) -> list[tuple[str, str]]:
    whose = "Sender" if error.status < 500 else "Receiver"
    return [("x-amzn-query-error", f"{query_code(error)};{whose}")]


class _Operations:
    def __init__(self, queues: Queues) -> None:
        self._queues = queues

    def by_name(self) -> dict[str, Operation]:
        return {
            "ChangeMessageVisibility": self.change_message_visibility,
            "ChangeMessageVisibilityBatch": self.change_message_visibility_batch,
            "CreateQueue": self.create_queue,
            "DeleteMessage": self.delete_message,
            "DeleteMessageBatch": self.delete_message_batch,
            "DeleteQueue": self.delete_queue,
            "GetQueueAttributes": self.get_queue_attributes,
            "GetQueueUrl": self.get_queue_url,
            "ListDeadLetterSourceQueues": self.list_dead_letter_source_queues,
            "ListMessageMoveTasks": self.list_message_move_tasks,
            "ListQueueTags": self.list_queue_tags,
            "ListQueues": self.list_queues,
            "PurgeQueue": self.purge_queue,
            "ReceiveMessage": self.receive_message,
            "SendMessage": self.send_message,
            "SendMessageBatch": self.send_message_batch,
            "SetQueueAttributes": self.set_queue_attributes,
            "StartMessageMoveTask": self.start_message_move_task,
            "TagQueue": self.tag_queue,
            "UntagQueue": self.untag_queue,
        }

    def _record(self, arguments: Arguments, request: Request) -> Record:
        name = arguments["QueueUrl"].rstrip("/").rpartition("/")[2]
        return self._queues.get(self._queues.arn(request.region, name))

    def _url(self, record: Record, request: Request) -> str:
        return f"{request.endpoint_url}/{self._queues.account_id}/{record.name}"

    def _page(self, records: list[Record], arguments: Arguments, request: Request) -> tuple[list[str], str | None]:
        """At most MaxResults URLs after NextToken; without MaxResults SQS returns 1,000 and no token."""
        after = arguments.get("NextToken", "")
        most = arguments.get("MaxResults", 1_000)
        _check_range("MaxResults", most, 1, 1_000)
        rest = [record for record in records if record.name > after]
        token = rest[most - 1].name if len(rest) > most and "MaxResults" in arguments else None
        return [self._url(record, request) for record in rest[:most]], token

    async def create_queue(self, arguments: Arguments, request: Request) -> Arguments:
        record = self._queues.create(
            request.region, arguments["QueueName"], arguments.get("Attributes", {}), arguments.get("tags", {})
        )
        return {"QueueUrl": self._url(record, request)}

    async def get_queue_url(self, arguments: Arguments, request: Request) -> Arguments:
        record = self._queues.get(self._queues.arn(request.region, arguments["QueueName"]))
        return {"QueueUrl": self._url(record, request)}

    async def list_queues(self, arguments: Arguments, request: Request) -> Arguments:
        prefix = self._queues.arn(request.region, arguments.get("QueueNamePrefix", ""))
        records = [record for record in self._queues.records() if record.queue.arn.startswith(prefix)]
        urls, token = self._page(records, arguments, request)
        return _present(QueueUrls=urls or None, NextToken=token)

    async def list_dead_letter_source_queues(self, arguments: Arguments, request: Request) -> Arguments:
        sources = self._queues.sources(self._record(arguments, request).queue.arn)
        urls, token = self._page(sources, arguments, request)
        return {"queueUrls": urls} | _present(NextToken=token)

    async def delete_queue(self, arguments: Arguments, request: Request) -> Arguments:
        self._queues.delete(self._record(arguments, request).queue.arn)
        return {}

    async def purge_queue(self, arguments: Arguments, request: Request) -> Arguments:
        self._record(arguments, request).queue.purge()
        return {}

    async def set_queue_attributes(self, arguments: Arguments, request: Request) -> Arguments:
        self._record(arguments, request).apply(arguments["Attributes"], self._queues.clock())
        return {}

    async def get_queue_attributes(self, arguments: Arguments, request: Request) -> Arguments:
        record = self._record(arguments, request)
        names = arguments.get("AttributeNames", [])
        unknown = sorted(set(names) - queue_attributes.NAMES - {"All"})
        if unknown:
            raise AwsError("InvalidAttributeName", f"Unknown Attribute {unknown[0]}.")
        counts = record.queue.counts(self._queues.clock())
        known = record.attributes | {
            "QueueArn": record.queue.arn,
            "CreatedTimestamp": str(int(record.created_at)),
            "LastModifiedTimestamp": str(int(record.modified_at)),
            "ApproximateNumberOfMessages": str(counts["visible"]),
            "ApproximateNumberOfMessagesNotVisible": str(counts["in_flight"]),
            "ApproximateNumberOfMessagesDelayed": str(counts["delayed"]),
        }
        return {"Attributes": {name: value for name, value in known.items() if name in names or "All" in names}}

    async def tag_queue(self, arguments: Arguments, request: Request) -> Arguments:
        self._record(arguments, request).tags.update(arguments["Tags"])
        return {}

    async def untag_queue(self, arguments: Arguments, request: Request) -> Arguments:
        for key in arguments["TagKeys"]:
            self._record(arguments, request).tags.pop(key, None)
        return {}

    async def list_queue_tags(self, arguments: Arguments, request: Request) -> Arguments:
        return {"Tags": dict(self._record(arguments, request).tags)}

    async def send_message(self, arguments: Arguments, request: Request) -> Arguments:
        return self._send(self._record(arguments, request), arguments)

    def _send(self, record: Record, arguments: Arguments) -> Arguments:
        delay = arguments.get("DelaySeconds")
        if delay is not None:
            _check_range("DelaySeconds", delay, 0, 900)
        message_id, body_md5, attributes_md5 = self._queues.send(record, outgoing(arguments), delay_seconds=delay)
        return _present(MessageId=message_id, MD5OfMessageBody=body_md5, MD5OfMessageAttributes=attributes_md5 or None)

    async def send_message_batch(self, arguments: Arguments, request: Request) -> Arguments:
        record = self._record(arguments, request)
        check_entries(arguments["Entries"], "SendMessage")
        size = sum(outgoing(entry).size_bytes for entry in arguments["Entries"])
        if size > MAX_BATCH_BYTES:
            message = f"Batch requests cannot be longer than {MAX_BATCH_BYTES} bytes. You have sent {size} bytes."
            raise AwsError("BatchRequestTooLong", message)
        return act_on_each(arguments["Entries"], lambda entry: self._send(record, entry))

    async def receive_message(self, arguments: Arguments, request: Request) -> Arguments:
        record = self._record(arguments, request)
        count = arguments.get("MaxNumberOfMessages", 1)
        _check_range("MaxNumberOfMessages", count, 1, 10)
        default_wait = int(record.attributes["ReceiveMessageWaitTimeSeconds"])
        wait = arguments.get("WaitTimeSeconds", default_wait)
        _check_range("WaitTimeSeconds", wait, 0, 20)
        visibility = arguments.get("VisibilityTimeout")
        if visibility is not None:
            _check_range("VisibilityTimeout", visibility, 0, MAX_VISIBILITY_SECONDS)
        receiving = self._queues.receive(record, count, wait_seconds=wait, visibility_seconds=visibility)
        received = await (_unless_gone(receiving, request) if wait else receiving)
        messages = [delivery(each, arguments, self._queues.account_id) for each in received]
        return {"Messages": messages} if messages else {}

    async def delete_message(self, arguments: Arguments, request: Request) -> Arguments:
        self._record(arguments, request).queue.delete(arguments["ReceiptHandle"])
        return {}

    async def delete_message_batch(self, arguments: Arguments, request: Request) -> Arguments:
        record = self._record(arguments, request)
        check_entries(arguments["Entries"], "DeleteMessage")

        def delete(entry: Arguments) -> Arguments:
            record.queue.delete(entry["ReceiptHandle"])
            return {}

        return act_on_each(arguments["Entries"], delete)

    async def change_message_visibility(self, arguments: Arguments, request: Request) -> Arguments:
        return self._change(self._record(arguments, request), arguments)

    def _change(self, record: Record, arguments: Arguments) -> Arguments:
        seconds = arguments.get("VisibilityTimeout", 0)
        _check_range("VisibilityTimeout", seconds, 0, MAX_VISIBILITY_SECONDS)
        self._queues.change_visibility(record, arguments["ReceiptHandle"], seconds)
        return {}

    async def change_message_visibility_batch(self, arguments: Arguments, request: Request) -> Arguments:
        record = self._record(arguments, request)
        check_entries(arguments["Entries"], "ChangeMessageVisibility")
        return act_on_each(arguments["Entries"], lambda entry: self._change(record, entry))

    async def start_message_move_task(self, arguments: Arguments, request: Request) -> Arguments:
        source = self._source(arguments["SourceArn"])
        if not self._queues.sources(source.queue.arn):
            raise AwsError("InvalidParameterValue", "Source queue must be configured as a Dead Letter Queue.")
        destination = arguments.get("DestinationArn")
        started_ms = int(self._queues.clock() * 1_000)
        moved = self._queues.move(source, self._source(destination) if destination else None)
        handle = str(uuid.uuid4())
        source.move_tasks.insert(
            0,
            {
                "Status": "COMPLETED",
                "SourceArn": source.queue.arn,
                "ApproximateNumberOfMessagesMoved": moved,
                "ApproximateNumberOfMessagesToMove": moved,
                "StartedTimestamp": started_ms,
            }
            | _present(DestinationArn=destination),
        )
        return {"TaskHandle": handle}

    async def list_message_move_tasks(self, arguments: Arguments, request: Request) -> Arguments:
        most = arguments.get("MaxResults", 1)
        _check_range("MaxResults", most, 1, 10)
        return {"Results": self._source(arguments["SourceArn"]).move_tasks[:most]}

    def _source(self, arn: str) -> Record:
        if not self._queues.has(arn):
            message = "The resource that you specified for the SourceArn parameter doesn't exist."
            raise AwsError("ResourceNotFoundException", f"{message} ({arn})", 404)
        return self._queues.get(arn)


async def _unless_gone(receiving: Awaitable[list[Received]], request: Request) -> list[Received]:
    """Long-poll only as long as the client is there: a message must not vanish into a closed connection."""
    waiting = asyncio.ensure_future(receiving)
    gone = asyncio.ensure_future(request.disconnected())
    try:
        await asyncio.wait({waiting, gone}, return_when=asyncio.FIRST_COMPLETED)
        return waiting.result() if waiting.done() else []
    finally:
        waiting.cancel()
        gone.cancel()


def _check_range(name: str, value: int, lowest: int, highest: int) -> None:
    if not lowest <= value <= highest:
        reason = f"Reason: Must be between {lowest} and {highest}, if provided."
        raise AwsError("InvalidParameterValue", f"Value {value} for parameter {name} is invalid. {reason}")


def _present(**members: Any) -> Arguments:
    return {name: value for name, value in members.items() if value is not None}
