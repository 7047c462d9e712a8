"""Files of results as the index takes them: Arrow batches of one schema, whatever release wrote the Parquet.

A column that a file does not have is null, one that the schema does not have is left out. Nothing here loops over labels.
"""

from __future__ import annotations

import io
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from botocore.exceptions import ClientError

from include import objects
from include.archive.ahead import in_order
from include.archive.hashes import Hashes, hash_keys
from include.errors import ResultsError, TransientError
from include.file_lists import ResultFile
from include.ranged_file import RangedFile
from include.schema import IMAGE_LABELS, LABEL

# Rows in memory at a time; the labels of each are many times as many.
BATCH_ROWS: Final = 16_384
# Up to this size a file is fetched in one go, before it is its turn; a larger one as it is read.
WHOLE_BYTES: Final = 8 * 1024**2

_TIME = pa.timestamp("us")  # UTC, without saying so: DuckDB needs no time zones then
# The service's own type, a float of 32 bits (https://docs.aws.amazon.com/rekognition/latest/APIReference/API_BoundingBox.html):
# half the room of what takes most of it.
_BOX: Final = ("left", "top", "width", "height")
# A label as it is stored, and whether it is the best of its name on the image: of several boxes, one counts.
_LABEL = pa.struct(
    [
        *(pa.field(field.name, pa.float32()) if field.name in _BOX else field for field in LABEL),
        pa.field("best", pa.bool_()),
    ]
)
_STORED = {"event_time": _TIME, "processed_at": _TIME, "labels": pa.list_(_LABEL)}
# ``id``: 64 bits of analysis, bucket and key. ``came_at``: when the image came, by which everything is sorted.
INCOMING: Final = pa.schema(
    [
        pa.field("id", pa.uint64()),
        pa.field("came_at", _TIME),
        pa.field("analysis", pa.string()),
        *(pa.field(field.name, _STORED.get(field.name, field.type)) for field in IMAGE_LABELS),
    ]
)
# Without these a file is none of results.
_IDENTITY: Final = ("source_bucket", "source_key")


@dataclass(frozen=True, slots=True)
class Batch:
    """Rows of ``INCOMING`` of one file, and the names of their labels."""

    file: ResultFile
    table: pa.Table
    names: set[str]


def image_id(analysis: str, bucket: str, key: str) -> int:
    return int(hash_keys(pa.array([f"{analysis}\0{bucket}\0{key}"]))[0])


def label_ids(analysis: str, names: Sequence[str]) -> list[int]:
    return [int(each) for each in _label_hashes(analysis, pa.array(names, pa.string()))] if names else []


def read_rows(s3: Any, bucket: str, files: Sequence[ResultFile], *, threads: int) -> Iterator[Batch]:
    """Every row of the files, a few thousand at a time.

    :raises ResultsError: naming a file that is not Parquet, or not of ``image_labels``.
    :raises TransientError: a file has gone, or was written anew, since it was listed.
    """
    ahead = in_order(lambda file: (file, _opened(s3, bucket, file)), files, threads=threads)
    for file, body in ahead:
        yield from _read(bucket, file, body)


def _opened(s3: Any, bucket: str, file: ResultFile) -> Any:
    if file.size_bytes > WHOLE_BYTES:
        return RangedFile(s3, bucket, file.key, file.size_bytes, file.etag)
    try:
        return io.BytesIO(s3.get_object(Bucket=bucket, Key=file.key, IfMatch=file.etag)["Body"].read())
    except ClientError as err:
        raise _replaced(bucket, file, err) from err


def _read(bucket: str, file: ResultFile, body: Any) -> Generator[Batch, None, None]:
    try:
        parquet = pq.ParquetFile(body)
        found = parquet.schema_arrow.names
        missing = [name for name in _IDENTITY if name not in found]
        if missing:
            raise ValueError(f"it has no column {', '.join(missing)}")
        if twice := [name for name in IMAGE_LABELS.names if found.count(name) > 1]:
            raise ValueError(f"it has {', '.join(twice)} twice")
        known = [field.name for field in IMAGE_LABELS if field.name in found]
        batches = parquet.iter_batches(batch_size=BATCH_ROWS, columns=known, use_threads=False)
        while (batch := next(batches, None)) is not None:
            yield _normal(file, batch)
    except ClientError as err:
        raise _replaced(bucket, file, err) from err
    except (pa.ArrowException, OSError, ValueError) as err:
        raise ResultsError(
            f"s3://{bucket}/{file.key} is no Parquet file of results ({type(err).__name__}: {err}), so the label index stays as "
            "it was. Delete it and put its batch back, as docs/runbook.md says; the next refresh goes on from there."
        ) from err


def _replaced(bucket: str, file: ResultFile, err: ClientError) -> TransientError:
    """:raises ClientError: anything but that."""
    if not (objects.is_missing(err) or objects.is_condition_failed(err)):
        raise err
    return TransientError(
        f"s3://{bucket}/{file.key} has gone, or was replaced, while it was read. The next refresh takes what is there instead."
    )


def _normal(file: ResultFile, batch: pa.RecordBatch) -> Batch:
    size = batch.num_rows
    columns = {
        field.name: batch.column(field.name) if field.name in batch.schema.names else pa.nulls(size, field.type)
        for field in IMAGE_LABELS
    }
    labels, lengths, names = _labels(file.analysis, columns["labels"])
    passes = np.asarray(pc.struct_field(labels, "passes").to_numpy(zero_copy_only=False), dtype=bool)
    rows = np.repeat(np.arange(size), lengths)
    columns["labels"] = pa.ListArray.from_arrays(
        pa.array(np.concatenate([[0], np.cumsum(lengths)]), pa.int32()), labels
    )
    # Counted anew, so that it is what a search for labels finds.
    columns["label_count"] = pa.array(np.bincount(rows[passes], minlength=size), pa.int32())
    columns["max_confidence"] = _finite(columns["max_confidence"].cast(pa.float64()))
    for name in ("event_time", "processed_at"):
        columns[name] = columns[name].cast(pa.timestamp("us", tz="UTC")).cast(_TIME)
    key = pc.binary_join_element_wise(
        file.analysis, *(pc.fill_null(columns[name].cast(pa.string()), "") for name in _IDENTITY), "\0"
    )
    columns["id"] = pa.array(hash_keys(key))
    columns["came_at"] = pc.coalesce(columns["event_time"], columns["processed_at"], pa.scalar(0, _TIME))
    columns["analysis"] = pa.repeat(file.analysis, size)
    arrays = [columns[field.name].cast(field.type) for field in INCOMING]
    return Batch(file, pa.Table.from_arrays(arrays, schema=INCOMING), names)


def _labels(analysis: str, lists: Any) -> tuple[pa.StructArray, Any, set[str]]:
    """All labels of a batch one after another, how many each image has, and their names."""
    lengths = pc.fill_null(pc.list_value_length(lists), 0).to_numpy(zero_copy_only=False)
    flat = pc.list_flatten(lists)
    fields = {field.name: field for field in flat.type}
    columns = {
        field.name: pc.struct_field(flat, field.name).cast(field.type)
        if field.name in fields
        else pa.nulls(len(flat), field.type)
        for field in _LABEL
    }
    for field in _LABEL:
        if pa.types.is_floating(field.type):
            columns[field.name] = _finite(columns[field.name])
    columns["passes"] = pc.fill_null(columns["passes"], False)
    encoded = pc.dictionary_encode(pc.fill_null(columns["name"], ""))
    columns["name"] = encoded.dictionary_decode()
    codes = encoded.indices.to_numpy(zero_copy_only=False)
    columns["best"] = pa.array(_best(np.repeat(np.arange(len(lengths)), lengths), codes, columns))
    names = set(encoded.dictionary.to_pylist())
    return pa.StructArray.from_arrays([columns[field.name] for field in _LABEL], fields=list(_LABEL)), lengths, names


def _best(rows: Any, codes: Any, columns: dict[str, Any]) -> Any:
    """One label of each name on an image: one that passes rather than not, then the most confident one."""
    confidence = pc.fill_null(columns["confidence"], -1.0).to_numpy(zero_copy_only=False)
    passes = columns["passes"].to_numpy(zero_copy_only=False)
    order = np.lexsort((-confidence, ~passes, codes, rows))
    is_first = np.ones(len(order), np.bool_)
    is_first[1:] = (np.diff(rows[order]) != 0) | (np.diff(codes[order]) != 0)
    best = np.zeros(len(order), np.bool_)
    best[order[is_first]] = True
    return best


def _finite(column: Any) -> Any:
    return pc.if_else(pc.is_finite(column), column, pa.scalar(None, column.type))


def _label_hashes(analysis: str, names: Any) -> Hashes:
    if not len(names):
        return np.empty(0, np.uint64)
    return hash_keys(pc.binary_join_element_wise(analysis, names, "\0"))
