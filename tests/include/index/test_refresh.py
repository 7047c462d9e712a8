"""Bringing the index up to the results, whatever becomes of them: relabelled, compacted, damaged, read by an older release."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from include import layout, ranged_file
from include.compact import compact_day, remove_replaced
from include.errors import ResultsError, TransientError
from include.file_lists import visible_files
from include.index import build
from include.index import rows as rows_of_index
from include.index.build import IndexWrongError
from include.index.database import one, open_to_read
from include.index.published import fetch_index, read_pointer
from include.index.query import Filter
from include.index.refresh import refresh_index
from include.index.rows import image_id, read_rows
from include.index.verify import differences
from include.schema import ANALYSIS, IMAGE_LABELS, image_labels_table
from tests.include.index.conftest import Opened, Refresh
from tests.include.index.published_results import NOON, label, publish, publish_table, row
from tests.include.memory_s3 import Killed, MemoryS3, failure
from tests.include.samples import FINAL, NOW

DAY = "2026-03-01"


def compact(s3: MemoryS3) -> None:
    compact_day(s3, FINAL, analysis=ANALYSIS, day=DAY, threads=1)


def read_of_results(s3: MemoryS3, since: int) -> list[str]:
    """Which batches' files, or merged ones, have been read."""
    names = [key.rpartition("/")[2] for operation, _, key in s3.calls[since:] if operation == "get_object"]
    return [name.removesuffix(".parquet") for name in names if name.endswith(".parquet")]


class TestIncrements:
    def test_only_files_that_are_new_are_read(self, s3: MemoryS3, refresh: Refresh, opened: Opened) -> None:
        publish(s3, "b1", [row("1.jpg", label("mug"))])
        assert refresh().is_built_anew
        publish(s3, "b2", [row("2.jpg", label("mug"), minutes=1)])
        before = len(s3.calls)
        refreshed = refresh()
        assert (refreshed.files, refreshed.rows, refreshed.is_built_anew) == (1, 1, False)
        assert read_of_results(s3, before) == ["b2"]
        assert [image.source_key for image in opened().page(Filter(labels=("mug",))).images] == ["2.jpg", "1.jpg"]

    def test_where_nothing_is_new_the_index_is_not_even_fetched(self, s3: MemoryS3, refresh: Refresh) -> None:
        publish(s3, "b1", [row("1.jpg")])
        first = refresh()
        before = len(s3.calls)
        again = refresh()
        assert (again.pointer, again.files) == (first.pointer, 0)
        assert ("get_object", FINAL, first.pointer.key) not in s3.calls[before:]

    def test_there_is_an_index_of_no_results(self, refresh: Refresh, opened: Opened) -> None:
        refresh()
        index = opened()
        assert index.page(Filter()).images == ()
        assert index.count(Filter(nothing=True)).images == 0
        assert index.facets(Filter()).labels == index.names() == ()

    def test_an_image_that_was_labelled_again_is_found_by_its_newest_row_only(
        self, s3: MemoryS3, refresh: Refresh, opened: Opened
    ) -> None:
        publish(s3, "b1", [row("1.jpg", label("mug"), label("plate"))])
        refresh()
        publish(s3, "b2", [row("1.jpg", label("bottle"), processed_at=NOON + timedelta(hours=2))])
        refresh()
        index = opened()
        assert index.count(Filter(labels=("mug",))).images == 0
        assert index.count(Filter(labels=("bottle",))).images == 1
        assert [each.name for each in index.names()] == ["bottle"]

    @pytest.mark.parametrize(
        ("first", "second", "newest"),
        [
            ({"minutes": 1}, {"minutes": 2}, "second"),  # overwritten
            ({"minutes": 2}, {"minutes": 1, "processed_at": NOON + timedelta(days=1)}, "first"),
            ({}, {"event_time": None}, "first"),
            ({"processed_at": None}, {}, "second"),
            ({}, {}, "second"),  # the batch decides
        ],
    )
    @pytest.mark.parametrize("together", [True, False])
    def test_the_newest_row_is_of_the_newest_event_then_the_last_to_be_processed(
        self,
        s3: MemoryS3,
        refresh: Refresh,
        opened: Opened,
        first: dict[str, Any],
        second: dict[str, Any],
        newest: str,
        together: bool,
    ) -> None:
        publish(s3, "b1", [row("1.jpg", label("first"), **first)])
        if not together:
            refresh()
        publish(s3, "b2", [row("1.jpg", label("second"), **second)])
        refresh()
        (image,) = opened().page(Filter()).images
        assert [each.name for each in image.labels] == [newest]

    def test_a_compacted_day_is_not_read_again(self, s3: MemoryS3, refresh: Refresh, opened: Opened) -> None:
        for number in range(3):
            publish(s3, f"b{number}", [row(f"{number}.jpg", label("mug"))])
        refresh()
        whole = opened().page(Filter()).images
        compact(s3)
        compacted = refresh()
        assert (compacted.rows, compacted.is_built_anew) == (0, False)
        assert opened().page(Filter()).images == whole
        remove_replaced(s3, FINAL, analysis=ANALYSIS, now=NOW + timedelta(days=1), threads=1)
        publish(s3, "b3", [row("3.jpg", label("mug"))])
        refreshed = refresh()
        assert (refreshed.rows, refreshed.is_built_anew) == (1, False)

    def test_of_a_merged_file_with_unknown_batches_all_is_read_and_nothing_counts_twice(
        self, s3: MemoryS3, refresh: Refresh, opened: Opened
    ) -> None:
        publish(s3, "b1", [row("1.jpg", label("mug"))])
        refresh()
        publish(s3, "b2", [row("2.jpg", label("mug"))])
        compact(s3)
        refreshed = refresh()
        assert (refreshed.rows, refreshed.is_built_anew) == (2, False)
        assert opened().count(Filter(labels=("mug",))).images == 2

    def test_rows_that_are_no_longer_among_the_results_leave_the_index(
        self, s3: MemoryS3, refresh: Refresh, opened: Opened
    ) -> None:
        publish(s3, "b1", [row("1.jpg", label("mug"))])
        gone = publish(s3, "b2", [row("2.jpg", label("mug"))])
        refresh()
        files = layout.file_list(analysis=ANALYSIS, day=DAY)
        lines = s3.contents(FINAL)[files].decode().splitlines()
        s3.put_object(Bucket=FINAL, Key=files, Body="".join(f"{line}\n" for line in lines if gone not in line))
        assert refresh().is_built_anew
        assert opened().count(Filter()).images == 1

    def test_a_file_that_was_written_anew_is_read_anew(self, s3: MemoryS3, refresh: Refresh, opened: Opened) -> None:
        publish(s3, "b1", [row("1.jpg", label("mug")), row("2.jpg", label("mug"))])
        refresh()
        publish(s3, "b1", [row("1.jpg", label("mug"))])
        refresh()
        assert opened().count(Filter()).images == 1

    def test_even_if_it_is_as_large_as_before(self, s3: MemoryS3, refresh: Refresh, opened: Opened) -> None:
        sizes = []
        for name in ("mug", "jug"):
            key = publish(s3, "b1", [row("1.jpg", label(name))])
            sizes.append(len(s3.contents(FINAL)[key]))
            refresh()
        assert sizes[0] == sizes[1]
        assert [each.name for each in opened().names()] == ["jug"]

    @pytest.mark.parametrize("whole_bytes", [0, 1024**2])
    def test_a_file_that_is_replaced_while_it_is_read_is_never_read_half_old_half_new(
        self,
        s3: MemoryS3,
        refresh: Refresh,
        opened: Opened,
        monkeypatch: pytest.MonkeyPatch,
        whole_bytes: int,
    ) -> None:
        monkeypatch.setattr(rows_of_index, "WHOLE_BYTES", whole_bytes)
        monkeypatch.setattr(ranged_file, "TAIL_BYTES", 64)
        publish(s3, "b1", [row("1.jpg", label("mug"))])
        plain = s3.get_object

        def replaced(*, Key: str, **asked: Any) -> dict[str, Any]:
            if Key.endswith(".parquet"):
                monkeypatch.setattr(s3, "get_object", plain)
                answer = plain(Key=Key, **asked) if asked.get("Range") else None
                publish(s3, "b1", [row("1.jpg", label("jug"))])
                return answer or plain(Key=Key, **asked)
            return plain(Key=Key, **asked)

        monkeypatch.setattr(s3, "get_object", replaced)
        with pytest.raises(TransientError, match=r"b1\.parquet has gone, or was replaced"):
            refresh()
        refresh()
        assert [each.name for each in opened().names()] == ["jug"]

    def test_of_rows_that_only_their_content_tells_apart_the_order_of_reading_chooses_none(
        self, s3: MemoryS3, refresh: Refresh, opened: Opened
    ) -> None:
        rows = [row("1.jpg", label(name)) for name in ("mug", "cup", "plate", "bottle")]
        found = set()
        for order in (rows, rows[::-1], rows[2:] + rows[:2]):
            publish(s3, "b1", order)
            refresh(rebuild=True, verify=True)
            found.add(repr(opened().page(Filter()).images))
        assert len(found) == 1

    def test_what_is_appended_is_sorted_in_once_it_is_much(
        self, s3: MemoryS3, refresh: Refresh, opened: Opened, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        sorted_ones: list[Path] = []
        write = build.write_sorted

        def noted(index: Path, path: Path, *, spill: Path) -> None:
            sorted_ones.append(index)
            write(index, path, spill=spill)

        monkeypatch.setattr(build, "write_sorted", noted)
        publish(s3, "b0", [row(f"0-{number}.jpg", label("mug")) for number in range(10)])
        refresh()
        for number in (1, 2):
            publish(s3, f"b{number}", [row(f"{number}.jpg", label("mug"))])
            refresh()
        assert sorted_ones == []
        publish(s3, "b3", [row("3.jpg", label("mug"))])
        refresh()
        assert len(sorted_ones) == 1
        index = opened()
        assert index.count(Filter(labels=("mug",))).images == 13
        assert index.image("inbox", "3.jpg") is not None


class TestStrangeFiles:
    def test_a_damaged_file_is_named_and_the_index_stays(self, s3: MemoryS3, refresh: Refresh) -> None:
        publish(s3, "b1", [row("1.jpg")])
        first = refresh()
        key = publish(s3, "b2", [row("2.jpg")])
        for damaged in (b"", b"PAR1 no more", s3.contents(FINAL)[key][:-20]):
            s3.put_object(Bucket=FINAL, Key=key, Body=damaged)
            with pytest.raises(ResultsError, match=r"b2\.parquet.*put its batch back"):
                refresh()
        assert read_pointer(s3, FINAL)[0] == first.pointer

    def test_a_file_of_something_else_is_named(self, s3: MemoryS3, refresh: Refresh) -> None:
        publish_table(s3, "b1", pa.table({"key": ["1.jpg"]}))
        with pytest.raises(ResultsError, match=r"b1\.parquet.*no column source_bucket"):
            refresh()
        table = image_labels_table([row("a.jpg")])
        publish_table(s3, "b1", table.append_column("etag", table["etag"]))
        with pytest.raises(ResultsError, match=r"b1\.parquet.*etag twice"):
            refresh()

    def test_a_column_that_cannot_be_one_of_ours_is_damage(self, s3: MemoryS3, refresh: Refresh) -> None:
        publish_table(s3, "b1", pa.table({"source_bucket": ["inbox"], "source_key": ["1.jpg"], "labels": ["mug"]}))
        with pytest.raises(ResultsError, match=r"b1\.parquet"):
            refresh()

    def test_of_older_releases_what_is_missing_is_null_and_of_newer_ones_what_is_unknown_is_left_out(
        self, s3: MemoryS3, refresh: Refresh, opened: Opened
    ) -> None:
        table = image_labels_table([row("1.jpg", label("mug"), batch_id="b1")])
        older = pa.array([[{"name": "mug", "confidence": 90.0, "passes": True}]])
        table = table.drop_columns(["width_px", "error_code", "event_time", "label_count", "labels"])
        publish_table(s3, "b1", table.append_column("labels", older).append_column("colour", pa.array(["red"])))
        refresh(verify=True)
        (image,) = opened().page(Filter(labels=("mug",))).images
        assert (image.width_px, image.event_time, image.came_at) == (None, None, image.processed_at)
        assert (image.label_count, image.labels[0].left, image.labels[0].parents) == (1, None, ())

    def test_strange_values_are_no_problem(self, s3: MemoryS3, refresh: Refresh, opened: Opened) -> None:
        long = "ü" * 40_000 + "\0'\"%_ 🦊.jpg"
        labels = [
            label("", 90.0),
            label(None, 90.0),
            label("mug", float("nan"), passes=False),
            label("mug", None, passes=True),
            label("mug", float("inf"), passes=False),
            label("\u202e\0;--", 70.0),
        ]
        publish(s3, "b1", [row(long, *labels), row("", event_time=None, processed_at=None)])
        refresh(verify=True)
        index = opened()
        image = index.image("inbox", long)
        assert image is not None
        assert [each.confidence for each in image.labels] == [90.0, 90.0, None, None, None, 70.0]
        for name in ("", "mug", "\u202e\0;--"):
            assert index.page(Filter(labels=(name,))).images == (image,)
        assert index.page(Filter(prefix="ü" * 30_000, labels=("mug",))).images == (image,)
        assert index.image("inbox", "") is not None
        assert index.count(Filter(nothing=True)).images == 1


class TestPublishing:
    def test_of_two_at_a_time_one_publishes_and_the_other_goes_on_from_there(
        self, s3: MemoryS3, refresh: Refresh, opened: Opened, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        publish(s3, "b1", [row("1.jpg")])
        refresh()
        publish(s3, "b2", [row("2.jpg")])

        write = s3.put_object

        def overtaken(*, Key: str, **options: Any) -> dict[str, Any]:
            """Somebody else publishes, a file more, just before this one does."""
            if Key == layout.INDEX_POINTER:
                monkeypatch.setattr(s3, "put_object", write)
                publish(s3, "b3", [row("3.jpg")])
                refresh()
            return write(Key=Key, **options)

        monkeypatch.setattr(s3, "put_object", overtaken)
        assert refresh().files == 0
        assert opened().count(Filter()).images == 3

    def test_killed_anywhere_it_leaves_an_index_that_works_and_the_next_one_ends_it(self, tmp_path: Path) -> None:
        before = MemoryS3(FINAL)
        publish(before, "b1", [row("1.jpg", label("mug"))])
        refresh_index(before, FINAL, now=NOW, threads=1)
        publish(before, "b2", [row("2.jpg", label("mug"))])
        died = 0
        while True:
            s3 = MemoryS3(FINAL)
            for key, body in before.contents(FINAL).items():
                s3.put_object(Bucket=FINAL, Key=key, Body=body)
            died += 1
            s3.dies_at, s3.dies_after_the_effect = len(s3.calls) + died, bool(died % 2)
            try:
                refresh_index(s3, FINAL, now=NOW, threads=1)
            except Killed:
                s3.dies_at = None
                with open_to_read(fetch_index(s3, FINAL, tmp_path)) as con:
                    assert one(con, "SELECT count(*) FROM images") in (1, 2)
                refresh_index(s3, FINAL, now=NOW, threads=1)
                with open_to_read(fetch_index(s3, FINAL, tmp_path)) as con:
                    assert one(con, "SELECT count(*) FROM images") == 2
                continue
            break
        assert died > 5
        assert not list(tmp_path.glob("fetching-*"))

    def test_an_index_that_does_not_add_up_is_not_published(
        self, s3: MemoryS3, refresh: Refresh, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        publish(s3, "b1", [row("1.jpg", label("mug"))])
        first = refresh()
        publish(s3, "b2", [row("1.jpg", label("plate"), minutes=1)])
        monkeypatch.setattr(build, "_replace_older", lambda con: None)
        with pytest.raises(IndexWrongError, match="images twice 1.*index build"):
            refresh()
        assert read_pointer(s3, FINAL)[0] == first.pointer

    def test_a_damaged_or_older_index_is_built_anew(self, s3: MemoryS3, refresh: Refresh, opened: Opened) -> None:
        publish(s3, "b1", [row("1.jpg", label("mug"))])
        key = refresh().pointer.key
        s3.put_object(Bucket=FINAL, Key=key, Body=s3.contents(FINAL)[key][:-1])
        publish(s3, "b2", [row("2.jpg", label("mug"))])
        assert refresh().is_built_anew
        pointer = json.loads(s3.contents(FINAL)[layout.INDEX_POINTER])
        for changed in (json.dumps(pointer | {"schema_version": 0}), "{}", "no JSON"):
            s3.put_object(Bucket=FINAL, Key=layout.INDEX_POINTER, Body=changed)
            assert refresh().is_built_anew
        assert opened().count(Filter(labels=("mug",))).images == 2

    def test_an_index_that_somebody_deleted_is_built_anew(self, s3: MemoryS3, refresh: Refresh, opened: Opened) -> None:
        publish(s3, "b1", [row("1.jpg", label("mug"))])
        s3.delete_object(Bucket=FINAL, Key=refresh().pointer.key)
        s3.delete_object(Bucket=FINAL, Key=refresh().pointer.key)
        publish(s3, "b2", [row("2.jpg", label("mug"))])
        refresh()
        assert opened().count(Filter(labels=("mug",))).images == 2

    def test_a_file_that_goes_while_it_is_read_is_tried_again(self, s3: MemoryS3, refresh: Refresh) -> None:
        key = publish(s3, "b1", [row("1.jpg")])
        s3.refuse["get_object", key] = failure("NoSuchKey", "GetObject")
        with pytest.raises(TransientError, match=r"b1\.parquet has gone"):
            refresh()


class TestVerification:
    @pytest.fixture
    def verified(self, s3: MemoryS3, tmp_path: Path) -> Callable[[], Sequence[object]]:
        def run() -> Sequence[object]:
            files = visible_files(s3, FINAL, analysis=ANALYSIS, threads=1)
            with open_to_read(fetch_index(s3, FINAL, tmp_path)) as con:
                return differences(con, read_rows(s3, FINAL, files, threads=1), spill=tmp_path)

        return run

    def test_it_finds_what_the_index_does_not_have(
        self, s3: MemoryS3, refresh: Refresh, verified: Callable[[], Sequence[object]]
    ) -> None:
        publish(s3, "b1", [row("1.jpg", label("mug")), row("2.jpg", minutes=-24 * 60)])
        refresh()
        assert verified() == []
        publish(s3, "b2", [row("3.jpg", label("mug"))])
        assert [str(each) for each in verified()] == [
            "2026-03-01: 2 images with 2 labels in the results, 1 images with 1 labels in the index"
        ]

    def test_it_finds_other_content_of_the_same_size(
        self, s3: MemoryS3, refresh: Refresh, verified: Callable[[], Sequence[object]]
    ) -> None:
        publish(s3, "b1", [row("1.jpg", label("mug"))])
        refresh()
        publish(s3, "b1", [row("1.jpg", label("cup"))])
        (difference,) = verified()
        assert "with other content" in str(difference)

    def test_a_rebuild_reads_all_of_it_again(self, s3: MemoryS3, refresh: Refresh, opened: Opened) -> None:
        publish(s3, "b1", [row("1.jpg", label("mug"))])
        refresh()
        key = layout.image_labels(analysis=ANALYSIS, day=DAY, batch_id="b1")
        size = len(s3.contents(FINAL)[key])
        publish(s3, "b1", [row("1.jpg", label("cup"))])
        assert len(s3.contents(FINAL)[key]) == size
        assert refresh(rebuild=True, verify=True).is_built_anew
        assert [each.name for each in opened().names()] == ["cup"]


def test_labels_and_images_keep_their_numbers_from_release_to_release() -> None:
    assert image_id("custom_labels", "inbox", "a.jpg") == image_id("custom_labels", "inbox", "a.jpg")
    assert image_id("custom_labels", "inbox", "a.jpg") != image_id("faces", "inbox", "a.jpg")
    assert {"id", "came_at"}.isdisjoint(IMAGE_LABELS.names)
