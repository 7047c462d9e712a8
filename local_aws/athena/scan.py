"""One place in a query where a table is read: which partitions, files, row groups and columns, and how many bytes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from local_aws.athena import files, types
from local_aws.athena.catalog import Catalog, Table
from local_aws.athena.errors import Cancelled, QueryError, not_supported
from local_aws.athena.parquet import read_parquet
from local_aws.athena.partitions import Partition, partitions
from local_aws.athena.pushdown import Bound
from local_aws.athena.storage import File, Storage
from local_aws.athena.types import Type
from local_aws.athena.values import Value

PATH = "$path"
_SYMLINKS = "SymlinkTextInputFormat"


@dataclass
class Meter:
    """What a query has read, and how much it may. `stop` is set from outside to end it."""

    cutoff: int | None = None
    bytes: int = 0
    reason: str = ""

    def add(self, count: int) -> None:
        """Count bytes; Cancelled past the workgroup's limit, or when the query was stopped."""
        self.check()
        self.bytes += count
        if self.cutoff is not None and self.bytes > self.cutoff:
            self.reason = "Bytes scanned limit was exceeded"
            raise Cancelled(self.reason)

    def check(self) -> None:
        """Cancelled when the query was stopped."""
        if self.reason:
            raise Cancelled(self.reason)


@dataclass
class Context:
    """What scans need of a query: where things are, when it began, and a DuckDB to evaluate filters with."""

    catalog: Catalog
    storage: Storage
    now: datetime
    meter: Meter
    connect: Callable[[], Any]
    error: BaseException | None = None


@dataclass
class Scan:
    """Reads a table once. `used`: the columns, and the parts of them, that the query needs."""

    table: Table
    alias: str
    context: Context
    used: set[tuple[str, ...]] = field(default_factory=set)
    filters: list[Value] = field(default_factory=list)
    bounds: list[Bound] = field(default_factory=list)

    @property
    def visible(self) -> list[tuple[str, Type]]:
        """Columns in the order of SELECT *: the partition columns are last."""
        return [*self.table.columns, *self.table.keys]

    def use(self, path: tuple[str, ...]) -> None:
        """Remember that a column, or a part of it, is needed."""
        self.used.add(path)

    def filter(self, value: Value, bounds: list[Bound]) -> None:
        """Remember a condition that every row which counts meets."""
        self.bounds += bounds
        keys = {name for name, _ in self.table.keys}
        if value.refs and {ref.path[0] for ref in value.refs} <= keys:
            self.filters.append(value)

    def render(self) -> str:
        """As FROM has it."""
        return f"scan_{self.alias} AS {self.alias}"

    def columns(self) -> list[tuple[str, Type]]:
        """The columns of the files that are read, of rows only the fields that are needed."""
        found = []
        for name, kind in self.table.columns:
            inner = {path[1:] for path in self.used if path[0] == name}
            if inner:
                found.append((name, types.pruned(kind, inner)))
        return found

    def schema(self) -> Any:
        """Arrow's schema of what DuckDB is handed; never without a column."""
        import pyarrow as pa

        fields = [pa.field(name, types.arrow(kind)) for name, kind in self.columns()]
        needed = {path[0] for path in self.used}
        fields += [pa.field(name, types.arrow(kind)) for name, kind in self.table.keys if name in needed]
        if PATH in needed:
            fields.append(pa.field(PATH, pa.string()))
        return pa.schema(fields or [pa.field("$rows", pa.bool_())])

    def reader(self) -> Any:
        """A stream of record batches. An error while it is read is kept in the context: DuckDB tells its text only."""
        import pyarrow as pa

        schema = self.schema()
        return pa.RecordBatchReader.from_batches(schema, self._guarded(schema))

    def _guarded(self, schema: Any) -> Iterator[Any]:
        try:
            yield from self._batches(schema)
        except BaseException as error:
            self.context.error = self.context.error or error
            raise

    def _batches(self, schema: Any) -> Iterator[Any]:
        chosen = self.partitions()
        listed = self.context.storage.files([each.location for each in chosen])
        keys = [name for name, _ in self.table.keys]
        for partition in chosen:
            values = {
                name: _key_value(self.table, name, kind, value)
                for (name, kind), value in zip(self.table.keys, partition.values, strict=True)
            }
            for file in self._files(listed[partition.location]):
                self.context.meter.check()
                for rows, columns in self._read(file):
                    constants = {**{key: values[key] for key in keys}, PATH: file.uri, "$rows": True}
                    yield _batch(schema, rows, columns, constants)

    def partitions(self) -> list[Partition]:
        """Those that the filters leave."""
        registered = self.context.catalog.partitions(self.table.database, self.table.name) if self.table.keys else []
        return partitions(self.table, registered, self.bounds, self._keep, self.context.now)

    def _keep(self, names: list[str], candidates: list[tuple[str, ...]]) -> list[tuple[str, ...]]:
        """Evaluate the filters that are about these columns alone, in DuckDB as the query itself does."""
        import pyarrow as pa

        filters = [each.sql for each in self.filters if {ref.path[0] for ref in each.refs} <= set(names)]
        if not filters or not candidates:
            return candidates
        kinds = dict(self.table.keys)
        columns: list[Any] = [pa.array(range(len(candidates)), pa.int64())]
        for n, name in enumerate(names):
            cells = [_key_value(self.table, name, kinds[name], each[n]) for each in candidates]
            columns.append(pa.array(cells, types.arrow(kinds[name])))
        connection = self.context.connect()
        connection.register("candidates", pa.table(columns, names=["$n", *names]))
        sql = f'SELECT {self.alias}."$n" FROM candidates AS {self.alias} WHERE {" AND ".join(filters)}'
        kept = {n for (n,) in connection.execute(sql.replace("\x03", "")).fetchall()}
        connection.unregister("candidates")
        return [each for n, each in enumerate(candidates) if n in kept]

    def _files(self, listed: list[File]) -> Iterator[File]:
        if _SYMLINKS not in self.table.input_format:
            yield from listed
            return
        for each in listed:
            for line in each.text().splitlines():
                if line.strip():
                    yield self.context.storage.file(line.strip())

    def _read(self, file: File) -> Iterator[tuple[int, dict[str, Any]]]:
        """(number of rows, columns) of a file, piece by piece."""
        serde = self.table.serde.lower()
        if file.length == 0:
            return
        if "parquet" in serde:
            yield from read_parquet(file, self.columns(), self.bounds, self.context.meter.add)
        elif "json" in serde:
            yield from files.read_json(file, self.columns(), self.context.meter.add)
        elif "lazysimple" in serde or "opencsv" in serde:
            yield from files.read_csv(file, self.table, self.columns(), self.context.meter.add)
        else:
            raise not_supported(f"read files with {self.table.serde or 'no SerDe'}")


def _key_value(table: Table, name: str, kind: Type, text: str) -> Any:
    """A partition's value, which is text, as its column's type."""
    import pyarrow as pa
    import pyarrow.compute as pc

    if text == "__HIVE_DEFAULT_PARTITION__":
        return None
    try:
        return pc.cast(pa.scalar(text), types.arrow(kind)).as_py()
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
        reason = f"Invalid partition value '{text}' for {kind} partition key: {name}"
        raise QueryError("HIVE_INVALID_PARTITION_VALUE", reason) from None


def _batch(schema: Any, rows: int, columns: dict[str, Any], constants: dict[str, Any]) -> Any:
    import pyarrow as pa

    arrays = []
    for each in schema:
        if each.name in columns:
            arrays.append(columns[each.name])
        else:
            arrays.append(pa.repeat(pa.scalar(constants[each.name], each.type), rows))
    return pa.RecordBatch.from_arrays(arrays, schema=schema)
