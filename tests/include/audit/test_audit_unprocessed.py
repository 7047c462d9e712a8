"""Uploads of which nobody was told."""

from __future__ import annotations

from datetime import timedelta

import pytest

from include.audit import queue_unprocessed, render
from tests.include.audit.audited_world import World, examples, found
from tests.include.samples import INBOX, NOW, picture


@pytest.fixture
def unannounced(world: World) -> World:
    for number in range(7):
        world.s3.put_object(Bucket=INBOX, Key=f"unheard/{number}.jpg", Body=picture(seed=number))
    return world


def test_uploads_that_nobody_knows(unannounced: World) -> None:
    what = unannounced.audit()
    assert found(what) == {"unprocessed": 7}
    assert examples(what, "unprocessed")[0] == "s3://inbox/unheard/0.jpg, since 2026-03-01 12:00 UTC"
    assert "and 2 more" in render(what)


def test_not_within_the_grace_period(unannounced: World) -> None:
    assert found(unannounced.audit(now=NOW + timedelta(minutes=59))) == {}
    assert found(unannounced.audit(now=NOW + timedelta(minutes=59), grace_minutes=30)) == {"unprocessed": 7}


def test_not_while_as_many_messages_may_announce_them(unannounced: World) -> None:
    unannounced.queue.send(["{}"] * 7)
    what = unannounced.audit()
    assert (found(what), what.perhaps_announced, what.queue_messages) == ({}, 7, 7)
    assert "7 uploads, which messages in the queue may announce" in render(what)


def test_what_was_uploaded_again_after_it_was_gone(world: World) -> None:
    world.s3.put_object(Bucket=INBOX, Key="gone.jpg", Body=picture(seed=102))
    assert examples(world.audit(), "unprocessed") == ["s3://inbox/gone.jpg, since 2026-03-01 12:00 UTC"]


def test_they_are_queued_once_and_labelled_like_any_upload(unannounced: World) -> None:
    what = unannounced.audit()
    first = queue_unprocessed(unannounced.s3, unannounced.settings, what)
    assert queue_unprocessed(unannounced.s3, unannounced.settings, what) == first
    assert unannounced.keys("batches/pending/") == first
    assert found(unannounced.audit()) == {}
    unannounced.label()
    assert found(unannounced.audit()) == {}
    assert len(unannounced.keys("images/inbox/unheard/")) == 7
