"""Rows, documents and quarantine that do not belong together, planted into a world that is clean."""

from __future__ import annotations

import hashlib
import io
from datetime import datetime, timedelta

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from include.audit_records import FILE_LISTS
from include.compact import compact_day, remove_replaced
from include.schema import ANALYSIS
from tests.include.audit.audited_world import World, examples, found
from tests.include.conftest import BuildSettings
from tests.include.memory_s3 import MemoryS3
from tests.include.samples import FINAL, INBOX, MODEL_ARN, NOW, picture


def test_a_finished_batch_without_its_parquet(world: World) -> None:
    (parquet,) = world.keys(f"results/image_labels/analysis=custom_labels/dt=2026-03-01/{world.batch_id}")
    rows = pq.read_metadata(io.BytesIO(world.s3.contents(FINAL)[parquet])).num_rows
    world.delete(parquet)
    what = world.audit()
    assert set(found(what)) == {
        "done_without_results",
        "document_without_row",
        "original_without_row",
        "unreadable",
    }
    assert f"{rows} of {rows} images, such as s3://inbox/" in examples(what, "done_without_results")[0]


def test_a_compacted_day_adds_up_before_and_after_its_small_files_go(world: World) -> None:
    world.upload("later.jpg", picture(seed=8))
    world.run()
    before = world.audit()
    assert compact_day(world.s3, FINAL, analysis=ANALYSIS, day="2026-03-01", threads=1).files_after == 1
    after = world.audit()
    assert (found(after), after.published_rows) == ({}, before.published_rows)
    assert remove_replaced(world.s3, FINAL, analysis=ANALYSIS, now=NOW + timedelta(days=1), threads=1) > 1
    assert (found(world.audit()), world.audit().published_rows) == ({}, before.published_rows)


def test_the_batches_of_a_merged_file_that_is_gone_can_be_put_back(world: World) -> None:
    world.upload("later.jpg", picture(seed=8))
    world.run()
    compact_day(world.s3, FINAL, analysis=ANALYSIS, day="2026-03-01", threads=1)
    remove_replaced(world.s3, FINAL, analysis=ANALYSIS, now=NOW + timedelta(days=1), threads=1)
    (merged,) = world.keys("results/image_labels/analysis=")
    world.delete(merged)
    what = world.audit()
    assert "gone: every query of the day fails" in examples(what, "unreadable")[0]
    for example in examples(what, "done_without_results"):
        key = example.partition(":")[0]
        batch_id = key.rpartition("/")[2].removesuffix(".jsonl.gz")
        world.delete(f"batches/outcomes/{batch_id}/done")
        world.put(f"batches/pending/1-{batch_id}.jsonl.gz", world.s3.contents(FINAL)[key])
    world.label()
    assert found(world.audit()) == {"unreadable": 1}
    (listed,) = world.keys("results/image_labels/_symlink_format_manifest/")
    lines = world.s3.contents(FINAL)[listed].splitlines(keepends=True)
    world.put(listed, b"".join(line for line in lines if merged.encode() not in line))
    assert found(world.audit()) == {}


def test_parquet_of_a_batch_that_is_none(world: World) -> None:
    batch_id = world.batch_id
    world.delete(world.done)
    what = world.audit()
    assert found(what) == {"results_without_batch": 1, "checkpoints_without_batch": 1}
    assert examples(what, "results_without_batch") == [batch_id]


def test_parquet_that_is_none(world: World) -> None:
    world.put(f"results/image_labels/analysis=custom_labels/dt=2026-02-28/{world.batch_id}.parquet", b"hello")
    assert found(world.audit()) == {"unreadable": 1}


def test_parquet_that_is_damaged(world: World) -> None:
    (parquet,) = world.keys(f"results/image_labels/analysis=custom_labels/dt=2026-03-01/{world.batch_id}")
    body = world.s3.contents(FINAL)[parquet]
    world.put(parquet.replace("03-01", "02-28"), body[:300] + bytes(300) + body[600:])
    assert found(world.audit()) == {"unreadable": 1}


def test_parquet_of_something_else(world: World) -> None:
    body = io.BytesIO()
    pq.write_table(pa.table({"a": [1]}), body)
    world.put(f"results/image_labels/analysis=custom_labels/dt=2026-02-28/{world.batch_id}.parquet", body.getvalue())
    assert found(world.audit()) == {"unreadable": 1}


def test_checkpoints_that_are_none(world: World, s3: MemoryS3) -> None:
    world.upload("new.jpg", picture(seed=7))
    world.drain()
    s3.delete_object(Bucket=INBOX, Key="new.jpg")
    (pending,) = world.keys("batches/pending/")
    batch_id = pending.rpartition("-")[2].partition(".")[0]
    world.put(f"batches/outcomes/{batch_id}/preflight.jsonl", b"hello")
    assert found(world.audit()) == {"unreadable": 1, "lost": 1}


def test_rows_that_are_there_twice(world: World) -> None:
    (parquet,) = world.keys(f"results/image_labels/analysis=custom_labels/dt=2026-03-01/{world.batch_id}")
    rows = pq.read_metadata(io.BytesIO(world.s3.contents(FINAL)[parquet])).num_rows
    world.copy(parquet, parquet.replace("2026-03-01", "2026-02-28"))
    assert found(world.audit()) == {"row_twice": rows}


def test_a_file_that_a_list_names_twice(world: World) -> None:
    (parquet,) = world.keys(f"results/image_labels/analysis=custom_labels/dt=2026-03-01/{world.batch_id}")
    rows = pq.read_metadata(io.BytesIO(world.s3.contents(FINAL)[parquet])).num_rows
    (files,) = world.keys(FILE_LISTS)
    world.put(files, world.s3.contents(FINAL)[files] + f"\r\n\r\ns3://{FINAL}/{parquet}\r\n".encode())
    assert found(world.audit()) == {"row_twice": rows}


def test_a_copy_of_a_list_beside_it_which_queries_read_as_well(world: World) -> None:
    rows = world.audit().published_rows
    (files,) = world.keys(FILE_LISTS)
    world.copy(files, f"{files}.bak")
    assert found(world.audit()) == {"row_twice": rows}


def test_but_copies_in_folders_of_their_own_are_read_by_nobody(world: World) -> None:
    for key in world.keys("results/image_labels/analysis="):
        world.copy(key, key.replace("dt=2026-03-01/", "dt=2026-03-01/backup/"))
    world.put("results/image_labels/analysis=custom_labels/dt=2026-03-01/backup/")
    assert found(world.audit()) == {}


@pytest.mark.parametrize("processed_at", [NOW, None])
def test_rows_that_another_program_wrote_without_a_time_zone(world: World, processed_at: datetime | None) -> None:
    (parquet,) = world.keys(f"results/image_labels/analysis=custom_labels/dt=2026-03-01/{world.batch_id}")
    table = pq.read_table(io.BytesIO(world.s3.contents(FINAL)[parquet]), partitioning=None)
    times = {"event_time": table["event_time"], "processed_at": pa.array([processed_at] * table.num_rows)}
    body = io.BytesIO()
    for name, values in times.items():
        naive = values.cast(pa.timestamp("ns", "UTC")).cast(pa.timestamp("ns"))
        table = table.set_column(table.schema.get_field_index(name), name, naive)
    pq.write_table(table, body, use_deprecated_int96_timestamps=True)
    world.put(parquet, body.getvalue())
    assert found(world.audit()) == {}


def test_an_image_that_was_paid_for_twice(world: World) -> None:
    world.delete("labels/inbox/plain.jpg.json")
    world.upload("plain.jpg", picture(seed=0), sequencer="05")
    world.run()
    what = world.audit()
    assert found(what) == {"row_twice": 1}
    assert examples(what, "row_twice")[0].startswith("s3://inbox/plain.jpg LABELLED, once more in results/")


def test_but_another_model_has_a_row_of_its_own(world: World, build_settings: BuildSettings) -> None:
    other = build_settings(project_version_arn=MODEL_ARN.replace("shop.v7/", "shop.v8/"))
    world.settings = other
    world.upload("plain.jpg", picture(seed=0), sequencer="05")
    world.run()
    world.settings = build_settings(allowed_buckets="archive")
    assert found(world.audit()) == {}


@pytest.mark.parametrize("key", ["plain.jpg", "gone.jpg"])
def test_a_row_without_its_document(world: World, key: str) -> None:
    world.delete(f"labels/inbox/{key}.json" if key == "plain.jpg" else f"quarantine/inbox/{key}.error.json")
    assert found(world.audit()) == {"row_without_document": 1}


def test_a_document_of_an_image_that_is_no_longer_the_newest_of_its_name(world: World) -> None:
    key = "labels/inbox/twice.jpg.json"
    before = {"etag": hashlib.md5(picture(seed=103)).hexdigest()}
    world.s3.put_object(Bucket=FINAL, Key=key, Body=b"{}", Metadata=before)
    what = world.audit()
    assert (found(what), examples(what, "document_outdated")) == ({"document_outdated": 1}, [key])


@pytest.mark.parametrize("key", ["labels/inbox/stray.jpg.json", "quarantine/inbox/stray.jpg.error.json"])
def test_a_document_without_a_row(world: World, key: str) -> None:
    world.put(key, b"{}")
    assert examples(world.audit(), "document_without_row") == [key]


@pytest.mark.parametrize("key", ["no image.jpg", "too much.jpg"])
def test_quarantine_without_a_reason(world: World, key: str) -> None:
    world.delete(f"quarantine/inbox/{key}.error.json")
    what = world.audit()
    assert found(what) == {"quarantined_without_reason": 1}
    assert examples(what, "quarantined_without_reason") == [f"quarantine/inbox/{key}"]


def test_something_in_quarantine_that_nobody_put_there(world: World) -> None:
    world.put("quarantine/inbox/stray.jpg")
    assert found(world.audit()) == {"quarantined_without_reason": 1}


@pytest.mark.parametrize("key", ["no image.jpg", "too much.jpg"])
def test_a_reason_without_what_it_speaks_of(world: World, key: str) -> None:
    world.delete(f"quarantine/inbox/{key}")
    assert found(world.audit()) == {"reason_without_file": 1}
