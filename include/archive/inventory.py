"""An S3 Inventory: what AWS has listed already, in CSV, ORC or Parquet, cheaper than any listing of our own.

https://docs.aws.amazon.com/AmazonS3/latest/userguide/storage-inventory-location.html has the manifest,
https://docs.aws.amazon.com/AmazonS3/latest/userguide/storage-inventory.html the columns.
"""

from __future__ import annotations

import hashlib
import json
import tempfile
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Final

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pa_csv
import pyarrow.orc as pa_orc
import pyarrow.parquet as pq
from botocore.exceptions import ClientError

from include import objects
from include.archive import percent
from include.archive.ahead import in_order
from include.archive.found import ARCHIVED, IN_GLACIER, Skipped
from include.archive.request import FOUND
from include.errors import SelectionError
from include.parallel import in_parallel
from include.selection import split_uri

# Column of ORC and Parquet: what CSV and the inventory's settings call it.
NAMES: Final = {
    "key": "Key",
    "size": "Size",
    "last_modified_date": "LastModifiedDate",
    "e_tag": "ETag",
    "is_latest": "IsLatest",
    "is_delete_marker": "IsDeleteMarker",
    "storage_class": "StorageClass",
    "intelligent_tiering_access_tier": "IntelligentTieringAccessTier",
}
NEEDED: Final = ("key", "size", "last_modified_date", "e_tag")
_TYPES: Final = {
    "key": pa.string(),
    "size": pa.int64(),
    "last_modified_date": pa.timestamp("ms", tz="UTC"),
    "e_tag": pa.string(),
    "is_latest": pa.bool_(),
    "is_delete_marker": pa.bool_(),
    "storage_class": pa.string(),
    "intelligent_tiering_access_tier": pa.string(),
}
OLD_VERSIONS: Final = "older versions of an object"
DELETE_MARKERS: Final = "delete markers"
INCOMPLETE: Final = "without an ETag, size or date in the inventory"
# Tiers of INTELLIGENT_TIERING that answer no GetObject, besides the classes of the same kind
# (https://docs.aws.amazon.com/AmazonS3/latest/userguide/intelligent-tiering-overview.html).
ARCHIVE_TIERS: Final = {"ARCHIVE", *ARCHIVED, "ARCHIVE_ACCESS", "DEEP_ARCHIVE_ACCESS"}

CHUNK_BYTES: Final = 1024**2
CSV_BLOCK_BYTES: Final = 4 * 1024**2
ROWS_AT_A_TIME: Final = 65_536
# One is read while the next one comes.
FILES_AT_A_TIME: Final = 2


@dataclass(frozen=True, slots=True)
class DataFile:
    key: str
    size: int
    md5: str


@dataclass(frozen=True, slots=True)
class Inventory:
    """A manifest. ``columns``: names of the columns in the order of CSV's, empty for files that tell themselves."""

    uri: str
    source_bucket: str
    data_bucket: str
    file_format: str
    columns: tuple[str, ...]
    files: tuple[DataFile, ...]


def open_inventory(s3: Any, uri: str, threads: int) -> Inventory:
    """Read the manifest, and see that every file is there, whole, and as the manifest says.

    :param uri: of its ``manifest.json``.
    :raises SelectionError: naming the file that is wrong.
    """
    inventory = _parsed(uri, _manifest(s3, uri))
    if inventory.file_format not in _READERS:
        raise SelectionError(f"{uri}: fileFormat {inventory.file_format!r} is none of CSV, ORC and Parquet.")
    if inventory.columns:
        _check_columns(uri, inventory.columns)
    # Read to the end once before anything of them is used: a plan of half an inventory is worse than none.
    in_parallel(lambda file: _fetch(s3, inventory, file, None), inventory.files, threads=threads)
    return inventory


def read_inventory(s3: Any, inventory: Inventory, skipped: Skipped) -> Iterator[pa.Table]:
    """Tables of ``FOUND``: each object's latest version, where it can be read.

    Data files come to a temporary folder, one or two at a time.

    :raises SelectionError: naming a file that cannot be read, or a column that is missing.
    """

    def download(numbered: tuple[int, DataFile]) -> Path:
        number, file = numbered
        local = Path(folder) / str(number)
        with local.open("wb") as to:
            _fetch(s3, inventory, file, to)
        return local

    with (
        tempfile.TemporaryDirectory(prefix="inventory-") as folder,
        closing(in_order(download, enumerate(inventory.files), threads=FILES_AT_A_TIME)) as local_files,
    ):
        for file, local in zip(inventory.files, local_files, strict=True):
            uri = f"s3://{inventory.data_bucket}/{file.key}"
            try:
                for rows in _READERS[inventory.file_format](str(local), inventory.columns, uri):
                    yield _found(rows, inventory.source_bucket, skipped)
            except (pa.ArrowException, OSError, ValueError) as err:
                raise SelectionError(
                    f"{uri} is no {inventory.file_format} file of an inventory ({type(err).__name__}: {err}). "
                    "Take the next inventory, or the one before."
                ) from err
            local.unlink()


def _manifest(s3: Any, uri: str) -> bytes:
    bucket, key = split_uri(uri)
    if not key.endswith("manifest.json"):
        raise SelectionError(
            f"{uri} is no manifest.json: give the one of the inventory to use (there is one a day or week)."
        )
    found = objects.read(s3, bucket, key)
    if found is None:
        raise SelectionError(f"{uri} does not exist. The first inventory takes up to 48 hours.")
    checksum_uri = uri.removesuffix("json") + "checksum"
    checksum = objects.read(s3, bucket, key.removesuffix("json") + "checksum")
    if checksum is None:
        raise SelectionError(f"{checksum_uri} does not exist: it is written last, so the inventory is not whole yet.")
    if _md5(found[0]).hexdigest() != checksum[0].decode(errors="replace").strip().lower():
        raise SelectionError(
            f"{uri} is not what {checksum_uri} says: it was changed or cut short. Take another inventory."
        )
    return found[0]


def _parsed(uri: str, body: bytes) -> Inventory:
    try:
        manifest = json.loads(body)
        file_format = str(manifest["fileFormat"]).upper()
        return Inventory(
            uri=uri,
            source_bucket=str(manifest["sourceBucket"]),
            data_bucket=str(manifest["destinationBucket"]).rpartition(":")[2],
            file_format=file_format,
            columns=tuple(name.strip() for name in manifest["fileSchema"].split(",")) if file_format == "CSV" else (),
            files=tuple(DataFile(str(of["key"]), int(of["size"]), str(of["MD5checksum"])) for of in manifest["files"]),
        )
    except (ValueError, KeyError, TypeError, AttributeError) as err:
        raise SelectionError(f"{uri} is no manifest of an S3 Inventory ({type(err).__name__}: {err}).") from err


def _fetch(s3: Any, inventory: Inventory, file: DataFile, to: IO[bytes] | None) -> None:
    """Read a data file to its end, and compare."""
    uri = f"s3://{inventory.data_bucket}/{file.key}"
    try:
        body = s3.get_object(Bucket=inventory.data_bucket, Key=file.key)["Body"]
    except ClientError as err:
        if objects.is_missing(err):
            raise SelectionError(
                f"{uri} does not exist, but {inventory.uri} names it: a lifecycle rule may have deleted it (take a newer "
                "inventory), or the inventory's destination prefix ends with a slash (S3 then writes // and names /)."
            ) from err
        if objects.is_denied(err):
            raise SelectionError(
                f"{uri} may not be read by the role of the Airflow connection (s3:GetObject)."
            ) from err
        raise
    digest, size = _md5(), 0
    while chunk := body.read(CHUNK_BYTES):
        digest.update(chunk)
        size += len(chunk)
        if to is not None:
            to.write(chunk)
    if digest.hexdigest() != file.md5.lower():
        raise SelectionError(
            f"{uri} is not what {inventory.uri} says: MD5 {digest.hexdigest()} of {size:,} bytes instead of {file.md5} of "
            f"{file.size:,}. It was changed or cut short: take another inventory."
        )


def _md5(body: bytes = b"") -> Any:
    return hashlib.md5(body, usedforsecurity=False)


def _check_columns(uri: str, columns: tuple[str, ...] | list[str]) -> None:
    missing = [NAMES[name] for name in NEEDED if name not in columns and NAMES[name] not in columns]
    if missing:
        raise SelectionError(
            f"{uri} has no column {', '.join(missing)}. Add to the inventory's optional fields: Size, LastModifiedDate, ETag "
            "(and StorageClass, IntelligentTieringAccessTier where objects are archived), and take the next one."
        )


def _read_csv(path: str, columns: tuple[str, ...], uri: str) -> Iterator[pa.Table]:
    wanted = {NAMES[name]: kind for name, kind in _TYPES.items() if NAMES[name] in columns}
    with pa.CompressedInputStream(pa.OSFile(path), "gzip") as stream:
        if not stream.read(1):
            return
    with pa_csv.open_csv(
        pa.CompressedInputStream(pa.OSFile(path), "gzip"),
        read_options=pa_csv.ReadOptions(column_names=columns, block_size=CSV_BLOCK_BYTES, use_threads=False),
        convert_options=pa_csv.ConvertOptions(
            include_columns=list(wanted),
            column_types=wanted | {NAMES["key"]: pa.binary()},
            null_values=[""],
            strings_can_be_null=True,
        ),
    ) as reader:
        for batch in reader:
            table = pa.Table.from_batches([batch])
            keys, broken = percent.decode(table[NAMES["key"]].combine_chunks())
            if broken.any():
                raise ValueError(f"the key {table[NAMES['key']][int(broken.argmax())].as_py()!r} is badly URL-encoded")
            place = table.column_names.index(NAMES["key"])
            table = table.set_column(place, "key", keys.cast(pa.string()))
            yield table.rename_columns([_plain(name) for name in table.column_names])


def _plain(name: str) -> str:
    return next((plain for plain, of_csv in NAMES.items() if of_csv == name), name)


def _read_orc(path: str, _columns: tuple[str, ...], uri: str) -> Iterator[pa.Table]:
    file = pa_orc.ORCFile(path)
    _check_columns(uri, file.schema.names)
    names = [name for name in _TYPES if name in file.schema.names]
    for stripe in range(file.nstripes):
        batch = file.read_stripe(stripe, columns=names)
        for start in range(0, batch.num_rows, ROWS_AT_A_TIME):
            yield pa.Table.from_batches([batch.slice(start, ROWS_AT_A_TIME)])


def _read_parquet(path: str, _columns: tuple[str, ...], uri: str) -> Iterator[pa.Table]:
    with pq.ParquetFile(path, buffer_size=CHUNK_BYTES, pre_buffer=False) as file:
        _check_columns(uri, file.schema_arrow.names)
        names = [name for name in _TYPES if name in file.schema_arrow.names]
        for batch in file.iter_batches(ROWS_AT_A_TIME, columns=names, use_threads=False):
            yield pa.Table.from_batches([batch])


_READERS: Final[dict[str, Callable[[str, tuple[str, ...], str], Iterator[pa.Table]]]] = {
    "CSV": _read_csv,
    "ORC": _read_orc,
    "PARQUET": _read_parquet,
}


def _found(rows: pa.Table, bucket: str, skipped: Skipped) -> pa.Table:
    # Finer times are cut to milliseconds; those without a zone are UTC.
    table = pa.table({name: rows[name].cast(_TYPES[name], safe=False) for name in rows.column_names})
    table = _without(table, "is_delete_marker", lambda column: column, DELETE_MARKERS, skipped)
    table = _without(table, "is_latest", lambda column: pc.invert(pc.fill_null(column, True)), OLD_VERSIONS, skipped)
    archived = pa.array(sorted(ARCHIVED))
    table = _without(table, "storage_class", lambda column: pc.is_in(column, archived), IN_GLACIER, skipped)
    tiers = pa.array(sorted(ARCHIVE_TIERS))
    table = _without(
        table, "intelligent_tiering_access_tier", lambda column: pc.is_in(column, tiers), IN_GLACIER, skipped
    )
    for name in NEEDED:
        table = _without(table, name, pc.is_null, INCOMPLETE, skipped)
    etags = pc.utf8_trim(table["e_tag"], '"')
    of_bucket = pa.repeat(pa.scalar(bucket), table.num_rows)
    return pa.table([of_bucket, table["key"], etags, table["size"], table["last_modified_date"]], schema=FOUND)


def _without(table: pa.Table, name: str, is_out: Callable[[Any], Any], reason: str, skipped: Skipped) -> pa.Table:
    if name not in table.column_names:
        return table
    kept = table.filter(pc.invert(pc.fill_null(is_out(table[name]), False)))
    if kept.num_rows < table.num_rows:
        skipped[reason] += table.num_rows - kept.num_rows
    return kept
