from __future__ import annotations

import itertools
import math
import tracemalloc
from datetime import timedelta
from typing import Any

import pytest

from include import layout
from include.batches import list_pending, plan_batches, write_batches
from include.decide import (
    INFER_TASKS,
    MAX_BATCHES_A_RUN,
    Backlog,
    Decision,
    batch_size,
    count_backlog,
    decide,
    model_cost_usd,
)
from include.model_state import ModelState
from include.outcomes import read_preflight, write_part, write_preflight
from include.settings import Settings
from tests.include.conftest import BuildSettings
from tests.include.memory_s3 import MemoryS3
from tests.include.samples import FINAL, NOW, image, images, outcome, ready

AIRFLOWS_LIMIT = 1_024  # core.max_map_length


def choose(settings: Settings, count: int, *, rate: float | None = None, waited: float = 0, **options: Any) -> Decision:
    """The decision on so many images, of which the oldest has waited some minutes."""
    batches = tuple(f"b{number}" for number in range(math.ceil(count / settings.batch_size)))
    backlog = Backlog(batches, count, oldest=NOW - timedelta(minutes=waited))
    return decide(backlog, ModelState(images_per_second=rate), settings, now=NOW, **options)


def queue(s3: MemoryS3, *of_batches: list[Any]) -> list[str]:
    for some in of_batches:
        write_batches(s3, FINAL, plan_batches(some, batch_size=10_000), threads=1)
    return list_pending(s3, FINAL)


class TestBacklog:
    def test_nothing_pending(self, s3: MemoryS3, settings: Settings) -> None:
        assert count_backlog(s3, settings, [], now=NOW, run_id="r") == Backlog()

    def test_it_is_counted_image_by_image(self, s3: MemoryS3, settings: Settings) -> None:
        keys = queue(s3, images(3), [image("late.jpg", minutes=9)])
        assert count_backlog(s3, settings, keys, now=NOW, run_id="r") == Backlog(tuple(keys), images=4, oldest=NOW)

    def test_an_image_in_two_batches_is_kept_in_the_one_that_comes_first(
        self, s3: MemoryS3, settings: Settings
    ) -> None:
        keys = queue(s3, [image("a"), image("b", minutes=1)], [image("b", minutes=1), image("c", minutes=2)])
        backlog = count_backlog(s3, settings, keys, now=NOW, run_id="r")
        assert (backlog.images, backlog.doubles) == (3, 1)
        assert count_backlog(s3, settings, list_pending(s3, FINAL), now=NOW, run_id="r") == Backlog(
            tuple(keys), 3, oldest=NOW
        )

    def test_a_batch_of_nothing_but_doubles_is_gone(self, s3: MemoryS3, settings: Settings) -> None:
        first, second = queue(s3, images(5), images(5)[1:3])
        backlog = count_backlog(s3, settings, [first, second], now=NOW, run_id="r")
        assert (backlog.batches, backlog.images, backlog.doubles) == ((first,), 5, 2)
        assert list_pending(s3, FINAL) == [first]

    def test_doubles_are_found_across_many_batches(self, s3: MemoryS3, settings: Settings) -> None:
        some = images(60)
        keys = queue(s3, *(some[start : start + 20] for start in range(0, 60, 3)))
        backlog = count_backlog(s3, settings, keys, now=NOW, run_id="r")
        assert backlog.images == 60
        left = count_backlog(s3, settings, list_pending(s3, FINAL), now=NOW, run_id="r")
        assert (left.images, left.doubles) == (60, 0)

    def test_the_same_key_with_other_content_is_no_double(self, s3: MemoryS3, settings: Settings) -> None:
        keys = queue(s3, [image("a", etag="1")], [image("a", etag="2", minutes=1)])
        assert count_backlog(s3, settings, keys, now=NOW, run_id="r").images == 2

    def test_a_dry_run_counts_the_same_and_changes_nothing(self, s3: MemoryS3, settings: Settings) -> None:
        keys = queue(s3, images(5), images(5)[1:3], [*images(5)[4:], image("z", minutes=3)])
        before = s3.contents(FINAL)
        dry = count_backlog(s3, settings, keys, now=NOW, run_id="r", change=False)
        assert s3.contents(FINAL) == before
        assert (dry.images, dry.doubles) == (6, 3)
        assert count_backlog(s3, settings, keys, now=NOW, run_id="r").images == 6

    def test_a_batch_finished_meanwhile_is_left_out(self, s3: MemoryS3, settings: Settings) -> None:
        (key,) = queue(s3, images(2))
        assert count_backlog(
            s3, settings, [key, "batches/pending/1-20260301T120000Z-gone.jsonl.gz"], now=NOW, run_id="r"
        ).batches == (key,)

    def test_a_run_never_gets_more_batches_than_airflow_maps(self, s3: MemoryS3, settings: Settings) -> None:
        write_batches(s3, FINAL, plan_batches(images(500), batch_size=1), threads=1)
        backlog = count_backlog(s3, settings, list_pending(s3, FINAL), now=NOW, run_id="r")
        assert len(backlog.batches) == backlog.images == MAX_BATCHES_A_RUN < AIRFLOWS_LIMIT / 3
        assert backlog.later_batches == 200
        reason = decide(backlog, ModelState(), settings, now=NOW).reason
        assert "200 more batches follow in the next runs" in reason

    def test_a_large_backlog_takes_bytes_an_image(self, s3: MemoryS3, settings: Settings) -> None:
        count = 20_000
        write_batches(s3, FINAL, plan_batches(images(count), batch_size=500), threads=1)
        keys = list_pending(s3, FINAL)
        tracemalloc.start()
        assert count_backlog(s3, settings, keys, now=NOW, run_id="r").images == count
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert peak < 100 * count  # an ImageRef alone takes several hundred


class TestBatchesThatWereTakenUpBefore:
    """Of these, what has an outcome already is only published."""

    @pytest.fixture
    def key(self, s3: MemoryS3) -> str:
        (key,) = queue(s3, images(4))
        return key

    def attempted(self, s3: MemoryS3, key: str, *, times: int) -> str:
        batch_id = layout.batch_id_of(key)
        for run in range(times):
            s3.put_object(Bucket=FINAL, Key=layout.attempt(batch_id, f"run {run}"), Body=b"")
        return batch_id

    def test_what_is_paid_for_is_not_predicted_again(self, s3: MemoryS3, settings: Settings, key: str) -> None:
        batch_id = self.attempted(s3, key, times=1)
        write_preflight(s3, FINAL, batch_id, [ready(image) for image in images(4)])
        write_part(s3, FINAL, batch_id, [outcome(image) for image in images(4)[:3]], number=0)
        backlog = count_backlog(s3, settings, [key], now=NOW, run_id="r")
        assert (backlog.images, backlog.to_label, backlog.ended) == (4, 1, ())
        decision = decide(backlog, ModelState(), settings, now=NOW)
        assert decision.start
        assert decision.reason.startswith("Start: 1 image in 1 batch")

    def test_a_batch_that_only_has_to_be_published_starts_no_model(
        self, s3: MemoryS3, settings: Settings, key: str
    ) -> None:
        batch_id = self.attempted(s3, key, times=1)
        write_preflight(s3, FINAL, batch_id, [ready(image) for image in images(4)])
        write_part(s3, FINAL, batch_id, [outcome(image) for image in images(4)], number=0)
        decision = decide(count_backlog(s3, settings, [key], now=NOW, run_id="r"), ModelState(), settings, now=NOW)
        assert decision.reason == "4 images to publish, none to label: the model stays off."
        assert (decision.start, decision.batches) == (False, (key,))

    def test_a_batch_taken_up_in_vain_too_often_ends_as_failed_and_starts_no_model(
        self, s3: MemoryS3, settings: Settings, key: str
    ) -> None:
        batch_id = self.attempted(s3, key, times=settings.batch_attempts)
        write_part(s3, FINAL, batch_id, [outcome(images(4)[0])], number=0)
        decision = decide(count_backlog(s3, settings, [key], now=NOW, run_id="r6"), ModelState(), settings, now=NOW)
        assert (decision.start, decision.batches, decision.given_up) == (False, (key,), 1)
        assert "1 batch given up, see the log" in decision.reason
        ended = {entry.image.key: entry.outcome for entry in read_preflight(s3, FINAL, batch_id) or []}
        assert set(ended) == {image.key for image in images(4)[1:]}
        for each in ended.values():
            assert each
            assert (each.status, each.error_code, each.run_id) == ("FAILED", "GivenUp", "r6")
            assert "5 runs took up batch" in each.error_message

    def test_a_dry_run_gives_nothing_up(self, s3: MemoryS3, settings: Settings, key: str) -> None:
        self.attempted(s3, key, times=settings.batch_attempts)
        before = s3.contents(FINAL)
        assert count_backlog(s3, settings, [key], now=NOW, run_id="r", change=False).given_up == 1
        assert s3.contents(FINAL) == before


class TestLimits:
    """Off unless set. 3,000 images are ten minutes' work, $0.67 a ten minutes."""

    def test_a_run_is_cut_at_the_minutes_it_may_have_and_says_so(self, build_settings: BuildSettings) -> None:
        decision = choose(build_settings(max_model_minutes=4), 3_000)
        assert (decision.start, decision.limit_minutes, decision.predicted_minutes) == (True, 4, 4)
        assert decision.predicted_cost_usd == pytest.approx(4 * 4 / 60, abs=1e-4)
        assert "It would take 10; calling ends before, for LABELS_MAX_MODEL_MINUTES=4, and the rest" in decision.reason

    def test_a_run_that_needs_less_is_not_spoken_to(self, build_settings: BuildSettings) -> None:
        decision = choose(build_settings(max_model_minutes=30, monthly_budget_usd=50), 3_000)
        assert decision.limit_minutes == 30
        assert "LABELS_" not in decision.reason

    def test_what_is_left_of_the_budget_limits_a_run(self, build_settings: BuildSettings) -> None:
        decision = choose(build_settings(monthly_budget_usd=10, max_model_minutes=8), 3_000, month_cost_usd=9.70)
        assert decision.limit_minutes == 4  # 30 cents at 4 dollars an hour, in whole minutes
        assert "for $0.30 are left of LABELS_MONTHLY_BUDGET_USD=10" in decision.reason
        assert decision.predicted_cost_usd <= 0.30

    def test_more_units_have_fewer_minutes_for_the_same_money(self, build_settings: BuildSettings) -> None:
        decision = choose(build_settings(monthly_budget_usd=10), 30_000, month_cost_usd=9, units=2)
        assert decision.limit_minutes == 7

    @pytest.mark.parametrize("spent", [9.94, 10.0, 25.0])
    @pytest.mark.parametrize("by_hand", [False, True])
    def test_past_the_budget_nothing_is_started(
        self, build_settings: BuildSettings, spent: float, by_hand: bool
    ) -> None:
        decision = choose(build_settings(monthly_budget_usd=10), 3_000, month_cost_usd=spent, by_hand=by_hand)
        assert (decision.start, decision.is_over_budget) == (False, True)
        assert decision.reason.startswith(f"Refused: the model has cost ${spent:.2f} this month")
        assert "LABELS_MONTHLY_BUDGET_USD is 10. 3,000 images stay pending" in decision.reason

    def test_a_budget_of_nothing_allows_nothing(self, build_settings: BuildSettings) -> None:
        assert not choose(build_settings(monthly_budget_usd=0), 1).start


class TestDecision:
    def test_an_empty_hour_starts_nothing(self, settings: Settings) -> None:
        decision = choose(settings, 0)
        assert decision == Decision(False, "Nothing is pending: the model stays off.")

    def test_one_image_is_worth_a_start_by_default(self, settings: Settings) -> None:
        decision = choose(settings, 1)
        assert decision.start
        assert decision.reason.startswith("Start: 1 image in 1 batch with 1 inference unit: about 0.3 model minutes")

    @pytest.mark.parametrize(
        ("count", "rate", "units"),
        [
            (1, 5.0, 1),
            (5 * 60 * 49, 5.0, 1),  # 49 unit minutes, just within 50 less the overhead
            (5 * 60 * 50, 5.0, 2),
            (5 * 60 * 49 * 3, 5.0, 3),
            (5 * 60 * 49 * 3, 15.0, 1),
            (10_000_000, 5.0, 5),
        ],
    )
    def test_the_fewest_units_that_meet_the_deadline(
        self, settings: Settings, count: int, rate: float, units: int
    ) -> None:
        assert choose(settings, count, rate=rate).inference_units == units

    def test_the_range_of_units_is_kept(self, build_settings: BuildSettings) -> None:
        settings = build_settings(inference_units_min=2, inference_units_max=3)
        assert choose(settings, 1).inference_units == 2
        assert choose(settings, 10**7).inference_units == 3

    def test_a_deadline_that_cannot_be_met_is_said(self, settings: Settings) -> None:
        assert "Longer than the 50 minutes wanted: 5 units are the most allowed" in choose(settings, 10**7).reason
        assert "Longer" not in choose(settings, 1_000).reason

    def test_units_asked_for_by_hand_are_taken(self, settings: Settings) -> None:
        decision = choose(settings, 10**6, units=2)
        assert decision.inference_units == 2
        assert "Longer" not in decision.reason

    @pytest.mark.parametrize("deadline", [0.1, 0.5, 1])
    def test_a_deadline_shorter_than_the_overhead_is_no_division_by_zero(
        self, build_settings: BuildSettings, deadline: float
    ) -> None:
        assert 1 <= choose(build_settings(deadline_minutes=deadline), 100).inference_units <= 5

    def test_more_units_cost_the_same_work_but_never_less(self, settings: Settings) -> None:
        decisions = [choose(settings, 30_000, units=units) for units in range(1, 6)]
        minutes = [decision.predicted_minutes for decision in decisions]
        assert minutes == sorted(minutes, reverse=True)
        for one, other in itertools.pairwise(decisions):
            assert one.predicted_minutes * one.inference_units < other.predicted_minutes * other.inference_units

    def test_the_price_follows_from_minutes_units_and_settings(self, build_settings: BuildSettings) -> None:
        decision = choose(build_settings(price_per_unit_hour_usd=6.0), 5 * 60 * 10, units=2)
        assert decision.predicted_minutes == pytest.approx(5.25)
        assert decision.predicted_cost_usd == pytest.approx(6 * 2 * 6.0 / 60)
        assert f"${decision.predicted_cost_usd:.2f}" in decision.reason

    def test_what_was_measured_counts_and_what_is_assumed_is_said(self, settings: Settings) -> None:
        assert "(5.0 images a second and unit, assumed until measured)" in choose(settings, 10).reason
        assert "(12.5 images a second and unit, as measured before)" in choose(settings, 10, rate=12.5).reason

    def test_few_images_wait(self, build_settings: BuildSettings) -> None:
        settings = build_settings(minimum_backlog=100, maximum_wait_minutes=180)
        decision = choose(settings, 99, waited=179)
        assert not decision.start
        assert decision.batches == ()
        assert decision.reason == (
            "Postponed: 99 images pending, fewer than the minimum of 100, and the oldest has waited 179 of at most "
            "180 minutes."
        )

    @pytest.mark.parametrize(
        ("count", "waited", "by_hand"), [(100, 0, False), (1, 180, False), (1, 100_000, False), (1, 0, True)]
    )
    def test_enough_images_or_a_long_wait_or_a_person_start_it(
        self, build_settings: BuildSettings, count: int, waited: float, by_hand: bool
    ) -> None:
        settings = build_settings(minimum_backlog=100, maximum_wait_minutes=180)
        assert choose(settings, count, waited=waited, by_hand=by_hand).start

    def test_a_person_starts_nothing_where_nothing_is_pending(self, settings: Settings) -> None:
        assert not choose(settings, 0, by_hand=True, units=2).start


@pytest.mark.parametrize(
    ("seconds", "units", "cost"),
    [(0, 1, 0), (1, 1, 4 / 60), (60, 1, 4 / 60), (60.001, 1, 8 / 60), (20 * 60, 5, 6.67), (3600, 1, 4), (7200, 2, 16)],
)
def test_begun_minutes_are_billed_in_full(seconds: float, units: int, cost: float) -> None:
    assert model_cost_usd(seconds, units, 4.0) == pytest.approx(cost, abs=0.005)


class TestBatchSize:
    def test_ten_minutes_of_work_are_one_tasks(self, settings: Settings) -> None:
        assert batch_size(3_000, ModelState(images_per_second=5), settings) == 3_000

    def test_of_more_all_that_call_at_the_same_time_get_equal_parts(self, settings: Settings) -> None:
        assert batch_size(5_000, ModelState(images_per_second=5), settings) == 1_250

    @pytest.mark.parametrize("rate", [5, 16])
    @pytest.mark.parametrize("count", [9_601, 30_000, 123_456])
    def test_a_batch_is_worth_ten_minutes_of_a_tasks_part_and_the_last_ones_end_together(
        self, settings: Settings, rate: float, count: int
    ) -> None:
        size = batch_size(count, ModelState(images_per_second=rate), settings)
        assert size <= 600 * rate / INFER_TASKS + 1
        assert math.ceil(count / size) % INFER_TASKS == 0
        assert count % size == 0 or count % size > 0.6 * size

    def test_where_nothing_is_known_the_assumed_rate_counts(self, build_settings: BuildSettings) -> None:
        settings = build_settings(assumed_images_per_second=2)
        assert batch_size(1_200_000, ModelState(), settings) == 600

    def test_more_units_do_more_in_that_time(self, build_settings: BuildSettings) -> None:
        settings = build_settings(inference_units_min=2)
        assert batch_size(6_000, ModelState(images_per_second=5), settings) == 6_000

    def test_the_setting_is_the_most(self, build_settings: BuildSettings) -> None:
        assert batch_size(1_000_000, ModelState(images_per_second=50), build_settings(batch_size=100)) == 100

    def test_nothing_is_no_reason_to_fail(self, settings: Settings) -> None:
        assert batch_size(0, ModelState(), settings) == 1
