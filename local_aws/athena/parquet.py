"""Parquet files: columns by name, as few bytes as will do, values as Trino reads them.

https://docs.aws.amazon.com/athena/latest/ug/handling-schema-updates-chapter.html
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import date, datetime, timedelta
from typing import Any

from local_aws.athena import types
from local_aws.athena.errors import QueryError
from local_aws.athena.pushdown import Bound
from local_aws.athena.storage import File
from local_aws.athena.types import Type

Columns = list[tuple[str, Type]]
_ROWS = 32_768


def read_parquet(
    file: File, columns: Columns, bounds: list[Bound], count: Callable[[int], None]
) -> Iterator[tuple[int, dict[str, Any]]]:
    """(rows, column arrays) of a file, batch by batch. `count` is told the compressed bytes that Athena would read."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        opened = pq.ParquetFile(pa.PythonFile(file, mode="r"))
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError, OSError) as error:
        raise _unreadable(file, error) from None
    given = {name.lower(): n for n, name in reversed(list(enumerate(opened.schema_arrow.names)))}
    present = [(name, kind, given[name]) for name, kind in columns if name in given]
    wanted = _leaves(opened, present, file)
    billed = _billed(opened, wanted)
    groups = [n for n in range(opened.num_row_groups) if _may_hold(opened.metadata.row_group(n), opened, bounds)]
    for group in groups:
        described = opened.metadata.row_group(group)
        count(sum(described.column(n).total_compressed_size for n in billed))
        if not wanted:
            yield from _only_rows(described.num_rows, columns)
            continue
        paths = [described.column(n).path_in_schema for n in wanted]
        try:
            for batch in opened.iter_batches(_ROWS, row_groups=[group], columns=paths, use_threads=False):
                yield batch.num_rows, _columns(batch, columns, given, file, opened)
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError, OSError) as error:
            raise _unreadable(file, error) from None


def _unreadable(file: File, error: Exception) -> QueryError:
    if isinstance(error.__context__, QueryError):
        return error.__context__
    reason = f"Error opening Hive split {file.uri} (offset=0, length={file.length}): Not valid Parquet file: {file.uri}"
    return QueryError(
        "HIVE_CANNOT_OPEN_SPLIT" if "magic" in str(error) else "HIVE_BAD_DATA", f"{reason} {str(error)[:200]}"
    )


def _only_rows(rows: int, columns: Columns) -> Iterator[tuple[int, dict[str, Any]]]:
    """Rows of which no column is in the file."""
    import pyarrow as pa

    for start in range(0, rows, _ROWS):
        size = min(_ROWS, rows - start)
        yield size, {name: pa.nulls(size, types.arrow(kind)) for name, kind in columns}


def _leaves(opened: Any, present: list[tuple[str, Type, int]], file: File) -> list[int]:
    """The numbers of the file's leaf columns that are read."""
    wanted: list[int] = []
    fields, first = opened.schema_arrow, 0
    starts = []
    for each in fields:
        starts.append(first)
        first += _width(each.type)
    for name, kind, n in present:
        found = _matching(kind, fields[n].type, starts[n])
        if found is None:
            raise _mismatch(file, name, kind, _physical(opened, starts[n], fields[n].type))
        wanted += found
    return sorted(wanted)


def _billed(opened: Any, wanted: list[int]) -> list[int]:
    """What Trino reads for these leaves: a column with an array or map whole, since it drops no field of the rows in one.

    https://github.com/trinodb/trino/issues/3925
    """
    leaves = [opened.schema.column(n) for n in range(len(opened.schema))]
    whole = {leaves[n].path.split(".")[0] for n in wanted if leaves[n].max_repetition_level}
    return [n for n, leaf in enumerate(leaves) if n in wanted or leaf.path.split(".")[0] in whole]


def _width(kind: Any) -> int:
    import pyarrow as pa

    if pa.types.is_struct(kind):
        return sum(_width(each.type) for each in kind)
    if pa.types.is_map(kind):
        return _width(kind.key_type) + _width(kind.item_type)
    return _width(kind.value_type) if _is_list(kind) else 1


def _is_list(kind: Any) -> bool:
    import pyarrow as pa

    return bool(pa.types.is_list(kind) or pa.types.is_large_list(kind))


def _matching(kind: Type, stored: Any, start: int) -> list[int] | None:
    """Leaves of a file's column that a table's type reads; None where it cannot."""
    import pyarrow as pa

    if kind.name == "row":
        return _matching_row(kind, stored, start) if pa.types.is_struct(stored) else None
    if kind.name == "array":
        return _matching(kind.of[0], stored.value_type, start) if _is_list(stored) else None
    if kind.name == "map":
        if not pa.types.is_map(stored):
            return None
        key = _matching(kind.of[0], stored.key_type, start)
        value = _matching(kind.of[1], stored.item_type, start + _width(stored.key_type))
        return None if key is None or value is None else key + value
    return [start] if _reads(kind, stored) else None


def _matching_row(kind: Type, stored: Any, start: int) -> list[int] | None:
    wanted = dict(zip((name.lower() for name in kind.names), kind.of, strict=True))
    found: list[int] = []
    for each in stored:
        if each.name.lower() in wanted:
            inner = _matching(wanted[each.name.lower()], each.type, start)
            if inner is None:
                return None
            found += inner
        start += _width(each.type)
    # A struct of which no wanted field is stored is still there, or null: its first leaf says which.
    return found or [start - sum(_width(each.type) for each in stored)]


def _reads(kind: Type, stored: Any) -> bool:
    """Whether Trino's Parquet reader turns the stored type into the table's."""
    import pyarrow as pa

    is_ = pa.types
    if kind.is_integer:
        sizes = {"tinyint": 8, "smallint": 16, "integer": 32, "bigint": 64}
        return bool(is_.is_signed_integer(stored) and (stored.bit_width <= sizes[kind.name] or stored.bit_width <= 32))
    checks: dict[str, Callable[[Any], bool]] = {
        "boolean": is_.is_boolean,
        "double": is_.is_floating,
        "real": is_.is_float32,
        "varchar": lambda each: is_.is_string(each) or is_.is_large_string(each) or is_.is_binary(each),
        "varbinary": lambda each: is_.is_binary(each) or is_.is_fixed_size_binary(each) or is_.is_string(each),
        "date": is_.is_date,
        "timestamp": is_.is_timestamp,
        "decimal": lambda each: is_.is_decimal(each) and each.scale <= kind.numbers[1],
    }
    return bool(checks[kind.name](stored))


def _physical(opened: Any, leaf: int, stored: Any) -> str:
    import pyarrow as pa

    if pa.types.is_nested(stored):
        return "group"
    return str(opened.schema.column(leaf).physical_type)


def _mismatch(file: File, name: str, kind: Type, stored: str) -> QueryError:
    reason = f"Field {name}'s type {stored} in parquet file {file.uri} is incompatible with type {kind} defined in table schema"
    return QueryError("HIVE_BAD_DATA", reason)


def _columns(batch: Any, columns: Columns, given: dict[str, int], file: File, opened: Any) -> dict[str, Any]:
    import pyarrow as pa

    stored = {name.lower(): n for n, name in reversed(list(enumerate(batch.schema.names)))}
    found = {}
    for name, kind in columns:
        if name in stored:
            try:
                found[name] = converted(batch.column(stored[name]), kind)
            except pa.ArrowInvalid as error:
                raise QueryError("HIVE_BAD_DATA", f"{file.uri}: column {name}: {str(error)[:200]}") from None
        else:
            found[name] = pa.nulls(batch.num_rows, types.arrow(kind))
    return found


def converted(values: Any, kind: Type) -> Any:
    """An array as the table's type: fields by name, what a file lacks is null, times in UTC to the millisecond."""
    import pyarrow as pa
    import pyarrow.compute as pc

    wanted = types.arrow(kind)
    if values.type.equals(wanted) and kind.name != "timestamp" and not kind.of:
        return values
    if kind.name == "row":
        return _converted_row(values, kind)
    if kind.name == "array":
        inner = converted(values.values, kind.of[0])
        made = pa.LargeListArray if pa.types.is_large_list(values.type) else pa.ListArray
        rebuilt = _rebuilt(made, values, inner)
        return rebuilt.cast(wanted) if made is pa.LargeListArray else rebuilt
    if kind.name == "map":
        return values.cast(wanted)
    if kind.name == "timestamp":
        unit = values.type.unit
        naive = values.cast(pa.timestamp(unit)) if values.type.tz else values
        if unit in ("us", "ns"):
            naive = pc.round_temporal(naive, unit="millisecond")
        return naive.cast(wanted)
    if kind.name == "double" and pa.types.is_float16(values.type):
        values = values.cast(pa.float32())
    return values.cast(wanted)


def _rebuilt(made: Any, values: Any, inner: Any) -> Any:
    import pyarrow as pa

    offsets = values.offsets
    if values.null_count == 0:
        return made.from_arrays(offsets, inner)
    return made.from_arrays(offsets, inner, mask=pa.array(values.is_null()))


def _converted_row(values: Any, kind: Type) -> Any:
    import pyarrow as pa

    stored = {each.name.lower(): n for n, each in reversed(list(enumerate(values.type)))}
    cells = []
    for n, of in enumerate(kind.of):
        key = types.field_key(kind, n)
        if key.lower() in stored:
            # `field` knows of a slice, and leaves the parent's nulls to the mask.
            cells.append(converted(values.field(stored[key.lower()]), of))
        else:
            cells.append(pa.nulls(len(values), types.arrow(of)))
    fields = [pa.field(types.field_key(kind, n), types.arrow(of)) for n, of in enumerate(kind.of)]
    mask = pa.array(values.is_null()) if values.null_count else None
    return pa.StructArray.from_arrays(cells, fields=fields, mask=mask)


# --- row groups -------------------------------------------------------------------------------------------------------


def _may_hold(group: Any, opened: Any, bounds: list[Bound]) -> bool:
    """False where a column's least and greatest value rule a row group out."""
    by_name = {}
    for n in range(group.num_columns):
        path = group.column(n).path_in_schema
        if "." not in path:
            by_name[path.lower()] = n
    for each in bounds:
        if each.column in by_name:
            statistics = group.column(by_name[each.column]).statistics
            # A real is compared as what the other side is, real or double: that is not known here.
            known = statistics is not None and statistics.has_min_max and statistics.physical_type != "FLOAT"
            if known and not _overlaps(each, statistics.min, statistics.max):
                return False
    return True


def _overlaps(bound: Bound, least: Any, most: Any) -> bool:
    if isinstance(least, datetime):
        # What is read is rounded to milliseconds.
        least, most = least - timedelta(milliseconds=1), most + timedelta(milliseconds=1)
    values = [_like(each, least) for each in bound.values]
    if any(each is None for each in values):
        return True
    tests: dict[str, Callable[[Any], bool]] = {
        "=": lambda value: bool(least <= value <= most),
        "in": lambda value: bool(least <= value <= most),
        "<": lambda value: bool(least < value),
        "<=": lambda value: bool(least <= value),
        ">": lambda value: bool(most > value),
        ">=": lambda value: bool(most >= value),
    }
    return any(tests[bound.sign](each) for each in values)


def _like(value: Any, sample: Any) -> Any:
    """A literal's value as the statistics have theirs; None where they cannot be compared."""
    if isinstance(sample, bool) or isinstance(value, bool):
        return value if type(sample) is type(value) else None
    if isinstance(sample, int | float) and isinstance(value, int | float):
        # Beyond, a double does not tell one whole number from the next.
        return value if type(sample) is type(value) or abs(value) < 2**53 else None
    if isinstance(sample, str) and isinstance(value, str):
        return value
    if isinstance(sample, bytes) and isinstance(value, str):
        return value.encode()
    if isinstance(sample, date) and isinstance(value, str):
        try:
            found = datetime.fromisoformat(value.strip())
        except ValueError:
            return None
        if isinstance(sample, datetime):
            return found.replace(tzinfo=sample.tzinfo)
        return found.date() if found == datetime(found.year, found.month, found.day) else None  # noqa: DTZ001
    return None
