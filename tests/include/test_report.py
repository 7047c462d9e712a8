from __future__ import annotations

import io
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import pyarrow.parquet as pq
import pytest

from include.decide import Decision
from include.infer import InferReport
from include.model_state import ModelState, ModelStateStore
from include.publish import PublishReport
from include.report import CALLS_WORTH_LEARNING_FROM, ModelTimes, build_report, learn, write_report
from include.schema import RunReport
from include.settings import Settings
from tests.include.memory_s3 import MemoryS3
from tests.include.samples import FINAL, NOW

START = Decision(True, "Start: …", images=300, inference_units=2, predicted_minutes=5.55555, predicted_cost_usd=0.8)


def at(seconds: float) -> datetime:
    return NOW + timedelta(seconds=seconds)


TIMES = ModelTimes(at(0), at(600), at(660), at(690))


def called(images: int, first: float, last: float, *, failed: int = 0, throttled: int = 0, **times: Any) -> InferReport:
    """A batch that was called for from one second to another."""
    return InferReport(
        images=images,
        labelled=images - failed,
        failed=failed,
        calls=images + throttled,
        throttled_calls=throttled,
        first_call_at=at(first),
        up_to_speed_at=at(times.get("up_to_speed", first)),
        out_of_images_at=at(times.get("out_of_images", last)),
        last_call_at=at(last),
        latency_seconds=times.get("latency"),
    )


INFERRED = [
    called(100, 610, 650, failed=5, throttled=20, up_to_speed=612, out_of_images=649, latency=0.2),
    called(200, 605, 655, throttled=10, up_to_speed=608, out_of_images=654, latency=0.4),
    InferReport(),
]
PUBLISHED = [
    PublishReport(images=120, labelled=95, rejected=10, missing=3, failed=5, skipped=7, labels=400),
    PublishReport(images=200, labelled=200, labels=600),
]


def build(settings: Settings, **changes: Any) -> RunReport:
    values: dict[str, Any] = {
        "run_id": "scheduled__2026-03-01T12:00:00+00:00",
        "started_at": NOW,
        "ended_at": at(700),
        "trigger": "scheduled",
        "decision": START,
        "inferred": INFERRED,
        "published": PUBLISHED,
        "times": TIMES,
        "final_status": "STOPPED",
    }
    return build_report(settings, **values | changes)


def test_counts_are_sums_over_batches(settings: Settings) -> None:
    report = build(settings)
    assert (report.images, report.labelled, report.rejected, report.missing) == (320, 295, 10, 3)
    assert (report.failed, report.skipped, report.labels) == (5, 7, 1000)
    assert (report.calls, report.throttled_calls) == (330, 30)


def test_times_are_of_the_whole_run(settings: Settings) -> None:
    report = build(settings)
    assert report.model_running_seconds == 90
    assert report.idle_before_first_call_seconds == 5
    assert report.idle_after_last_call_seconds == 5


def test_what_the_model_ran_for_without_being_fully_used_is_itemised(settings: Settings) -> None:
    report = build(settings)
    assert report.ramp_seconds == 3  # from 605 to 608, when the first rate was known
    assert report.tail_seconds == 6  # from 649, when the first of the last tasks had called for all of its images


def test_tasks_that_ended_long_before_are_no_tail(settings: Settings) -> None:
    earlier = [called(100, 601, 620, out_of_images=619), called(100, 601, 630, out_of_images=629)]
    assert build(settings, inferred=[*earlier, *INFERRED]).tail_seconds == 6


def test_what_the_model_served_and_how_well_it_was_used(settings: Settings) -> None:
    report = build(settings)
    assert report.images_per_second == 6.0  # 300 in 50 seconds
    assert report.utilisation == round(50 / 90, 4)


def test_it_is_used_badly_where_it_is_known_to_serve_more(settings: Settings) -> None:
    report = build(settings, known_rate=6.0)  # of each of two units
    assert report.utilisation == round(300 / 12 / 90, 4)


def test_cost_counts_begun_minutes_of_every_unit(settings: Settings) -> None:
    report = build(settings)
    assert report.cost_usd == round(2 * 2 * 4 / 60, 4)  # 90 seconds are 2 minutes
    assert report.cost_usd_per_thousand_images == round(report.cost_usd / 295 * 1000, 4)
    assert (report.predicted_minutes, report.predicted_cost_usd) == (5.556, 0.8)


@pytest.mark.parametrize(("running", "minutes"), [(0.2, 1), (60, 1), (60.5, 2), (3600, 60)])
def test_rounding(settings: Settings, running: float, minutes: int) -> None:
    times = ModelTimes(at(0), at(10), None, at(10 + running))
    assert build(settings, times=times).cost_usd == round(minutes * 2 * 4 / 60, 4)


def test_an_hour_without_work_costs_nothing(settings: Settings) -> None:
    idle = Decision(False, "Nothing is pending: the model stays off.")
    report = build(settings, decision=idle, inferred=[], published=[], times=ModelTimes())
    assert (report.cost_usd, report.model_running_seconds, report.inference_units) == (0, 0, 0)
    assert report.images_per_second is None
    assert report.utilisation is None
    assert report.cost_usd_per_thousand_images is None


def test_a_stop_that_was_not_seen_through_counts_to_the_request(settings: Settings) -> None:
    assert build(settings, times=replace(TIMES, stopped_at=None)).model_running_seconds == 60


def test_a_model_that_ran_for_nothing_costs_all_the_same(settings: Settings) -> None:
    report = build(settings, inferred=[InferReport()], published=[])
    assert report.cost_usd > 0
    assert report.utilisation is None
    assert report.cost_usd_per_thousand_images is None


def test_a_run_that_stopped_before_its_first_call_has_no_negative_idleness(settings: Settings) -> None:
    late = [called(1, 599, 700)]
    report = build(settings, inferred=late)
    assert (report.idle_before_first_call_seconds, report.idle_after_last_call_seconds) == (0, 0)
    assert report.utilisation == 1.0


def test_a_row_lies_under_its_day_and_is_written_again_over_itself(s3: MemoryS3, settings: Settings) -> None:
    report = build(settings)
    key = write_report(s3, settings, report)
    assert key == "results/runs/dt=2026-03-01/scheduled__2026-03-01T12-00-00-00-00.parquet"
    before = s3.contents(FINAL)
    assert write_report(s3, settings, report) == key
    assert s3.contents(FINAL) == before
    (row,) = pq.read_table(io.BytesIO(before[key])).to_pylist()
    assert row["run_id"] == report.run_id
    assert row["started_at"] == NOW


def test_a_model_that_was_not_seen_stopped_is_not_free(settings: Settings) -> None:
    unstopped = ModelTimes(at(0), at(600), None, None)
    report = build(settings, times=unstopped, ended_at=at(4200), final_status="RUNNING")
    assert report.model_running_seconds == 3600
    assert report.cost_usd > 0


class TestLearning:
    @pytest.fixture
    def store(self, s3: MemoryS3, settings: Settings) -> ModelStateStore:
        return ModelStateStore.of(s3, FINAL, settings.model)

    def test_the_rate_is_learned_of_one_unit_without_the_first_burst(
        self, store: ModelStateStore, settings: Settings
    ) -> None:
        learn(store, build(settings), INFERRED, TIMES)
        learned = store.read()
        assert learned.images_per_second == 300 / (50 + 1) / 2
        assert learned.start_seconds == 600
        assert learned.latency_seconds == pytest.approx(0.3)

    def test_too_few_calls_teach_no_rate(self, store: ModelStateStore, settings: Settings) -> None:
        few = [called(CALLS_WORTH_LEARNING_FROM - 1, 610, 611, throttled=5)]
        learn(store, build(settings, inferred=few), few, TIMES)
        assert store.read() == ModelState(start_seconds=600)

    def test_an_hour_without_work_teaches_nothing(self, store: ModelStateStore, settings: Settings) -> None:
        store.update(lambda _: ModelState(images_per_second=3.0, start_seconds=600))
        idle = build(settings, decision=Decision(False, ""), inferred=[], published=[], times=ModelTimes())
        learn(store, idle, [], ModelTimes())
        assert store.read() == ModelState(images_per_second=3.0, start_seconds=600)
