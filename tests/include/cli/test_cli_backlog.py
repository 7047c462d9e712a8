from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from include import layout
from include.batches import plan_batches, write_batches
from include.cli import backlog
from local_stack.seed import FINAL_BUCKET, SOURCE_BUCKET
from tests.include.cli.conftest import Account, document, typed
from tests.include.samples import image

MinutesAgo = Callable[[float], datetime]


def queue(account: Account, count: int, *, size: int = 10, **fields: Any) -> list[str]:
    """Write pending batches of so many images; their keys."""
    since = fields.pop("event_time", datetime.now(UTC))
    name = fields.get("origin", "upload")
    images = [replace(image(f"{name}/{n}.jpg", etag=f"{n:032x}", **fields), event_time=since) for n in range(count)]
    batches = plan_batches(images, batch_size=size)
    write_batches(account.s3, FINAL_BUCKET, batches, threads=4)
    return [batch.key for batch in batches]


def test_nothing_waits(account: Account) -> None:
    assert document("backlog") == {
        "messages": {"waiting": 0, "in_flight": 0, "delayed": 0, "dead_letters": 0},
        "pending": [],
        "batches": 0,
        "images": 0,
        "unreadable_batches": 0,
        "tried_in_vain": {"batches": 0, "last_attempt_made": 0, "most_attempts": 0},
        "next_run": "Nothing is pending: the model stays off.",
    }
    assert "No batch is pending." in typed("backlog").out


def test_messages_are_counted_where_they_are(account: Account) -> None:
    for number in range(3):
        account.sqs.send_message(QueueUrl=account.queue, MessageBody=str(number))
    account.sqs.receive_message(QueueUrl=account.queue, VisibilityTimeout=60)
    account.sqs.send_message(QueueUrl=account.queue, MessageBody="later", DelaySeconds=60)
    account.sqs.send_message(QueueUrl=account.dead_letter_queue, MessageBody="x")
    before = account.messages(account.queue)
    found = document("backlog")
    assert found["messages"] == {"waiting": 2, "in_flight": 1, "delayed": 1, "dead_letters": 1}
    assert found["next_run"].startswith("Start: 2 images")
    assert account.messages(account.queue) == before


def test_a_queue_without_a_dead_letter_queue_says_so(account: Account) -> None:
    account.sqs.set_queue_attributes(QueueUrl=account.queue, Attributes={"RedrivePolicy": ""})
    assert document("backlog")["messages"]["dead_letters"] is None
    assert "no dead-letter queue" in typed("backlog").out


def test_batches_are_counted_by_who_asked_for_them_in_the_order_of_work(
    account: Account, minutes_ago: MinutesAgo
) -> None:
    queue(account, 25, origin="archive", event_time=minutes_ago(600))
    queue(account, 15, event_time=minutes_ago(90))
    queue(account, 3, origin="redrive")
    found = document("backlog")["pending"]
    assert [(each["origin"], each["batches"], each["images"]) for each in found] == [
        ("uploads, by hand", 2, 15),
        ("redriven", 1, 3),
        ("redriven of archives", 3, 25),
    ]
    assert abs(datetime.fromisoformat(found[0]["oldest"]) - minutes_ago(90)).total_seconds() < 60
    shown = typed("backlog").out
    assert "1 h 30 min ago" in shown
    assert "The next run: Start: 43 images in 6 batches" in shown


def test_many_batches_are_read_only_where_asked_for(account: Account) -> None:
    queue(account, backlog.READ_AT_ONCE + 1, size=1)
    found = document("backlog")
    assert (found["batches"], found["images"], found["next_run"]) == (21, None, None)
    assert [each["images"] for each in found["pending"]] == [None]
    assert "--images" in typed("backlog").out
    read = document("backlog", "--images")
    assert (read["images"], read["pending"][0]["images"]) == (21, 21)
    assert read["next_run"].startswith("Start: 21 images")


def test_batches_tried_in_vain_are_told_before_they_are_given_up(account: Account) -> None:
    first, second, _ = queue(account, 30)
    for number in range(5):
        key = layout.attempt(layout.batch_id_of(first), f"r{number}")
        account.s3.put_object(Bucket=FINAL_BUCKET, Key=key, Body=b"")
    account.s3.put_object(Bucket=FINAL_BUCKET, Key=layout.attempt(layout.batch_id_of(second), "r1"), Body=b"")
    before = account.objects(FINAL_BUCKET)
    found = document("backlog")
    assert found["tried_in_vain"] == {"batches": 2, "last_attempt_made": 1, "most_attempts": 5}
    assert "1 batch given up" in found["next_run"]
    assert account.objects(FINAL_BUCKET) == before, "looking gives nothing up"


def test_what_is_no_batch_is_counted_and_left_where_it_is(account: Account) -> None:
    for key in (f"{layout.PENDING}what is this", f"{layout.PENDING}1-29991399T999999Z-abc.jsonl.gz"):
        account.s3.put_object(Bucket=FINAL_BUCKET, Key=key, Body=b"\x1f\x8bnothing")
    account.s3.put_object(Bucket=FINAL_BUCKET, Key=f"{layout.UNREADABLE}x", Body=b"")
    said = typed("--json", "backlog")
    assert said.status == 0
    assert [each["origin"] for each in said.document["pending"]] == ["uploads, by hand", "of an unknown name"]
    assert (said.document["images"], said.document["unreadable_batches"]) == (0, 1)
    assert "is not a batch of images" in said.err
    assert len(account.objects(FINAL_BUCKET)) == 3


def test_while_a_run_is_at_work_it_decides_nothing(account: Account) -> None:
    account.take_lease("label_images/manual__7")
    assert document("backlog")["next_run"].startswith("A run is at work: label_images/manual__7 uses the model until")


def test_the_budget_counts_for_the_next_decision(account: Account, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LABELS_MONTHLY_BUDGET_USD", "0")
    queue(account, 3)
    assert document("backlog")["next_run"].startswith("Refused:")


@pytest.mark.parametrize(
    ("key", "origin", "oldest"),
    [
        ("batches/pending/1-20260301T120000Z-0a.jsonl.gz", "uploads, by hand", "2026-03-01T12:00:00+00:00"),
        ("batches/pending/5-20260301T120000Z-0a.jsonl.gz", "archives", "2026-03-01T12:00:00+00:00"),
        ("batches/pending/7-20260301T120000Z-0a.jsonl.gz", "of an unknown name", "2026-03-01T12:00:00+00:00"),
        ("batches/pending/1-never-0a.jsonl.gz", "of an unknown name", None),
    ],
)
def test_a_key_says_whose_it_is_and_since_when(key: str, origin: str, oldest: str | None) -> None:
    (found,) = backlog.by_origin([key], None)
    assert (found.origin, found.oldest.isoformat() if found.oldest else None) == (origin, oldest)


def test_the_inbox_is_not_looked_at(account: Account) -> None:
    account.s3.put_object(Bucket=SOURCE_BUCKET, Key="a.jpg", Body=b"x")
    account.aws.add_fault(service="s3", operation="*", key="a.jpg", error="AccessDenied")
    assert typed("backlog").status == 0
