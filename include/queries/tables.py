"""The tables as Glue holds them: columns from ``include.schema``, partitions projected; and how an older table becomes a new one.

``image_labels`` reads the Parquet files that a day's file list names (``SymlinkTextInputFormat``, as AWS documents it for S3
Inventory: https://docs.aws.amazon.com/AmazonS3/latest/userguide/storage-inventory-athena-query.html); ``runs`` what lies there.
Partitions are projected (https://docs.aws.amazon.com/athena/latest/ug/partition-projection.html): a new day needs no statement.
Parquet columns are found by name, so a file from before a column reads as null
(https://docs.aws.amazon.com/athena/latest/ug/handling-schema-updates-chapter.html).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import pyarrow as pa

from include import layout, schema
from include.queries import QueryError, columns
from include.settings import PREFIX, Settings

# Raised with every change of a table: an older release does not undo what a newer one has made.
SCHEMA_VERSION: Final = 1
VERSION_PROPERTY: Final = "labels.schema_version"
FIRST_DAY: Final = "2026-01-01"

_PARQUET_SERDE: Final = "org.apache.hadoop.hive.ql.io.parquet.serde.ParquetHiveSerDe"
_SYMLINK_FORMATS: Final = (
    "org.apache.hadoop.hive.ql.io.SymlinkTextInputFormat",
    "org.apache.hadoop.hive.ql.io.IgnoreKeyTextOutputFormat",
)
_PARQUET_FORMATS: Final = (
    "org.apache.hadoop.hive.ql.io.parquet.MapredParquetInputFormat",
    "org.apache.hadoop.hive.ql.io.parquet.MapredParquetOutputFormat",
)
# What of a table's description may be written back; the rest is Glue's own.
_WRITABLE: Final = (
    "Name", "Description", "Owner", "Retention", "StorageDescriptor", "PartitionKeys", "TableType", "Parameters",
)  # fmt: skip


def wanted_tables(settings: Settings) -> tuple[dict[str, Any], ...]:
    """Both tables, as ``glue.create_table`` takes them."""
    analyses = {"projection.analysis.type": "enum", "projection.analysis.values": schema.ANALYSIS}
    return (
        _table(
            "image_labels",
            "One row for each image and attempt that ended; labels nested.",
            schema.IMAGE_LABELS,
            columns.IMAGE_LABELS,
            ("analysis", "dt"),
            f"s3://{settings.final_bucket}/{layout.FILE_LISTS}",
            _SYMLINK_FORMATS,
            analyses,
        ),
        _table(
            "runs",
            "One row for each run: what it did and cost.",
            schema.RUNS,
            columns.RUNS,
            ("dt",),
            f"s3://{settings.final_bucket}/{layout.RUNS}",
            _PARQUET_FORMATS,
            {},
        ),
    )


def _table(
    name: str,
    about: str,
    fields: pa.Schema,
    meanings: Mapping[str, str],
    partitions: tuple[str, ...],
    location: str,
    formats: tuple[str, str],
    projection: Mapping[str, str],
) -> dict[str, Any]:
    folders = "".join(f"{partition}=${{{partition}}}/" for partition in partitions)
    return {
        "Name": name,
        "Description": about,
        "TableType": "EXTERNAL_TABLE",
        "PartitionKeys": [_column(partition, "string", meanings) for partition in partitions],
        "Parameters": {
            "EXTERNAL": "TRUE",
            "classification": "parquet",
            VERSION_PROPERTY: str(SCHEMA_VERSION),
            "projection.enabled": "true",
            **projection,
            "projection.dt.type": "date",
            "projection.dt.format": "yyyy-MM-dd",
            "projection.dt.range": f"{FIRST_DAY},NOW+1DAYS",
            "storage.location.template": location + folders,
        },
        "StorageDescriptor": {
            "Columns": [_column(field.name, hive_type(field.type), meanings) for field in fields],
            "Location": location,
            "InputFormat": formats[0],
            "OutputFormat": formats[1],
            "SerdeInfo": {"SerializationLibrary": _PARQUET_SERDE, "Parameters": {"serialization.format": "1"}},
        },
    }


def _column(name: str, type_: str, meanings: Mapping[str, str]) -> dict[str, str]:
    return {"Name": name, "Type": type_, "Comment": meanings[name]}


def hive_type(arrow: pa.DataType) -> str:
    """A column's type as Glue writes it; timestamps are UTC, of which Glue's type says nothing."""
    if pa.types.is_struct(arrow):
        return f"struct<{','.join(f'{field.name}:{hive_type(field.type)}' for field in arrow)}>"
    if pa.types.is_map(arrow):
        return f"map<{hive_type(arrow.key_type)},{hive_type(arrow.item_type)}>"
    if pa.types.is_list(arrow):
        return f"array<{hive_type(arrow.value_type)}>"
    if pa.types.is_timestamp(arrow):
        return "timestamp"
    return _HIVE_TYPES[arrow]


_HIVE_TYPES: Final = {
    pa.string(): "string",
    pa.bool_(): "boolean",
    pa.int32(): "int",
    pa.int64(): "bigint",
    pa.float64(): "double",
}


def migrated(found: Mapping[str, Any], wanted: Mapping[str, Any]) -> dict[str, Any] | None:
    """The table as it is to be written back, or None where it is as it should be.

    Columns that a person added stay, at the end; so do properties that we do not set.

    :param found: as ``glue.get_table`` describes it.
    :raises QueryError: where it is not ours, is a newer release's, lies elsewhere, or a column has another type.
    """
    name = f"Table {found['Name']} of database {found.get('DatabaseName', '')}"
    version = found.get("Parameters", {}).get(VERSION_PROPERTY, "")
    if not version.isdecimal():
        raise QueryError(
            f"{name} was not made by this pipeline (it has no property {VERSION_PROPERTY}): set {PREFIX}DATABASE to another name."
        )
    if int(version) > SCHEMA_VERSION:
        raise QueryError(
            f"{name} was made by a newer release (schema {version}, ours is {SCHEMA_VERSION}): update this one."
        )
    before, after = found["StorageDescriptor"], wanted["StorageDescriptor"]
    if before.get("Location", "").rstrip("/") != after["Location"].rstrip("/"):
        raise QueryError(
            f"{name} is over {before.get('Location')}, not over {after['Location']}: it belongs to another deployment. "
            f"Set {PREFIX}DATABASE to another name, or drop the table (its files stay)."
        )
    keys = [(key["Name"], key["Type"]) for key in found.get("PartitionKeys", [])]
    if keys != [(key["Name"], key["Type"]) for key in wanted["PartitionKeys"]]:
        raise QueryError(
            f"{name} is partitioned by {keys}, which cannot be changed: drop it (its files stay), and set up again."
        )
    serde = {**before.get("SerdeInfo", {}), **after["SerdeInfo"]}
    table = {
        **{part: found[part] for part in _WRITABLE if part in found},
        **wanted,
        "Parameters": {**found["Parameters"], **wanted["Parameters"]},
        "StorageDescriptor": {
            **before,
            **after,
            "SerdeInfo": serde,
            "Columns": _columns(name, before["Columns"], after["Columns"]),
        },
    }
    return None if all(found.get(part) == value for part, value in table.items()) else table


def _columns(table: str, found: list[dict[str, str]], wanted: list[dict[str, str]]) -> list[dict[str, str]]:
    """The wanted columns, in the order of those that are there, and those that somebody added."""
    by_name = {column["Name"]: column for column in wanted}
    for column in found:
        new = by_name.get(column["Name"])
        if new and not _holds(new["Type"], column["Type"]):
            raise QueryError(
                f"{table} has {column['Name']} as {column['Type']}, wanted is {new['Type']}: somebody changed it. Change it "
                "back, or drop the table (its files stay), and set up again."
            )
    there = {column["Name"] for column in found}
    return [by_name.get(column["Name"], column) for column in found] + [
        column for column in wanted if column["Name"] not in there
    ]


def _holds(new: str, old: str) -> bool:
    """Whether a type is the same, or a struct that has gained fields."""
    if new == old:
        return True
    for kind in ("array", "struct"):
        if new.startswith(f"{kind}<") and old.startswith(f"{kind}<"):
            inner_new, inner_old = new[len(kind) + 1 : -1], old[len(kind) + 1 : -1]
            if kind == "array":
                return _holds(inner_new, inner_old)
            fields_new, fields_old = _fields(inner_new), _fields(inner_old)
            return all(name in fields_new and _holds(fields_new[name], type_) for name, type_ in fields_old.items())
    return False


def _fields(inner: str) -> dict[str, str]:
    """``a:int,b:struct<c:int>`` by name."""
    parts, depth = [""], 0
    for character in inner:
        depth += {"<": 1, ">": -1}.get(character, 0)
        if character == "," and depth == 0:
            parts.append("")
        else:
            parts[-1] += character
    return {name: type_ for name, _, type_ in (part.partition(":") for part in parts)}
