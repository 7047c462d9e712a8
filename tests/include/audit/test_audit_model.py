"""The dead-letter queue, and a model that bills for nobody."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from include.audit import render
from include.errors import TerminalError
from include.model_state import Hold, ModelState, ModelStateStore
from tests.include.audit.audited_world import LATER, STATE, CountedQueue, World, examples, found
from tests.include.conftest import BuildSettings
from tests.include.memory_s3 import failure
from tests.include.samples import FINAL, MODEL_ARN, NOW


def test_dead_letters(world: World) -> None:
    world.queue.send(["hello", "{}"])
    world.run()
    what = world.audit()
    assert (found(what), what.dead_letters) == ({"dead_letters": 2}, 2)


def test_where_there_is_no_dead_letter_queue(world: World) -> None:
    world.queue = CountedQueue(dead_letter_queue=False)
    assert world.audit().dead_letters is None


def test_one_that_may_not_be_looked_into(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(**request: Any) -> Any:
        raise failure("AccessDenied", "GetQueueUrl", 403)

    monkeypatch.setattr(world.queue, "get_queue_url", refuse)
    assert (found(world.audit()), world.audit().dead_letters) == ({}, None)


@pytest.mark.parametrize("status", ["STARTING", "RUNNING"])
def test_a_model_that_is_on_without_a_lease(world: World, status: str) -> None:
    world.model.status = status
    assert examples(world.audit(), "model_left_on") == [f"{MODEL_ARN} is {status} without a lease"]


def test_or_with_one_that_ran_out(world: World) -> None:
    world.model.status = "RUNNING"
    ModelStateStore(world.s3, FINAL, STATE).acquire("label_images/r", minutes=10, now=NOW)
    what = world.audit()
    assert found(what) == {"model_left_on": 1}
    assert "RUNNING, the lease of label_images/r ran until 2026-03-01 12:10 UTC" in render(what)


def test_with_a_live_one_all_is_well(world: World) -> None:
    world.model.status = "RUNNING"
    ModelStateStore(world.s3, FINAL, STATE).acquire("label_images/r", minutes=10, now=LATER)
    what = world.audit()
    assert (found(what), what.lease_holder) == ({}, "label_images/r")


def test_a_time_without_a_zone_is_utc(world: World) -> None:
    world.model.status = "RUNNING"
    world.put(STATE, b'{"lease": {"holder": "r", "expires_at": "2026-03-01T14:00:01"}}')
    assert found(world.audit()) == {}


def test_so_it_is_where_somebody_tries_the_model_by_hand(world: World) -> None:
    world.model.status = "RUNNING"
    held = ModelState(hold=Hold("a person", LATER + timedelta(minutes=1)))
    world.put(STATE, held.to_json())
    assert found(world.audit()) == {}


def test_so_it_is_where_somebody_else_may_start_it(world: World, build_settings: BuildSettings) -> None:
    world.model.status = "RUNNING"
    world.settings = build_settings(foreign_model="warn", allowed_buckets="archive")
    assert found(world.audit()) == {}
    ModelStateStore(world.s3, FINAL, STATE).acquire("label_images/r", minutes=10, now=NOW)
    assert found(world.audit()) == {"model_left_on": 1}


@pytest.mark.parametrize("body", [b"hello", b"[]", b'{"lease": {"expires_at": 3}}', b'{"lease": "mine"}'])
def test_a_state_that_is_none_protects_nobody(world: World, body: bytes) -> None:
    world.model.status = "RUNNING"
    world.put(STATE, body)
    assert found(world.audit()) == {"unreadable": 1, "model_left_on": 1}


def test_a_model_that_does_not_exist(world: World) -> None:
    world.model.status = ""
    with pytest.raises(TerminalError, match="was the model deleted"):
        world.audit()
