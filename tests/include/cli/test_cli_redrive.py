from __future__ import annotations

import json
from typing import Any

import pytest

from include import layout
from include.batches import list_pending, read_batch
from local_stack.seed import FINAL_BUCKET, SOURCE_BUCKET
from tests.include.cli.conftest import Account, document, typed


def quarantined(
    account: Account, key: str, *, code: str = "GivenUp", run_id: str = "manual__1", bucket: str = SOURCE_BUCKET
) -> None:
    """An image in quarantine, with its reason."""
    put = account.s3.put_object(Bucket=FINAL_BUCKET, Key=layout.quarantined(bucket, key), Body=key.encode())
    reason: dict[str, Any] = {"source_bucket": bucket, "source_key": key, "etag": put["ETag"].strip('"')}
    reason |= {"error_code": code, "error_message": "so it is", "run_id": run_id, "origin": "upload"}
    body = json.dumps(reason).encode()
    account.s3.put_object(Bucket=FINAL_BUCKET, Key=layout.quarantine_reason(bucket, key), Body=body)


def queued(account: Account) -> set[str]:
    batches = [read_batch(account.s3, FINAL_BUCKET, key) for key in list_pending(account.s3, FINAL_BUCKET)]
    return {image.key for batch in batches if batch for image in batch.images}


def test_nothing_to_do_is_no_error(account: Account) -> None:
    said = typed("redrive")
    assert (said.status, said.out) == (0, "No such image is in quarantine.\n")
    assert document("redrive", "--dead-letters")["moved"] == 0


def test_a_dry_run_says_how_many_of_which_reason_and_changes_nothing(account: Account) -> None:
    for number in range(3):
        quarantined(account, f"{number}.jpg", code="GivenUp" if number else "AccessDenied")
    before = account.objects(FINAL_BUCKET)
    assert document("redrive", "--dry-run") == {"would_queue": 3, "by_code": {"GivenUp": 2, "AccessDenied": 1}}
    assert "3 images would be queued" in typed("redrive", "--dry-run").out
    assert (account.objects(FINAL_BUCKET), account.objects(SOURCE_BUCKET)) == (before, [])


@pytest.mark.parametrize(
    ("options", "keys"),
    [
        ((), {"a/1.jpg", "a/2.jpg", "b/3.jpg"}),
        (("--code", "GivenUp"), {"a/1.jpg", "b/3.jpg"}),
        (("--code", "GivenUp", "--code", "AccessDenied"), {"a/1.jpg", "a/2.jpg", "b/3.jpg"}),
        (("--prefix", "a/"), {"a/1.jpg", "a/2.jpg"}),
        (("--run", "manual__2"), {"b/3.jpg"}),
        (("--limit", "1"), {"a/1.jpg"}),
        (("--prefix", "a/", "--limit", "9", "--bucket", SOURCE_BUCKET), {"a/1.jpg", "a/2.jpg"}),
    ],
)
def test_images_are_chosen_and_queued(account: Account, options: tuple[str, ...], keys: set[str]) -> None:
    quarantined(account, "a/1.jpg")
    quarantined(account, "a/2.jpg", code="AccessDenied")
    quarantined(account, "b/3.jpg", run_id="manual__2")
    found = document("redrive", *options)
    assert (found["queued"], found["left_out"]) == (len(keys), 0)
    assert queued(account) == set(account.objects(SOURCE_BUCKET)) == keys
    left = [key for key in account.objects(FINAL_BUCKET) if key.startswith(layout.QUARANTINE)]
    assert len(left) == 2 * (3 - len(keys))


def test_what_is_left_out_is_said_on_standard_error_and_counted(account: Account) -> None:
    quarantined(account, "old \x1b[2J.jpg")
    account.s3.put_object(Bucket=SOURCE_BUCKET, Key="old \x1b[2J.jpg", Body=b"newer")
    said = typed("--json", "redrive")
    assert (said.status, said.document["queued"], said.document["left_out"]) == (0, 0, 1)
    assert "old \\x1b[2J.jpg holds a newer image by now" in said.err


def test_a_bucket_that_may_not_be_labelled_is_one_sentence(account: Account) -> None:
    said = typed("redrive", "--bucket", "somebody-elses")
    assert (said.status, said.err.count("\n")) == (1, 1)
    assert "LABELS_ALLOWED_BUCKETS" in said.err


def test_messages_go_back_and_those_with_a_reason_are_listed(account: Account) -> None:
    for body in ("one", "two"):
        account.sqs.send_message(QueueUrl=account.dead_letter_queue, MessageBody=body)
    attribute = {"reason": {"DataType": "String", "StringValue": "refused: bucket [red]other[/red]"}}
    account.sqs.send_message(QueueUrl=account.dead_letter_queue, MessageBody="three", MessageAttributes=attribute)
    dry = document("redrive", "--dead-letters", "--dry-run")
    assert (dry["would_move"], dry["left_by_reason"]) == (2, {"refused: bucket [red]other[/red]": 1})
    assert account.messages(account.dead_letter_queue) == (3, 0)
    out = typed("redrive", "--dead-letters").out
    assert "2 messages went back into the queue." in out
    assert "refused: bucket [red]other[/red]" in out
    assert account.messages(account.queue) == (2, 0)
    assert account.messages(account.dead_letter_queue) == (1, 0)
    assert document("redrive", "--dead-letters")["moved"] == 0


def test_a_few_messages_first(account: Account) -> None:
    for number in range(5):
        account.sqs.send_message(QueueUrl=account.dead_letter_queue, MessageBody=str(number))
    assert document("redrive", "--dead-letters", "--limit", "2")["moved"] == 2
    assert (account.messages(account.queue), account.messages(account.dead_letter_queue)) == ((2, 0), (3, 0))
