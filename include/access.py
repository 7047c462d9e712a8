"""Is everything there that a run needs, and may we use it? Asked first, so that nothing starts where something is missing."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from botocore.exceptions import ClientError

from include.errors import AccessError, error_code, error_message
from include.settings import PREFIX, Settings


def check_access(s3: Any, sqs: Any, settings: Settings) -> None:
    """Look at both buckets and the queue.

    :raises AccessError: naming everything that is missing or not allowed, and the setting it comes from.
    """
    looks: tuple[tuple[str, str, Callable[[], object]], ...] = (
        ("SOURCE_BUCKET", settings.source_bucket, lambda: s3.head_bucket(Bucket=settings.source_bucket)),
        ("FINAL_BUCKET", settings.final_bucket, lambda: s3.head_bucket(Bucket=settings.final_bucket)),
        ("QUEUE_URL", settings.queue_url, lambda: sqs.get_queue_attributes(QueueUrl=settings.queue_url)),
    )
    problems = []
    for setting, value, look in looks:
        try:
            look()
        except ClientError as err:
            if err.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0) >= 500:
                raise
            problems.append(f"{PREFIX}{setting}={value}: {_in_words(err)}")
    if problems:
        raise AccessError(
            "Nothing was started and nothing is lost; to mend first:\n"
            + "\n".join(f"  - {problem}" for problem in problems)
        )


def _in_words(error: ClientError) -> str:
    code = error_code(error)
    if code in ("404", "NoSuchBucket", "QueueDoesNotExist", "AWS.SimpleQueueService.NonExistentQueue"):
        return f"it does not exist, in this account and region ({code})"
    if code in ("403", "AccessDenied", "AccessDeniedException"):
        return f"the role of the Airflow connection may not use it ({code}); README.md lists the permissions"
    if code in ("301", "PermanentRedirect"):
        return f"it is in another region than {PREFIX}REGION ({code})"
    return f"{code}: {error_message(error)}"
