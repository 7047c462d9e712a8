"""The answer of a saved query, kept in the final bucket: CSV as Athena wrote it, and Parquet with the columns' types."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final

import pyarrow as pa
import pyarrow.parquet as pq

from include import layout
from include.queries import athena
from include.queries.athena import Done
from include.settings import Settings

ROW_GROUP_PAGES: Final = 100  # of up to 1,000 rows
HEAD_ROWS: Final = 20


@dataclass(frozen=True, slots=True)
class Kept:
    """Where an answer lies, how many rows it has, and the first of them."""

    csv_key: str
    parquet_key: str
    rows: int
    head: pa.RecordBatch


def keep_answer(client: Any, s3: Any, settings: Settings, done: Done, *, day: str, run_id: str) -> Kept:
    """Keep the rows of a query that succeeded; again, it writes the same again.

    :param day: the run's, ``YYYY-MM-DD``.
    """
    keys = {suffix: layout.answer(done.name, day=day, run_id=run_id, suffix=suffix) for suffix in ("csv", "parquet")}
    bucket, _, key = done.location.removeprefix("s3://").partition("/")
    s3.copy({"Bucket": bucket, "Key": key}, settings.final_bucket, keys["csv"])
    with tempfile.NamedTemporaryFile(suffix=".parquet") as file:
        rows, head = _write(file.name, athena.batches(client, done.query_id))
        s3.upload_file(file.name, settings.final_bucket, keys["parquet"])
    return Kept(keys["csv"], keys["parquet"], rows, head)


def _write(path: str, batches: Iterable[pa.RecordBatch]) -> tuple[int, pa.RecordBatch]:
    """A page at a time: an answer may be larger than memory."""
    each = iter(batches)
    first = next(each)
    rows, pages = 0, [first]
    with pq.ParquetWriter(path, first.schema, compression="zstd") as writer:
        while pages:
            group = pa.Table.from_batches(pages)
            writer.write_table(group)
            rows += group.num_rows
            pages = [page for _, page in zip(range(ROW_GROUP_PAGES), each, strict=False)]
    return rows, first.slice(0, HEAD_ROWS)
