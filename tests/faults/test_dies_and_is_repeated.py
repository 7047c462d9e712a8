"""A stage's process is killed once a call has been carried out and before it learns of that; Airflow repeats the stage."""

from __future__ import annotations

import pytest

from local_stack.chaos.nursery import Kill, Nursery
from local_stack.chaos.runs import finish
from local_stack.chaos.world import World
from tests.faults.changing_calls import CALLS, CASES, first_run

READS = ("Get", "Head", "List", "Describe")


def test_the_calls_at_which_processes_are_killed_are_all_that_change_something(world: World, nursery: Nursery) -> None:
    run = first_run(world, nursery)
    changing = {
        stage: {call for call in calls if not call.split()[1].startswith(READS)} for stage, calls in run.calls.items()
    }
    # Stopped by infer already, the model has only to be seen STOPPED.
    assert changing == {stage: set(calls) for stage, calls in CALLS.items()}
    assert set(run.states.values()) == {"well"}


@pytest.mark.parametrize(("dying", "call"), CASES)
def test_nothing_is_lost_or_paid_twice(world: World, nursery: Nursery, dying: str, call: str) -> None:
    run = first_run(world, nursery, Kill(dying, "after", call))
    assert len(run.struck) == 1, run.log
    assert set(run.states.values()) == {"well"}, run.log
    finish(world, nursery, "repeated")
    verdict = world.verdict()
    assert verdict.is_clean, (str(verdict), run.log)
