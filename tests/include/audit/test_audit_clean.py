"""What must not be found: worlds in which all is as it should be."""

from __future__ import annotations

import pytest

from include import audit_places
from include.audit import render
from include.redrive import find_quarantined, redrive
from include.settings import Settings
from tests.include.audit.audited_world import LONG_KEY, TILDE_KEY, World, found
from tests.include.conftest import BuildSettings
from tests.include.memory_s3 import MemoryS3
from tests.include.samples import AWKWARD_KEYS, FINAL, INBOX, NOW, picture


def test_adds_up(world: World) -> None:
    what = world.audit()
    assert found(what) == {}
    assert what.is_clean
    assert what.published_rows == len(AWKWARD_KEYS) + 8
    assert what.pending_images == what.overwritten == what.perhaps_announced == 0
    assert "All of it adds up" in render(what)


def test_is_not_changed_by_an_audit(world: World, s3: MemoryS3) -> None:
    before = {bucket: s3.contents(bucket) for bucket in (INBOX, FINAL, "archive")}
    world.queue.send(["{}"])
    world.queue.calls.clear()
    world.audit()
    assert {bucket: s3.contents(bucket) for bucket in (INBOX, FINAL, "archive")} == before
    assert world.queue.calls == []


def test_is_not_asked_for_object_by_object(world: World, s3: MemoryS3) -> None:
    s3.calls.clear()
    world.audit()
    asked = [key for operation, _, key in s3.calls if operation == "head_object"]
    assert sorted(asked) == [
        "images/inbox/100% sure.jpg",
        "labels/inbox/twice.jpg.json",
    ]


def test_adds_up_while_nothing_was_ever_uploaded(s3: MemoryS3, settings: Settings) -> None:
    assert found(World(s3, settings).audit()) == {}


def test_adds_up_while_work_is_pending(world: World) -> None:
    world.upload("new.jpg", picture(seed=7))
    world.drain()
    what = world.audit()
    assert (found(what), what.pending_images, what.pending_batches) == ({}, 1, 1)


def test_adds_up_where_originals_are_left(s3: MemoryS3, build_settings: BuildSettings) -> None:
    world = World(s3, build_settings(originals="leave"))
    world.upload("a.jpg", picture())
    world.upload("no image.jpg", b"hello")
    world.run()
    assert s3.keys(INBOX) == ["a.jpg", "no image.jpg"]
    assert found(world.audit()) == {}


def test_adds_up_where_what_is_asked_for_again_has_a_row_again(world: World) -> None:
    world.again("s3://archive/a.jpg")
    what = world.audit()
    assert found(what) == {}
    assert what.published_rows == len(AWKWARD_KEYS) + 9


def test_adds_up_where_an_announcement_comes_once_more(world: World) -> None:
    put = world.s3.head_object(Bucket=FINAL, Key="images/inbox/plain.jpg")
    world.announce("plain.jpg", put, size=1, minutes=-60)
    world.run()
    assert found(world.audit()) == {}


def test_adds_up_where_long_names_made_way(world: World) -> None:
    for key in (LONG_KEY, TILDE_KEY):
        world.upload(key, picture(seed=200), minutes=80, sequencer="0A")
    world.run()
    assert len(world.keys("images/inbox/long/")) == 2
    assert found(world.audit()) == {}


def redriven(world: World) -> None:
    redrive(world.s3, world.settings, find_quarantined(world.s3, world.settings), now=NOW, request_id="r")


def test_adds_up_where_quarantine_is_emptied(world: World) -> None:
    redriven(world)
    what = world.audit()
    assert (found(what), what.pending_images) == ({}, 2)


@pytest.mark.parametrize("is_announced", [False, True])
def test_adds_up_where_what_was_in_quarantine_was_tried_again(world: World, is_announced: bool) -> None:
    del world.model.script["too much.jpg"]
    redriven(world)
    for item in [*audit_places.listed(world.s3, INBOX)] if is_announced else []:
        put = {"ETag": item.etag}
        world.announce(item.key, put, size=item.size_bytes, minutes=70, sequencer="0A")
    world.run()
    assert world.keys("quarantine/inbox/no") == [
        "quarantine/inbox/no image.jpg",
        "quarantine/inbox/no image.jpg.error.json",
    ]
    assert found(world.audit()) == {}


def test_adds_up_where_what_failed_is_put_back_and_labelled(world: World, s3: MemoryS3) -> None:
    s3.delete_object(Bucket=FINAL, Key="quarantine/inbox/too much.jpg")
    del world.model.script["too much.jpg"]
    world.upload("too much.jpg", picture(seed=101), minutes=70, sequencer="09")
    world.run()
    assert "images/inbox/too much.jpg" in s3.keys(FINAL)
    assert found(world.audit()) == {}
