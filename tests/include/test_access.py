from __future__ import annotations

from typing import Any

import pytest

from include.access import check_access
from include.errors import AccessError
from include.settings import Settings
from local_aws.process import LocalAws
from tests.include.memory_s3 import failure


class Refusing:
    """A client of which every call fails in the same way."""

    def __init__(self, code: str, status: int) -> None:
        self._error = failure(code, "Anything", status)

    def __getattr__(self, name: str) -> Any:
        def call(**_: object) -> None:
            raise self._error

        return call


def test_what_is_there_passes(aws: LocalAws, aws_settings: Settings, sqs: Any) -> None:
    queue_url = sqs.create_queue(QueueName=f"{aws_settings.source_bucket}-queue")["QueueUrl"]
    found = aws_settings.model_copy(update={"queue_url": queue_url})
    assert check_access(aws.client("s3"), sqs, found) is None  # type: ignore[func-returns-value]


def test_everything_that_is_missing_is_named_with_its_setting(aws: LocalAws, aws_settings: Settings) -> None:
    gone = aws_settings.model_copy(
        update={"final_bucket": "no-such-bucket", "queue_url": aws_settings.queue_url + "-no-such-queue"}
    )
    with pytest.raises(AccessError) as raised:
        check_access(aws.client("s3"), aws.client("sqs"), gone)
    assert "LABELS_FINAL_BUCKET=no-such-bucket: it does not exist" in str(raised.value)
    assert "-no-such-queue: it does not exist" in str(raised.value)
    assert "LABELS_SOURCE_BUCKET" not in str(raised.value)


def test_missing_permissions_are_said_so(settings: Settings) -> None:
    with pytest.raises(AccessError, match=r"LABELS_SOURCE_BUCKET=.*may not use it \(403\)"):
        check_access(Refusing("403", 403), Refusing("AccessDenied", 403), settings)


def test_a_service_that_is_down_is_no_lack_of_access(settings: Settings) -> None:
    with pytest.raises(Exception, match="ServiceUnavailable"):
        check_access(Refusing("ServiceUnavailable", 503), Refusing("ServiceUnavailable", 503), settings)
