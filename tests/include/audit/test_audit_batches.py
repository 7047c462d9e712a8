"""Batches that are half done, damaged or orphaned, planted into a world that is clean."""

from __future__ import annotations

import itertools

import pytest

from include import audit_checks, audit_world
from include.audit import render
from include.batches import read_batch
from include.model_state import ModelStateStore
from include.publish import publish
from tests.include.audit.audited_world import LATER, STATE, World, examples, found
from tests.include.memory_s3 import Killed, MemoryS3
from tests.include.samples import FINAL, picture


def test_paid_but_not_published(world: World) -> None:
    world.upload("new.jpg", picture(seed=7))
    world.drain()
    world.label(publishing=False)
    what = world.audit()
    assert found(what) == {"half_done": 1}
    assert "paid results wait to be published" in examples(what, "half_done")[0]


def test_which_is_as_it_should_be_while_a_run_is_at_work(world: World) -> None:
    world.upload("new.jpg", picture(seed=7))
    world.drain()
    world.label(publishing=False)
    ModelStateStore(world.s3, FINAL, STATE).acquire("label_images/r", minutes=10, now=LATER)
    assert found(world.audit()) == {}


def test_done_and_pending_still(world: World) -> None:
    world.copy(world.done, f"batches/pending/1-20260301T110000Z-{world.batch_id}.jsonl.gz")
    assert examples(world.audit(), "half_done")[0].endswith(": done, and pending still")


def test_one_whose_publishing_is_killed_anywhere_is_half_done_and_nothing_else(world: World, s3: MemoryS3) -> None:
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


def test_an_image_in_two_of_them(world: World) -> None:
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
def test_unreadable(world: World, folder: str, body: bytes) -> None:
    world.put(f"batches/{folder}/1-20260301T110000Z-0123456789abcdef.jsonl.gz", body)
    assert found(world.audit()) == {"unreadable": 1}


def test_checkpoints_of_none(world: World) -> None:
    world.put("batches/outcomes/0123456789abcdef/part-00000.jsonl", b"{}\n")
    assert examples(world.audit(), "checkpoints_without_batch") == ["batches/outcomes/0123456789abcdef/"]


def test_converted_copies_of_one_that_is_done(world: World) -> None:
    world.put(f"staged/{world.batch_id}/0123456789abcdef.jpg")
    assert found(world.audit()) == {"staged_left": 1}


def test_that_come_and_go_meanwhile_are_said_to(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
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
