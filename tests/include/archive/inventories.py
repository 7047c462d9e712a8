"""S3 Inventories as AWS writes them, in all three formats."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
from collections.abc import Sequence
from typing import Any, Final
from urllib.parse import quote_plus

import pyarrow as pa
import pyarrow.orc as pa_orc
import pyarrow.parquet as pq

from tests.include.memory_s3 import MemoryS3
from tests.include.samples import NOW

FORMATS: Final = ("CSV", "ORC", "Parquet")
REPORTS: Final = "reports"  # the bucket that inventories come to
FOLDER: Final = "daily/archive/all/2026-03-01T01-00Z"
URI: Final = f"s3://{REPORTS}/{FOLDER}/manifest.json"
SCHEMA: Final = pa.schema(
    [
        pa.field("bucket", pa.string()),
        pa.field("key", pa.string()),
        pa.field("version_id", pa.string()),
        pa.field("is_latest", pa.bool_()),
        pa.field("is_delete_marker", pa.bool_()),
        pa.field("size", pa.int64()),
        pa.field("last_modified_date", pa.timestamp("ms")),
        pa.field("e_tag", pa.string()),
        pa.field("storage_class", pa.string()),
        pa.field("intelligent_tiering_access_tier", pa.string()),
    ]
)
CSV_NAMES: Final = {
    "bucket": "Bucket",
    "key": "Key",
    "version_id": "VersionId",
    "is_latest": "IsLatest",
    "is_delete_marker": "IsDeleteMarker",
    "size": "Size",
    "last_modified_date": "LastModifiedDate",
    "e_tag": "ETag",
    "storage_class": "StorageClass",
    "intelligent_tiering_access_tier": "IntelligentTieringAccessTier",
}


def row(key: str, **fields: Any) -> dict[str, Any]:
    """What an inventory of all versions says of one object."""
    return {
        "bucket": "archive",
        "key": key,
        "version_id": "v1",
        "is_latest": True,
        "is_delete_marker": False,
        "size": 1_000,
        "last_modified_date": NOW,
        "e_tag": hashlib.md5(key.encode()).hexdigest(),
        "storage_class": "STANDARD",
        "intelligent_tiering_access_tier": None,
    } | fields


def data_file(file_format: str, rows: Sequence[dict[str, Any]], columns: Sequence[str] = SCHEMA.names) -> bytes:
    body = io.BytesIO()
    if file_format == "CSV":
        return gzip.compress("".join(f"{_csv_line(each, columns)}\n" for each in rows).encode())
    table = pa.Table.from_pylist(list(rows), schema=SCHEMA).select(list(columns))
    if file_format == "ORC":
        pa_orc.write_table(table, body, compression="zlib")
    else:
        pq.write_table(table, body, compression="snappy")
    return body.getvalue()


def _csv_line(values: dict[str, Any], columns: Sequence[str]) -> str:
    return ",".join(f'"{_csv_value(name, values[name])}"' for name in columns)


def _csv_value(name: str, value: Any) -> str:
    if value is None:
        return ""
    if name == "key":
        return quote_plus(value, safe="/")  # a space is a plus
    if name == "last_modified_date":
        return f"{value:%Y-%m-%dT%H:%M:%S}.000Z"
    return str(value).lower() if isinstance(value, bool) else str(value)


def put_inventory(
    s3: MemoryS3,
    file_format: str,
    *files: Sequence[dict[str, Any]] | bytes,
    columns: Sequence[str] = SCHEMA.names,
    **changes: Any,
) -> str:
    """Write a manifest with its checksum and so many data files (rows, or bytes as they are); the manifest's URI."""
    named = []
    for number, content in enumerate(files):
        body = content if isinstance(content, bytes) else data_file(file_format, content, columns)
        key = f"daily/archive/all/data/{number}.{file_format.lower()}"
        s3.put_object(Bucket=REPORTS, Key=key, Body=body)
        named.append({"key": key, "size": len(body), "MD5checksum": hashlib.md5(body).hexdigest()})
    schema = {
        "CSV": ", ".join(CSV_NAMES[name] for name in columns),
        "ORC": "struct<bucket:string,key:string>",
        "Parquet": "message s3.inventory { required binary bucket (UTF8); required binary key (UTF8); }",
    }[file_format]
    manifest = {
        "sourceBucket": "archive",
        "destinationBucket": f"arn:aws:s3:::{REPORTS}",
        "version": "2016-11-30",
        "creationTimestamp": "1772326800000",
        "fileFormat": file_format,
        "fileSchema": schema,
        "files": named,
    }
    put_manifest(s3, json.dumps(manifest | changes).encode())
    return URI


def put_manifest(s3: MemoryS3, body: bytes) -> None:
    s3.put_object(Bucket=REPORTS, Key=f"{FOLDER}/manifest.json", Body=body)
    s3.put_object(Bucket=REPORTS, Key=f"{FOLDER}/manifest.checksum", Body=hashlib.md5(body).hexdigest() + "\n")
