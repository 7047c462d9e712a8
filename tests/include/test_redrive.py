from __future__ import annotations

import json
import logging
from typing import Any

import pytest

from include.batches import list_pending, read_batch
from include.errors import SelectionError
from include.images import ImageRef
from include.preflight import preflight
from include.publish import publish
from include.redrive import find_quarantined, redrive
from include.settings import Settings
from tests.include.conftest import BuildSettings
from tests.include.memory_s3 import Killed, MemoryS3, failure
from tests.include.samples import FINAL, INBOX, NOW, image, picture, uploaded
from tests.include.test_decide import queue

UNREADABLE = b"this is no image"


def quarantine(
    s3: MemoryS3,
    settings: Settings,
    *keys: str,
    bucket: str = INBOX,
    body: bytes = UNREADABLE,
    run_id: str = "r",
    **fields: Any,
) -> None:
    """Images that were refused, and published as such."""
    refs = [uploaded(s3, image(key, bucket=bucket, **fields), body) for key in keys]
    queue(s3, refs)
    label(s3, settings, run_id=run_id)


def label(s3: MemoryS3, settings: Settings, *, run_id: str = "r") -> None:
    """A run over everything that is pending, none of it fit for the model."""
    for pending in list_pending(s3, FINAL):
        batch = read_batch(s3, FINAL, pending)
        assert batch
        preflight(s3, settings, batch, run_id=run_id, now=lambda: NOW)
        publish(s3, settings, batch, thresholds={})
    assert list_pending(s3, FINAL) == []


def again(s3: MemoryS3, settings: Settings, **which: object) -> int:
    found = find_quarantined(s3, settings, **which)  # type: ignore[arg-type]
    return redrive(s3, settings, found, now=NOW, request_id="redrive 1")


def writes(s3: MemoryS3, bucket: str) -> list[str]:
    changing = ("put_object", "copy_object", "delete_object")
    return [operation for operation, where, _ in s3.calls if where == bucket and operation in changing]


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


def test_an_archives_image_stays_where_it_lies_whatever_becomes_of_it(
    s3: MemoryS3, build_settings: BuildSettings
) -> None:
    """It was never moved, not even out of the inbox, and nothing may be written beside it."""
    settings = build_settings(allowed_buckets="archive")
    for bucket in ("archive", INBOX):
        quarantine(s3, settings, "old.jpg", bucket=bucket, origin="archive")
    before = s3.contents("archive"), s3.contents(INBOX)
    s3.calls.clear()
    assert again(s3, settings) == 2
    assert [(ref.bucket, ref.origin, ref.force) for ref in queued(s3)] == [
        ("archive", "archive", True),
        (INBOX, "archive", True),
    ]
    assert all(key.startswith("batches/pending/4-") for key in list_pending(s3, FINAL)), "uploads come first"
    label(s3, settings)
    assert (s3.contents("archive"), s3.contents(INBOX)) == before
    assert writes(s3, "archive") + writes(s3, INBOX) == []
    assert len(s3.keys(FINAL, "quarantine/")) == 2, "two reasons, no image"


def test_archives_and_uploads_are_queued_apart(s3: MemoryS3, build_settings: BuildSettings) -> None:
    settings = build_settings(allowed_buckets="archive")
    quarantine(s3, settings, "a.jpg", bucket="archive", origin="archive")
    quarantine(s3, settings, "b.jpg")
    assert again(s3, settings) == 2
    assert [key.split("/")[2][0] for key in list_pending(s3, FINAL)] == ["2", "4"]


def test_a_bucket_that_may_not_be_labelled_is_refused(s3: MemoryS3, settings: Settings) -> None:
    with pytest.raises(SelectionError, match="Not allowed: bucket archive"):
        again(s3, settings, bucket="archive")


def test_an_upload_in_quarantine_survives_its_namesake_of_an_archive(s3: MemoryS3, settings: Settings) -> None:
    """Both lie in the inbox' name; the reason speaks of the later one."""
    quarantine(s3, settings, "a.jpg")
    quarantine(s3, settings, "a.jpg", body=b"another one", origin="archive")
    assert again(s3, settings) == 1
    assert s3.contents(INBOX) == {"a.jpg": b"another one"}
    assert s3.contents(FINAL, "quarantine/") == {"quarantine/inbox/a.jpg": UNREADABLE}


def test_what_one_run_could_not_label(s3: MemoryS3, settings: Settings) -> None:
    quarantine(s3, settings, "a.jpg", run_id="scheduled__1")
    quarantine(s3, settings, "b.jpg", run_id="scheduled__2")
    assert [found.key for found in find_quarantined(s3, settings, run_id="scheduled__2")] == ["b.jpg"]


def test_what_was_uploaded_in_parts_is_known_again(s3: MemoryS3, settings: Settings) -> None:
    """A copy of it has another ETag; brought back and killed before its batch, it is that image still."""
    quarantine(s3, settings, "a.jpg")
    reason = "quarantine/inbox/a.jpg.error.json"
    document = json.loads(s3.contents(FINAL)[reason]) | {"etag": "0" * 32 + "-2"}
    s3.put_object(Bucket=FINAL, Key=reason, Body=json.dumps(document))
    s3.delete_object(Bucket=FINAL, Key="quarantine/inbox/a.jpg")
    s3.put_object(Bucket=INBOX, Key="a.jpg", Body=UNREADABLE)
    assert again(s3, settings) == 1


def test_what_still_may_not_be_read_is_left_out_and_the_others_are_queued(
    s3: MemoryS3, settings: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    quarantine(s3, settings, "a.jpg", "b.jpg")
    s3.refuse["head_object", "a.jpg"] = failure("403", "HeadObject", 403)
    with caplog.at_level(logging.WARNING):
        assert again(s3, settings) == 1
    assert [ref.key for ref in queued(s3)] == ["b.jpg"]
    assert "s3://inbox/a.jpg may not be read still" in caplog.text
    assert len(s3.keys(FINAL, "quarantine/")) == 2


@pytest.mark.parametrize(
    "told",
    [
        b"[]",
        b"{}",
        b"\xff",
        b'{"source_bucket": "inbox", "source_key": "another.jpg", "etag": "x"}',
        b'{"source_bucket": "final", "source_key": "a.jpg"}',
    ],
)
def test_a_document_that_does_not_speak_of_the_image_beside_it_is_none(
    s3: MemoryS3, settings: Settings, told: bytes
) -> None:
    s3.put_object(Bucket=FINAL, Key="quarantine/inbox/a.jpg.error.json", Body=told)
    assert list(find_quarantined(s3, settings)) == []


def test_a_newer_reason_that_a_run_wrote_meanwhile_stays(s3: MemoryS3, settings: Settings) -> None:
    quarantine(s3, settings, "a.jpg")
    found = list(find_quarantined(s3, settings))
    s3.put_object(Bucket=FINAL, Key=found[0].reason_key, Body=b'{"newer": true}')
    assert redrive(s3, settings, iter(found), now=NOW, request_id="redrive 1") == 1
    assert s3.keys(FINAL, "quarantine/") == ["quarantine/inbox/a.jpg.error.json"]


@pytest.mark.parametrize("after_the_effect", [False, True])
@pytest.mark.parametrize("dies_at", range(1, 40))
def test_killed_at_any_call_nothing_is_lost_and_the_next_time_finishes(
    s3: MemoryS3, build_settings: BuildSettings, dies_at: int, after_the_effect: bool
) -> None:
    settings = build_settings(allowed_buckets="archive", batch_size=2)
    keys = ["1.jpg", "2.jpg", "3.jpg"]
    for key in keys:
        quarantine(s3, settings, key, body=key.encode())
    quarantine(s3, settings, "old.jpg", bucket="archive", origin="archive")
    s3.calls.clear()
    s3.dies_at, s3.dies_after_the_effect = dies_at, after_the_effect
    try:
        again(s3, settings)
    except Killed:
        assert {key: body for key, body in everywhere(s3).items() if key in keys} == {key: key.encode() for key in keys}
    s3.dies_at = None
    again(s3, settings)
    assert s3.contents(INBOX) == {key: key.encode() for key in keys}
    assert s3.keys(FINAL, "quarantine/") == []
    assert {ref.identity[1] for ref in queued(s3)} == {*keys, "old.jpg"}


def everywhere(s3: MemoryS3) -> dict[str, bytes]:
    """Images by name, in the inbox or in quarantine."""
    filed = s3.contents(FINAL, "quarantine/inbox/")
    images = {key.rpartition("/")[2]: body for key, body in filed.items() if not key.endswith(".error.json")}
    return s3.contents(INBOX) | images
