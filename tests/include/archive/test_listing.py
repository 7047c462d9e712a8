from __future__ import annotations

import itertools
import threading
from collections import Counter
from collections.abc import Iterable
from typing import Any

import pytest

from include.archive.listing import list_prefix
from tests.include.memory_s3 import MemoryS3
from tests.include.samples import AWKWARD_KEYS

FOLDERS = [f"{year}/{day:03d}/im {number}+%.jpg" for year in (2024, 2025) for day in range(40) for number in range(60)]
FLAT = [f"IMG_{number:07d}.jpg" for number in range(4_321)]
# Neighbours wherever a range may be cut: at the ends of a plane, around what no character is, one the other's beginning.
EDGES = ["a", "\x00", "\ud7ff", "\ue000", "\uffff", "\U00010000", "\U0010ffff"]
NASTY = ["".join(some) for length in range(1, 5) for some in itertools.product(EDGES, repeat=length)]


def put(s3: MemoryS3, keys: Iterable[str]) -> None:
    for key in keys:
        s3.put_object(Bucket="archive", Key=key, Body=key.encode())


def listed(s3: Any, uri: str = "s3://archive/", threads: int = 8) -> list[str]:
    return [key for table in list_prefix(s3, uri, threads, Counter()) for key in table["key"].to_pylist()]


@pytest.mark.parametrize("threads", [1, 3, 16])
@pytest.mark.parametrize("keys", [FOLDERS, FLAT, NASTY], ids=["folders", "a flat heap", "nasty names"])
def test_every_object_is_found_once(s3: MemoryS3, keys: list[str], threads: int) -> None:
    put(s3, keys)
    assert Counter(listed(s3, threads=threads)) == Counter(keys)


def test_a_prefix_may_end_within_a_name(s3: MemoryS3) -> None:
    put(s3, [*FOLDERS, *FLAT, *AWKWARD_KEYS])
    assert sorted(listed(s3, "s3://archive/2025/03")) == sorted(key for key in FOLDERS if key.startswith("2025/03"))
    assert listed(s3, "s3://archive/100%") == ["100% sure.jpg", "100%25.jpg"]
    assert listed(s3, "s3://archive/none/") == []


def test_the_order_is_the_same_every_time(s3: MemoryS3) -> None:
    put(s3, FOLDERS)
    assert listed(s3) == listed(s3)


def test_rows_say_what_the_object_is(s3: MemoryS3) -> None:
    put(s3, ["a.jpg"])
    (table,) = list_prefix(s3, "s3://archive/", 1, Counter())
    head = s3.head_object(Bucket="archive", Key="a.jpg")
    assert table.to_pylist() == [
        {
            "bucket": "archive",
            "key": "a.jpg",
            "etag": head["ETag"].strip('"'),
            "size_bytes": 5,
            "modified": head["LastModified"],
        }
    ]


def test_what_lies_in_glacier_is_counted_and_left_out(s3: MemoryS3, monkeypatch: pytest.MonkeyPatch) -> None:
    classes = {"a.jpg": "GLACIER", "b.jpg": "DEEP_ARCHIVE", "c.jpg": "GLACIER_IR", "d.jpg": "STANDARD_IA"}
    put(s3, classes)
    plain = s3.list_objects_v2

    def with_classes(**asked: Any) -> dict[str, Any]:
        page = plain(**asked)
        return page | {"Contents": [item | {"StorageClass": classes[item["Key"]]} for item in page["Contents"]]}

    monkeypatch.setattr(s3, "list_objects_v2", with_classes)
    skipped: Counter[str] = Counter()
    assert [table["key"].to_pylist() for table in list_prefix(s3, "s3://archive/", 4, skipped)] == [["c.jpg", "d.jpg"]]
    assert list(skipped.values()) == [2]


@pytest.mark.parametrize("keys", [FOLDERS, FLAT], ids=["folders", "a flat heap"])
def test_pages_are_read_side_by_side(s3: MemoryS3, keys: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    put(s3, keys)
    plain, met, under_way = s3.list_objects_v2, threading.Event(), set[int]()

    def meeting(**asked: Any) -> dict[str, Any]:
        if "StartAfter" in asked and "MaxKeys" not in asked:
            under_way.add(threading.get_ident())
            if len(under_way) > 1:
                met.set()
            assert met.wait(10), "the only page that is read"
        return plain(**asked)

    monkeypatch.setattr(s3, "list_objects_v2", meeting)
    assert len(listed(s3)) == len(keys)


def test_it_is_never_far_ahead_of_who_takes_the_pages(s3: MemoryS3, monkeypatch: pytest.MonkeyPatch) -> None:
    put(s3, FOLDERS)
    plain, pages = s3.list_objects_v2, []

    def counting(**asked: Any) -> dict[str, Any]:
        pages.extend([asked] * ("MaxKeys" not in asked))
        return plain(**asked)

    monkeypatch.setattr(s3, "list_objects_v2", counting)
    tables = list_prefix(s3, "s3://archive/", 2, Counter())
    next(tables)
    assert len(pages) <= 3  # the one that was taken, and one a thread
    assert sum(table.num_rows for table in tables) == len(FOLDERS) - 1_000


def test_local_aws_lists_the_same(aws_s3: Any, unique: str) -> None:
    aws_s3.create_bucket(Bucket=unique)
    keys = [*AWKWARD_KEYS, *FLAT[:1_100]]
    for key in keys:
        aws_s3.put_object(Bucket=unique, Key=key, Body=b"x")
    assert sorted(listed(aws_s3, f"s3://{unique}/", threads=4)) == sorted(keys)
