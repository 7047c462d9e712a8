"""A stock archive beside the uploads: slice after slice on one start of the model, paused, cancelled, and never in their way."""

from __future__ import annotations

import io
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

import pyarrow.parquet as pq
import pytest

from include.archive.archives import Archive, Going, list_archives, queue_archive, read_progress, set_going
from include.archive.request import archive_id
from include.audit import render
from include.images import ImageRef
from include.model_state import Hold
from include.parallel import in_slices
from labelling import model_session
from local_stack import seed
from tests.integration.deployment import Deployment
from tests.integration.in_process import DagRunner, Ended
from tests.integration.situations import assert_safe
from tests.integration.world import World, wait_for

STOCK = "stock-archive"
IMAGES = 18  # three batches
A_BATCH = 6
# What is said to be in a batch: a minute of what the model is said to label, so that a slice is one batch.
SAID_TO_BE = 6_000


@pytest.fixture
def stock(world: World, monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, str]]:
    """A bucket of images that nobody announced; keys with their ETags."""
    monkeypatch.setenv("LABELS_ALLOWED_BUCKETS", STOCK)
    monkeypatch.setenv("LABELS_ARCHIVE_MINUTES", "1")
    monkeypatch.setenv("LABELS_INFERENCE_UNITS_MAX", "1")
    world.s3.create_bucket(Bucket=STOCK)
    for number, body in enumerate(world.images[:IMAGES]):
        world.s3.put_object(Bucket=STOCK, Key=f"2019/shelf {number % 4}/{number:03d}+a.jpg", Body=body)
    yield world.keys(STOCK)
    for key in world.keys(STOCK):
        world.s3.delete_object(Bucket=STOCK, Key=key)
    world.s3.delete_bucket(Bucket=STOCK)


def queue(world: World, stock: dict[str, str], name: str = "stock", *, said_to_be: int = SAID_TO_BE) -> str:
    """Queue all of it, without the Dag that does so."""
    now = datetime.now(UTC)
    images = [ImageRef(STOCK, key, etag.strip('"'), now, origin="archive") for key, etag in stock.items()]
    known = Archive(archive_id(name, now=now), f"s3://{STOCK}/", now, len(images), 0, batch_size=said_to_be)
    parts = [partial(list, some) for some in in_slices(images, A_BATCH)]
    return queue_archive(world.s3, world.parsed, known, parts).archive_id


def labelled(world: World, bucket: str = STOCK) -> set[str]:
    prefix = f"labels/{bucket}/"
    return {key.removeprefix(prefix).removesuffix(".json") for key in world.keys(prefix=prefix)}


def all_rows(world: World) -> list[dict[str, Any]]:
    keys = world.keys(prefix="results/runs/")
    return [dict(pq.read_table(io.BytesIO(world.read(key))).to_pylist()[0]) for key in keys]


def row(world: World, ended: Ended) -> dict[str, Any]:
    [key] = [
        key for key in world.keys(prefix="results/runs/") if ended.run_id.replace(":", "-").replace("+", "-") in key
    ]
    return dict(pq.read_table(io.BytesIO(world.read(key))).to_pylist()[0])


@contextmanager
def changed_midway(world: World, known: str, going: Going) -> Iterator[None]:
    """In this block an archive is paused or cancelled after its first two images, of which each takes half a second."""
    with world.network.holding("^DetectCustomLabels", after=2) as held:

        def change() -> None:
            held.wait()
            set_going(world.s3, seed.FINAL_BUCKET, known, going)
            held.released.set()

        somebody = threading.Thread(target=change)
        somebody.start()
        world.aws.settings(inference_latency=0.5)
        yield
        somebody.join()


def assert_archive_is_labelled(world: World, stock: dict[str, str]) -> None:
    assert labelled(world) == set(stock)
    assert world.batches("pending") == {}
    assert world.keys(STOCK) == stock, "originals of archives stay where they are"
    found = world.audit()
    assert found.is_clean, render(found)


def test_the_scheduler_goes_from_slice_to_slice_by_itself_on_one_start_of_the_model(
    deployment: Deployment, world: World, stock: dict[str, str]
) -> None:
    known = queue(world, stock, said_to_be=1_000_000)  # half an hour of five units
    deployment.trigger()
    wait_for("the archive is labelled", lambda: labelled(world) == set(stock), seconds=240)
    assert_safe(world)
    wait_for("the last run has reported", lambda: len(all_rows(world)) == 3)
    assert world.batches("pending") == {}
    assert world.times_run() == 1
    assert world.paid_calls() == IMAGES
    assert read_progress(world.s3, seed.FINAL_BUCKET, known, threads=1).done.labelled == IMAGES
    rows = sorted(all_rows(world), key=lambda each: each["started_at"])
    assert [each["model_final_status"] for each in rows] == ["RUNNING"] * 2 + ["STOPPED"]
    # What the model bills between two slices; the limit is one of a laden machine.
    assert max(each["idle_before_first_call_seconds"] for each in rows[1:]) < 90


def test_the_model_stays_up_from_slice_to_slice_and_stops_after_the_last(
    dags: DagRunner, world: World, stock: dict[str, str]
) -> None:
    known = queue(world, stock)
    for number in range(1, 3):
        ended = dags.run()
        assert ended.state == "success"
        assert ended.of("next_run") == {"success"}
        assert "another run follows at once, and the model stays up" in ended.log
        assert f"{number * A_BATCH} of {IMAGES} images done" in ended.log
        assert world.status() == "RUNNING"
    last = dags.run()
    assert last.state == "success"
    assert last.of("next_run") == {"skipped"}
    assert world.times_run() == 1
    assert world.paid_calls() == IMAGES
    assert_safe(world)
    assert_archive_is_labelled(world, stock)
    progress = read_progress(world.s3, seed.FINAL_BUCKET, known, threads=1)
    assert (progress.state, progress.done.labelled, progress.runs) == ("done", IMAGES, 3)
    assert row(world, last)["model_final_status"] == "STOPPED"


def test_the_time_between_two_slices_stands_in_the_second_ones_row(
    dags: DagRunner, world: World, stock: dict[str, str]
) -> None:
    queue(world, stock)
    first, second = row(world, dags.run()), row(world, dags.run())
    assert second["idle_before_first_call_seconds"] >= (second["started_at"] - first["ended_at"]).total_seconds()
    assert first["model_final_status"] == "RUNNING"
    # The minute that goes on is not paid for twice.
    assert first["cost_usd"] == pytest.approx(first["model_running_seconds"] * 4 / 3600, abs=1e-4)
    state = world.state.read()
    assert state.start_seconds is None or state.start_seconds > 0.5, "nothing is learned of a start that was none"


def test_uploads_come_first(dags: DagRunner, world: World, stock: dict[str, str]) -> None:
    queue(world, stock)
    assert dags.run().state == "success"
    world.upload(6)
    ended = dags.run()
    assert world.labelled() == set(world.uploads)
    assert ended.of("next_run") == {"success"}
    assert len(labelled(world)) == 2 * A_BATCH, "and the archive goes on beside them"


def test_a_paused_archive_stops_the_model_that_was_left_on_for_it(
    dags: DagRunner, world: World, stock: dict[str, str]
) -> None:
    known = queue(world, stock)
    assert dags.run().state == "success"
    assert world.status() == "RUNNING"
    set_going(world.s3, seed.FINAL_BUCKET, known, "paused")
    ended = dags.run()
    assert ended.state == "success"
    assert "Nothing is pending" in ended.log
    assert ended.of("start_model") == {"skipped"}
    assert_safe(world)
    assert len(labelled(world)) == 6

    set_going(world.s3, seed.FINAL_BUCKET, known, "on")
    for _ in range(2):
        assert dags.run().state == "success"
    assert_safe(world)
    assert_archive_is_labelled(world, stock)
    assert world.paid_calls() == IMAGES


def test_pausing_ends_what_is_being_labelled_and_the_model(
    dags: DagRunner, world: World, stock: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("labelling.tasks.PAUSE_SECONDS", 0.1)
    monkeypatch.setenv("LABELS_INFERENCE_THREADS", "1")
    known = queue(world, stock)
    with changed_midway(world, known, "paused"):
        ended = dags.run()
    assert ended.state == "success"
    assert "its archive does not go on" in ended.log
    assert ended.of("next_run") == {"skipped"}
    assert 0 < world.paid_calls() < 6
    assert_safe(world)

    world.aws.settings(inference_latency=0)
    set_going(world.s3, seed.FINAL_BUCKET, known, "on")
    for _ in range(3):
        assert dags.run().state == "success"
    assert_archive_is_labelled(world, stock)
    assert world.paid_calls() == IMAGES, "what was checkpointed is not paid for again"


def test_a_cancelled_archive_is_gone_with_the_next_run_and_what_was_labelled_stays(
    dags: DagRunner, world: World, stock: dict[str, str]
) -> None:
    known = queue(world, stock)
    assert dags.run().state == "success"
    set_going(world.s3, seed.FINAL_BUCKET, known, "cancelled")
    assert dags.run().state == "success"
    assert world.batches("pending") == {}
    assert len(labelled(world)) == 6
    assert_safe(world)
    found = world.audit()
    assert found.is_clean, render(found)


def test_two_archives_take_turns(
    dags: DagRunner, world: World, stock: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    half = sorted(stock)[: IMAGES // 2]
    first = queue(world, {key: stock[key] for key in half}, "a")
    second = queue(world, {key: stock[key] for key in stock if key not in half}, "b")
    monkeypatch.setenv("LABELS_ARCHIVE_MINUTES", "2")  # two batches a slice
    for done in (A_BATCH, IMAGES // 2):
        assert dags.run().state == "success"
        for known in (first, second):
            assert read_progress(world.s3, seed.FINAL_BUCKET, known, threads=1).done.images == done
    assert_safe(world)
    assert_archive_is_labelled(world, stock)


def test_a_slice_that_fails_leaves_no_model_on_and_the_next_run_goes_on(
    dags: DagRunner, world: World, stock: dict[str, str]
) -> None:
    queue(world, stock)
    world.network.refuse("^DetectCustomLabels", times=1)
    ended = dags.run()
    assert ended.state == "failed"
    assert ended.of("next_run") == {"skipped"}
    assert_safe(world)
    for _ in range(3):
        assert dags.run().state == "success"
    assert_safe(world)
    assert_archive_is_labelled(world, stock)


def test_a_run_that_never_comes_leaves_the_model_to_the_watchdog(
    dags: DagRunner, world: World, stock: dict[str, str]
) -> None:
    queue(world, stock)
    assert dags.run().state == "success"
    assert dags.run("stop_idle_model").state == "success"
    assert world.status() == "RUNNING", "it is waited for"
    world.let_lease_run_out()
    assert dags.run("stop_idle_model").state == "failed"
    assert_safe(world)


def test_an_image_in_two_archives_is_paid_for_once(dags: DagRunner, world: World, stock: dict[str, str]) -> None:
    some = {key: stock[key] for key in sorted(stock)[: 2 * A_BATCH]}
    queue(world, some)
    assert dags.run().state == "success"
    twice = queue(world, some, "again")
    while world.batches("pending"):
        assert dags.run().state == "success"
    assert world.paid_calls() == len(some)
    assert_safe(world)
    assert labelled(world) == set(some)
    assert read_progress(world.s3, seed.FINAL_BUCKET, twice, threads=1).state == "done"
    found = world.audit()
    assert found.is_clean, render(found)


# Between two slices


@pytest.mark.parametrize("trouble", ["^GET .*list-type=2.*pending", "^PUT .*state/model/"])
def test_s3_that_fails_when_the_model_is_to_be_handed_over_stops_it(
    dags: DagRunner, world: World, stock: dict[str, str], monkeypatch: pytest.MonkeyPatch, trouble: str
) -> None:
    queue(world, stock)
    execute, requests = model_session.StopModel.execute, []

    def in_trouble(self: Any, context: Any) -> str:
        world.network.refuse(trouble, "AccessDenied", status=403)
        try:
            return execute(self, context)
        finally:
            world.network.mend()
            requests.append(world.network.count("^StopProjectVersion"))

    monkeypatch.setattr(model_session.StopModel, "execute", in_trouble)
    dags.run()
    assert requests[0] == 1, "at the first attempt"
    assert_safe(world)


def test_a_dry_run_between_two_slices_changes_nothing_and_who_holds_the_model_keeps_it(
    dags: DagRunner, world: World, stock: dict[str, str]
) -> None:
    known = queue(world, stock)
    assert dags.run().state == "success"
    before = world.lease()
    assert dags.run(dry_run=True).state == "success"
    assert (world.status(), world.lease()) == ("RUNNING", before)

    world.state.set_hold(Hold("ann", datetime.now(UTC) + timedelta(minutes=30)))
    set_going(world.s3, seed.FINAL_BUCKET, known, "paused")
    assert dags.run().state == "success"
    assert (world.status(), world.lease()) == ("RUNNING", None)


def test_a_model_that_somebody_stopped_between_two_slices_fails_no_run(
    dags: DagRunner, world: World, stock: dict[str, str]
) -> None:
    known = queue(world, stock)
    assert dags.run().state == "success"
    set_going(world.s3, seed.FINAL_BUCKET, known, "paused")
    world.aws.set_model(world.version_arn, status="STOPPED")
    assert dags.run().state == "success"
    assert_safe(world)


def test_what_was_left_running_in_vain_is_on_the_bill(dags: DagRunner, world: World, stock: dict[str, str]) -> None:
    known = queue(world, stock)
    first = row(world, dags.run())
    set_going(world.s3, seed.FINAL_BUCKET, known, "paused")
    ended = dags.run()
    second = row(world, ended)
    assert second["model_running_seconds"] >= (second["started_at"] - first["ended_at"]).total_seconds()
    assert second["cost_usd"] > 0
    assert second["inference_units"] == 1
    assert "with 1 inference unit" in ended.log


def test_cancelled_in_the_midst_of_a_batch_what_is_paid_for_is_published(
    dags: DagRunner, world: World, stock: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("labelling.tasks.PAUSE_SECONDS", 0.1)
    monkeypatch.setenv("LABELS_INFERENCE_THREADS", "1")
    known = queue(world, stock)
    with changed_midway(world, known, "cancelled"):
        assert dags.run().state == "success"
    world.aws.settings(inference_latency=0)
    assert dags.run().state == "success"
    assert 0 < len(labelled(world)) == world.paid_calls() < A_BATCH
    assert world.batches("pending") == {}
    assert_safe(world)
    found = world.audit()
    assert found.is_clean, render(found)


# From the form to the labels


def plan_in(ended: Ended) -> str:
    found = re.search(r"plan=(\S+)", ended.log)
    assert found, ended.log
    return found[1].rstrip(".")


def test_a_dry_run_says_what_there_is_and_queues_nothing_and_the_second_step_queues_exactly_that(
    dags: DagRunner, world: World, stock: dict[str, str]
) -> None:
    before = world.keys(prefix="batches/")
    dry = dags.run("backfill_archive", uri=f"s3://{STOCK}/2019/", exclude=["*/shelf 3/*"])
    assert dry.state == "success"
    assert dry.of("queue") == dry.of("label_images") == {"skipped"}
    assert "14 of 18 images found are chosen" in dry.log
    assert world.keys(prefix="batches/") == before == {}
    assert list_archives(world.s3, seed.FINAL_BUCKET) == []

    # What comes later is not in the plan.
    world.s3.put_object(Bucket=STOCK, Key="2019/shelf 0/late.jpg", Body=world.images[0])
    queued = dags.run("backfill_archive", plan=plan_in(dry), dry_run=False)
    assert queued.state == "success"
    assert queued.of("label_images") == {"success"}
    assert list_archives(world.s3, seed.FINAL_BUCKET) == [plan_in(dry)]
    assert sum(map(len, world.batches("pending").values())) == 14

    assert dags.run().state == "success"
    assert labelled(world) == {key for key in stock if "shelf 3" not in key}
    assert_safe(world)

    # Only what has no result is chosen now.
    again = dags.run("backfill_archive", uri=f"s3://{STOCK}/2019/")
    assert "5 of 19 images found are chosen" in again.log


@pytest.mark.parametrize(
    ("form", "said"),
    [
        ({"uri": f"s3://{STOCK}/nothing/"}, "nothing"),
        ({"uri": None}, "uri: "),
        ({"uri": "s3://not-allowed/x/"}, "LABELS_ALLOWED_BUCKETS"),
        ({"source": "inventory", "uri": f"s3://{STOCK}/2019/manifest.json"}, "manifest.json"),
        ({"plan": "20200101T000000Z_gone"}, "There is no plan '20200101T000000Z_gone'"),
    ],
)
def test_what_is_wrong_is_said_before_anything_is_written(
    dags: DagRunner, world: World, stock: dict[str, str], form: dict[str, Any], said: str
) -> None:
    before = world.keys()
    ended = dags.run("backfill_archive", dry_run=False, **form)
    assert ended.state == "failed"
    assert said in ended.log
    assert world.keys() == before


def test_a_backfill_by_dates_takes_the_images_of_each_day_below_that_days_prefix(
    dags: DagRunner, world: World, stock: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    today = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    for folder in (f"{today:%Y/%m/%d}", "1999/01/01"):
        world.s3.put_object(Bucket=STOCK, Key=f"{folder}/a.jpg", Body=world.images[0])
    form = {"uri": f"s3://{STOCK}/{{date:%Y/%m/%d}}/", "dry_run": False}
    ended = dags.run_backfill(monkeypatch, today + timedelta(days=1), **form)
    assert ended.state == "success"
    assert list(world.batches().values()) == [[f"{today:%Y/%m/%d}/a.jpg"]]
    assert f"_{today:%Y%m%d}" in list_archives(world.s3, seed.FINAL_BUCKET)[0]

    # All of them were written today: the day before yesterday has none of them.
    world.s3.put_object(Bucket=STOCK, Key=f"{today - timedelta(days=2):%Y/%m/%d}/late.jpg", Body=world.images[0])
    none = dags.run_backfill(monkeypatch, today - timedelta(days=1), **form)
    assert none.state == "success"
    assert none.of("queue") == {"skipped"}
    assert len(world.batches()) == 1
