from __future__ import annotations

import gzip
import hashlib
from collections import Counter
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from include.archive.found import IN_GLACIER
from include.archive.inventory import (
    DELETE_MARKERS,
    INCOMPLETE,
    NEEDED,
    OLD_VERSIONS,
    read_inventory,
)
from include.archive.manifest import Inventory, check_files, read_manifest
from include.archive.request import FOUND
from include.errors import SelectionError
from tests.include.archive.conftest import MakePlan
from tests.include.archive.inventories import (
    FOLDER,
    FORMATS,
    REPORTS,
    SCHEMA,
    URI,
    data_file,
    put_inventory,
    put_manifest,
    row,
)
from tests.include.memory_s3 import MemoryS3, failure
from tests.include.samples import AWKWARD_KEYS, FINAL, NOW

HOSTILE_KEYS = [
    *AWKWARD_KEYS,
    'quo"te,comma.jpg',
    "new\nline\r\n.jpg",
    "\x00\x1b.jpg",
    "%2B+%.jpg",
    "é" * 510 + ".jpg",
    "'=1+1.jpg",
]


@pytest.fixture(params=FORMATS)
def file_format(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def opened(s3: MemoryS3, uri: str = URI) -> Inventory:
    inventory = read_manifest(s3, uri)
    check_files(s3, inventory, 2)
    return inventory


def read(s3: MemoryS3, uri: str = URI) -> tuple[list[dict[str, Any]], Counter[str]]:
    skipped: Counter[str] = Counter()
    tables = list(read_inventory(s3, opened(s3, uri), skipped))
    assert all(table.schema == FOUND for table in tables)
    return [each for table in tables for each in table.to_pylist()], +skipped


def test_each_object_as_the_inventory_says(s3: MemoryS3, file_format: str) -> None:
    put_inventory(s3, file_format, [row(key) for key in HOSTILE_KEYS[:9]], [row(key) for key in HOSTILE_KEYS[9:]])
    found, skipped = read(s3)
    assert [each["key"] for each in found] == HOSTILE_KEYS
    assert not skipped
    assert found[0] == {
        "bucket": "archive",
        "key": "plain.jpg",
        "etag": hashlib.md5(b"plain.jpg").hexdigest(),
        "size_bytes": 1_000,
        "modified": NOW,
    }


def test_what_cannot_be_read_is_counted_and_left_out(s3: MemoryS3, file_format: str) -> None:
    left_out = [
        row("old.jpg", is_latest=False),
        row("deleted.jpg", is_delete_marker=True, size=None, e_tag=None, storage_class=None),
        row("cold.jpg", storage_class="GLACIER"),
        row("colder.jpg", storage_class="DEEP_ARCHIVE"),
        row("cool.jpg", storage_class="INTELLIGENT_TIERING", intelligent_tiering_access_tier="ARCHIVE"),
        row("freezing.jpg", storage_class="INTELLIGENT_TIERING", intelligent_tiering_access_tier="DEEP_ARCHIVE"),
        row("unknown.jpg", e_tag=None),
    ]
    kept = [
        row("instant.jpg", storage_class="GLACIER_IR"),
        row(
            "tiered.jpg", storage_class="INTELLIGENT_TIERING", intelligent_tiering_access_tier="ARCHIVE_INSTANT_ACCESS"
        ),
        row("new kind.jpg", storage_class="SOME_DAY"),
    ]
    put_inventory(s3, file_format, [*left_out, *kept])
    found, skipped = read(s3)
    assert [each["key"] for each in found] == ["instant.jpg", "tiered.jpg", "new kind.jpg"]
    assert skipped == {OLD_VERSIONS: 1, DELETE_MARKERS: 1, IN_GLACIER: 4, INCOMPLETE: 1}


def test_an_inventory_of_current_versions_needs_no_more_than_four_columns(s3: MemoryS3, file_format: str) -> None:
    put_inventory(s3, file_format, [row("a b.jpg")], columns=NEEDED)
    assert [each["key"] for each in read(s3)[0]] == ["a b.jpg"]


def test_etags_lose_their_quotes(s3: MemoryS3) -> None:
    put_inventory(s3, "Parquet", [row("a.jpg", e_tag='"0123"')])
    assert read(s3)[0][0]["etag"] == "0123"


def test_times_are_utc_and_keep_their_seconds(s3: MemoryS3, file_format: str) -> None:
    time = datetime(2019, 12, 31, 23, 59, 58, tzinfo=UTC)
    put_inventory(s3, file_format, [row("a.jpg", last_modified_date=time)])
    modified = read(s3)[0][0]["modified"]
    assert (modified, modified.utcoffset()) == (time, timedelta(0))


@pytest.mark.parametrize("column", NEEDED)
def test_a_missing_column_is_named_with_what_to_do(s3: MemoryS3, file_format: str, column: str) -> None:
    columns = [name for name in SCHEMA.names if name != column]
    put_inventory(s3, file_format, [row("a.jpg")], columns=columns)
    with pytest.raises(SelectionError, match=r"has no column \w+\. Add to the inventory's optional fields: .*ETag"):
        read(s3)


def test_a_file_that_is_not_there_is_named(s3: MemoryS3, file_format: str) -> None:
    put_inventory(s3, file_format, [row("a.jpg")], [row("b.jpg")])
    key = f"daily/archive/all/data/1.{file_format.lower()}"
    s3.delete_object(Bucket=REPORTS, Key=key)
    with pytest.raises(SelectionError, match=f"{key} does not exist"):
        opened(s3)


def test_a_file_that_may_not_be_read_is_named(s3: MemoryS3) -> None:
    put_inventory(s3, "CSV", [row("a.jpg")])
    s3.refuse["get_object", "daily/archive/all/data/0.csv"] = failure("AccessDenied", "GetObject", 403)
    with pytest.raises(SelectionError, match=r"data/0\.csv may not be read .* s3:GetObject"):
        opened(s3)


def test_a_file_that_was_changed_is_named_before_any_other_is_used(
    s3: MemoryS3, file_format: str, make_plan: MakePlan
) -> None:
    put_inventory(s3, file_format, [row("a.jpg")], [row("b.jpg")])
    key = f"daily/archive/all/data/1.{file_format.lower()}"
    s3.put_object(Bucket=REPORTS, Key=key, Body=data_file(file_format, [row("other.jpg")]))
    with pytest.raises(SelectionError, match=f"{key} is not what .*manifest.json says: MD5"):
        make_plan(source="inventory", uri=URI)
    assert s3.keys(FINAL) == []


def test_half_a_file_with_the_right_checksum_is_named(s3: MemoryS3, file_format: str, make_plan: MakePlan) -> None:
    whole = data_file(file_format, [row(f"{number}.jpg") for number in range(5_000)])
    put_inventory(s3, file_format, whole[: len(whole) // 2])
    with pytest.raises(SelectionError, match=rf"data/0\.\w+ is no {file_format.upper()} file of an inventory"):
        make_plan(source="inventory", uri=URI)
    assert s3.keys(FINAL) == []


@pytest.mark.parametrize(
    "text",
    [
        '"archive","a.jpg"\n',
        '"archive","a.jpg","1","2026-03-01T12:00:00.000Z","e","too","many"\n',
        '"archive","a.jpg","many","2026-03-01T12:00:00.000Z","e"\n',
        '"archive","a.jpg","1","yesterday","e"\n',
        '"archive","%zz.jpg","1","2026-03-01T12:00:00.000Z","e"\n',
        '"archive","%ff.jpg","1","2026-03-01T12:00:00.000Z","e"\n',
        "<html>",
    ],
)
def test_rows_that_make_no_sense_are_an_error_that_names_the_file(s3: MemoryS3, text: str) -> None:
    columns = ("bucket", "key", "size", "last_modified_date", "e_tag")
    put_inventory(s3, "CSV", gzip.compress(text.encode()), columns=columns)
    with pytest.raises(SelectionError, match=r"data/0\.csv is no CSV file of an inventory"):
        read(s3)


@pytest.mark.parametrize("key", ["manifest.json", "manifest.checksum"])
def test_a_manifest_that_is_not_whole_yet(s3: MemoryS3, key: str) -> None:
    put_inventory(s3, "CSV", [row("a.jpg")])
    s3.delete_object(Bucket=REPORTS, Key=f"{FOLDER}/{key}")
    with pytest.raises(SelectionError, match=f"{key} does not exist"):
        opened(s3)


def test_a_manifest_that_was_changed(s3: MemoryS3) -> None:
    put_inventory(s3, "CSV", [row("a.jpg")])
    s3.put_object(Bucket=REPORTS, Key=f"{FOLDER}/manifest.json", Body=b"{}")
    with pytest.raises(SelectionError, match=r"manifest\.json is not what manifest\.checksum beside it says"):
        opened(s3)


@pytest.mark.parametrize("body", [b"", b"[]", b"{}", b"\xff", b'{"fileFormat": "CSV", "files": [1]}'])
def test_what_is_no_manifest(s3: MemoryS3, body: bytes) -> None:
    put_manifest(s3, body)
    with pytest.raises(SelectionError, match="is no manifest of an S3 Inventory"):
        opened(s3)


def test_a_format_that_nobody_knows(s3: MemoryS3) -> None:
    put_inventory(s3, "CSV", [row("a.jpg")], fileFormat="Avro")
    with pytest.raises(SelectionError, match="fileFormat 'AVRO' is none of CSV, ORC and Parquet"):
        opened(s3)


def test_something_else_than_a_manifest(s3: MemoryS3) -> None:
    with pytest.raises(SelectionError, match=r"is no manifest\.json"):
        opened(s3, f"s3://{REPORTS}/{FOLDER}/")


def test_a_bucket_of_reports_that_is_not_there(s3: MemoryS3) -> None:
    with pytest.raises(SelectionError, match=r"s3://nowhere/a/manifest\.json does not exist"):
        opened(s3, "s3://nowhere/a/manifest.json")


def test_an_inventory_of_nothing(s3: MemoryS3, file_format: str, make_plan: MakePlan) -> None:
    put_inventory(s3, file_format, [])
    with pytest.raises(SelectionError, match="holds no objects"):
        make_plan(source="inventory", uri=URI)
    assert s3.keys(FINAL) == []
