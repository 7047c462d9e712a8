"""Queries whose rows go into files: CREATE TABLE AS, INSERT INTO and UNLOAD.

https://docs.aws.amazon.com/athena/latest/ug/ctas-insert-into.html, .../unload.html
"""

from __future__ import annotations

import io
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote

from local_aws.athena import types
from local_aws.athena.errors import QueryError, not_supported
from local_aws.athena.rendering import cell
from local_aws.athena.storage import Storage
from local_aws.athena.types import Type

# https://docs.aws.amazon.com/athena/latest/ug/ctas-considerations-limitations.html
MOST_PARTITIONS = 100
_COMPRESSION = {"GZIP": "gzip", "SNAPPY": "snappy", "ZSTD": "zstd", "NONE": "none", "UNCOMPRESSED": "none"}


@dataclass
class Writer:
    """Writes batches below a location: one file for each partition. `keys`: the last columns, which are in the path."""

    storage: Storage
    location: str
    format: str
    columns: list[tuple[str, Type]]
    keys: list[tuple[str, Type]]
    compression: str = ""
    delimiter: str = ","
    rows: int = 0
    _open: dict[tuple[str, ...], Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Refuse formats that are not written here."""
        if self.format not in ("PARQUET", "TEXTFILE"):
            raise not_supported(f"write {self.format}")
        if self.format == "PARQUET" and (self.compression or "GZIP").upper() not in _COMPRESSION:
            raise not_supported(f"compress Parquet with {self.compression}")
        if self.format == "TEXTFILE" and (self.compression or "GZIP").upper() not in ("NONE", "GZIP"):
            raise not_supported(f"compress text with {self.compression}")

    def write(self, batch: Any) -> None:
        """Add a batch: its columns by place."""
        import pyarrow as pa

        self.rows += batch.num_rows
        count = len(self.columns)
        for values, part in _parts(batch, count, self.keys):
            if values not in self._open:
                if len(self._open) >= MOST_PARTITIONS:
                    reason = f"Exceeded limit of {MOST_PARTITIONS} open writers for partitions/buckets"
                    raise QueryError("HIVE_TOO_MANY_OPEN_PARTITIONS", reason)
                self._open[values] = self._opened()
            arrays = [
                part.column(n).cast(types.arrow(kind))
                if kind.name != "timestamp"
                else part.column(n).cast(pa.timestamp("ms"))
                for n, (_, kind) in enumerate(self.columns)
            ]
            self._open[values].add(arrays)

    def _opened(self) -> Any:
        if self.format == "PARQUET":
            return _Parquet(self.columns, _COMPRESSION[(self.compression or "GZIP").upper()])
        return _Text(self.columns, self.delimiter, (self.compression or "GZIP").upper() == "GZIP")

    def close(self, name: Callable[[], str]) -> list[tuple[tuple[str, ...], str]]:
        """Write the files; (the partition's values, URI) of each."""
        written = []
        for values, file in self._open.items():
            path = "/".join(
                f"{key}={quote(value, safe=' ')}" for (key, _), value in zip(self.keys, values, strict=True)
            )
            uri = f"{self.location.rstrip('/')}/{path + '/' if path else ''}{name()}{file.ending}"
            self.storage.write(uri, file.finished())
            written.append((values, uri))
        return written


def _parts(batch: Any, count: int, keys: list[tuple[str, Type]]) -> Iterator[tuple[tuple[str, ...], Any]]:
    """A batch's rows by the values of its partition columns, as text."""
    import pyarrow as pa

    if not keys:
        yield (), batch
        return
    groups: dict[tuple[str, ...], list[int]] = {}
    columns = [batch.column(count + n).to_pylist() for n in range(len(keys))]
    for row, values in enumerate(zip(*columns, strict=True)):
        texts = (cell(value, kind) for value, (_, kind) in zip(values, keys, strict=True))
        named = tuple("__HIVE_DEFAULT_PARTITION__" if each is None else each for each in texts)
        groups.setdefault(named, []).append(row)
    for values, rows in groups.items():
        yield values, batch.take(pa.array(rows))


class _Parquet:
    ending = ""

    def __init__(self, columns: list[tuple[str, Type]], compression: str) -> None:
        import pyarrow as pa
        import pyarrow.parquet as pq

        fields = [
            pa.field(name, pa.timestamp("ms") if kind.name == "timestamp" else types.arrow(kind))
            for name, kind in columns
        ]
        self._schema = pa.schema(fields)
        self._buffer = io.BytesIO()
        self._writer = pq.ParquetWriter(self._buffer, self._schema, compression=compression)

    def add(self, arrays: list[Any]) -> None:
        import pyarrow as pa

        self._writer.write_batch(pa.RecordBatch.from_arrays(arrays, schema=self._schema))

    def finished(self) -> bytes:
        self._writer.close()
        return self._buffer.getvalue()


class _Text:
    """Fields without quotes, null as \\N, as LazySimpleSerDe reads them."""

    def __init__(self, columns: list[tuple[str, Type]], delimiter: str, zipped: bool) -> None:
        self._columns, self._delimiter, self._zipped = columns, delimiter, zipped
        self._lines: list[str] = []
        self.ending = ".gz" if zipped else ""

    def add(self, arrays: list[Any]) -> None:
        for row in zip(*(each.to_pylist() for each in arrays), strict=True):
            texts = (cell(value, kind) for value, (_, kind) in zip(row, self._columns, strict=True))
            self._lines.append(self._delimiter.join("\\N" if each is None else each for each in texts))

    def finished(self) -> bytes:
        import gzip

        data = "".join(f"{line}\n" for line in self._lines).encode()
        return gzip.compress(data) if self._zipped else data


def file_name(query_id: str) -> str:
    """As Athena names files: when, by which query, which of them."""
    return f"{query_id.replace('-', '_')[:20]}_{uuid.uuid4().hex[:5]}_{uuid.uuid4()}"
