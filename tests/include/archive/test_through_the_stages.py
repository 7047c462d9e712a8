"""Archives through the stages: cancelled in the midst of a batch, queued again, counted over several runs."""

from __future__ import annotations

from datetime import timedelta

import pytest

from include import layout
from include.archive.archives import Archive, pending_of, queue_archive, read_progress, record_run, set_going
from include.archive.slices import clear_cancelled, next_slice, pending_archives
from include.batches import read_batch
from include.decide import MAX_BATCHES_A_RUN, Decision, count_backlog
from include.errors import SelectionError
from include.images import ImageRef
from include.infer import InferReport
from include.model_state import ModelState
from include.outcomes import read_outcomes, write_part
from include.preflight import preflight
from include.publish import PublishReport, publish
from include.report import ModelTimes, build_report, for_archives
from include.schema import RunReport
from include.settings import Settings
from tests.include.conftest import BuildSettings
from tests.include.memory_s3 import MemoryS3
from tests.include.samples import FINAL, NOW, image, outcome, picture, uploaded

ONE_A_SECOND = ModelState(images_per_second=1.0)
BUCKET = "archive"


@pytest.fixture
def settings(build_settings: BuildSettings) -> Settings:
    """A slice is six batches of ten."""
    return build_settings(archive_minutes=1, inference_units_max=1, allowed_buckets=BUCKET)


def stock_images(s3: MemoryS3, name: str, count: int) -> list[ImageRef]:
    return [
        uploaded(s3, image(f"{name}/{number:03d}.jpg", bucket=BUCKET, origin="archive"), picture(seed=number))
        for number in range(count)
    ]


def queue(s3: MemoryS3, settings: Settings, every: list[ImageRef], name: str, *, batch_size: int = 10) -> str:
    known = Archive(f"20260301T120000Z_{name}", "s3://archive/", NOW, len(every), len(every), batch_size=batch_size)
    return queue_archive(s3, settings, known, [lambda: every]).archive_id


def taken(s3: MemoryS3, settings: Settings) -> tuple[str, ...]:
    """What the next run labels of archives; as `decide` does, it first clears what is cancelled."""
    archives = pending_archives(s3, settings)
    clear_cancelled(s3, settings, archives)
    return next_slice(s3, settings, ONE_A_SECOND, archives, most_batches=MAX_BATCHES_A_RUN).batches


def label(s3: MemoryS3, settings: Settings, key: str, *, only: int | None = None, run_id: str = "r") -> PublishReport:
    """Label some of a batch, as a run does whose time is up then; and publish it as far as that goes."""
    batch = read_batch(s3, FINAL, key)
    assert batch
    checked = preflight(s3, settings, batch, run_id=run_id, now=lambda: NOW)
    paid = read_outcomes(s3, FINAL, batch.batch_id)
    todo = [each.image for each in checked if each.is_ready and each.image.place not in paid][:only]
    if todo:
        write_part(s3, FINAL, batch.batch_id, [outcome(each) for each in todo], number=0)
    return publish(s3, settings, batch, thresholds={})


class TestCancelled:
    def test_what_of_a_batch_is_paid_for_is_published(self, s3: MemoryS3, settings: Settings) -> None:
        stock = queue(s3, settings, stock_images(s3, "a", 20), "stock")
        first = next(pending_of(s3, FINAL, stock))
        label(s3, settings, first, only=4)
        set_going(s3, FINAL, stock, "cancelled")
        for _ in range(3):
            for key in taken(s3, settings):
                label(s3, settings, key)
        assert len(s3.keys(FINAL, layout.LABELS)) == 4
        assert s3.keys(FINAL, layout.PENDING) == []

    def test_a_batch_that_is_wholly_paid_for_is_published(self, s3: MemoryS3, settings: Settings) -> None:
        stock = queue(s3, settings, stock_images(s3, "a", 10), "stock")
        batch = read_batch(s3, FINAL, next(pending_of(s3, FINAL, stock)))
        assert batch
        preflight(s3, settings, batch, run_id="r", now=lambda: NOW)
        write_part(s3, FINAL, batch.batch_id, [outcome(each) for each in batch.images], number=0)  # publish was killed
        set_going(s3, FINAL, stock, "cancelled")
        for key in taken(s3, settings):
            label(s3, settings, key)
        assert len(s3.keys(FINAL, layout.LABELS)) == 10

    def test_queued_again_under_another_name_nothing_is_paid_for_twice(self, s3: MemoryS3, settings: Settings) -> None:
        every = stock_images(s3, "a", 10)
        stock = queue(s3, settings, every, "stock")
        label(s3, settings, next(pending_of(s3, FINAL, stock)), only=4)
        set_going(s3, FINAL, stock, "cancelled")
        queue(s3, settings, every, "again")
        paid = 4
        for key in count_backlog(s3, settings, taken(s3, settings), now=NOW, run_id="2").batches:
            batch = read_batch(s3, FINAL, key)
            assert batch
            before = len(read_outcomes(s3, FINAL, batch.batch_id))
            label(s3, settings, key)
            paid += len(read_outcomes(s3, FINAL, batch.batch_id)) - before
        assert paid == 10

    def test_a_cancelled_plan_that_is_queued_again_says_that_nothing_is_queued(
        self, s3: MemoryS3, settings: Settings
    ) -> None:
        every = stock_images(s3, "a", 10)
        stock = queue(s3, settings, every, "stock")
        set_going(s3, FINAL, stock, "cancelled")
        clear_cancelled(s3, settings, pending_archives(s3, settings))
        with pytest.raises(SelectionError, match="was cancelled"):
            queue(s3, settings, every, "stock")


def run_report(settings: Settings, *published: PublishReport, inferred: tuple[InferReport, ...] = ()) -> RunReport:
    return build_report(
        settings,
        run_id="r",
        started_at=NOW,
        ended_at=NOW + timedelta(minutes=5),
        trigger="manual",
        decision=Decision(True, "", inference_units=1),
        inferred=inferred,
        published=published,
        times=ModelTimes(
            running_at=NOW, stop_requested_at=NOW + timedelta(minutes=3), stopped_at=NOW + timedelta(minutes=3)
        ),
        final_status="STOPPED",
    )


class TestCounted:
    def test_a_batch_that_two_runs_have_labelled_is_counted_once(self, s3: MemoryS3, settings: Settings) -> None:
        stock = queue(s3, settings, stock_images(s3, "a", 20), "stock")
        key = next(pending_of(s3, FINAL, stock))
        rows = []
        for number, only in enumerate((6, None)):
            counts = label(s3, settings, key, only=only, run_id=str(number))
            called = [(key, InferReport(images=only or 4, labelled=only or 4))]
            row = run_report(settings, counts)
            rows.append(row)
            record_run(s3, FINAL, str(number), for_archives(row, called, [(key, counts)]))
        progress = read_progress(s3, FINAL, stock, threads=1)
        assert (progress.done.images, progress.left) == (10, 10), progress.in_words()
        assert sum(row.images for row in rows) == 10

    def test_each_runs_cost_is_the_archives(self, s3: MemoryS3, settings: Settings) -> None:
        """A batch is more than a slice: the first run finishes none."""
        stock = queue(s3, settings, stock_images(s3, "a", 10), "stock")
        key = next(pending_of(s3, FINAL, stock))
        cost = 0.0
        for number, only in enumerate((4, 4, None)):
            counts = label(s3, settings, key, only=only, run_id=str(number))
            called = [(key, InferReport(images=only or 2, labelled=only or 2))]
            row = run_report(settings, counts, inferred=(called[0][1],))
            cost += row.cost_usd
            record_run(s3, FINAL, str(number), for_archives(row, called, [(key, counts)]))
        assert read_progress(s3, FINAL, stock, threads=1).done.cost_usd == pytest.approx(cost)
