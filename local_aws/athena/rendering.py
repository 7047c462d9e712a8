"""Values as text, as Athena writes them into result files."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from local_aws.athena import types
from local_aws.athena.types import Type


def java_double(value: float) -> str:
    """https://docs.oracle.com/en/java/javase/21/docs/api/java.base/java/lang/Double.html#toString(double)"""
    return _java(value, repr(float(value)))


def java_real(value: float) -> str:
    """As Java's Float.toString: the shortest digits that are this float and no other."""
    import numpy as np

    shortest: str = np.format_float_scientific(np.float32(value), unique=True)
    return _java(value, shortest)


def _java(value: float, shortest: str) -> str:
    if math.isnan(value):
        return "NaN"
    if math.isinf(value):
        return "Infinity" if value > 0 else "-Infinity"
    if value == 0:
        return "-0.0" if math.copysign(1, value) < 0 else "0.0"
    sign, significant, power = _digits(shortest)
    if 1e-3 <= abs(value) < 1e7:
        if power < 0:
            return f"{sign}0.{'0' * (-power - 1)}{significant}"
        padded = significant.ljust(power + 1, "0")
        return f"{sign}{padded[: power + 1]}.{padded[power + 1 :] or '0'}"
    return f"{sign}{significant[0]}.{significant[1:] or '0'}E{power}"


def _digits(shortest: str) -> tuple[str, str, int]:
    """Sign, digits that count, and the power of ten of the first of them."""
    digits, _, exponent = shortest.lower().partition("e")
    sign, digits = ("-", digits[1:]) if digits.startswith("-") else ("", digits)
    whole, _, fraction = digits.partition(".")
    power = int(exponent or 0) + len(whole) - 1
    significant = (whole + fraction).lstrip("0")
    power -= len(whole + fraction) - len(significant)
    return sign, significant.rstrip("0") or "0", power


def cast_double(value: float) -> str:
    """A double as CAST(... AS varchar) has it: 9.5E0, zero 0E0. DoubleOperators.castToVarchar of Trino."""
    return _scientific(value, repr(float(value)))


def cast_real(value: float) -> str:
    """A real as CAST(... AS varchar) has it, seven digits at most. RealOperators.castToVarchar."""
    return _scientific(value, f"{value:.6e}")


def _scientific(value: float, shortest: str) -> str:
    if math.isnan(value) or math.isinf(value):
        return _java(value, shortest)
    if value == 0:
        return "-0E0" if math.copysign(1, value) < 0 else "0E0"
    sign, significant, power = _digits(shortest)
    return f"{sign}{significant[0]}.{significant[1:] or '0'}E{power}"


def cell(value: Any, kind: Type) -> str | None:
    """A result's value as text; None for NULL."""
    if value is None:
        return None
    write = _WRITERS.get(kind.name)
    return write(value, kind) if write else str(value)


def _timestamp(value: datetime, kind: Type) -> str:
    return f"{value:%Y-%m-%d %H:%M:%S}.{value.microsecond // 1000:03d}"


def _zoned(value: datetime, kind: Type) -> str:
    local = value.astimezone(ZoneInfo(kind.zone)) if kind.zone != "UTC" else value.astimezone(UTC)
    return f"{_timestamp(local, kind)} {kind.zone}"


def _days(value: Any, kind: Type) -> str:
    """`2 03:00:00.000`"""
    if not isinstance(value, timedelta):
        months, days, nanos = value
        value = timedelta(days=months * 30 + days, microseconds=nanos // 1000)
    millis = round(value.total_seconds() * 1000)
    sign, millis = ("-", -millis) if millis < 0 else ("", millis)
    days, rest = divmod(millis, 86_400_000)
    hours, rest = divmod(rest, 3_600_000)
    minutes, rest = divmod(rest, 60_000)
    return f"{sign}{days} {hours:02d}:{minutes:02d}:{rest // 1000:02d}.{rest % 1000:03d}"


def _months(value: Any, kind: Type) -> str:
    """`1-2`: years and months."""
    months = value[0]
    sign, months = ("-", -months) if months < 0 else ("", months)
    return f"{sign}{months // 12}-{months % 12}"


def _nested(value: Any, kind: Type) -> str:
    found = cell(value, kind)
    return "null" if found is None else found


def _array(value: Any, kind: Type) -> str:
    return "[" + ", ".join(_nested(each, kind.of[0]) for each in value) + "]"


def _map(value: Any, kind: Type) -> str:
    pairs = value.items() if isinstance(value, dict) else value
    return "{" + ", ".join(f"{_nested(key, kind.of[0])}={_nested(each, kind.of[1])}" for key, each in pairs) + "}"


def _row(value: Any, kind: Type) -> str:
    keys = [types.field_key(kind, n) for n in range(len(kind.of))]
    return "{" + ", ".join(f"{key}={_nested(value[key], of)}" for key, of in zip(keys, kind.of, strict=True)) + "}"


def _bytes(value: bytes, kind: Type) -> str:
    """Pairs of hexadecimal digits with spaces between."""
    return value.hex(" ")


_WRITERS: dict[str, Callable[[Any, Type], str]] = {
    "boolean": lambda value, kind: "true" if value else "false",
    "double": lambda value, kind: java_double(value),
    "real": lambda value, kind: java_real(value),
    "timestamp": _timestamp,
    "timestamp with time zone": _zoned,
    "interval day to second": _days,
    "interval year to month": _months,
    "decimal": lambda value, kind: f"{value:f}",
    "array": _array,
    "map": _map,
    "row": _row,
    "varbinary": _bytes,
    "json": lambda value, kind: json.dumps(json.loads(value), separators=(",", ":")) if value else value,
}

# Precision as Athena gives it in ColumnInfo.
_PRECISIONS = {
    "boolean": 0,
    "tinyint": 3,
    "smallint": 5,
    "integer": 10,
    "bigint": 19,
    "real": 17,
    "double": 17,
    "varchar": 2147483647,
    "varbinary": 1073741824,
    "timestamp": 3,
    "timestamp with time zone": 3,
}


def column_info(name: str, kind: Type) -> dict[str, Any]:
    """A column in ResultSetMetadata. https://docs.aws.amazon.com/athena/latest/APIReference/API_ColumnInfo.html"""
    precision, scale = kind.numbers if kind.name == "decimal" else (_PRECISIONS.get(kind.name, 0), 0)
    return {
        "CatalogName": "hive",
        "SchemaName": "",
        "TableName": "",
        "Name": name,
        "Label": name,
        "Type": {"real": "float"}.get(kind.name, kind.name),
        "Precision": precision,
        "Scale": scale,
        "Nullable": "UNKNOWN",
        "CaseSensitive": kind.name == "varchar",
    }


def csv_lines(rows: Iterator[list[str | None]]) -> Iterator[bytes]:
    """Every field in quotes, NULL an empty field without."""
    for row in rows:
        fields = ("" if each is None else '"' + each.replace('"', '""') + '"' for each in row)
        yield (",".join(fields) + "\n").encode()
