"""The verdict sees what it is there for."""

from __future__ import annotations

from typing import Any

import pytest

from local_stack.chaos.nursery import Kill, Nursery, Order
from local_stack.chaos.runs import Run, finish
from local_stack.chaos.world import World


@pytest.fixture
def finished(world: World, nursery: Nursery) -> World:
    world.upload(4)
    Run(world, nursery, "only").play()
    return world


def first(world: World, folder: str) -> dict[str, Any]:
    return {"Bucket": world.final, "Key": world.keys(world.final, folder)[0]}


def test_an_undisturbed_run_is_clean(finished: World) -> None:
    assert str(finished.verdict()) == "clean"


def test_an_original_that_is_gone_is_lost(finished: World) -> None:
    finished.theatre.s3.delete_object(**first(finished, "images/"))
    assert len(finished.verdict().lost) == 1


def test_rows_that_are_gone_are_lost(finished: World) -> None:
    finished.theatre.s3.delete_object(**first(finished, "results/image_labels/analysis="))
    finished.theatre.s3.delete_object(**first(finished, "results/image_labels/_symlink_format_manifest/"))
    assert finished.verdict().lost != ()


def test_rows_that_stand_twice_are_doubled(finished: World) -> None:
    there = first(finished, "results/image_labels/analysis=")
    again = there["Key"].replace(".parquet", "0.parquet")
    finished.theatre.s3.copy_object(Bucket=finished.final, Key=again, CopySource=there)
    finished.theatre.s3.delete_object(**first(finished, "results/image_labels/_symlink_format_manifest/"))
    assert finished.verdict().doubled != ()


def test_a_call_too_many_is_doubled(finished: World, nursery: Nursery) -> None:
    key = "twice.jpg"
    finished.theatre.aws.set_model(finished.settings.project_version_arn, status="RUNNING")
    finished.theatre.s3.put_object(Bucket=finished.final, Key=key, Body=finished.theatre.images[0])
    finished.theatre.rekognition.detect_custom_labels(
        ProjectVersionArn=finished.settings.project_version_arn,
        Image={"S3Object": {"Bucket": finished.final, "Name": key}},
    )
    verdict = finished.verdict()
    assert [each.split(" for ")[0] for each in verdict.doubled] == ["4 calls were paid"]
    assert verdict.left_running == ("the model is RUNNING",)


def test_a_run_that_died_is_unfinished_until_another_one_has_come(world: World, nursery: Nursery) -> None:
    world.upload(4)
    assert Run(world, nursery, "dies", [Kill("publish", "before", nth=4, takes_all=True)]).play().is_dead
    assert not world.verdict().is_clean
    finish(world, nursery, "next")
    assert str(world.verdict()) == "clean"


def test_a_killed_process_is_told_from_one_that_failed(world: World, nursery: Nursery) -> None:
    settings = world.settings.model_copy(update={"queue_url": f"{world.queue_url}-gone"})
    killed = nursery.carry_out(Order("drain", settings, "r", {}, kill=Kill("drain", "after")))
    assert (killed.was_killed, killed.is_well) == (True, False)
    failed = nursery.carry_out(Order("drain", settings, "r", {}))
    assert (failed.was_killed, failed.is_terminal) == (False, True)
    assert failed.error.startswith("AccessError")
