"""An S3 Inventory: what AWS has listed already, in CSV, ORC or Parquet, cheaper than any listing of our own.

Its columns: https://docs.aws.amazon.com/AmazonS3/latest/userguide/storage-inventory.html
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any, Final

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pa_csv
import pyarrow.orc as pa_orc
import pyarrow.parquet as pq

from include.archive import percent
from include.archive.ahead import in_order
from include.archive.found import ARCHIVED, IN_GLACIER, Skipped
from include.archive.manifest import CHUNK_BYTES, DataFile, Inventory, fetch
from include.archive.request import FOUND
from include.errors import SelectionError
from include.scratch import scratch_folder

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

CSV_BLOCK_BYTES: Final = 4 * 1024**2
ROWS_AT_A_TIME: Final = 65_536
# One is read while the next one comes.
FILES_AT_A_TIME: Final = 2


def read_inventory(s3: Any, inventory: Inventory, skipped: Skipped) -> Generator[pa.Table, None, None]:
    """Tables of ``FOUND``: each object's latest version, where it can be read.

    Data files come to a temporary folder, one or two at a time.

    :raises SelectionError: naming a file that cannot be read, or a column that is missing.
    """
    if inventory.columns:
        _check_columns(inventory.uri, inventory.columns)

    def download(numbered: tuple[int, DataFile]) -> Path:
        number, file = numbered
        local = folder / str(number)
        with local.open("wb") as to:
            fetch(s3, inventory, file, to)
        return local

    with (
        scratch_folder() as folder,
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
