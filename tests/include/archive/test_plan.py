from __future__ import annotations

import json
import logging
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from include.archive import parts
from include.archive.estimate import days_within_budget, estimate
from include.archive.plan import Plan, in_words, plan_archive, read_part, read_plan
from include.archive.request import parse_request
from include.errors import SelectionError, TransientError
from include.model_state import ModelState
from include.settings import Settings
from tests.include.archive.conftest import MakePlan, planned, planned_keys
from tests.include.archive.inventories import FORMATS, URI, put_inventory, row
from tests.include.archive.test_published import put_results
from tests.include.conftest import BuildSettings
from tests.include.memory_s3 import Killed, MemoryS3, failure
from tests.include.samples import AWKWARD_KEYS, FINAL, NOW

ID = "20260301T120000Z.stock"
STOCK = "s3://archive/stock/"


def put(s3: MemoryS3, count: int, prefix: str = "stock/") -> list[str]:
    keys = [f"{prefix}{number:05d}.jpg" for number in range(count)]
    for key in keys:
        s3.put_object(Bucket="archive", Key=key, Body=key.encode())
    return keys


class TestPlan:
    def test_holds_exactly_the_chosen_images(self, s3: MemoryS3, make_plan: MakePlan) -> None:
        keys = put(s3, 2_500)
        put(s3, 3, "other/")
        s3.put_object(Bucket="archive", Key="stock/readme.txt", Body=b"x")
        plan = make_plan(source="prefix", uri=STOCK)
        assert planned_keys(s3, plan) == keys
        assert (plan.images, plan.found, plan.skipped) == (2_500, 2_501, {"without an image's extension": 1})
        assert plan.size_bytes == sum(map(len, keys))

    def test_names_go_through_it_unchanged(self, s3: MemoryS3, make_plan: MakePlan) -> None:
        for key in AWKWARD_KEYS:
            s3.put_object(Bucket="archive", Key=key, Body=b"x")
        assert planned_keys(s3, make_plan(source="prefix", uri="s3://archive/")) == sorted(AWKWARD_KEYS)

    def test_is_the_same_after_json_and_back(self, s3: MemoryS3, make_plan: MakePlan) -> None:
        put(s3, 3)
        asked: dict[str, Any] = {"include": ("*.jpg", "é*"), "modified_from": "2025-01-01", "sample_percent": 50.5}
        plan = make_plan(source="prefix", uri=STOCK, select="all", **asked)
        assert read_plan(s3, FINAL, ID) == plan == Plan.from_json(plan.to_json())

    def test_lies_where_it_should(self, s3: MemoryS3, make_plan: MakePlan, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(parts, "ROWS_A_PART", 700)
        put(s3, 2_100)
        plan = make_plan(source="prefix", uri=STOCK)
        expected = tuple(f"archives/{ID}/plan/part-{number:05d}.parquet" for number in range(3))
        assert plan.parts == expected
        assert s3.keys(FINAL) == sorted([*expected, f"archives/{ID}/plan.json"])
        assert [len(read_part(s3, FINAL, key)) for key in plan.parts] == [700, 700, 700]

    def test_parts_give_images_of_an_archive(self, s3: MemoryS3, make_plan: MakePlan) -> None:
        put(s3, 1)
        (key,) = make_plan(source="prefix", uri=STOCK).parts
        for force in (False, True):
            (image,) = read_part(s3, FINAL, key, force=force)
            assert (image.uri, image.origin, image.force) == ("s3://archive/stock/00000.jpg", "archive", force)
            assert image.event_time.utcoffset() == timedelta(0)

    def test_a_part_that_has_gone(self, s3: MemoryS3) -> None:
        with pytest.raises(SelectionError, match="archives/x/plan/part-00000.parquet has gone"):
            read_part(s3, FINAL, "archives/x/plan/part-00000.parquet")

    def test_a_second_call_finds_it(self, s3: MemoryS3, make_plan: MakePlan) -> None:
        put(s3, 3)
        plan = make_plan(source="prefix", uri=STOCK)
        put(s3, 9)
        before = s3.contents(FINAL)
        assert make_plan(source="prefix", uri=STOCK) == plan
        assert s3.contents(FINAL) == before

    def test_a_second_call_for_something_else_is_refused(self, s3: MemoryS3, make_plan: MakePlan) -> None:
        put(s3, 3)
        make_plan(source="prefix", uri=STOCK)
        with pytest.raises(SelectionError, match="was planned on 2026-03-01 12:00 for something else"):
            make_plan(source="prefix", uri=STOCK, limit=1)

    def test_leaves_out_what_has_a_result(self, s3: MemoryS3, make_plan: MakePlan) -> None:
        keys = put(s3, 4)
        etags = {key: s3.head_object(Bucket="archive", Key=key)["ETag"].strip('"') for key in keys}
        put_results(s3, "batch", *({"source_key": key, "etag": etags[key]} for key in keys[:3]))
        plan = make_plan(source="prefix", uri=STOCK)
        assert planned_keys(s3, plan) == keys[3:]
        assert (plan.found, list(plan.skipped.values())) == (4, [3])

    @pytest.mark.parametrize("file_format", FORMATS)
    def test_of_an_inventory(self, s3: MemoryS3, make_plan: MakePlan, file_format: str) -> None:
        keys = [f"{number}.jpg" for number in range(300)]
        put_inventory(s3, file_format, [row(key) for key in keys[:200]], [row(key) for key in keys[200:]])
        plan = make_plan(source="inventory", uri=URI, exclude=("1*",))
        assert planned_keys(s3, plan) == sorted(key for key in keys if not key.startswith("1"))
        assert plan.found == 300

    def test_ends_at_the_limit(self, s3: MemoryS3, make_plan: MakePlan) -> None:
        put(s3, 5_000)
        plan = make_plan(source="prefix", uri=STOCK, limit=1_500)
        assert (plan.images, len(planned(s3, plan)), plan.is_cut) == (1_500, 1_500, True)
        assert plan.found == plan.images + sum(plan.skipped.values())
        assert "ended at the limit of 1,500" in in_words(plan)

    def test_of_nothing_that_is_left(self, s3: MemoryS3, make_plan: MakePlan) -> None:
        put(s3, 3)
        plan = make_plan(source="prefix", uri=STOCK, exclude=("*",))
        assert (plan.images, plan.parts, plan.cost_usd, plan.hours) == (0, (), 0, 0)
        assert "Nothing is left to label." in in_words(plan)


class TestRefused:
    def refused(self, make_plan: MakePlan, s3: MemoryS3, match: str, **asked: Any) -> None:
        with pytest.raises(SelectionError, match=match):
            make_plan(**{"source": "prefix", "uri": STOCK} | asked)
        assert s3.keys(FINAL) == []

    def test_an_empty_prefix(self, s3: MemoryS3, make_plan: MakePlan) -> None:
        put(s3, 3)
        self.refused(make_plan, s3, "Nothing lies below s3://archive/Stock/", uri="s3://archive/Stock/")

    @pytest.mark.parametrize("uri", ["s3://elsewhere/", "s3://final/images/"])
    def test_a_bucket_that_is_not_allowed(self, s3: MemoryS3, make_plan: MakePlan, uri: str) -> None:
        self.refused(make_plan, s3, "Not allowed: bucket .* LABELS_ALLOWED_BUCKETS adds more", uri=uri)

    def test_an_inventory_of_a_bucket_that_is_not_allowed(self, s3: MemoryS3, make_plan: MakePlan) -> None:
        put_inventory(s3, "CSV", [row("a.jpg")], sourceBucket="elsewhere")
        self.refused(make_plan, s3, "Not allowed: bucket elsewhere", source="inventory", uri=URI)
        # What can be refused at once does not wait for gigabytes of data files.
        assert [key for operation, _, key in s3.calls if operation == "get_object" and "/data/" in key] == []

    def test_a_bucket_of_another_region(self, s3: MemoryS3, make_plan: MakePlan) -> None:
        s3.region = "eu-central-1"
        self.refused(make_plan, s3, "Bucket archive is in eu-central-1, the model in us-east-1")

    def test_a_bucket_that_s3_sends_elsewhere_for(self, s3: MemoryS3, make_plan: MakePlan) -> None:
        error = s3.refuse["head_bucket", ""] = failure("301", "HeadBucket", 301)
        error.response["ResponseMetadata"]["HTTPHeaders"] = {"x-amz-bucket-region": "eu-west-1"}
        self.refused(make_plan, s3, "Bucket archive is in eu-west-1")

    def test_a_bucket_that_may_not_be_read(self, s3: MemoryS3, make_plan: MakePlan) -> None:
        s3.refuse["head_bucket", ""] = failure("403", "HeadBucket", 403)
        self.refused(make_plan, s3, "Bucket archive may not be used by the role of the Airflow connection")

    def test_images_that_may_be_listed_but_not_read(self, s3: MemoryS3, make_plan: MakePlan) -> None:
        put(s3, 3)
        s3.refuse["head_object", "stock/00000.jpg"] = failure("403", "HeadObject", 403)
        self.refused(make_plan, s3, "stock/00000.jpg may not be read .* s3:GetObject for the images")

    def test_a_bucket_that_is_not_there(self, s3: MemoryS3, build_settings: BuildSettings) -> None:
        request = parse_request(source="prefix", uri="s3://gone/")
        some: dict[str, Any] = {"archive_id": ID, "now": NOW, "model_state": ModelState(), "month_cost_usd": 0.0}
        with pytest.raises(SelectionError, match="Bucket gone does not exist"):
            plan_archive(s3, build_settings(allowed_buckets="gone"), request, **some)

    def test_a_pattern_that_is_none(self, s3: MemoryS3, make_plan: MakePlan) -> None:
        self.refused(make_plan, s3, "is no pattern of names", include=("[z-a]",))


class TestInterrupted:
    def test_at_any_call_there_is_no_plan_and_the_next_attempt_makes_the_same(
        self, s3: MemoryS3, make_plan: MakePlan, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(parts, "ROWS_A_PART", 2)
        keys = put(s3, 5)
        calls = 0
        for dies_after in (False, True):
            s3.dies_after_the_effect = dies_after
            for calls in range(1, 100):
                s3.calls.clear()
                s3.dies_at = calls
                try:
                    make_plan(archive_id=f"{dies_after}.{calls}", source="prefix", uri=STOCK)
                    break
                except Killed:
                    s3.dies_at = None
                plan = read_plan(s3, FINAL, f"{dies_after}.{calls}")
                assert plan is None or dies_after
                again = make_plan(archive_id=f"{dies_after}.{calls}", source="prefix", uri=STOCK)
                assert planned_keys(s3, again) == keys
            s3.dies_at = None
        assert calls > 8

    def test_an_attempt_that_was_given_up_does_not_write_over_a_plan(
        self, s3: MemoryS3, make_plan: MakePlan, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        put(s3, 3)
        plain = s3.list_objects_v2

        def overtaken(**asked: Any) -> dict[str, Any]:
            monkeypatch.setattr(s3, "list_objects_v2", plain)
            make_plan(source="prefix", uri=STOCK)
            put(s3, 9)
            return plain(**asked)

        monkeypatch.setattr(s3, "list_objects_v2", overtaken)
        with pytest.raises(TransientError, match="has been planned by somebody else"):
            make_plan(source="prefix", uri=STOCK)
        assert len(planned_keys(s3, make_plan(source="prefix", uri=STOCK))) == 3


@pytest.mark.parametrize("source", ["prefix", "list"])
def test_on_local_aws(aws_s3: Any, aws_settings: Settings, source: str) -> None:
    bucket = aws_settings.source_bucket
    for key in AWKWARD_KEYS:
        aws_s3.put_object(Bucket=bucket, Key=key, Body=key.encode())
    body = "\n".join(f"s3://{bucket}/{key}" for key in AWKWARD_KEYS)
    aws_s3.put_object(Bucket=aws_settings.final_bucket, Key="list.txt", Body=body)
    uri = {"prefix": f"s3://{bucket}/", "list": f"s3://{aws_settings.final_bucket}/list.txt"}[source]
    some: dict[str, Any] = {"archive_id": ID, "now": NOW, "model_state": ModelState(), "month_cost_usd": 0.0}
    plan = plan_archive(aws_s3, aws_settings, parse_request(source=source, uri=uri), **some)
    found = [image for key in plan.parts for image in read_part(aws_s3, aws_settings.final_bucket, key)]
    assert {image.key: image.size_bytes for image in found} == {key: len(key.encode()) for key in AWKWARD_KEYS}
    assert plan_archive(aws_s3, aws_settings, parse_request(source=source, uri=uri), **some) == plan


class TestEstimate:
    def test_is_what_decide_would_decide(self, settings: Settings) -> None:
        assumed = estimate(1_000_000, ModelState(), settings, now=NOW, month_cost_usd=0.0)
        assert (assumed.images_per_second, assumed.is_measured, assumed.inference_units) == (5.0, False, 5)
        assert assumed.inference_unit_hours == pytest.approx(55.6, abs=0.1)
        assert assumed.cost_usd == pytest.approx(222, abs=1)
        assert assumed.hours == pytest.approx(11.1, abs=0.1)
        measured = estimate(1_000_000, ModelState(images_per_second=10.0), settings, now=NOW, month_cost_usd=0.0)
        assert (measured.is_measured, round(measured.cost_usd)) == (True, 111)

    def test_a_limit_of_a_run_makes_it_neither_cheaper_nor_shorter(self, build_settings: BuildSettings) -> None:
        free, limited = (
            estimate(1_000_000, ModelState(), build_settings(**limits), now=NOW, month_cost_usd=5.0)
            for limits in ({}, {"max_model_minutes": 10, "monthly_budget_usd": 10})
        )
        assert (limited.cost_usd, limited.hours) == (free.cost_usd, free.hours)

    @pytest.mark.parametrize(
        ("cost_usd", "hours", "budget_usd", "month_cost_usd", "days"),
        [
            (100, 24, None, 0, None),
            (100, 24, 100, 0, 1),
            (100, 24, 1_000, 899, 1),
            (100, 24, 0, 0, None),
            # It is the 1st of March, noon: 60.5 days to May, 274.5 to December; and then what is left to pay for.
            (200, 48, 100, 100, 60.5 + 1),
            (200, 48, 100, 50, 60.5 + 0.5),
            (100, 24, 90, 500, 60.5 + 0.1),
            (1_000, 24, 100, 0, 274.5 + 0.1),
        ],
    )
    def test_days_until_the_budget_has_let_all_through(
        self, cost_usd: float, hours: float, budget_usd: float | None, month_cost_usd: float, days: float | None
    ) -> None:
        found = days_within_budget(cost_usd, hours, budget_usd, now=NOW, month_cost_usd=month_cost_usd)
        assert found == (None if days is None else pytest.approx(days))


class TestInWords:
    def test_says_what_a_person_decides_on(self, s3: MemoryS3, build_settings: BuildSettings) -> None:
        put(s3, 2_000)
        s3.put_object(Bucket="archive", Key="stock/a.txt", Body=b"x")
        text = in_words(
            plan_archive(
                s3,
                build_settings(allowed_buckets="archive", monthly_budget_usd=100),
                parse_request(source="prefix", uri=STOCK),
                archive_id=ID,
                now=datetime(2026, 3, 1, tzinfo=UTC),
                model_state=ModelState(),
                month_cost_usd=0.0,
            )
        )
        for said in (
            "2,000 of 2,001 images found are chosen, 0.0 MB",
            "1 left out: without an image's extension",
            "0.1 inference-unit hours (5.0 images a second and unit, assumed until measured): about $0.47",
            "With 1 inference unit at once: some 7 minutes",
            "Within LABELS_MONTHLY_BUDGET_USD=100",
            f"Nothing was queued. To queue exactly these images: trigger backfill_archive without dry run and with plan={ID}",
        ):
            assert said in text

    def test_a_budget_of_nothing(self, s3: MemoryS3, build_settings: BuildSettings) -> None:
        put(s3, 1)
        settings = build_settings(allowed_buckets="archive", monthly_budget_usd=0)
        request = parse_request(source="prefix", uri=STOCK)
        some: dict[str, Any] = {"archive_id": ID, "now": NOW, "model_state": ModelState(), "month_cost_usd": 0.0}
        text = in_words(plan_archive(s3, settings, request, **some))
        assert "LABELS_MONTHLY_BUDGET_USD=0 lets none of it through" in text


def test_long_work_says_how_far_it_is(s3: MemoryS3, settings: Settings, caplog: pytest.LogCaptureFixture) -> None:
    put(s3, 5_000)
    clock = iter(range(0, 10_000, 6))
    with caplog.at_level(logging.INFO, logger="include.archive"):
        plan_archive(
            s3,
            settings,
            parse_request(source="prefix", uri=STOCK),
            archive_id=ID,
            now=NOW,
            model_state=ModelState(),
            month_cost_usd=0.0,
            monotonic=lambda: float(next(clock)),
        )
    assert "images found" in caplog.text


def test_a_plan_is_plain_json(s3: MemoryS3, make_plan: MakePlan) -> None:
    put(s3, 1)
    make_plan(source="prefix", uri=STOCK)
    plan = json.loads(s3.contents(FINAL, f"archives/{ID}/plan.json")[f"archives/{ID}/plan.json"])
    assert plan["images"] == 1
    assert plan["planned_at"] == "2026-03-01T12:00:00+00:00"
    assert plan["request"]["uri"] == STOCK
