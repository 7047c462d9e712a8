"""Saved queries asked by the real Dag, of the results of a real run."""

from __future__ import annotations

import io

import pyarrow as pa
import pyarrow.parquet as pq

from local_stack import seed
from tests.integration.in_process import DagRunner
from tests.integration.world import World


def answers(world: World, query: str) -> dict[str, bytes]:
    """What is kept of a query's answers, by ending."""
    listed = world.s3.list_objects_v2(Bucket=seed.FINAL_BUCKET, Prefix=f"queries/{query}/").get("Contents", [])
    keys = [item["Key"] for item in listed]
    return {
        key.rpartition(".")[2]: world.s3.get_object(Bucket=seed.FINAL_BUCKET, Key=key)["Body"].read() for key in keys
    }


def test_answers_are_kept_with_their_types_and_shown(dags: DagRunner, world: World) -> None:
    world.upload(6)
    assert dags.run().state == "success"
    ended = dags.run("query_labels", queries=["label_counts_by_day", "slow_hours"], parameters={"since": "today-1"})
    assert ended.state == "success", ended.log
    assert ended.of("ask") == ended.of("keep") == {"success"}
    for query in ("label_counts_by_day", "slow_hours"):
        kept = answers(world, query)
        table = pq.read_table(io.BytesIO(kept["parquet"]))
        assert kept["csv"].decode().count("\n") == table.num_rows + 1
        assert f"{query}: {table.num_rows} rows; the first of them:" in ended.log
    counts = pq.read_table(io.BytesIO(answers(world, "label_counts_by_day")["parquet"]))
    assert counts.num_rows > 0
    assert counts.schema.field("images").type == pa.int64()


def test_a_wrong_value_is_said_before_anything_is_asked(dags: DagRunner, world: World) -> None:
    ended = dags.run("query_labels", queries=["images_with_label"], parameters={"lable": "mug"})
    assert ended.state == "failed"
    assert "'label' is meant perhaps" in ended.log
    assert ended.of("choose") == {"failed"}


def test_a_query_that_fails_says_why_and_keeps_no_other_from_its_answer(dags: DagRunner, world: World) -> None:
    world.upload(3)
    assert dags.run().state == "success"
    listed = world.s3.list_objects_v2(Bucket=seed.FINAL_BUCKET, Prefix="results/image_labels/analysis=")["Contents"]
    world.s3.put_object(Bucket=seed.FINAL_BUCKET, Key=listed[0]["Key"], Body=b"PAR1 no more")
    ended = dags.run("query_labels", queries=["label_counts_by_day", "slow_hours"])
    assert ended.state == "failed"
    assert "label_counts_by_day: Athena says: HIVE_" in ended.log
    assert (ended.tasks["ask[0]"], ended.tasks["keep[0]"]) == ("failed", "upstream_failed")
    assert (ended.tasks["ask[1]"], ended.tasks["keep[1]"]) == ("success", "success")
    assert "csv" in answers(world, "slow_hours")
