"""Parquet files of ``image_labels`` into one, sorted, in bounded memory.

Athena's documentation asks for row groups of 128 MB and for rows that are sorted by what queries look for
(https://docs.aws.amazon.com/athena/latest/ug/performance-tuning-data-optimization-techniques.html): within a day that is the
image. More than a row group's worth goes through temporary files, so that a day of millions of images needs no more memory
than one of thousands.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from include.schema import IMAGE_LABELS

ROW_GROUP_BYTES: Final = 128 * 1024**2  # encoded, before compression, as Parquet counts it
# In memory, where labels without boxes take eight times as much; sorting takes some times that.
GROUP_IN_MEMORY_BYTES: Final = 256 * 1024**2
SORTED_BY: Final = ("source_bucket", "source_key", "event_time")
# Names from which the bounds between row groups are taken: enough for groups of nearly the same size.
SAMPLED_NAMES: Final = 200_000
_ORDER: Final = [(name, "ascending") for name in SORTED_BY]


def read_rows(file: Path) -> pa.Table:
    """A file's rows in today's schema: what an older version did not know is null.

    :raises ValueError: columns, or fields of labels, that this version does not know, which it would drop.
    :raises pa.ArrowException, OSError: no Parquet, or not of ``image_labels``.
    """
    table = pq.ParquetFile(file).read(use_threads=False)
    names = _names_of(table.schema)
    if unknown := names - _names_of(IMAGE_LABELS):
        raise ValueError(f"it has columns that are not known here, or twice: {', '.join(sorted(unknown.elements()))}")
    if not {"source_bucket", "source_key", "batch_id"} <= names.keys():
        raise ValueError("it has no source_bucket, source_key or batch_id")
    columns = [
        table[field.name].cast(field.type)
        if field.name in table.column_names
        else pa.chunked_array([pa.nulls(table.num_rows, field.type)])
        for field in IMAGE_LABELS
    ]
    return pa.Table.from_arrays(columns, schema=IMAGE_LABELS)


def _names_of(fields: Iterable[pa.Field], prefix: str = "") -> Counter[str]:
    """Columns and fields of structs, with how often there are such ones."""
    names: Counter[str] = Counter()
    for field in fields:
        names[prefix + field.name] += 1
        kind = getattr(field.type, "value_type", field.type)  # of a list, what is in it
        if pa.types.is_struct(kind):
            names += _names_of(kind, f"{prefix}{field.name}.")
    return names


def merge_files(files: Sequence[Path], target: Path, *, folder: Path, metadata: dict[bytes, bytes]) -> Counter[str]:
    """Write the rows of all files into one; the rows of each batch.

    :param folder: for temporary files: as much again as the rows take uncompressed.
    :param metadata: of the schema, in the file's footer.
    """
    schema = IMAGE_LABELS.with_metadata(metadata)
    written: Counter[str] = Counter()
    with pq.ParquetWriter(
        target,
        schema,
        compression="zstd",
        write_page_index=True,  # so that a reader skips pages, too
        sorting_columns=pq.SortingColumn.from_ordering(schema, _ORDER),
    ) as writer:
        for group in _in_order(files, folder):
            writer.write_table(group.replace_schema_metadata(metadata), row_group_size=max(1, group.num_rows))
            written.update(rows_of_batches(group))
    return written


def rows_of_batches(table: pa.Table) -> Counter[str]:
    """How many rows each batch has."""
    counted = pc.value_counts(table["batch_id"])
    return Counter({each["values"]: each["counts"] for each in counted.to_pylist()})


def _in_order(files: Sequence[Path], folder: Path) -> Iterator[pa.Table]:
    """All rows, sorted, a row group's worth at a time."""
    groups = max(
        -(-sum(_encoded_bytes(file) for file in files) // ROW_GROUP_BYTES),
        -(-sum(read_rows(file).nbytes for file in files) // GROUP_IN_MEMORY_BYTES),
    )
    if groups <= 1:
        yield pa.concat_tables([read_rows(file) for file in files]).sort_by(_ORDER)
        return
    bounds = _bounds(files, groups)
    parts = [folder / f"{number}.arrow" for number in range(len(bounds) + 1)]
    with ExitStack() as open_parts:
        writers = [open_parts.enter_context(pa.ipc.new_stream(str(part), IMAGE_LABELS)) for part in parts]
        for file in files:
            rows = read_rows(file).sort_by(_ORDER)
            cuts = [0, *np.searchsorted(_names(rows), bounds, side="right").tolist(), rows.num_rows]
            for writer, start, end in zip(writers, cuts[:-1], cuts[1:], strict=True):
                writer.write_table(rows.slice(start, end - start))
    for part in parts:
        with pa.OSFile(str(part)) as stream:
            yield pa.ipc.open_stream(stream).read_all().sort_by(_ORDER)
        part.unlink()


def _encoded_bytes(file: Path) -> int:
    metadata = pq.read_metadata(file)
    return sum(metadata.row_group(number).total_byte_size for number in range(metadata.num_row_groups))


def _bounds(files: Sequence[Path], groups: int) -> Any:
    """Names that cut the sorted rows into so many parts of about the same size."""
    total = sum(pq.read_metadata(file).num_rows for file in files)
    step = max(1, total // SAMPLED_NAMES)
    sample = [_names(pq.ParquetFile(file).read(columns=list(SORTED_BY[:2])))[::step] for file in files]
    names = np.sort(np.concatenate(sample))
    return np.unique(names[np.arange(1, groups) * len(names) // groups])


def _names(rows: pa.Table) -> Any:
    """Bucket and key of each row, which sort as both together do."""
    joined = pc.binary_join_element_wise(
        pc.fill_null(rows["source_bucket"], ""), pc.fill_null(rows["source_key"], ""), "\0"
    )
    return joined.to_numpy(zero_copy_only=False)
