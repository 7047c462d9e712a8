"""Each original lies in one place: uploads that are nowhere, or in two places, planted into a world that is clean."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from include import audit_places, audit_world
from include.batches import plan_batches, write_batches
from include.outcomes import Checked, write_preflight
from tests.include.audit.audited_world import World, examples, found
from tests.include.memory_s3 import MemoryS3
from tests.include.samples import AWKWARD_KEYS, FINAL, INBOX, NOW, image, outcome, picture


def test_one_that_is_nowhere_is_lost(world: World) -> None:
    world.delete("images/inbox/plain.jpg")
    what = world.audit()
    assert found(what) == {"lost": 1}
    assert examples(what, "lost")[0].startswith("s3://inbox/plain.jpg, of batch ")


def test_so_is_one_with_a_key_that_was_cut(world: World) -> None:
    (cut,) = world.keys("images/inbox/long/")
    world.delete(cut)
    assert found(world.audit()) == {"lost": 1}


def test_so_is_one_that_lies_there_with_other_content(world: World) -> None:
    world.put("images/inbox/plain.jpg", picture(seed=99))
    assert found(world.audit()) == {"lost": 1}


def test_so_is_an_earlier_one_that_a_newer_one_did_not_make_way_for(world: World) -> None:
    (aside,) = [key for key in world.keys("images/inbox/twice.jpg") if "~" in key]
    world.delete(aside)
    assert found(world.audit()) == {"lost": 1}


def test_so_is_one_of_another_bucket(world: World, s3: MemoryS3) -> None:
    s3.delete_object(Bucket="archive", Key="a.jpg")
    assert examples(world.audit(), "lost")[0].startswith("s3://archive/a.jpg")


def test_so_is_one_that_was_pending(world: World, s3: MemoryS3) -> None:
    world.upload("new.jpg", picture(seed=7))
    world.drain()
    s3.delete_object(Bucket=INBOX, Key="new.jpg")
    assert found(world.audit()) == {"lost": 1}


def test_a_pending_one_that_is_said_to_be_gone_is_not(world: World) -> None:
    (batch,) = plan_batches([image("new.jpg")], batch_size=1)
    write_batches(world.s3, FINAL, [batch], threads=1)
    gone = outcome(batch.images[0], "MISSING")
    write_preflight(world.s3, FINAL, batch.batch_id, [Checked(batch.images[0], outcome=gone)])
    assert found(world.audit()) == {}


def test_one_that_was_written_over_before_it_was_moved_is_not(world: World, s3: MemoryS3) -> None:
    world.upload("new.jpg", picture(seed=7), minutes=-9)
    world.drain()
    world.label(publishing=False)
    world.upload("new.jpg", picture(seed=8), minutes=-8, sequencer="02")
    world.run()
    assert "images/inbox/new.jpg" not in s3.keys(FINAL) or len(world.keys("images/inbox/new.jpg")) == 1
    what = world.audit()
    assert (found(what), what.overwritten) == ({}, 1)


def test_one_that_moves_on_while_the_audit_reads_is_not(world: World, s3: MemoryS3) -> None:
    kept = s3.contents(FINAL)["images/inbox/plain.jpg"]
    world.delete("images/inbox/plain.jpg")
    list_filed = audit_places.Places.list_filed

    def then_it_comes(places: audit_places.Places, client: Any) -> None:
        list_filed(places, client)
        world.put("images/inbox/plain.jpg", kept)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(audit_places.Places, "list_filed", then_it_comes)
        assert found(world.audit()) == {}


def test_in_the_inbox_and_filed_is_one_too_many(world: World) -> None:
    world.s3.put_object(Bucket=INBOX, Key="plain.jpg", Body=picture(seed=0))
    what = world.audit()
    assert found(what) == {"original_twice": 1}
    assert examples(what, "original_twice") == ["s3://inbox/plain.jpg and s3://final/images/inbox/plain.jpg"]


def test_but_not_where_it_was_only_just_uploaded_again(world: World) -> None:
    world.s3.put_object(Bucket=INBOX, Key="plain.jpg", Body=picture(seed=0))
    assert found(world.audit(now=NOW + timedelta(minutes=5))) == {}


def test_nor_where_it_is_pending_again(world: World) -> None:
    world.upload("plain.jpg", picture(seed=0))
    world.drain()
    assert found(world.audit()) == {}


def test_labelled_and_in_quarantine_is_one_too_many(world: World) -> None:
    world.put("quarantine/inbox/plain.jpg", picture(seed=0))
    assert found(world.audit()) == {"original_twice": 1, "quarantined_without_reason": 1}


def test_a_filed_one_without_a_row(world: World) -> None:
    world.put("images/inbox/stranger.jpg", picture())
    assert examples(world.audit(), "original_without_row") == ["images/inbox/stranger.jpg"]


def test_where_more_is_gone_than_can_be_asked_for_all_are_counted(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(audit_world, "MOST_LOOKS", 3)
    for key in world.keys("images/"):
        world.delete(key)
    what = world.audit()
    assert found(what) == {"lost": len(AWKWARD_KEYS) + 4}
    assert len(examples(what, "lost")) == audit_world.MOST_EXAMPLES


def test_copies_that_a_key_of_kms_gives_other_etags_are_no_loss(world: World, s3: MemoryS3) -> None:
    for key, body in s3.contents(FINAL, "images/").items():
        s3.put_object(Bucket=FINAL, Key=key, Body=body[::-1], ServerSideEncryption="aws:kms")
    assert found(world.audit()) == {}
