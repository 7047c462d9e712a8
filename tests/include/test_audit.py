"""Each finding is planted into a world that the real stages have made; without it, that world is clean."""

from __future__ import annotations

import hashlib
import io
import itertools
import json
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any
from urllib.parse import quote_plus

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from include import audit as audit_module
from include import audit_checks, audit_places, audit_world
from include.audit import Audit, audit, main, queue_unprocessed, render, to_json
from include.audit_records import FILE_LISTS
from include.batches import list_pending, plan_batches, read_batch, write_batches
from include.compact import compact_day, remove_replaced
from include.decide import count_backlog
from include.drain import drain
from include.errors import TerminalError
from include.infer import infer
from include.model_state import Hold, ModelState, ModelStateStore
from include.outcomes import Checked, write_preflight
from include.preflight import preflight
from include.publish import publish
from include.redrive import find_quarantined, redrive
from include.schema import ANALYSIS
from include.selection import find_images, queue_images
from include.settings import Settings
from local_aws.process import LocalAws
from tests.include.conftest import BuildSettings
from tests.include.memory_queue import DEAD_LETTERS, MemoryQueue
from tests.include.memory_s3 import Killed, MemoryS3, failure
from tests.include.samples import (
    AWKWARD_KEYS,
    FINAL,
    INBOX,
    MODEL_ARN,
    NOW,
    PROJECT_ARN,
    VALUES,
    image,
    outcome,
    picture,
)
from tests.include.scripted_model import ScriptedModel, refusal

LATER = NOW + timedelta(hours=2)
# Filed, it is too long; the other one looks as if it had made way for a newer image.
LONG_KEY = "long/" + "é" * 507 + ".jpg"
TILDE_KEY = f"a~{'0' * 32}"
STATE = "state/model/shop/shop.v7.json"


class CountedQueue(MemoryQueue):
    """A queue that also counts, which draining never asks for."""

    def get_queue_attributes(self, *, QueueUrl: str, AttributeNames: list[str]) -> dict[str, Any]:
        if AttributeNames != ["All"]:
            return super().get_queue_attributes(QueueUrl=QueueUrl, AttributeNames=AttributeNames)
        if QueueUrl == DEAD_LETTERS:
            return {"Attributes": {"ApproximateNumberOfMessages": str(len(self.dead))}}
        policy = super().get_queue_attributes(QueueUrl=QueueUrl, AttributeNames=["RedrivePolicy"])
        return {"Attributes": policy.get("Attributes", {}) | {"ApproximateNumberOfMessages": str(len(self.left))}}


class Model(ScriptedModel):
    """A scripted model that also says what state it is in."""

    status = "STOPPED"

    def describe_project_versions(self, *, ProjectArn: str, VersionNames: list[str]) -> dict[str, Any]:
        assert (ProjectArn, VersionNames) == (PROJECT_ARN, ["shop.v7"])
        return {"ProjectVersionDescriptions": [{"Status": self.status}] if self.status else []}


class World:
    """A deployment: uploads announce themselves, runs are the real stages."""

    def __init__(self, s3: Any, settings: Settings) -> None:
        self.s3, self.settings = s3, settings
        self.queue, self.model = CountedQueue(), Model()
        self.runs = itertools.count(1)

    def upload(self, key: str, body: bytes, *, minutes: float = -60, sequencer: str = "01") -> None:
        answer = self.s3.put_object(Bucket=self.settings.source_bucket, Key=key, Body=body)
        self.announce(key, answer, size=len(body), minutes=minutes, sequencer=sequencer)

    def announce(self, key: str, put: dict[str, Any], *, size: int, minutes: float, sequencer: str = "01") -> None:
        about = {"key": quote_plus(key), "size": size, "eTag": put["ETag"].strip('"'), "sequencer": sequencer}
        if "VersionId" in put:
            about["versionId"] = put["VersionId"]
        record = {
            "eventVersion": "2.1",
            "eventSource": "aws:s3",
            "eventName": "ObjectCreated:Put",
            "eventTime": (NOW + timedelta(minutes=minutes)).isoformat(),
            "s3": {"bucket": {"name": self.settings.source_bucket}, "object": about},
        }
        self.queue.send([json.dumps({"Records": [record]})])

    def drain(self) -> None:
        drain(self.queue, self.s3, self.settings, monotonic=itertools.count(step=0.001).__next__)

    def label(self, *, publishing: bool = True) -> None:
        """A run, after draining."""
        number = next(self.runs)
        run_id, now = f"manual__{number}", NOW + timedelta(seconds=number)
        keys = list_pending(self.s3, self.settings.final_bucket)
        backlog = count_backlog(self.s3, self.settings, keys, now=now, run_id=run_id)
        for key in backlog.batches:
            batch = read_batch(self.s3, self.settings.final_bucket, key)
            assert batch
            preflight(self.s3, self.settings, batch, run_id=run_id, now=lambda: now)
            infer(
                self.model,
                self.s3,
                self.settings,
                batch.batch_id,
                run_id=run_id,
                first_rate=1e6,
                now=lambda: now,
                monotonic=itertools.count(step=0.0001).__next__,
                renew_lease=lambda: None,
                describe_model=lambda: {"Status": "RUNNING"},
            )
            if publishing:
                publish(self.s3, self.settings, batch, thresholds={})

    def run(self) -> None:
        self.drain()
        self.label()

    def again(self, uri: str) -> None:
        """Somebody asks for an image by hand, and has it labelled again."""
        found = find_images(self.s3, self.settings, uris=[uri], force=True)
        queue_images(self.s3, self.settings, found, request_id=f"request {next(self.runs)}")
        self.label()

    def audit(self, *, now: datetime = LATER, **options: Any) -> Audit:
        return audit(self.s3, self.queue, self.model, self.settings, now=now, **options)

    def put(self, key: str, body: bytes = b"") -> None:
        self.s3.put_object(Bucket=self.settings.final_bucket, Key=key, Body=body)

    def delete(self, key: str) -> None:
        assert key in self.keys(key)
        self.s3.delete_object(Bucket=self.settings.final_bucket, Key=key)

    def keys(self, prefix: str) -> list[str]:
        return [item.key for item in audit_places.listed(self.s3, self.settings.final_bucket, prefix)]

    def copy(self, key: str, target: str) -> None:
        bucket = self.settings.final_bucket
        self.s3.copy_object(Bucket=bucket, Key=target, CopySource={"Bucket": bucket, "Key": key})

    @property
    def done(self) -> str:
        """Key of the largest batch that was finished."""
        listed = audit_places.listed(self.s3, self.settings.final_bucket, "batches/done/")
        return max(listed, key=lambda item: item.size_bytes).key

    @property
    def batch_id(self) -> str:
        return self.done.rpartition("/")[2].partition(".")[0]


def found(what: Audit) -> dict[str, int]:
    return {finding.kind: finding.count for finding in what.findings if finding.count}


def examples(what: Audit, kind: str) -> list[str]:
    return [example for finding in what.findings if finding.kind == kind for example in finding.examples]


@pytest.fixture
def world(s3: MemoryS3, build_settings: BuildSettings) -> World:
    """Two runs: images of every name, with every outcome, one written over before the run and one after it."""
    world = World(s3, build_settings(allowed_buckets="archive"))
    for number, key in enumerate((*AWKWARD_KEYS, LONG_KEY, TILDE_KEY)):
        world.upload(key, picture(seed=number))
    world.upload("no image.jpg", b"hello")
    world.upload("too much.jpg", picture(seed=101))
    world.model.answers("too much.jpg", *[refusal("ImageTooLargeException")] * 9)
    world.upload("gone.jpg", picture(seed=102))
    s3.delete_object(Bucket=INBOX, Key="gone.jpg")
    world.upload("twice.jpg", picture(seed=103))
    world.upload("folder/", b"")
    world.run()
    world.upload("twice.jpg", picture(seed=104), minutes=60, sequencer="02")
    s3.put_object(Bucket="archive", Key="a.jpg", Body=picture(seed=105))
    queue_images(s3, world.settings, find_images(s3, world.settings, uris=["s3://archive/a.jpg"]), request_id="r")
    world.run()
    return world


class TestACleanWorld:
    def test_adds_up(self, world: World) -> None:
        what = world.audit()
        assert found(what) == {}
        assert what.is_clean
        assert what.published_rows == len(AWKWARD_KEYS) + 8
        assert what.pending_images == what.overwritten == what.perhaps_announced == 0
        assert "All of it adds up" in render(what)

    def test_is_not_changed_by_an_audit(self, world: World, s3: MemoryS3) -> None:
        before = {bucket: s3.contents(bucket) for bucket in (INBOX, FINAL, "archive")}
        world.queue.send(["{}"])
        world.queue.calls.clear()
        world.audit()
        assert {bucket: s3.contents(bucket) for bucket in (INBOX, FINAL, "archive")} == before
        assert world.queue.calls == []

    def test_is_not_asked_for_object_by_object(self, world: World, s3: MemoryS3) -> None:
        s3.calls.clear()
        world.audit()
        asked = [key for operation, _, key in s3.calls if operation == "head_object"]
        assert sorted(asked) == [
            "images/inbox/100% sure.jpg",
            "labels/inbox/twice.jpg.json",
        ]

    def test_adds_up_while_nothing_was_ever_uploaded(self, s3: MemoryS3, settings: Settings) -> None:
        assert found(World(s3, settings).audit()) == {}

    def test_adds_up_while_work_is_pending(self, world: World) -> None:
        world.upload("new.jpg", picture(seed=7))
        world.drain()
        what = world.audit()
        assert (found(what), what.pending_images, what.pending_batches) == ({}, 1, 1)

    def test_adds_up_where_originals_are_left(self, s3: MemoryS3, build_settings: BuildSettings) -> None:
        world = World(s3, build_settings(originals="leave"))
        world.upload("a.jpg", picture())
        world.upload("no image.jpg", b"hello")
        world.run()
        assert s3.keys(INBOX) == ["a.jpg", "no image.jpg"]
        assert found(world.audit()) == {}

    def test_adds_up_where_what_is_asked_for_again_has_a_row_again(self, world: World) -> None:
        world.again("s3://archive/a.jpg")
        what = world.audit()
        assert found(what) == {}
        assert what.published_rows == len(AWKWARD_KEYS) + 9

    def test_adds_up_where_an_announcement_comes_once_more(self, world: World) -> None:
        put = world.s3.head_object(Bucket=FINAL, Key="images/inbox/plain.jpg")
        world.announce("plain.jpg", put, size=1, minutes=-60)
        world.run()
        assert found(world.audit()) == {}

    def test_adds_up_where_long_names_made_way(self, world: World) -> None:
        for key in (LONG_KEY, TILDE_KEY):
            world.upload(key, picture(seed=200), minutes=80, sequencer="0A")
        world.run()
        assert len(world.keys("images/inbox/long/")) == 2
        assert found(world.audit()) == {}

    def redriven(self, world: World) -> None:
        redrive(world.s3, world.settings, find_quarantined(world.s3, world.settings), now=NOW, request_id="r")

    def test_adds_up_where_quarantine_is_emptied(self, world: World) -> None:
        self.redriven(world)
        what = world.audit()
        assert (found(what), what.pending_images) == ({}, 2)

    @pytest.mark.parametrize("is_announced", [False, True])
    def test_adds_up_where_what_was_in_quarantine_was_tried_again(self, world: World, is_announced: bool) -> None:
        del world.model.script["too much.jpg"]
        self.redriven(world)
        for item in [*audit_places.listed(world.s3, INBOX)] if is_announced else []:
            put = {"ETag": item.etag}
            world.announce(item.key, put, size=item.size_bytes, minutes=70, sequencer="0A")
        world.run()
        assert world.keys("quarantine/inbox/no") == [
            "quarantine/inbox/no image.jpg",
            "quarantine/inbox/no image.jpg.error.json",
        ]
        assert found(world.audit()) == {}

    def test_adds_up_where_what_failed_is_put_back_and_labelled(self, world: World, s3: MemoryS3) -> None:
        s3.delete_object(Bucket=FINAL, Key="quarantine/inbox/too much.jpg")
        del world.model.script["too much.jpg"]
        world.upload("too much.jpg", picture(seed=101), minutes=70, sequencer="09")
        world.run()
        assert "images/inbox/too much.jpg" in s3.keys(FINAL)
        assert found(world.audit()) == {}


class TestOriginals:
    def test_one_that_is_nowhere_is_lost(self, world: World) -> None:
        world.delete("images/inbox/plain.jpg")
        what = world.audit()
        assert found(what) == {"lost": 1}
        assert examples(what, "lost")[0].startswith("s3://inbox/plain.jpg, of batch ")

    def test_so_is_one_with_a_key_that_was_cut(self, world: World) -> None:
        (cut,) = world.keys("images/inbox/long/")
        world.delete(cut)
        assert found(world.audit()) == {"lost": 1}

    def test_so_is_one_that_lies_there_with_other_content(self, world: World) -> None:
        world.put("images/inbox/plain.jpg", picture(seed=99))
        assert found(world.audit()) == {"lost": 1}

    def test_so_is_an_earlier_one_that_a_newer_one_did_not_make_way_for(self, world: World) -> None:
        (aside,) = [key for key in world.keys("images/inbox/twice.jpg") if "~" in key]
        world.delete(aside)
        assert found(world.audit()) == {"lost": 1}

    def test_so_is_one_of_another_bucket(self, world: World, s3: MemoryS3) -> None:
        s3.delete_object(Bucket="archive", Key="a.jpg")
        assert examples(world.audit(), "lost")[0].startswith("s3://archive/a.jpg")

    def test_so_is_one_that_was_pending(self, world: World, s3: MemoryS3) -> None:
        world.upload("new.jpg", picture(seed=7))
        world.drain()
        s3.delete_object(Bucket=INBOX, Key="new.jpg")
        assert found(world.audit()) == {"lost": 1}

    def test_a_pending_one_that_is_said_to_be_gone_is_not(self, world: World) -> None:
        (batch,) = plan_batches([image("new.jpg")], batch_size=1)
        write_batches(world.s3, FINAL, [batch], threads=1)
        gone = outcome(batch.images[0], "MISSING")
        write_preflight(world.s3, FINAL, batch.batch_id, [Checked(batch.images[0], outcome=gone)])
        assert found(world.audit()) == {}

    def test_one_that_was_written_over_before_it_was_moved_is_not(self, world: World, s3: MemoryS3) -> None:
        world.upload("new.jpg", picture(seed=7), minutes=-9)
        world.drain()
        world.label(publishing=False)
        world.upload("new.jpg", picture(seed=8), minutes=-8, sequencer="02")
        world.run()
        assert "images/inbox/new.jpg" not in s3.keys(FINAL) or len(world.keys("images/inbox/new.jpg")) == 1
        what = world.audit()
        assert (found(what), what.overwritten) == ({}, 1)

    def test_one_that_moves_on_while_the_audit_reads_is_not(self, world: World, s3: MemoryS3) -> None:
        kept = s3.contents(FINAL)["images/inbox/plain.jpg"]
        world.delete("images/inbox/plain.jpg")
        list_filed = audit_places.Places.list_filed

        def then_it_comes(places: audit_places.Places, client: Any) -> None:
            list_filed(places, client)
            world.put("images/inbox/plain.jpg", kept)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(audit_places.Places, "list_filed", then_it_comes)
            assert found(world.audit()) == {}

    def test_in_the_inbox_and_filed_is_one_too_many(self, world: World) -> None:
        world.s3.put_object(Bucket=INBOX, Key="plain.jpg", Body=picture(seed=0))
        what = world.audit()
        assert found(what) == {"original_twice": 1}
        assert examples(what, "original_twice") == ["s3://inbox/plain.jpg and s3://final/images/inbox/plain.jpg"]

    def test_but_not_where_it_was_only_just_uploaded_again(self, world: World) -> None:
        world.s3.put_object(Bucket=INBOX, Key="plain.jpg", Body=picture(seed=0))
        assert found(world.audit(now=NOW + timedelta(minutes=5))) == {}

    def test_nor_where_it_is_pending_again(self, world: World) -> None:
        world.upload("plain.jpg", picture(seed=0))
        world.drain()
        assert found(world.audit()) == {}

    def test_labelled_and_in_quarantine_is_one_too_many(self, world: World) -> None:
        world.put("quarantine/inbox/plain.jpg", picture(seed=0))
        assert found(world.audit()) == {"original_twice": 1, "quarantined_without_reason": 1}

    def test_a_filed_one_without_a_row(self, world: World) -> None:
        world.put("images/inbox/stranger.jpg", picture())
        assert examples(world.audit(), "original_without_row") == ["images/inbox/stranger.jpg"]

    def test_where_more_is_gone_than_can_be_asked_for_all_are_counted(
        self, world: World, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(audit_world, "MOST_LOOKS", 3)
        for key in world.keys("images/"):
            world.delete(key)
        what = world.audit()
        assert found(what) == {"lost": len(AWKWARD_KEYS) + 4}
        assert len(examples(what, "lost")) == audit_world.MOST_EXAMPLES

    def test_copies_that_a_key_of_kms_gives_other_etags_are_no_loss(self, world: World, s3: MemoryS3) -> None:
        for key, body in s3.contents(FINAL, "images/").items():
            s3.put_object(Bucket=FINAL, Key=key, Body=body[::-1], ServerSideEncryption="aws:kms")
        assert found(world.audit()) == {}


class TestUnprocessed:
    @pytest.fixture
    def unannounced(self, world: World) -> World:
        for number in range(7):
            world.s3.put_object(Bucket=INBOX, Key=f"unheard/{number}.jpg", Body=picture(seed=number))
        return world

    def test_uploads_that_nobody_knows(self, unannounced: World) -> None:
        what = unannounced.audit()
        assert found(what) == {"unprocessed": 7}
        assert examples(what, "unprocessed")[0] == "s3://inbox/unheard/0.jpg, since 2026-03-01 12:00 UTC"
        assert "and 2 more" in render(what)

    def test_not_within_the_grace_period(self, unannounced: World) -> None:
        assert found(unannounced.audit(now=NOW + timedelta(minutes=59))) == {}
        assert found(unannounced.audit(now=NOW + timedelta(minutes=59), grace_minutes=30)) == {"unprocessed": 7}

    def test_not_while_as_many_messages_may_announce_them(self, unannounced: World) -> None:
        unannounced.queue.send(["{}"] * 7)
        what = unannounced.audit()
        assert (found(what), what.perhaps_announced, what.queue_messages) == ({}, 7, 7)
        assert "7 uploads, which messages in the queue may announce" in render(what)

    def test_what_was_uploaded_again_after_it_was_gone(self, world: World) -> None:
        world.s3.put_object(Bucket=INBOX, Key="gone.jpg", Body=picture(seed=102))
        assert examples(world.audit(), "unprocessed") == ["s3://inbox/gone.jpg, since 2026-03-01 12:00 UTC"]

    def test_they_are_queued_once_and_labelled_like_any_upload(self, unannounced: World) -> None:
        what = unannounced.audit()
        first = queue_unprocessed(unannounced.s3, unannounced.settings, what)
        assert queue_unprocessed(unannounced.s3, unannounced.settings, what) == first
        assert unannounced.keys("batches/pending/") == first
        assert found(unannounced.audit()) == {}
        unannounced.label()
        assert found(unannounced.audit()) == {}
        assert len(unannounced.keys("images/inbox/unheard/")) == 7


class TestBatches:
    def test_paid_but_not_published(self, world: World) -> None:
        world.upload("new.jpg", picture(seed=7))
        world.drain()
        world.label(publishing=False)
        what = world.audit()
        assert found(what) == {"half_done": 1}
        assert "paid results wait to be published" in examples(what, "half_done")[0]

    def test_which_is_as_it_should_be_while_a_run_is_at_work(self, world: World) -> None:
        world.upload("new.jpg", picture(seed=7))
        world.drain()
        world.label(publishing=False)
        ModelStateStore(world.s3, FINAL, STATE).acquire("label_images/r", minutes=10, now=LATER)
        assert found(world.audit()) == {}

    def test_done_and_pending_still(self, world: World) -> None:
        world.copy(world.done, f"batches/pending/1-20260301T110000Z-{world.batch_id}.jsonl.gz")
        assert examples(world.audit(), "half_done")[0].endswith(": done, and pending still")

    def test_one_whose_publishing_is_killed_anywhere_is_half_done_and_nothing_else(
        self, world: World, s3: MemoryS3
    ) -> None:
        for dies_after_the_effect, call in itertools.product((False, True), range(1, 40)):
            names = [f"{call} {dies_after_the_effect}.{ending}" for ending in ("jpg", "txt")]
            for name, body in zip(names, (picture(seed=call), b"hello"), strict=True):
                world.upload(name, body)
            world.drain()
            world.label(publishing=False)
            (key,) = world.keys("batches/pending/")
            batch = read_batch(s3, FINAL, key)
            assert batch
            s3.dies_after_the_effect, s3.dies_at = dies_after_the_effect, len(s3.calls) + call
            killed = False
            try:
                publish(s3, world.settings, batch, thresholds={})
            except Killed:
                killed = True
            s3.dies_at = None
            assert found(world.audit()) == ({"half_done": 1} if world.keys("batches/pending/") else {})
            world.run()
            assert found(world.audit()) == {}
            if not killed:
                break
        assert not killed, "it took more calls than were tried"

    def test_an_image_in_two_of_them(self, world: World) -> None:
        world.upload("new.jpg", picture(seed=7))
        world.drain()
        (pending,) = world.keys("batches/pending/")
        world.copy(pending, "batches/pending/1-20260301T110000Z-0123456789abcdef.jsonl.gz")
        what = world.audit()
        assert found(what) == {"pending_twice": 1}
        assert examples(what, "pending_twice")[0].startswith("s3://inbox/new.jpg in batches/pending/")

    @pytest.mark.parametrize(
        "body",
        [
            b"hello",
            b"\x1f\x8bhello",
            b'{"bucket": 1}',
            b"[]",
            b'"a"',
            b"\xff\xfe",
            b'{"bucket": "b", "key": "k"}',
            b'{"bucket": 1, "key": "k", "event_time": "2026-03-01"}',
        ],
    )
    @pytest.mark.parametrize("folder", ["pending", "done/2026-03-01", "unreadable"])
    def test_unreadable(self, world: World, folder: str, body: bytes) -> None:
        world.put(f"batches/{folder}/1-20260301T110000Z-0123456789abcdef.jsonl.gz", body)
        assert found(world.audit()) == {"unreadable": 1}

    def test_checkpoints_of_none(self, world: World) -> None:
        world.put("batches/outcomes/0123456789abcdef/part-00000.jsonl", b"{}\n")
        assert examples(world.audit(), "checkpoints_without_batch") == ["batches/outcomes/0123456789abcdef/"]

    def test_converted_copies_of_one_that_is_done(self, world: World) -> None:
        world.put(f"staged/{world.batch_id}/0123456789abcdef.jpg")
        assert found(world.audit()) == {"staged_left": 1}

    def test_that_come_and_go_meanwhile_are_said_to(self, world: World, monkeypatch: pytest.MonkeyPatch) -> None:
        world.put("images/inbox/stranger.jpg")
        check = audit_checks.check_results

        def meanwhile(read: audit_world.World) -> None:
            check(read)
            world.upload("new.jpg", picture(seed=7))
            world.drain()

        monkeypatch.setattr(audit_checks, "check_results", meanwhile)
        what = world.audit()
        assert what.has_changed
        assert "Audit again when no run is at work" in render(what)


class TestResults:
    def test_a_finished_batch_without_its_parquet(self, world: World) -> None:
        (parquet,) = world.keys(f"results/image_labels/analysis=custom_labels/dt=2026-03-01/{world.batch_id}")
        rows = pq.read_metadata(io.BytesIO(world.s3.contents(FINAL)[parquet])).num_rows
        world.delete(parquet)
        what = world.audit()
        assert set(found(what)) == {
            "done_without_results",
            "document_without_row",
            "original_without_row",
            "unreadable",
        }
        assert f"{rows} of {rows} images, such as s3://inbox/" in examples(what, "done_without_results")[0]

    def test_a_compacted_day_adds_up_before_and_after_its_small_files_go(self, world: World) -> None:
        world.upload("later.jpg", picture(seed=8))
        world.run()
        before = world.audit()
        assert compact_day(world.s3, FINAL, analysis=ANALYSIS, day="2026-03-01", threads=1).files_after == 1
        after = world.audit()
        assert (found(after), after.published_rows) == ({}, before.published_rows)
        assert remove_replaced(world.s3, FINAL, analysis=ANALYSIS, now=NOW + timedelta(days=1), threads=1) > 1
        assert (found(world.audit()), world.audit().published_rows) == ({}, before.published_rows)

    def test_the_batches_of_a_merged_file_that_is_gone_can_be_put_back(self, world: World) -> None:
        world.upload("later.jpg", picture(seed=8))
        world.run()
        compact_day(world.s3, FINAL, analysis=ANALYSIS, day="2026-03-01", threads=1)
        remove_replaced(world.s3, FINAL, analysis=ANALYSIS, now=NOW + timedelta(days=1), threads=1)
        (merged,) = world.keys("results/image_labels/analysis=")
        world.delete(merged)
        what = world.audit()
        assert "gone: every query of the day fails" in examples(what, "unreadable")[0]
        for example in examples(what, "done_without_results"):
            key = example.partition(":")[0]
            batch_id = key.rpartition("/")[2].removesuffix(".jsonl.gz")
            world.delete(f"batches/outcomes/{batch_id}/done")
            world.put(f"batches/pending/1-{batch_id}.jsonl.gz", world.s3.contents(FINAL)[key])
        world.label()
        assert found(world.audit()) == {"unreadable": 1}
        (listed,) = world.keys("results/image_labels/_symlink_format_manifest/")
        lines = world.s3.contents(FINAL)[listed].splitlines(keepends=True)
        world.put(listed, b"".join(line for line in lines if merged.encode() not in line))
        assert found(world.audit()) == {}

    def test_parquet_of_a_batch_that_is_none(self, world: World) -> None:
        batch_id = world.batch_id
        world.delete(world.done)
        what = world.audit()
        assert found(what) == {"results_without_batch": 1, "checkpoints_without_batch": 1}
        assert examples(what, "results_without_batch") == [batch_id]

    def test_parquet_that_is_none(self, world: World) -> None:
        world.put(f"results/image_labels/analysis=custom_labels/dt=2026-02-28/{world.batch_id}.parquet", b"hello")
        assert found(world.audit()) == {"unreadable": 1}

    def test_parquet_that_is_damaged(self, world: World) -> None:
        (parquet,) = world.keys(f"results/image_labels/analysis=custom_labels/dt=2026-03-01/{world.batch_id}")
        body = world.s3.contents(FINAL)[parquet]
        world.put(parquet.replace("03-01", "02-28"), body[:300] + bytes(300) + body[600:])
        assert found(world.audit()) == {"unreadable": 1}

    def test_parquet_of_something_else(self, world: World) -> None:
        body = io.BytesIO()
        pq.write_table(pa.table({"a": [1]}), body)
        world.put(
            f"results/image_labels/analysis=custom_labels/dt=2026-02-28/{world.batch_id}.parquet", body.getvalue()
        )
        assert found(world.audit()) == {"unreadable": 1}

    def test_checkpoints_that_are_none(self, world: World, s3: MemoryS3) -> None:
        world.upload("new.jpg", picture(seed=7))
        world.drain()
        s3.delete_object(Bucket=INBOX, Key="new.jpg")
        (pending,) = world.keys("batches/pending/")
        batch_id = pending.rpartition("-")[2].partition(".")[0]
        world.put(f"batches/outcomes/{batch_id}/preflight.jsonl", b"hello")
        assert found(world.audit()) == {"unreadable": 1, "lost": 1}

    def test_rows_that_are_there_twice(self, world: World) -> None:
        (parquet,) = world.keys(f"results/image_labels/analysis=custom_labels/dt=2026-03-01/{world.batch_id}")
        rows = pq.read_metadata(io.BytesIO(world.s3.contents(FINAL)[parquet])).num_rows
        world.copy(parquet, parquet.replace("2026-03-01", "2026-02-28"))
        assert found(world.audit()) == {"row_twice": rows}

    def test_a_file_that_a_list_names_twice(self, world: World) -> None:
        (parquet,) = world.keys(f"results/image_labels/analysis=custom_labels/dt=2026-03-01/{world.batch_id}")
        rows = pq.read_metadata(io.BytesIO(world.s3.contents(FINAL)[parquet])).num_rows
        (files,) = world.keys(FILE_LISTS)
        world.put(files, world.s3.contents(FINAL)[files] + f"\r\n\r\ns3://{FINAL}/{parquet}\r\n".encode())
        assert found(world.audit()) == {"row_twice": rows}

    def test_a_copy_of_a_list_beside_it_which_queries_read_as_well(self, world: World) -> None:
        rows = world.audit().published_rows
        (files,) = world.keys(FILE_LISTS)
        world.copy(files, f"{files}.bak")
        assert found(world.audit()) == {"row_twice": rows}

    def test_but_copies_in_folders_of_their_own_are_read_by_nobody(self, world: World) -> None:
        for key in world.keys("results/image_labels/analysis="):
            world.copy(key, key.replace("dt=2026-03-01/", "dt=2026-03-01/backup/"))
        world.put("results/image_labels/analysis=custom_labels/dt=2026-03-01/backup/")
        assert found(world.audit()) == {}

    @pytest.mark.parametrize("processed_at", [NOW, None])
    def test_rows_that_another_program_wrote_without_a_time_zone(
        self, world: World, processed_at: datetime | None
    ) -> None:
        (parquet,) = world.keys(f"results/image_labels/analysis=custom_labels/dt=2026-03-01/{world.batch_id}")
        table = pq.read_table(io.BytesIO(world.s3.contents(FINAL)[parquet]), partitioning=None)
        times = {"event_time": table["event_time"], "processed_at": pa.array([processed_at] * table.num_rows)}
        body = io.BytesIO()
        for name, values in times.items():
            naive = values.cast(pa.timestamp("ns", "UTC")).cast(pa.timestamp("ns"))
            table = table.set_column(table.schema.get_field_index(name), name, naive)
        pq.write_table(table, body, use_deprecated_int96_timestamps=True)
        world.put(parquet, body.getvalue())
        assert found(world.audit()) == {}

    def test_an_image_that_was_paid_for_twice(self, world: World) -> None:
        world.delete("labels/inbox/plain.jpg.json")
        world.upload("plain.jpg", picture(seed=0), sequencer="05")
        world.run()
        what = world.audit()
        assert found(what) == {"row_twice": 1}
        assert examples(what, "row_twice")[0].startswith("s3://inbox/plain.jpg LABELLED, once more in results/")

    def test_but_another_model_has_a_row_of_its_own(self, world: World, build_settings: BuildSettings) -> None:
        other = build_settings(project_version_arn=MODEL_ARN.replace("shop.v7/", "shop.v8/"))
        world.settings = other
        world.upload("plain.jpg", picture(seed=0), sequencer="05")
        world.run()
        world.settings = build_settings(allowed_buckets="archive")
        assert found(world.audit()) == {}

    @pytest.mark.parametrize("key", ["plain.jpg", "gone.jpg"])
    def test_a_row_without_its_document(self, world: World, key: str) -> None:
        world.delete(f"labels/inbox/{key}.json" if key == "plain.jpg" else f"quarantine/inbox/{key}.error.json")
        assert found(world.audit()) == {"row_without_document": 1}

    def test_a_document_of_an_image_that_is_no_longer_the_newest_of_its_name(self, world: World) -> None:
        key = "labels/inbox/twice.jpg.json"
        before = {"etag": hashlib.md5(picture(seed=103)).hexdigest()}
        world.s3.put_object(Bucket=FINAL, Key=key, Body=b"{}", Metadata=before)
        what = world.audit()
        assert (found(what), examples(what, "document_outdated")) == ({"document_outdated": 1}, [key])

    @pytest.mark.parametrize("key", ["labels/inbox/stray.jpg.json", "quarantine/inbox/stray.jpg.error.json"])
    def test_a_document_without_a_row(self, world: World, key: str) -> None:
        world.put(key, b"{}")
        assert examples(world.audit(), "document_without_row") == [key]

    @pytest.mark.parametrize("key", ["no image.jpg", "too much.jpg"])
    def test_quarantine_without_a_reason(self, world: World, key: str) -> None:
        world.delete(f"quarantine/inbox/{key}.error.json")
        what = world.audit()
        assert found(what) == {"quarantined_without_reason": 1}
        assert examples(what, "quarantined_without_reason") == [f"quarantine/inbox/{key}"]

    def test_something_in_quarantine_that_nobody_put_there(self, world: World) -> None:
        world.put("quarantine/inbox/stray.jpg")
        assert found(world.audit()) == {"quarantined_without_reason": 1}

    @pytest.mark.parametrize("key", ["no image.jpg", "too much.jpg"])
    def test_a_reason_without_what_it_speaks_of(self, world: World, key: str) -> None:
        world.delete(f"quarantine/inbox/{key}")
        assert found(world.audit()) == {"reason_without_file": 1}


class TestQueueAndModel:
    def test_dead_letters(self, world: World) -> None:
        world.queue.send(["hello", "{}"])
        world.run()
        what = world.audit()
        assert (found(what), what.dead_letters) == ({"dead_letters": 2}, 2)

    def test_where_there_is_no_dead_letter_queue(self, world: World) -> None:
        world.queue = CountedQueue(dead_letter_queue=False)
        assert world.audit().dead_letters is None

    def test_one_that_may_not_be_looked_into(self, world: World, monkeypatch: pytest.MonkeyPatch) -> None:
        def refuse(**request: Any) -> Any:
            raise failure("AccessDenied", "GetQueueUrl", 403)

        monkeypatch.setattr(world.queue, "get_queue_url", refuse)
        assert (found(world.audit()), world.audit().dead_letters) == ({}, None)

    @pytest.mark.parametrize("status", ["STARTING", "RUNNING"])
    def test_a_model_that_is_on_without_a_lease(self, world: World, status: str) -> None:
        world.model.status = status
        assert examples(world.audit(), "model_left_on") == [f"{MODEL_ARN} is {status} without a lease"]

    def test_or_with_one_that_ran_out(self, world: World) -> None:
        world.model.status = "RUNNING"
        ModelStateStore(world.s3, FINAL, STATE).acquire("label_images/r", minutes=10, now=NOW)
        what = world.audit()
        assert found(what) == {"model_left_on": 1}
        assert "RUNNING, the lease of label_images/r ran until 2026-03-01 12:10 UTC" in render(what)

    def test_with_a_live_one_all_is_well(self, world: World) -> None:
        world.model.status = "RUNNING"
        ModelStateStore(world.s3, FINAL, STATE).acquire("label_images/r", minutes=10, now=LATER)
        what = world.audit()
        assert (found(what), what.lease_holder) == ({}, "label_images/r")

    def test_a_time_without_a_zone_is_utc(self, world: World) -> None:
        world.model.status = "RUNNING"
        world.put(STATE, b'{"lease": {"holder": "r", "expires_at": "2026-03-01T14:00:01"}}')
        assert found(world.audit()) == {}

    def test_so_it_is_where_somebody_tries_the_model_by_hand(self, world: World) -> None:
        world.model.status = "RUNNING"
        held = ModelState(hold=Hold("a person", LATER + timedelta(minutes=1)))
        world.put(STATE, held.to_json())
        assert found(world.audit()) == {}

    def test_so_it_is_where_somebody_else_may_start_it(self, world: World, build_settings: BuildSettings) -> None:
        world.model.status = "RUNNING"
        world.settings = build_settings(foreign_model="warn", allowed_buckets="archive")
        assert found(world.audit()) == {}
        ModelStateStore(world.s3, FINAL, STATE).acquire("label_images/r", minutes=10, now=NOW)
        assert found(world.audit()) == {"model_left_on": 1}

    @pytest.mark.parametrize("body", [b"hello", b"[]", b'{"lease": {"expires_at": 3}}', b'{"lease": "mine"}'])
    def test_a_state_that_is_none_protects_nobody(self, world: World, body: bytes) -> None:
        world.model.status = "RUNNING"
        world.put(STATE, body)
        assert found(world.audit()) == {"unreadable": 1, "model_left_on": 1}

    def test_a_model_that_does_not_exist(self, world: World) -> None:
        world.model.status = ""
        with pytest.raises(TerminalError, match="was the model deleted"):
            world.audit()


def test_json_has_every_finding_and_the_verdict(world: World) -> None:
    world.delete("images/inbox/plain.jpg")
    read = json.loads(to_json(world.audit()))
    assert read["is_clean"] is False
    assert read["findings"]["lost"]["count"] == 1
    assert read["findings"]["row_twice"] == {"kind": "row_twice", "count": 0, "examples": []}
    assert read["audited_at"] == "2026-03-01T14:00:00+00:00"


class TestTheCommand:
    @pytest.fixture
    def command(self, world: World, monkeypatch: pytest.MonkeyPatch) -> Callable[..., int]:
        """The command line, on this world, at LATER."""

        class Clock(datetime):
            @classmethod
            def now(cls, zone: Any = None) -> Any:
                return LATER

        clients = {"s3": world.s3, "sqs": world.queue, "rekognition": world.model}
        monkeypatch.setattr("boto3.client", lambda name, *_, **__: clients[name])
        monkeypatch.setattr(audit_module, "datetime", Clock)
        for name, value in VALUES.items():
            monkeypatch.setenv(f"LABELS_{name.upper()}", str(value))
        return lambda *arguments: main(arguments)

    def test_all_well(self, command: Callable[..., int], capsys: pytest.CaptureFixture[str]) -> None:
        assert command() == 0
        assert "All of it adds up" in capsys.readouterr().out

    def test_something_is_wrong(
        self, world: World, command: Callable[..., int], capsys: pytest.CaptureFixture[str]
    ) -> None:
        world.delete("images/inbox/plain.jpg")
        assert command("--json") == 1
        assert json.loads(capsys.readouterr().out)["findings"]["lost"]["count"] == 1

    def test_it_could_not_be_audited(
        self, world: World, command: Callable[..., int], s3: MemoryS3, capsys: pytest.CaptureFixture[str]
    ) -> None:
        s3.refuse["list_objects_v2", ""] = failure("AccessDenied", "ListObjectsV2", 403)
        assert command() == 2
        assert "nothing is known" in capsys.readouterr().err

    def test_settings_are_missing(
        self, command: Callable[..., int], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        monkeypatch.delenv("LABELS_QUEUE_URL")
        assert command() == 2
        assert "LABELS_QUEUE_URL is not set" in capsys.readouterr().err

    def test_what_is_unprocessed_is_queued_only_when_asked_to(
        self, world: World, command: Callable[..., int], capsys: pytest.CaptureFixture[str]
    ) -> None:
        world.s3.put_object(Bucket=INBOX, Key="unheard.jpg", Body=picture())
        assert command("--grace-minutes", "30") == 1
        assert world.keys("batches/pending/") == []
        assert command("--queue-unprocessed") == 1
        assert len(world.keys("batches/pending/")) == 1
        assert "Queued 1 images in 1 batches" in capsys.readouterr().err
        assert command() == 0


class TestOnLocalAws:
    """Where it matters how S3 really lists, versions, and names what came in parts."""

    @pytest.fixture
    def world(self, aws: LocalAws, aws_s3: Any, sqs: Any, unique: str, aws_settings: Settings) -> World:
        world = World(aws_s3, aws_settings)
        world.runs = itertools.count(int(unique.rpartition("-")[2]) * 100)
        return world

    def later(self, world: World) -> Audit:
        return world.audit(now=datetime.now(NOW.tzinfo) + timedelta(hours=2))

    def test_every_name_is_found_again(self, world: World) -> None:
        for number, key in enumerate((*AWKWARD_KEYS, LONG_KEY, TILDE_KEY)):
            world.upload(key, picture(seed=number))
        world.upload("no image.jpg", b"hello")
        world.run()
        what = self.later(world)
        assert (found(what), what.published_rows) == ({}, len(AWKWARD_KEYS) + 3)

    def test_an_upload_in_parts_is_known_by_its_size(self, world: World) -> None:
        body, where = picture(size=(3000, 3000), format="PNG"), {"Bucket": world.settings.source_bucket, "Key": "a.png"}
        upload = world.s3.create_multipart_upload(**where)["UploadId"]
        part = world.s3.upload_part(**where, UploadId=upload, PartNumber=1, Body=body)
        parts = {"Parts": [{"PartNumber": 1, "ETag": part["ETag"]}]}
        put = world.s3.complete_multipart_upload(**where, UploadId=upload, MultipartUpload=parts)
        assert "-" in put["ETag"]
        world.announce("a.png", put, size=len(body), minutes=-60)
        world.run()
        assert world.keys("images/") == [f"images/{world.settings.source_bucket}/a.png"]
        assert found(self.later(world)) == {}
        world.delete(f"images/{world.settings.source_bucket}/a.png")
        assert found(self.later(world)) == {"lost": 1}

    @pytest.mark.parametrize("originals", ["leave", "move"])
    def test_a_version_that_is_not_the_current_one_is_found(self, world: World, originals: str) -> None:
        bucket = world.settings.source_bucket
        world.settings = world.settings.model_copy(update={"originals": originals})
        world.s3.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})
        for number in range(3):
            world.upload("a.jpg", picture(seed=number), minutes=number - 60, sequencer=f"0{number}")
        world.run()
        what = self.later(world)
        assert (found(what), what.published_rows) == ({}, 3)

    def test_messages_are_counted_where_they_wait(self, world: World, sqs: Any, unique: str) -> None:
        dead = sqs.create_queue(QueueName=f"{unique}-dead")["QueueUrl"]
        arn = sqs.get_queue_attributes(QueueUrl=dead, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
        policy = json.dumps({"deadLetterTargetArn": arn, "maxReceiveCount": 5})
        url = sqs.create_queue(QueueName=unique, Attributes={"RedrivePolicy": policy})["QueueUrl"]
        for _ in range(3):
            sqs.send_message(QueueUrl=url, MessageBody="{}")
        sqs.receive_message(QueueUrl=url)
        sqs.send_message(QueueUrl=dead, MessageBody="{}")
        world.queue, world.settings = sqs, world.settings.model_copy(update={"queue_url": url})
        what = self.later(world)
        assert (what.queue_messages, what.dead_letters, found(what)) == (3, 1, {"dead_letters": 1})

    def test_more_than_a_page_of_uploads_that_nobody_heard_of(self, world: World) -> None:
        for number in range(1_050):
            world.s3.put_object(Bucket=world.settings.source_bucket, Key=f"{number:05d}.jpg", Body=b"")
        assert found(self.later(world)) == {"unprocessed": 1_050}
