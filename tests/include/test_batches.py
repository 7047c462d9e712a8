from __future__ import annotations

import gzip
import logging
from dataclasses import replace
from typing import Any

import pytest

from include import layout
from include.batches import (
    Batch,
    History,
    forget_attempts,
    histories,
    keep_only,
    list_pending,
    plan_batches,
    read_batch,
    read_pending,
    write_batches,
)
from tests.include.memory_s3 import MemoryS3
from tests.include.samples import AWKWARD_KEYS, FINAL, image, images


def write(s3: Any, *batches: Batch) -> list[str]:
    write_batches(s3, FINAL, batches, threads=1)
    return [batch.key for batch in batches]


def plan(*some: Any, **options: Any) -> Batch:
    (batch,) = plan_batches(some, batch_size=100, **options)
    return batch


def test_images_are_cut_in_order() -> None:
    batches = plan_batches(images(25), batch_size=10)
    assert [len(batch.images) for batch in batches] == [10, 10, 5]
    assert [each for batch in batches for each in batch.images] == images(25)
    assert plan_batches([], batch_size=10) == []


def test_a_batch_is_named_by_what_it_holds() -> None:
    assert plan(*images(3)) == plan(*images(3))
    names = {
        plan(*some, **options).batch_id
        for some, options in (
            (images(3), {}),
            (images(2), {}),
            (images(3, etag="1"), {}),
            (images(3, version_id="v"), {}),
            (images(3, force=True), {}),
            (images(3), {"request_id": "manual__1"}),
            (images(3), {"request_id": "manual__2"}),
        )
    }
    assert len(names) == 7


def test_a_batch_is_as_old_as_its_oldest_image_and_as_urgent_as_its_origin() -> None:
    assert plan(image("a", minutes=5), image("b", minutes=1)).key.startswith("batches/pending/1-20260301T120100Z-")
    assert plan(image("a", origin="archive")).key.startswith("batches/pending/4-")


def test_batches_are_read_back_as_they_were_written(s3: MemoryS3) -> None:
    batch = plan(*(image(key, version_id="v", sequencer="01") for key in AWKWARD_KEYS))
    (key,) = write(s3, batch)
    found = read_batch(s3, FINAL, key)
    assert found is not None
    assert (found.key, found.images, found.batch_id) == (batch.key, batch.images, batch.batch_id)


def test_writing_again_writes_the_same_bytes(s3: MemoryS3) -> None:
    write(s3, plan(*images(30)))
    before = s3.contents(FINAL)
    write(s3, plan(*images(30)))
    assert s3.contents(FINAL) == before


def test_pending_batches_are_listed_in_the_order_of_work(s3: MemoryS3) -> None:
    batches = [plan(image("c", origin="archive")), plan(image("b", minutes=9)), plan(image("a"))]
    write(s3, *batches)
    assert list_pending(s3, FINAL) == [batches[2].key, batches[1].key, batches[0].key]


def test_more_batches_than_a_listing_page_holds(s3: MemoryS3) -> None:
    batches = plan_batches(images(1_200), batch_size=1)
    write(s3, *batches)
    assert len(list_pending(s3, FINAL)) == 1_200


def test_a_batch_that_is_pending_no_more_is_none(s3: MemoryS3) -> None:
    assert read_batch(s3, FINAL, "batches/pending/1-20260301T120000Z-gone.jsonl.gz") is None


def unreadable_bodies() -> dict[str, bytes]:
    whole = gzip.compress(b"x" * 1_000 + b"abc" * 50)
    flipped = bytearray(whole)
    flipped[15] ^= 0xFF
    flipped[16] ^= 0xFF
    return {
        "no JSON": b"hello",
        "a list": b"[1]",
        "a field too many": b'{"bucket":"b","key":"k","etag":"e","event_time":"2026-03-01","more":1}',
        "a field too few": b'{"bucket":"b"}',
        "no time": b'{"bucket":"b","key":"k","etag":"e","event_time":"noon"}',
        "no text": b"\xff\xfe\xfd",
        "cut off": whole[:-20],
        "damaged": bytes(flipped),
        "wrong sum": whole[:-8] + b"12345678",
        "no gzip": b"\x1f\x8b hello",
    }


@pytest.mark.parametrize("name", unreadable_bodies())
def test_what_cannot_be_read_is_put_aside_and_blocks_nothing(
    s3: MemoryS3, caplog: pytest.LogCaptureFixture, name: str
) -> None:
    bad = "batches/pending/1-20260101T000000Z-bad.jsonl.gz"
    s3.put_object(Bucket=FINAL, Key=bad, Body=unreadable_bodies()[name])
    (good,) = write(s3, plan(*images(3)))
    assert [batch.key for batch in read_pending(s3, FINAL, [bad, good], threads=2)] == [good]
    assert list_pending(s3, FINAL) == [good]
    assert s3.contents(FINAL, "batches/unreadable/") == {
        "batches/unreadable/1-20260101T000000Z-bad.jsonl.gz": unreadable_bodies()[name]
    }
    assert "mend it and put it back" in caplog.text


def test_a_look_that_may_change_nothing_leaves_it(s3: MemoryS3, caplog: pytest.LogCaptureFixture) -> None:
    s3.put_object(Bucket=FINAL, Key="batches/pending/1-bad.jsonl.gz", Body=b"hello")
    before = s3.contents(FINAL)
    with caplog.at_level(logging.WARNING):
        assert list(read_pending(s3, FINAL, list_pending(s3, FINAL), threads=1, change=False)) == []
    assert s3.contents(FINAL) == before
    assert "is not a batch of images" in caplog.text


def test_only_a_few_batches_are_in_memory_at_a_time(s3: MemoryS3) -> None:
    keys = write(s3, *plan_batches(images(20), batch_size=1))
    s3.calls.clear()
    reading = read_pending(s3, FINAL, keys, threads=4)
    next(reading)
    assert len(s3.calls) == 4


def test_keeping_some_images_keeps_the_batchs_name(s3: MemoryS3) -> None:
    (key,) = write(s3, plan(*images(5)))
    batch = read_batch(s3, FINAL, key)
    assert batch is not None
    kept = keep_only(s3, FINAL, batch, images(5)[:2])
    found = read_batch(s3, FINAL, key)
    assert kept is not None
    assert found is not None
    assert kept.key == key
    assert found.images == tuple(images(5)[:2])


def test_a_batch_without_images_is_gone(s3: MemoryS3) -> None:
    (key,) = write(s3, plan(*images(5)))
    batch = read_batch(s3, FINAL, key)
    assert batch is not None
    assert keep_only(s3, FINAL, batch, []) is None
    assert list_pending(s3, FINAL) == []


def test_a_batch_that_somebody_changed_meanwhile_is_left_alone(s3: MemoryS3) -> None:
    (key,) = write(s3, plan(*images(5)))
    batch = read_batch(s3, FINAL, key)
    assert batch is not None
    s3.put_object(Bucket=FINAL, Key=key, Body=b"other")
    assert keep_only(s3, FINAL, batch, images(5)[:2]) is None
    assert s3.contents(FINAL) == {key: b"other"}


def test_an_image_is_never_altered_by_being_batched() -> None:
    forced = replace(image("a"), force=True, origin="manual")
    assert plan(forced).images == (forced,)


def test_a_run_without_a_model_does_not_count_against_its_batches(s3: MemoryS3) -> None:
    (key,) = write(s3, plan(*images(2)))
    batch_id = layout.batch_id_of(key)
    for run_id in ("scheduled__1", "scheduled__2"):
        s3.put_object(Bucket=FINAL, Key=layout.attempt(batch_id, run_id), Body=b"")
    assert histories(s3, FINAL, [key], threads=2) == {key: History(attempts=2, is_paid=False, is_done=False)}
    forget_attempts(s3, FINAL, [key], "scheduled__2", threads=2)
    assert histories(s3, FINAL, [key], threads=2) == {key: History(attempts=1, is_paid=False, is_done=False)}
