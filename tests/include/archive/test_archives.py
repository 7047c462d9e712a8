from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from include import layout
from include.archive.archives import (
    Archive,
    ArchiveRun,
    change_archive,
    going_of,
    list_archives,
    pending_of,
    queue_archive,
    read_archive,
    read_progress,
    record_run,
    set_going,
)
from include.archive.request import archive_id
from include.batches import list_pending, read_batch
from include.errors import SelectionError
from include.images import ImageRef
from include.settings import Settings
from tests.include.memory_s3 import Killed, MemoryS3
from tests.include.samples import FINAL, NOW, images

STOCK = "20260301T120000Z_stock"
Parts = list[Callable[[], Iterable[ImageRef]]]


def archive(count: int = 25, **fields: object) -> Archive:
    values = {"archive_id": STOCK, "source": "s3://archive/stock/", "size_bytes": 25_000, "batch_size": 10}
    return Archive(**values | {"images": count, "queued_at": NOW} | fields)  # type: ignore[arg-type]


def parts(count: int = 25, of: int = 20) -> Parts:
    every = images(count, origin="archive", bucket="archive")
    return [lambda start=start: every[start : start + of] for start in range(0, count, of)]  # type: ignore[misc]


def queued(s3: MemoryS3) -> list[ImageRef]:
    found = [read_batch(s3, FINAL, key) for key in pending_of(s3, FINAL, STOCK)]
    return [image for batch in found if batch for image in batch.images]


class TestQueueing:
    def test_every_planned_image_is_in_one_batch_in_the_order_of_the_plan(
        self, s3: MemoryS3, settings: Settings
    ) -> None:
        known = queue_archive(s3, settings, archive(), parts())
        assert known.is_queued
        assert queued(s3) == images(25, origin="archive", bucket="archive")
        sizes = [len(batch.images) for key in pending_of(s3, FINAL, STOCK) if (batch := read_batch(s3, FINAL, key))]
        assert sizes == [10, 10, 5]

    def test_uploads_are_listed_without_going_through_archives(self, s3: MemoryS3, settings: Settings) -> None:
        queue_archive(s3, settings, archive(), parts())
        assert list_pending(s3, FINAL) == []
        assert len(s3.keys(FINAL, layout.PENDING)) == 3

    @pytest.mark.parametrize("after_the_effect", [False, True])
    def test_broken_off_anywhere_and_repeated_it_is_as_if_nothing_had_happened(
        self, settings: Settings, after_the_effect: bool
    ) -> None:
        whole = MemoryS3(FINAL)
        queue_archive(whole, settings, archive(), parts())
        for dies_at in range(1, len(whole.calls) + 1):
            s3 = MemoryS3(FINAL)
            s3.dies_at, s3.dies_after_the_effect = dies_at, after_the_effect
            with pytest.raises(Killed):
                queue_archive(s3, settings, archive(), parts())
            s3.dies_at = None
            # The second attempt is another task: its clock has gone on, and the first one's word stands.
            queue_archive(s3, settings, archive(queued_at=NOW + timedelta(minutes=1)), parts())
            there = s3.contents(FINAL)
            if dies_at > 1 or after_the_effect:
                assert there == whole.contents(FINAL)
            else:
                assert there.keys() == whole.contents(FINAL).keys()

    def test_two_archives_of_the_same_images_have_batches_of_their_own(self, s3: MemoryS3, settings: Settings) -> None:
        queue_archive(s3, settings, archive(), parts())
        queue_archive(s3, settings, archive(archive_id="20260302T120000Z_stock"), parts())
        ids = {layout.batch_id_of(key) for key in s3.keys(FINAL, layout.PENDING)}
        assert len(ids) == 6

    def test_one_that_was_cancelled_meanwhile_is_not_queued_to_the_end(self, s3: MemoryS3, settings: Settings) -> None:
        def read_and_cancel() -> Iterable[ImageRef]:
            set_going(s3, FINAL, STOCK, "cancelled")
            return images(20, origin="archive")

        with pytest.raises(SelectionError, match="was cancelled while it was being queued"):
            queue_archive(s3, settings, archive(), [read_and_cancel, *parts()])
        assert len(queued(s3)) == 20
        assert not read_archive(s3, FINAL, STOCK).is_queued


class TestGoingOn:
    def test_pausing_and_going_on_are_one_write_each(self, s3: MemoryS3, settings: Settings) -> None:
        queue_archive(s3, settings, archive(), parts())
        set_going(s3, FINAL, STOCK, "paused")
        assert going_of(s3, FINAL, STOCK) == "paused"
        set_going(s3, FINAL, STOCK, "on")
        assert going_of(s3, FINAL, STOCK) == "on"

    def test_cancelled_is_for_good(self, s3: MemoryS3, settings: Settings) -> None:
        queue_archive(s3, settings, archive(), parts())
        set_going(s3, FINAL, STOCK, "cancelled")
        with pytest.raises(SelectionError, match="was cancelled"):
            set_going(s3, FINAL, STOCK, "on")

    def test_an_archive_that_does_not_exist_is_said_so(self, s3: MemoryS3) -> None:
        with pytest.raises(SelectionError, match="no archive 'nowhere'"):
            set_going(s3, FINAL, "nowhere", "paused")

    def test_who_changes_it_at_the_same_time_does_not_undo_it(self, s3: MemoryS3, settings: Settings) -> None:
        queue_archive(s3, settings, archive(), parts())

        def change_while_somebody_pauses(known: Archive) -> Archive:
            if known.going == "on":
                set_going(s3, FINAL, STOCK, "paused")
            return replace(known, images=99)

        change_archive(s3, FINAL, STOCK, change_while_somebody_pauses)
        assert (read_archive(s3, FINAL, STOCK).going, read_archive(s3, FINAL, STOCK).images) == ("paused", 99)


class TestProgress:
    def runs(self, s3: MemoryS3, *images_of: int, minutes: float = 30, **fields: int) -> None:
        for number, count in enumerate(images_of):
            ended = NOW + timedelta(minutes=minutes * (number + 1))
            run = ArchiveRun(ended, images=count, labelled=count, cost_usd=0.5, **fields)
            record_run(s3, FINAL, f"run {number}", {STOCK: run})

    def test_it_is_what_the_runs_have_noted(self, s3: MemoryS3, settings: Settings) -> None:
        queue_archive(s3, settings, archive(100), parts(100))
        self.runs(s3, 10, 20, failed=1)
        progress = read_progress(s3, FINAL, STOCK, threads=2)
        assert (progress.done.images, progress.left, progress.done.failed) == (30, 70, 2)
        assert progress.done.cost_usd == 1.0
        assert progress.state == "waiting"
        assert "30 of 100 images done (30.0%), 2 of them not labelled, $1.00 so far" in progress.in_words()

    def test_a_run_noted_twice_counts_once(self, s3: MemoryS3, settings: Settings) -> None:
        queue_archive(s3, settings, archive(100), parts(100))
        self.runs(s3, 10)
        self.runs(s3, 10)
        assert read_progress(s3, FINAL, STOCK, threads=1).done.images == 10

    def test_it_ends_as_the_last_runs_went(self, s3: MemoryS3, settings: Settings) -> None:
        queue_archive(s3, settings, archive(100), parts(100))
        assert read_progress(s3, FINAL, STOCK, threads=1).expected_end is None
        self.runs(s3, 10, 20, 20)  # 20 in half an hour: 50 left take 75 minutes from 13:30 on
        assert read_progress(s3, FINAL, STOCK, threads=1).expected_end == NOW + timedelta(minutes=90 + 75)

    def test_a_paused_one_has_no_end(self, s3: MemoryS3, settings: Settings) -> None:
        queue_archive(s3, settings, archive(100), parts(100))
        self.runs(s3, 10, 20)
        set_going(s3, FINAL, STOCK, "paused")
        progress = read_progress(s3, FINAL, STOCK, threads=1)
        assert (progress.state, progress.expected_end) == ("paused", None)

    def test_without_pending_batches_it_is_done_though_some_images_were_done_elsewhere(
        self, s3: MemoryS3, settings: Settings
    ) -> None:
        queue_archive(s3, settings, archive(), parts())
        for key in s3.keys(FINAL, layout.PENDING):
            s3.delete_object(Bucket=FINAL, Key=key)
        self.runs(s3, 24)
        progress = read_progress(s3, FINAL, STOCK, threads=1)
        assert (progress.state, progress.left) == ("done", 0)

    def test_one_whose_record_is_damaged_hides_no_other_and_fails_no_report(
        self, s3: MemoryS3, settings: Settings
    ) -> None:
        queue_archive(s3, settings, archive(), parts())
        self.runs(s3, 10)
        s3.put_object(Bucket=FINAL, Key=layout.archive(STOCK), Body=b"{")
        progress = read_progress(s3, FINAL, STOCK, threads=1)
        assert (progress.state, progress.done.images) == ("paused", 10)

    def test_archives_are_listed_oldest_first(self, s3: MemoryS3, settings: Settings) -> None:
        ids = [archive_id(name, now=datetime(2026, 1, day, tzinfo=UTC)) for name, day in (("b", 2), ("a", 3), ("c", 1))]
        for each in ids:
            queue_archive(s3, settings, archive(archive_id=each), parts())
        record_run(s3, FINAL, "r", {ids[0]: ArchiveRun(NOW)})
        assert list_archives(s3, FINAL) == sorted(ids)


@pytest.mark.parametrize("name", ["stock", "a-b.c/d", "", "日本", "../../x", "a" * 300])
def test_an_id_can_be_told_from_a_batchs_key_whatever_the_archive_is_called(name: str) -> None:
    known = archive_id(name, now=NOW)
    key = layout.archive_batch(known, number=7, batch_id="ab12")
    assert layout.archive_of(key) == known
    assert layout.batch_id_of(key) == "ab12"
    assert len(layout.archive_run(known, "r" * 250)) < 1_024


def test_no_other_batch_is_of_an_archive() -> None:
    assert layout.archive_of(layout.pending_batch(priority=1, created=NOW, batch_id="ab")) is None
