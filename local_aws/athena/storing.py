"""CREATE TABLE AS, INSERT INTO and UNLOAD: the statements whose rows go into files.

https://docs.aws.amazon.com/athena/latest/ug/ctas.html, .../insert-into.html, .../unload.html
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from local_aws.athena import ddl, types, writing
from local_aws.athena.errors import QueryError, not_supported
from local_aws.athena.queries import Query, named_columns
from local_aws.athena.results import Result
from local_aws.athena.types import Type
from local_aws.athena.words import Words

if TYPE_CHECKING:
    from local_aws.athena.engine import Engine


def _written(
    on: Engine, query: Query, batches: Iterator[Any], writer: writing.Writer
) -> list[tuple[tuple[str, ...], str]]:
    for batch in batches:
        writer.write(batch)
    on.meter.check()
    return writer.close(lambda: writing.file_name(on.query_id))


def create_as(on: Engine, sql: str) -> Result:
    words = Words(sql)
    words.expect("CREATE", "TABLE")
    lenient = words.accept("IF", "NOT", "EXISTS")
    database, name = words.table(on.database)
    given = _options(words.enclosed()) if words.accept("WITH") else {}
    words.expect("AS")
    if given.pop("table_type", "HIVE") != "HIVE" or "bucketed_by" in given:
        raise not_supported("make Iceberg tables, or buckets")
    body, no_data = re.subn(r"(?i)\s+WITH\s+NO\s+DATA\s*$", "", words.rest())
    if any(each["Name"].lower() == name for each in on.catalog.tables(database)):
        if lenient:
            return Result()
        raise QueryError(
            "TABLE_ALREADY_EXISTS", f"line 1:1: Destination table 'awsdatacatalog.{database}.{name}' already exists"
        )
    location = _text(given.pop("external_location", "")) or f"{on.output.rstrip('/')}/tables/{on.query_id}/"
    query, batches = on.analysed(body, on.database)
    columns = [(each.lower(), kind) for each, kind in named_columns(query)]
    writer = _writer(on, location, columns, given)
    files = [] if no_data else _written(on, query, batches, writer)
    inputs, outputs, serde = ddl.FORMATS[writer.format]
    parameters = (
        {"field.delim": writer.delimiter, "serialization.format": writer.delimiter}
        if writer.format == "TEXTFILE"
        else {}
    )
    on.catalog.create_table(
        database,
        ddl.table_input(
            name, _glue(writer.columns), _glue(writer.keys), location, inputs, outputs, serde, parameters, {}
        ),
    )
    for values, uri in files:
        if values:
            on.catalog.add_partition(database, name, list(values), uri.rpartition("/")[0])
    return Result(update_count=writer.rows, output=location, manifest=[uri for _, uri in files])


def _writer(on: Engine, location: str, columns: list[tuple[str, Type]], given: dict[str, Any]) -> writing.Writer:
    """Where a query's rows go, which must be an empty place; `given` are the options of WITH."""
    keys = [each.lower() for each in given.pop("partitioned_by", [])]
    if keys and [name for name, _ in columns[-len(keys) :]] != keys:
        raise QueryError(
            "HIVE_COLUMN_ORDER_MISMATCH",
            "Partition keys must be the last columns in the table and in the same order",
        )
    if on.storage.files([location])[location]:
        raise QueryError("HIVE_PATH_ALREADY_EXISTS", f"Target directory for table already exists: {location}")
    form = _text(given.pop("format", "PARQUET")).upper()
    compression = _text(given.pop("write_compression", given.pop("compression", given.pop("parquet_compression", ""))))
    delimiter = _text(given.pop("field_delimiter", "\x01"))
    unknown = set(given) - {"is_external"}
    if unknown:
        raise not_supported(f"know the option {', '.join(sorted(unknown))}")
    head = columns[: len(columns) - len(keys)]
    for _, kind in columns:
        types.hive(kind)
    return writing.Writer(on.storage, location, form, head, columns[len(head) :], compression, delimiter)


def unload(on: Engine, sql: str) -> Result:
    words = Words(sql)
    words.expect("UNLOAD")
    body = words.enclosed()
    words.expect("TO")
    location = words.string()
    words.expect("WITH")
    given = _options(words.enclosed())
    words.done()
    query, batches = on.analysed(body, on.database)
    writer = _writer(on, location, [(name.lower(), kind) for name, kind in named_columns(query)], given)
    files = _written(on, query, batches, writer)
    return Result(update_count=writer.rows, output=location, manifest=[uri for _, uri in files])


def insert(on: Engine, sql: str) -> Result:
    words = Words(sql)
    words.expect("INSERT", "INTO")
    database, name = words.table(on.database)
    is_list = words.peek() == "(" and words.peek(1) not in ("SELECT", "WITH", "(", "VALUES")
    given = [each.strip().strip('"`').lower() for each in words.enclosed().split(",")] if is_list else []
    table = on.catalog.table("", database, name)
    if table.view_sql:
        raise QueryError("NOT_SUPPORTED", "Inserting into views is not supported")
    columns = [*table.columns, *table.keys]
    query, batches = on.analysed(words.rest(), on.database)
    target = _inserted(query, columns, given or [each for each, _ in columns])
    form = {"parquet": "PARQUET", "lazysimple": "TEXTFILE"}.get(
        next((each for each in ("parquet", "lazysimple") if each in table.serde.lower()), ""), table.serde
    )
    if "Symlink" in table.input_format:
        raise QueryError("NOT_SUPPORTED", "Inserting into a table of symbolic links is not supported")
    mark = table.serde_parameters.get("field.delim", "\x01")
    writer = writing.Writer(on.storage, table.location, form, table.columns, table.keys, "", mark)
    for batch in batches:
        writer.write(_arranged(batch, target))
    files = writer.close(lambda: writing.file_name(on.query_id))
    for values, uri in files:
        if values and table.parameters.get("projection.enabled", "").lower() != "true":
            on.catalog.add_partition(database, name, list(values), uri.rpartition("/")[0])
    return Result(update_count=writer.rows, manifest=[uri for _, uri in files])


def _glue(columns: list[tuple[str, Type]]) -> list[dict[str, str]]:
    return [{"Name": name, "Type": types.hive(kind)} for name, kind in columns]


def _options(text: str) -> dict[str, Any]:
    """name = 'text' | ARRAY['a', 'b'] | true | 1, ..."""
    found: dict[str, Any] = {}
    words = Words(text)
    while not words.is_done:
        name = words.name()
        words.expect("=")
        if words.accept("ARRAY", "["):
            found[name] = []
            while not words.accept("]"):
                found[name].append(words.string())
                words.accept(",")
        else:
            found[name] = words.scalar()
        words.accept(",")
    return found


def _text(value: Any) -> str:
    return str(value)


def _inserted(query: Query, columns: list[tuple[str, Type]], names: list[str]) -> list[tuple[int | None, Type]]:
    """For each of the table's columns, which of the query's it is, and the type; TYPE_MISMATCH."""
    if len(query.outputs) != len(names) or set(names) - {name for name, _ in columns}:
        given = ", ".join(str(each.value.type) for each in query.outputs)
        table = ", ".join(str(kind) for _, kind in columns)
        reason = f"line 1:1: Insert query has mismatched column types: Table: [{table}], Query: [{given}]"
        raise QueryError("TYPE_MISMATCH", reason)
    target: list[tuple[int | None, Type]] = []
    for name, kind in columns:
        n = names.index(name) if name in names else None
        if n is not None and types.common(query.outputs[n].value.type, kind) != kind:
            reason = f"line 1:1: Insert query has mismatched column types: {name} is {kind}, not {query.outputs[n].value.type}"
            raise QueryError("TYPE_MISMATCH", reason)
        target.append((n, kind))
    return target


def _arranged(batch: Any, target: list[tuple[int | None, Type]]) -> Any:
    import pyarrow as pa

    arrays = [
        pa.nulls(batch.num_rows, types.arrow(kind)) if n is None else batch.column(n).cast(types.arrow(kind))
        for n, kind in target
    ]
    return pa.RecordBatch.from_arrays(arrays, names=[f"c{n}" for n in range(len(arrays))])
