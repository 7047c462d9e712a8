"""The audit after real runs of the real Dags."""

from __future__ import annotations

from local_stack import seed
from tests.integration.in_process import DagRunner
from tests.integration.world import World


def test_it_is_green_after_a_run_and_while_uploads_wait(dags: DagRunner, world: World) -> None:
    world.upload(6)
    assert dags.run().state == "success"
    world.upload(3, folder="later")
    ended = dags.run("audit_images")
    assert ended.state == "success", ended.log


def test_it_is_red_and_names_the_image_where_an_original_is_lost(dags: DagRunner, world: World) -> None:
    key, *_ = world.upload(6)
    assert dags.run().state == "success"
    world.s3.delete_object(Bucket=seed.FINAL_BUCKET, Key=f"images/{seed.SOURCE_BUCKET}/{key}")
    ended = dags.run("audit_images")
    assert ended.state == "failed"
    assert "Uploads and results do not agree: lost 1." in ended.log
    assert f"s3://{seed.SOURCE_BUCKET}/{key}" in ended.log


def test_every_run_that_ends_well_updates_what_the_audit_may_be_scheduled_on(dags: DagRunner, world: World) -> None:
    from airflow.models.asset import AssetEvent
    from airflow.utils.session import create_session

    world.upload(3)
    ended = dags.run()
    assert ended.state == "success"
    with create_session() as session:
        [event] = session.query(AssetEvent).filter(AssetEvent.source_run_id == ended.run_id)
        assert (event.name, event.source_task_id) == ("labelled_images", "report")
