from __future__ import annotations

from typing import Any

import pytest

from include.batches import list_pending, read_batch
from include.errors import SelectionError
from include.images import ImageRef
from include.selection import find_images, queue_images, split_uri
from include.settings import Settings
from tests.include.conftest import BuildSettings
from tests.include.memory_s3 import MODIFIED, MemoryS3
from tests.include.samples import AWKWARD_KEYS, FINAL, INBOX, images, picture


def put(s3: MemoryS3, *keys: str, bucket: str = INBOX) -> None:
    for key in keys:
        s3.put_object(Bucket=bucket, Key=key, Body=picture())


def found(s3: MemoryS3, settings: Settings, **asked: Any) -> list[ImageRef]:
    return list(find_images(s3, settings, **asked))


@pytest.mark.parametrize("key", ["", *AWKWARD_KEYS])
def test_keys_are_taken_as_they_stand(key: str) -> None:
    assert split_uri(f"s3://inbox/{key}") == ("inbox", key)


@pytest.mark.parametrize("uri", ["", "inbox/a.jpg", "http://inbox/a.jpg", "s3:/inbox/a.jpg", "s3://", "s3:///a.jpg"])
def test_what_is_no_s3_uri_is_said_not_to_be_one(uri: str) -> None:
    with pytest.raises(SelectionError, match="is not an S3 URI"):
        split_uri(uri)


class TestPrefix:
    def test_images_below_it(self, s3: MemoryS3, settings: Settings) -> None:
        put(s3, "f/a.jpg", "f/b.JPEG", "f/inner/c.Png", "f/readme.txt", "f/", "g/d.jpg", "fa.jpg")
        some = found(s3, settings, prefix="s3://inbox/f/")
        assert [each.key for each in some] == ["f/a.jpg", "f/b.JPEG", "f/inner/c.Png"]
        assert {(each.origin, each.force, each.event_time, each.size_bytes) for each in some} == {
            ("manual", False, MODIFIED, len(picture()))
        }
        assert '"' not in some[0].etag

    def test_the_whole_bucket(self, s3: MemoryS3, settings: Settings) -> None:
        put(s3, *AWKWARD_KEYS)
        assert sorted(each.key for each in found(s3, settings, prefix="s3://inbox/")) == sorted(AWKWARD_KEYS)

    def test_nothing_below_it(self, s3: MemoryS3, settings: Settings) -> None:
        assert found(s3, settings, prefix="s3://inbox/none/") == []

    def test_it_is_read_page_by_page(self, s3: MemoryS3, settings: Settings) -> None:
        put(s3, "a.jpg")
        s3.calls.clear()
        find_images(s3, settings, prefix="s3://inbox/")
        assert s3.calls == []


class TestList:
    @pytest.mark.parametrize("key", AWKWARD_KEYS)
    def test_any_key(self, s3: MemoryS3, settings: Settings, key: str) -> None:
        put(s3, key)
        (only,) = found(s3, settings, uris=[f"s3://inbox/{key}"], force=True)
        assert (only.bucket, only.key, only.force) == (INBOX, key, True)

    def test_an_extension_is_not_asked_for_where_a_key_is_named(self, s3: MemoryS3, settings: Settings) -> None:
        put(s3, "photo")
        assert len(found(s3, settings, uris=["s3://inbox/photo"])) == 1

    def test_a_key_listed_twice_is_one_image(self, s3: MemoryS3, settings: Settings) -> None:
        put(s3, "a.jpg")
        assert len(found(s3, settings, uris=["s3://inbox/a.jpg"] * 2)) == 1

    def test_all_that_do_not_exist_are_counted_and_some_named(self, s3: MemoryS3, settings: Settings) -> None:
        put(s3, "a.jpg")
        uris = ["s3://inbox/a.jpg", *(f"s3://inbox/gone-{number}.jpg" for number in range(7))]
        with pytest.raises(SelectionError, match=r"7 of the listed images do not exist: .*gone-4\.jpg and 2 more"):
            found(s3, settings, uris=uris)

    def test_a_uri_without_a_key_is_said_to_be_one(self, s3: MemoryS3, settings: Settings) -> None:
        with pytest.raises(SelectionError, match="s3://inbox/"):
            found(s3, settings, uris=["s3://inbox/"])
        assert s3.calls == []

    def test_nothing_listed(self, s3: MemoryS3, settings: Settings) -> None:
        assert found(s3, settings) == []


class TestAllowed:
    @pytest.mark.parametrize(
        "asked", [{"prefix": "s3://archive/"}, {"uris": ["s3://archive/a.jpg", "s3://inbox/a.jpg"]}]
    )
    def test_another_bucket_is_refused_before_anything_is_read(
        self, s3: MemoryS3, settings: Settings, asked: dict[str, Any]
    ) -> None:
        with pytest.raises(
            SelectionError, match=r"Not allowed: bucket archive\. Allowed are inbox; LABELS_ALLOWED_BUCKETS"
        ):
            find_images(s3, settings, **asked)
        assert s3.calls == []

    def test_an_allowed_one_is_not(self, s3: MemoryS3, build_settings: BuildSettings) -> None:
        put(s3, "a.jpg", bucket="archive")
        settings = build_settings(allowed_buckets="archive")
        assert len(found(s3, settings, prefix="s3://archive/")) == 1


class TestQueueing:
    def test_batches_in_the_order_of_work(self, s3: MemoryS3, build_settings: BuildSettings) -> None:
        settings = build_settings(batch_size=10, threads=2)
        keys = queue_images(s3, settings, iter(images(45, origin="manual")), request_id="manual__1")
        assert keys == sorted(keys) == list_pending(s3, FINAL)
        read = [batch for key in keys if (batch := read_batch(s3, FINAL, key))]
        assert [each for batch in read for each in batch.images] == images(45, origin="manual")
        assert [len(batch.images) for batch in read] == [10, 10, 10, 10, 5]

    def test_the_same_request_writes_the_same_and_another_its_own(self, s3: MemoryS3, settings: Settings) -> None:
        first = queue_images(s3, settings, images(5), request_id="manual__1")
        before = s3.contents(FINAL)
        assert queue_images(s3, settings, images(5), request_id="manual__1") == first
        assert s3.contents(FINAL) == before
        assert queue_images(s3, settings, images(5), request_id="manual__2") != first

    def test_nothing_asked_for_writes_nothing(self, s3: MemoryS3, settings: Settings) -> None:
        assert queue_images(s3, settings, [], request_id="manual__1") == []
        assert s3.calls == []
