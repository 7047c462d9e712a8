"""The whole machine dies before a call is sent: the watchdog and the next run find what it left."""

from __future__ import annotations

import pytest

from local_stack.chaos.nursery import Kill, Nursery
from local_stack.chaos.runs import finish
from local_stack.chaos.world import World
from tests.faults.changing_calls import CASES, first_run


@pytest.mark.parametrize(("dying", "call"), CASES)
def test_the_next_run_leaves_what_an_undisturbed_one_does(
    world: World, nursery: Nursery, dying: str, call: str
) -> None:
    run = first_run(world, nursery, Kill(dying, "before", call, takes_all=True))
    assert run.is_dead, run.log
    finish(world, nursery, "next")
    verdict = world.verdict()
    assert verdict.is_clean, (str(verdict), run.log)
