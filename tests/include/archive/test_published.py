from __future__ import annotations

import io
import os
from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from include import layout, ranged_file
from include.archive import published
from include.archive.published import Known, Select, read_published, selected
from include.archive.request import FOUND
from include.errors import SelectionError
from include.file_lists import add_file
from include.ranged_file import RangedFile
from include.schema import IMAGE_LABELS
from tests.include.memory_s3 import MemoryS3
from tests.include.samples import AWKWARD_KEYS, FINAL, MODEL_ARN, NOW

OLDER = MODEL_ARN.replace("shop.v7", "shop.v6")
NO_MODEL = None


def put_results(s3: MemoryS3, name: str, *rows: dict[str, Any], analysis: str = "custom_labels") -> str:
    body = io.BytesIO()
    plain = {"source_bucket": "archive", "etag": "e1", "model_arn": MODEL_ARN, "status": "LABELLED", "labels": []}
    pq.write_table(pa.Table.from_pylist([plain | row for row in rows], schema=IMAGE_LABELS), body, compression="zstd")
    key = layout.image_labels(analysis=analysis, day="2026-03-01", batch_id=name)
    s3.put_object(Bucket=FINAL, Key=key, Body=body.getvalue())
    return key


def found(keys: Sequence[str], etag: str = "e1") -> pa.Table:
    rows = [{"bucket": "archive", "key": key, "etag": etag, "size_bytes": 1, "modified": NOW} for key in keys]
    return pa.Table.from_pylist(rows, schema=FOUND)


def known(s3: MemoryS3, select: Select) -> Known:
    return read_published(s3, FINAL, model_arn=MODEL_ARN, select=select, threads=3)


# Key: the rows that there are of it (model, status), and which selections take it.
STORIES: dict[str, tuple[list[tuple[str | None, str]], set[str]]] = {
    "never seen": ([], {"new", "all"}),
    "labelled": ([(MODEL_ARN, "LABELLED")], {"all"}),
    "failed": ([(MODEL_ARN, "FAILED")], {"failed", "all"}),
    "rejected twice": ([(MODEL_ARN, "REJECTED"), (MODEL_ARN, "REJECTED")], {"failed", "all"}),
    "failed, then labelled": ([(MODEL_ARN, "FAILED"), (MODEL_ARN, "LABELLED")], {"all"}),
    "labelled, then failed": ([(MODEL_ARN, "LABELLED"), (MODEL_ARN, "FAILED")], {"all"}),
    "older model": ([(OLDER, "LABELLED")], {"new", "older_model", "all"}),
    "both models": ([(OLDER, "LABELLED"), (MODEL_ARN, "LABELLED")], {"all"}),
    "older failed": ([(OLDER, "FAILED")], {"new", "all"}),
    "older labelled, this failed": ([(OLDER, "LABELLED"), (MODEL_ARN, "FAILED")], {"failed", "older_model", "all"}),
    "no model": ([(NO_MODEL, "REJECTED")], {"new", "all"}),
}


@pytest.mark.parametrize("select", ["new", "failed", "older_model", "all"])
def test_each_story_is_selected_as_it_says(s3: MemoryS3, select: Select, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [
        {"source_key": key, "model_arn": model, "status": status}
        for key, (told, _) in STORIES.items()
        for model, status in told
    ]
    # Rows of one image lie in several files, and are aggregated now and then.
    monkeypatch.setattr(published, "ROWS_AT_A_TIME", 3)
    for number, row in enumerate(rows):
        put_results(s3, f"batch{number}", row)
    skipped: Counter[str] = Counter()
    kept = selected(found([*STORIES]), known(s3, select), select, skipped)["key"].to_pylist()
    assert kept == [key for key, (_, selections) in STORIES.items() if select in selections]
    assert sum(skipped.values()) == len(STORIES) - len(kept)


@pytest.mark.parametrize("select", ["failed", "older_model", "new"])
def test_only_the_same_content_under_the_same_name_is_known(s3: MemoryS3, select: Select) -> None:
    put_results(
        s3,
        "batch",
        {"source_key": "a.jpg", "etag": "e0"},
        {"source_key": "a.jpg", "etag": None},
        {"source_key": "b.jpg"},
        {"source_key": "a.jpg", "source_bucket": "inbox"},
    )
    put_results(s3, "faces", {"source_key": "a.jpg"}, analysis="faces")
    kept = selected(found(["a.jpg"]), known(s3, select), select, Counter())
    assert kept.num_rows == (select == "new")


def test_only_files_that_readers_see_count(s3: MemoryS3) -> None:
    shown = put_results(s3, "shown", {"source_key": "a.jpg"})
    add_file(s3, FINAL, analysis="custom_labels", day="2026-03-01", key=shown)
    put_results(s3, "replaced", {"source_key": "b.jpg"})
    assert len(known(s3, "new")) == 1


def test_a_large_file_is_read_in_parts(s3: MemoryS3, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(published, "BATCH_ROWS", 7)
    names = [f"{number // 2}.jpg" for number in range(100)]
    put_results(s3, "merged", *({"source_key": name} for name in names))
    told: list[int] = []
    found = read_published(s3, FINAL, model_arn=MODEL_ARN, select="new", threads=1, said=told.append)
    assert (len(found), told) == (50, [100])


def test_awkward_names_are_known(s3: MemoryS3) -> None:
    put_results(s3, "batch", *({"source_key": key} for key in AWKWARD_KEYS))
    left = selected(found([*AWKWARD_KEYS, "another.jpg"]), known(s3, "new"), "new", Counter())
    assert left["key"].to_pylist() == ["another.jpg"]


def test_nothing_published_yet(s3: MemoryS3) -> None:
    assert len(known(s3, "new")) == 0
    assert selected(found(["a.jpg"]), Known(), "new", Counter()).num_rows == 1
    assert selected(found([]), Known(), "failed", Counter()).num_rows == 0


def test_images_that_share_half_a_hash_are_told_apart() -> None:
    half = np.array([7, 7, 7, 9], dtype=np.uint64)
    table = Known(half, np.array([1, 3, 5, 1], dtype=np.uint64), np.array([1, 2, 4, 1], dtype=np.uint8))
    asked = np.array([5, 7, 7, 7, 7, 9, 9, 11], dtype=np.uint64), np.array([1, 1, 2, 3, 5, 1, 2, 1], dtype=np.uint64)
    assert table.flags_of(*asked).tolist() == [0, 1, 0, 2, 4, 1, 0, 0]


def test_files_that_are_no_results_are_passed_over(s3: MemoryS3) -> None:
    s3.put_object(Bucket=FINAL, Key=f"{layout.IMAGE_LABELS}analysis=custom_labels/_SUCCESS", Body=b"")
    assert len(known(s3, "new")) == 0


def test_a_broken_file_is_named(s3: MemoryS3) -> None:
    key = put_results(s3, "broken", {"source_key": "a.jpg"})
    body = s3.contents(FINAL, key)[key]
    without = io.BytesIO()
    pq.write_table(pa.table({"source_key": ["a.jpg"]}), without)
    for wrong in (b"", b"PAR1", body[:-9], body[len(body) // 2 :], b"x" * 100, without.getvalue()):
        s3.put_object(Bucket=FINAL, Key=key, Body=wrong)
        with pytest.raises(SelectionError, match=f"{key} is no Parquet file of results"):
            known(s3, "new")


def test_of_a_large_file_only_what_is_needed_is_fetched(s3: MemoryS3, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ranged_file, "TAIL_BYTES", 4_096)
    rows = [{"source_key": f"{number}.jpg", "error_message": os.urandom(200).hex()} for number in range(3_000)]
    key = put_results(s3, "large", *rows)
    fetched = []
    plain = s3.get_object

    def get_object(**asked: Any) -> dict[str, Any]:
        fetched.append(plain(**asked)["ContentLength"])
        return plain(**asked)

    monkeypatch.setattr(s3, "get_object", get_object)
    assert len(known(s3, "new")) == 3_000
    assert sum(fetched) < len(s3.contents(FINAL, key)[key]) / 4


@pytest.mark.parametrize("tail", [1, 10, 64, 1_000])
def test_a_ranged_file_reads_as_the_whole_one(s3: MemoryS3, tail: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ranged_file, "TAIL_BYTES", tail)
    whole = bytes(range(64))
    etag = s3.put_object(Bucket=FINAL, Key="file", Body=whole)["ETag"]
    ranged, plain = RangedFile(s3, FINAL, "file", len(whole), etag), io.BytesIO(whole)
    for offset, whence in ((0, 0), (60, 0), (-8, 2), (3, 0), (5, 1), (64, 0), (99, 0)):
        assert ranged.seek(offset, whence) == plain.seek(offset, whence)
        for size in (3, 0, 10, -1):
            assert ranged.read(size) == plain.read(size)
            assert ranged.tell() == plain.tell() or offset == 99
            ranged.seek(offset, whence) if whence == 0 else None
            plain.seek(offset, whence) if whence == 0 else None
