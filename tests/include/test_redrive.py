from __future__ import annotations

import json

import pytest

from include.batches import list_pending, read_batch
from include.images import ImageRef
from include.preflight import preflight
from include.publish import publish
from include.redrive import find_quarantined, redrive
from include.settings import Settings
from tests.include.conftest import BuildSettings
from tests.include.memory_s3 import MemoryS3
from tests.include.samples import FINAL, INBOX, NOW, image, picture, uploaded
from tests.include.test_decide import queue

UNREADABLE = b"this is no image"


def quarantine(s3: MemoryS3, settings: Settings, *keys: str, bucket: str = INBOX, body: bytes = UNREADABLE) -> None:
    """Images that were refused, and published as such."""
    refs = [uploaded(s3, image(key, bucket=bucket), body) for key in keys]
    for pending in queue(s3, refs):
        batch = read_batch(s3, FINAL, pending)
        assert batch
        preflight(s3, settings, batch, run_id="r", now=lambda: NOW)
        publish(s3, settings, batch, thresholds={})
    assert list_pending(s3, FINAL) == []


def again(s3: MemoryS3, settings: Settings, **which: object) -> int:
    found = find_quarantined(s3, settings, **which)  # type: ignore[arg-type]
    return redrive(s3, settings, found, now=NOW, request_id="redrive 1")


def queued(s3: MemoryS3) -> list[ImageRef]:
    batches = [read_batch(s3, FINAL, key) for key in list_pending(s3, FINAL)]
    return [each for batch in batches if batch for each in batch.images]


def test_an_image_is_back_where_it_came_from_and_queued(s3: MemoryS3, settings: Settings) -> None:
    quarantine(s3, settings, "shop/a +1.jpg")
    assert again(s3, settings) == 1
    assert s3.contents(INBOX) == {"shop/a +1.jpg": UNREADABLE}
    assert s3.keys(FINAL, "quarantine/") == []
    (ref,) = queued(s3)
    assert (ref.key, ref.origin, ref.force) == ("shop/a +1.jpg", "redrive", True)


def test_one_that_was_mended_meanwhile_by_an_upload_stays_in_quarantine(s3: MemoryS3, settings: Settings) -> None:
    quarantine(s3, settings, "a.jpg")
    s3.put_object(Bucket=INBOX, Key="a.jpg", Body=picture())
    assert again(s3, settings) == 0
    assert s3.contents(INBOX) == {"a.jpg": picture()}
    assert s3.contents(FINAL, "quarantine/")["quarantine/inbox/a.jpg"] == UNREADABLE


def test_one_that_was_never_moved_is_queued_where_it_is(s3: MemoryS3, build_settings: BuildSettings) -> None:
    settings = build_settings(allowed_buckets="archive")
    quarantine(s3, settings, "old.jpg", bucket="archive")
    assert again(s3, settings, bucket="archive") == 1
    assert [(ref.bucket, ref.key) for ref in queued(s3)] == [("archive", "old.jpg")]
    assert s3.keys(FINAL, "quarantine/") == []


def test_one_that_is_nowhere_is_left_out(s3: MemoryS3, settings: Settings) -> None:
    quarantine(s3, settings, "a.jpg")
    s3.delete_object(Bucket=FINAL, Key="quarantine/inbox/a.jpg")
    assert again(s3, settings) == 0
    assert queued(s3) == []


def test_killed_before_the_reason_is_gone_it_may_be_repeated(s3: MemoryS3, settings: Settings) -> None:
    quarantine(s3, settings, "a.jpg")
    kept = s3.contents(FINAL, "quarantine/")
    again(s3, settings)
    for key, body in kept.items():
        s3.put_object(Bucket=FINAL, Key=key, Body=body)
    assert again(s3, settings) == 1
    assert {ref.identity for ref in queued(s3)} == {queued(s3)[0].identity}


@pytest.mark.parametrize(
    ("which", "keys"),
    [
        ({}, {"a/1.jpg", "b/2.jpg"}),
        ({"prefix": "a/"}, {"a/1.jpg"}),
        ({"codes": ["InvalidImageFormatException"]}, {"a/1.jpg", "b/2.jpg"}),
        ({"codes": ["GivenUp"]}, set()),
    ],
)
def test_they_are_chosen_by_prefix_and_reason(
    s3: MemoryS3, settings: Settings, which: dict[str, object], keys: set[str]
) -> None:
    quarantine(s3, settings, "a/1.jpg", "b/2.jpg")
    assert {found.key for found in find_quarantined(s3, settings, **which)} == keys  # type: ignore[arg-type]


def test_an_image_whose_own_name_ends_like_a_reason_is_none(s3: MemoryS3, settings: Settings) -> None:
    quarantine(s3, settings, "odd.error.json", body=json.dumps({"any": "thing"}).encode())
    assert [found.key for found in find_quarantined(s3, settings)] == ["odd.error.json"]
