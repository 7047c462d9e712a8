"""Two deployments at the same buckets, queue and model by mistake: the lease keeps them apart, and both say so."""

from __future__ import annotations

import random
from concurrent.futures import ThreadPoolExecutor

import pytest

from local_stack.chaos.nursery import Kill, Nursery
from local_stack.chaos.runs import Run, finish
from local_stack.chaos.world import Theatre, World

APART = ("Postponed: label_images/", "The model is in use by label_images/", "The model is left running: label_images/")


def play_in_turns(runs: list[Run], rng: random.Random) -> None:
    """One stage of one of them, then one of whichever, to the end of both."""
    left = {number: run.steps() for number, run in enumerate(runs)}
    while left:
        number = rng.choice(sorted(left))
        if next(left[number], None) is None or runs[number].is_dead:
            del left[number]


def assert_none_lost_its_model(runs: list[Run]) -> None:
    for run in runs:
        inferred = {stage: state for stage, state in run.states.items() if stage.startswith("infer")}
        assert set(inferred.values()) <= {"well"} or run.states["start_model"] == "failed", run.log
        assert not [line for line in run.log if "ModelNotRunningError" in line], run.log


@pytest.mark.parametrize("seed", range(5))
def test_stages_in_any_order_lose_nothing_and_stop_nobody_elses_model(
    world: World, nursery: Nursery, seed: int
) -> None:
    world.upload(6)
    runs = [Run(world, nursery, name) for name in ("here", "there")]
    play_in_turns(runs, random.Random(seed))
    assert_none_lost_its_model(runs)
    finish(world, nursery, "after")
    verdict = world.verdict()
    assert verdict.is_clean, (str(verdict), runs[0].log, runs[1].log)


def test_who_comes_second_says_whose_turn_it_is(world: World, nursery: Nursery) -> None:
    world.upload(6)
    first, second = (Run(world, nursery, name) for name in ("here", "there"))
    stages = first.steps()
    while next(stages) != "wait_until_running":
        pass
    world.upload(3)
    second.play()
    assert any("Postponed: label_images/here uses the model until" in line for line in second.log), second.log
    assert world.status() == "RUNNING"
    for _ in stages:
        pass
    assert_none_lost_its_model([first, second])
    finish(world, nursery, "after")
    assert str(world.verdict()) == "clean"


def test_both_that_decided_to_start_use_the_model_one_after_the_other(world: World, nursery: Nursery) -> None:
    world.upload(6)
    first, second = (Run(world, nursery, name) for name in ("here", "there"))
    one, other = first.steps(), second.steps()
    for stages in (one, other):
        while next(stages) != "decide":
            pass
    # Nothing was left in the queue, but both have found the same batches.
    assert first.notes["batches"] == second.notes["batches"] != []
    for stages in (one, other):
        assert next(stages) == "start_model"
    assert any("The model is in use by label_images/here" in line for line in second.log), second.log
    for stages in (other, one):
        for _ in stages:
            pass
    assert_none_lost_its_model([first, second])
    finish(world, nursery, "after")
    assert str(world.verdict()) == "clean"


@pytest.mark.parametrize("seed", range(3))
def test_processes_at_the_same_time_lose_nothing_though_some_are_killed(
    theatre: Theatre, world: World, nursery: Nursery, seed: int
) -> None:
    rng = random.Random(seed)
    world.upload(6)
    stages = ("drain", "decide", "infer", "publish")
    with Nursery(theatre.aws.endpoint_url) as another, ThreadPoolExecutor(2) as threads:
        runs = [
            Run(world, each, name, [Kill(rng.choice(stages), "after", nth=rng.randint(1, 8))] if seed % 2 else [])
            for each, name in ((nursery, "here"), (another, "there"))
        ]
        list(threads.map(Run.play, runs))
    assert_none_lost_its_model(runs)
    finish(world, nursery, "after")
    verdict = world.verdict()
    assert verdict.is_clean, (str(verdict), runs[0].log, runs[1].log)
