from __future__ import annotations

from collections import Counter

import pytest

from include import layout
from include.archive.archives import Archive, list_archives, pending_of, queue_archive, set_going
from include.archive.slices import Slice, clear_cancelled, has_more, next_slice, pending_archives
from include.batches import read_batch
from include.decide import count_backlog
from include.model_state import ModelState
from include.outcomes import read_outcomes, write_part, write_preflight
from include.settings import Settings
from tests.include.conftest import BuildSettings
from tests.include.memory_s3 import MemoryS3
from tests.include.samples import FINAL, NOW, image, outcome, ready

# A slice of a minute with one unit at one image a second: sixty images.
ONE_A_SECOND = ModelState(images_per_second=1.0)


@pytest.fixture
def settings(build_settings: BuildSettings) -> Settings:
    return build_settings(archive_minutes=1, inference_units_max=1)


def queue(s3: MemoryS3, settings: Settings, name: str, *, batches: int, batch_size: int = 10) -> str:
    archive_id = f"20260301T120000Z_{name}"
    count = batches * batch_size
    every = [image(f"{name}/{number}.jpg", origin="archive") for number in range(count)]
    known = Archive(archive_id, "s3://archive/", NOW, images=count, size_bytes=count, batch_size=batch_size)
    queue_archive(s3, settings, known, [lambda: every])
    return archive_id


def take(s3: MemoryS3, settings: Settings, state: ModelState, *, most_batches: int) -> Slice:
    return next_slice(s3, settings, state, pending_archives(s3, settings), most_batches=most_batches)


def taken(keys: tuple[str, ...]) -> Counter[str | None]:
    return Counter(map(layout.archive_of, keys))


class TestASlice:
    def test_it_is_what_the_model_labels_in_its_minutes(self, s3: MemoryS3, settings: Settings) -> None:
        stock = queue(s3, settings, "stock", batches=9)
        found = take(s3, settings, ONE_A_SECOND, most_batches=1_000)
        assert found.batches == tuple(pending_of(s3, FINAL, stock))[:6]
        assert found.goes_on

    def test_with_the_most_units_allowed(self, s3: MemoryS3, build_settings: BuildSettings) -> None:
        settings = build_settings(archive_minutes=1, inference_units_max=3)
        queue(s3, settings, "stock", batches=20)
        assert len(take(s3, settings, ONE_A_SECOND, most_batches=1_000).batches) == 18

    def test_the_last_one_says_so(self, s3: MemoryS3, settings: Settings) -> None:
        queue(s3, settings, "stock", batches=6)
        found = take(s3, settings, ONE_A_SECOND, most_batches=1_000)
        assert (len(found.batches), found.goes_on) == (6, False)

    def test_a_slow_model_still_gets_a_batch(self, s3: MemoryS3, settings: Settings) -> None:
        queue(s3, settings, "stock", batches=3)
        found = take(s3, settings, ModelState(images_per_second=0.01), most_batches=1_000)
        assert (len(found.batches), found.goes_on) == (1, True)

    def test_there_are_never_more_than_the_run_maps(self, s3: MemoryS3, settings: Settings) -> None:
        queue(s3, settings, "stock", batches=6)
        found = take(s3, settings, ONE_A_SECOND, most_batches=2)
        assert (len(found.batches), found.goes_on) == (2, True)
        for no_room in (0, -7):
            none = take(s3, settings, ONE_A_SECOND, most_batches=no_room)
            assert (none.batches, none.goes_on) == ((), True)

    def test_a_cap_on_a_runs_minutes_is_one_on_its_slice(self, s3: MemoryS3, build_settings: BuildSettings) -> None:
        settings = build_settings(archive_minutes=30, max_model_minutes=1, inference_units_max=1)
        queue(s3, settings, "stock", batches=9)
        assert len(take(s3, settings, ONE_A_SECOND, most_batches=1_000).batches) == 6

    def test_archives_take_turns(self, s3: MemoryS3, settings: Settings) -> None:
        ids = [queue(s3, settings, name, batches=count) for name, count in zip("abcde", (9, 9, 9, 1, 9), strict=True)]
        found = take(s3, settings, ONE_A_SECOND, most_batches=1_000)
        assert taken(found.batches) == {ids[0]: 2, ids[1]: 1, ids[2]: 1, ids[3]: 1, ids[4]: 1}

    def test_finished_archives_cost_no_request(self, s3: MemoryS3, settings: Settings) -> None:
        for name in ("a", "b", "c"):
            queue(s3, settings, name, batches=1)
        for key in s3.keys(FINAL, layout.PENDING):
            s3.delete_object(Bucket=FINAL, Key=key)
        s3.calls.clear()
        assert take(s3, settings, ONE_A_SECOND, most_batches=1_000).batches == ()
        assert len(s3.calls) == 1
        assert len(list_archives(s3, FINAL)) == 3

    @pytest.mark.parametrize("going", ["paused", "cancelled"])
    def test_what_is_not_to_go_on_waits(self, s3: MemoryS3, settings: Settings, going: str) -> None:
        stock, other = queue(s3, settings, "stock", batches=3), queue(s3, settings, "other", batches=3)
        set_going(s3, FINAL, stock, going)  # type: ignore[arg-type]
        clear_cancelled(s3, settings, pending_archives(s3, settings))
        found = take(s3, settings, ONE_A_SECOND, most_batches=1_000)
        assert taken(found.batches) == {other: 3}
        assert not found.goes_on

    def test_one_whose_record_is_gone_goes_on_all_the_same(self, s3: MemoryS3, settings: Settings) -> None:
        stock = queue(s3, settings, "stock", batches=1)
        s3.delete_object(Bucket=FINAL, Key=layout.archive(stock))
        assert taken(take(s3, settings, ONE_A_SECOND, most_batches=1_000).batches) == {stock: 1}
        assert clear_cancelled(s3, settings, pending_archives(s3, settings)) == 0

    def test_what_this_run_has_already_is_not_more(self, s3: MemoryS3, settings: Settings) -> None:
        stock = queue(s3, settings, "stock", batches=8)
        ours, others = list(pending_of(s3, FINAL, stock))[:7], list(pending_of(s3, FINAL, stock))[7:]
        archives = pending_archives(s3, settings)
        assert has_more(s3, settings, archives, ours=ours)
        assert not has_more(s3, settings, archives, ours=[*ours, *others])

    def test_one_whose_record_is_damaged_waits_and_all_else_goes_on(
        self, s3: MemoryS3, settings: Settings, caplog: pytest.LogCaptureFixture
    ) -> None:
        stock, other = queue(s3, settings, "stock", batches=3), queue(s3, settings, "other", batches=3)
        s3.put_object(Bucket=FINAL, Key=layout.archive(stock), Body=b'{"going')
        assert taken(take(s3, settings, ONE_A_SECOND, most_batches=9).batches) == {other: 3}
        assert f"archives/{stock}/archive.json is damaged" in caplog.text


class TestCancelled:
    def test_nothing_of_it_is_left_and_the_others_stay(self, s3: MemoryS3, settings: Settings) -> None:
        stock, other = queue(s3, settings, "stock", batches=3), queue(s3, settings, "other", batches=2)
        batch_id = layout.batch_id_of(next(pending_of(s3, FINAL, stock)))
        write_preflight(s3, FINAL, batch_id, [ready(image("stock/0.jpg"))])
        s3.put_object(Bucket=FINAL, Key=layout.staged(batch_id, 1), Body=b"")
        set_going(s3, FINAL, stock, "cancelled")
        assert clear_cancelled(s3, settings, pending_archives(s3, settings)) == 3
        assert list(pending_of(s3, FINAL, stock)) == []
        assert len(list(pending_of(s3, FINAL, other))) == 2
        assert s3.keys(FINAL, layout.OUTCOMES) == s3.keys(FINAL, layout.STAGED) == []

    def test_what_is_paid_for_is_kept_to_be_published(self, s3: MemoryS3, settings: Settings) -> None:
        stock = queue(s3, settings, "stock", batches=2)
        first = next(pending_of(s3, FINAL, stock))
        batch = read_batch(s3, FINAL, first)
        assert batch
        write_part(s3, FINAL, batch.batch_id, [outcome(each) for each in batch.images[:4]], number=0)
        set_going(s3, FINAL, stock, "cancelled")
        for _ in range(2):  # again and again, until it is published
            clear_cancelled(s3, settings, pending_archives(s3, settings))
            left = read_batch(s3, FINAL, first)
            assert left
            assert left.images == batch.images[:4]
        assert list(pending_of(s3, FINAL, stock)) == [first]
        assert take(s3, settings, ONE_A_SECOND, most_batches=9).batches == (first,)
        backlog = count_backlog(s3, settings, [first], now=NOW, run_id="r")
        assert backlog.ended == (first,), "there is nothing to start the model for"
        assert len(read_outcomes(s3, FINAL, batch.batch_id)) == 4

    def test_without_one_nothing_is_read(self, s3: MemoryS3, settings: Settings) -> None:
        queue(s3, settings, "stock", batches=1)
        before = s3.contents(FINAL)
        assert clear_cancelled(s3, settings, pending_archives(s3, settings)) == 0
        assert s3.contents(FINAL) == before
