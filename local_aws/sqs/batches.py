"""Batches of entries: what makes one malformed, and acting on each entry by itself."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from local_aws.wire import AwsError

Arguments = dict[str, Any]

_ENTRY_ID = re.compile(r"[A-Za-z0-9_-]{1,80}")
# https://docs.aws.amazon.com/AWSSimpleQueueService/latest/APIReference/API_SendMessageBatch.html
MAX_BATCH_BYTES = 1_048_576
MAX_ENTRIES = 10

# Errors that kept their names of the query protocol, which is what botocore reports as the code:
# https://docs.aws.amazon.com/AWSSimpleQueueService/latest/APIReference/CommonErrors.html
_QUERY_CODES = {
    "QueueDoesNotExist": "AWS.SimpleQueueService.NonExistentQueue",
    "QueueNameExists": "QueueAlreadyExists",
} | {
    name: f"AWS.SimpleQueueService.{name}"
    for name in (
        "BatchEntryIdsNotDistinct",
        "BatchRequestTooLong",
        "EmptyBatchRequest",
        "InvalidBatchEntryId",
        "MessageNotInflight",
        "TooManyEntriesInBatchRequest",
        "UnsupportedOperation",
    )
}


def query_code(error: AwsError) -> str:
    """The error's name in the query protocol."""
    return _QUERY_CODES.get(error.code, error.code)


def act_on_each(entries: list[Arguments], act: Callable[[Arguments], Arguments]) -> Arguments:
    """Act on every entry of a batch; one that fails does not stop the others."""
    successful, failed = [], []
    for entry in entries:
        try:
            successful.append({"Id": entry["Id"]} | act(entry))
        except AwsError as error:
            failed.append({"Id": entry["Id"], "SenderFault": True, "Code": query_code(error), "Message": error.message})
    return {"Successful": successful} | ({"Failed": failed} if failed else {})


def check_entries(entries: list[Arguments], action: str) -> None:
    """Refuse a batch that is empty, too long, or whose ids are malformed or repeated."""
    if not entries:
        message = f"There should be at least one {action}BatchRequestEntry in the request."
        raise AwsError("EmptyBatchRequest", message)
    if len(entries) > MAX_ENTRIES:
        message = f"Maximum number of entries per request are {MAX_ENTRIES}. You have sent {len(entries)}."
        raise AwsError("TooManyEntriesInBatchRequest", message)
    ids = [entry["Id"] for entry in entries]
    for entry_id in ids:
        if not _ENTRY_ID.fullmatch(entry_id):
            rule = (
                "can only contain alphanumeric characters, hyphens and underscores. It can be at most 80 letters long."
            )
            raise AwsError("InvalidBatchEntryId", f"A batch entry id {rule}")
        if ids.count(entry_id) > 1:
            raise AwsError("BatchEntryIdsNotDistinct", f"Id {entry_id} repeated.")
