"""Compaction by the real Dag, after real runs."""

from __future__ import annotations

from include import layout
from include.file_lists import visible_files
from include.schema import ANALYSIS
from local_stack import seed
from tests.integration.in_process import DagRunner
from tests.integration.world import World


def shown(world: World) -> list[str]:
    return [file.key for file in visible_files(world.s3, seed.FINAL_BUCKET, analysis=ANALYSIS, threads=1)]


def test_a_day_becomes_one_file_and_everything_still_adds_up(dags: DagRunner, world: World) -> None:
    world.upload(10)
    assert dags.run().state == "success"
    assert len(shown(world)) > 1
    days = {layout.day_of(key) for key in shown(world)}
    assert dags.run("compact_labels").tasks["compact"] == "skipped"  # today is not over
    for day in days:
        ended = dags.run("compact_labels", day=day)
        assert ended.state == "success", ended.log
    assert len(shown(world)) == len(days)
    assert all(layout.is_merged(key) for key in shown(world))
    audited = dags.run("audit_images")
    assert audited.state == "success", audited.log


def test_a_damaged_file_makes_the_run_red_and_is_named(dags: DagRunner, world: World) -> None:
    world.upload(16)
    assert dags.run().state == "success"
    before = shown(world)
    damaged = before[0]
    world.s3.put_object(Bucket=seed.FINAL_BUCKET, Key=damaged, Body=b"half of a file")
    ended = dags.run("compact_labels", day=layout.day_of(damaged))
    assert ended.state == "failed"
    assert f"s3://{seed.FINAL_BUCKET}/{damaged}" in ended.log
    assert 2 == len(shown(world)) < len(before)
