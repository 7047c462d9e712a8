"""Text files: JSON lines and CSV, read whole.

https://docs.aws.amazon.com/athena/latest/ug/supported-serdes.html
"""

from __future__ import annotations

import bz2
import csv
import gzip
import io
import json
from collections.abc import Callable, Iterator
from typing import Any

from local_aws.athena import types
from local_aws.athena.catalog import Table
from local_aws.athena.errors import QueryError, not_supported
from local_aws.athena.storage import File
from local_aws.athena.types import Type

Columns = list[tuple[str, Type]]
_ROWS = 8_192


def _text(file: File, count: Callable[[int], None]) -> str:
    """What a file holds; its name's ending says how it is compressed."""
    count(file.length)
    data = file.read()
    if file.uri.endswith(".gz"):
        data = gzip.decompress(data)
    elif file.uri.endswith(".bz2"):
        data = bz2.decompress(data)
    elif file.uri.endswith((".zst", ".snappy", ".lz4", ".deflate")):
        raise not_supported(f"decompress {file.uri}")
    return data.decode("utf-8", "replace")


def _pieces(rows: list[dict[str, Any]], columns: Columns, file: File) -> Iterator[tuple[int, dict[str, Any]]]:
    import pyarrow as pa

    for start in range(0, len(rows), _ROWS):
        piece = rows[start : start + _ROWS]
        try:
            found = {
                name: pa.array([_value(row.get(name), kind) for row in piece], types.arrow(kind))
                for name, kind in columns
            }
        except (pa.ArrowInvalid, pa.ArrowTypeError, ValueError, TypeError) as error:
            raise QueryError("HIVE_BAD_DATA", f"Error parsing field value in {file.uri}: {error}") from None
        yield len(piece), found


def _value(value: Any, kind: Type) -> Any:
    """A value of JSON, or text of CSV, as Arrow takes it."""
    import pyarrow as pa
    import pyarrow.compute as pc

    if value is None:
        return None
    if kind.name == "row":
        low = {str(key).lower(): each for key, each in value.items()}
        return {
            types.field_key(kind, n): _value(low.get(types.field_key(kind, n).lower()), of)
            for n, of in enumerate(kind.of)
        }
    if kind.name == "array":
        return [_value(each, kind.of[0]) for each in value]
    if kind.name == "map":
        return [(key, _value(each, kind.of[1])) for key, each in value.items()]
    if kind.name == "varchar":
        return value if isinstance(value, str) else json.dumps(value)
    if isinstance(value, str):
        return pc.cast(pa.scalar(value), types.arrow(kind)).as_py()
    return float(value) if kind.is_float else value


def read_json(file: File, columns: Columns, count: Callable[[int], None]) -> Iterator[tuple[int, dict[str, Any]]]:
    """One object a line. https://docs.aws.amazon.com/athena/latest/ug/openx-json-serde.html"""
    rows = []
    for line in _text(file, count).splitlines():
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except ValueError as error:
            reason = f"HiveJsonSerDe: Row is not a valid JSON Object - JSONException: {error}"
            raise QueryError("HIVE_CURSOR_ERROR", reason) from None
        if not isinstance(row, dict):
            raise QueryError("HIVE_CURSOR_ERROR", "Row is not a valid JSON Object")
        rows.append({str(key).lower(): value for key, value in row.items()})
    yield from _pieces(rows, columns, file)


def read_csv(
    file: File, table: Table, columns: Columns, count: Callable[[int], None]
) -> Iterator[tuple[int, dict[str, Any]]]:
    """Columns by place. LazySimpleSerDe does not unquote, OpenCSVSerDe does.

    https://docs.aws.amazon.com/athena/latest/ug/csv-serde.html, .../lazy-simple-serde.html
    """
    text, names, given = _text(file, count), [name for name, _ in table.columns], table.serde_parameters
    if any(kind.of for _, kind in columns):
        raise not_supported("read arrays, maps and structs from CSV")
    if "opencsv" in table.serde.lower():
        mark, quote = given.get("separatorChar", ","), given.get("quoteChar", '"')
        lines = list(
            csv.reader(io.StringIO(text), delimiter=mark, quotechar=quote, escapechar=given.get("escapeChar", "\\"))
        )
        null = None
    else:
        mark = given.get("field.delim", given.get("serialization.format", "\x01"))
        lines = [line.split(mark.encode().decode("unicode_escape")) for line in text.splitlines()]
        null = given.get("serialization.null.format", "\\N")
    lines = lines[int(table.parameters.get("skip.header.line.count", "0")) :]
    kinds = dict(table.columns)
    rows = [
        {
            name: None if cell == null or (cell == "" and kinds[name].name != "varchar") else _cell(cell, kinds[name])
            for name, cell in zip(names, line, strict=False)
        }
        for line in lines
    ]
    yield from _pieces(rows, columns, file)


def _cell(text: str, kind: Type) -> Any:
    """LazySimpleSerDe reads what is no number as null."""
    try:
        if kind.is_integer:
            return int(text)
        if kind.is_float:
            return float(text)
    except ValueError:
        return None
    return text
