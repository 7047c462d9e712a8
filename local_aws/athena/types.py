"""Trino's types: read from Glue's and SQL's spelling, written as Athena, DuckDB and Arrow call them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from local_aws.athena.errors import QueryError, not_supported


@dataclass(frozen=True)
class Type:
    """One type. `of`: element of an array, key and value of a map, fields of a row. `zone` of a timestamp with one."""

    name: str
    of: tuple[Type, ...] = ()
    names: tuple[str, ...] = ()
    numbers: tuple[int, ...] = ()
    zone: str = "UTC"

    def __str__(self) -> str:
        """As Trino writes it in messages and `typeof`."""
        if self.name in ("array", "map"):
            return f"{self.name}({', '.join(map(str, self.of))})"
        if self.name == "row":
            fields = (f"{name} {each}" if name else str(each) for name, each in zip(self.names, self.of, strict=True))
            return f"row({', '.join(fields)})"
        if self.name == "timestamp":
            return "timestamp(3)"
        if self.name == "timestamp with time zone":
            return "timestamp(3) with time zone"
        numbers = ",".join(map(str, self.numbers))
        return f"{self.name}({numbers})" if numbers else self.name

    @property
    def is_number(self) -> bool:
        """Whether it can be reckoned with."""
        return self.name in _NUMBERS or self.name == "decimal"

    @property
    def is_integer(self) -> bool:
        """Whether it is one of the four integers."""
        return self.name in INTEGERS

    @property
    def is_float(self) -> bool:
        """Whether it is real or double, which know NaN."""
        return self.name in ("real", "double")


UNKNOWN, BOOLEAN, VARCHAR, VARBINARY = Type("unknown"), Type("boolean"), Type("varchar"), Type("varbinary")
TINYINT, SMALLINT, INTEGER, BIGINT = Type("tinyint"), Type("smallint"), Type("integer"), Type("bigint")
REAL, DOUBLE, DATE, TIMESTAMP = Type("real"), Type("double"), Type("date"), Type("timestamp")
JSON, DAYS, MONTHS = Type("json"), Type("interval day to second"), Type("interval year to month")
ZONED = Type("timestamp with time zone")
INTEGERS = ("tinyint", "smallint", "integer", "bigint")
_NUMBERS = (*INTEGERS, "real", "double")
_DIGITS = {"tinyint": 3, "smallint": 5, "integer": 10, "bigint": 19}


def decimal(precision: int, scale: int) -> Type:
    """decimal(precision, scale), 38 digits at most."""
    return Type("decimal", numbers=(min(precision, 38), scale))


def array(of: Type) -> Type:
    """array(of)."""
    return Type("array", (of,))


def map_of(key: Type, value: Type) -> Type:
    """map(key, value)."""
    return Type("map", (key, value))


def row(names: tuple[str, ...], of: tuple[Type, ...]) -> Type:
    """row(name type, ...); unnamed fields have the name ''."""
    return Type("row", of, names)


def zoned(zone: str) -> Type:
    """timestamp with time zone, all in one zone."""
    return Type("timestamp with time zone", zone=zone)


def field_key(row_type: Type, index: int) -> str:
    """What a row's field is called in DuckDB and in a result file: its name, else `field0`, `field1`, ..."""
    return row_type.names[index] or f"field{index}"


# --- spelling ---------------------------------------------------------------------------------------------------------

_SPELLINGS = {
    "string": VARCHAR,
    "varchar": VARCHAR,
    "int": INTEGER,
    "integer": INTEGER,
    "bigint": BIGINT,
    "smallint": SMALLINT,
    "tinyint": TINYINT,
    "boolean": BOOLEAN,
    "double": DOUBLE,
    "float": REAL,
    "real": REAL,
    "date": DATE,
    "timestamp": TIMESTAMP,
    "timestamp with time zone": ZONED,
    "binary": VARBINARY,
    "varbinary": VARBINARY,
    "json": JSON,
    "unknown": UNKNOWN,
}
_TOKEN = re.compile(r"\s*([<>(),:]|\"[^\"]*\"|`[^`]*`|[^\s<>(),:]+)")


def parsed(text: str) -> Type:
    """A type from Glue's spelling (array<struct<a:int>>) or SQL's (array(row(a integer)))."""
    tokens = _TOKEN.findall(text.lower())
    found, rest = _parse(tokens, text)
    if rest:
        raise QueryError("HIVE_INVALID_METADATA", f"Error: type expected at '{rest[0]}' in '{text}'")
    return found


def _parse(tokens: list[str], text: str) -> tuple[Type, list[str]]:
    if not tokens:
        raise QueryError("HIVE_INVALID_METADATA", f"Error: type expected at the end of '{text}'")
    name, rest = tokens[0], tokens[1:]
    if name in ("array", "map") and rest[:1] in (["<"], ["("]):
        inner, rest = _parse_list(rest[1:], text)
        if len(inner) != (1 if name == "array" else 2):
            raise QueryError("HIVE_INVALID_METADATA", f"Error: {name} with {len(inner)} parameters in '{text}'")
        return Type(name, tuple(inner)), rest
    if name in ("struct", "row") and rest[:1] in (["<"], ["("]):
        return _parse_row(rest[1:], text)
    numbers: tuple[int, ...] = ()
    if rest[:1] == ["("]:
        end = rest.index(")")
        numbers = tuple(int(each) for each in rest[1:end] if each.isdigit())
        rest = rest[end + 1 :]
    if rest[:3] == ["with", "time", "zone"]:
        name, rest = f"{name} with time zone", rest[3:]
    if name in ("decimal", "numeric"):
        precision, scale = (list(numbers) + [38, 0][len(numbers) :])[:2]
        return decimal(precision, scale), rest
    if name not in _SPELLINGS:
        raise not_supported(f"know the type '{name}' in '{text}'")
    return _SPELLINGS[name], rest


def _parse_list(tokens: list[str], text: str) -> tuple[list[Type], list[str]]:
    found = []
    while True:
        one, tokens = _parse(tokens, text)
        found.append(one)
        if tokens[:1] != [","]:
            return found, tokens[1:]
        tokens = tokens[1:]


def _parse_row(tokens: list[str], text: str) -> tuple[Type, list[str]]:
    names, types = [], []
    while True:
        names.append(tokens[0].strip('"`'))
        tokens = tokens[2:] if tokens[1:2] == [":"] else tokens[1:]
        one, tokens = _parse(tokens, text)
        types.append(one)
        if tokens[:1] != [","]:
            return row(tuple(names), tuple(types)), tokens[1:]
        tokens = tokens[1:]


def hive(each: Type) -> str:
    """As Glue and Hive's DDL spell it."""
    if each.name == "array":
        return f"array<{hive(each.of[0])}>"
    if each.name == "map":
        return f"map<{hive(each.of[0])},{hive(each.of[1])}>"
    if each.name == "row":
        fields = (f"{field_key(each, n)}:{hive(of)}" for n, of in enumerate(each.of))
        return f"struct<{','.join(fields)}>"
    if each.name == "decimal":
        return f"decimal({each.numbers[0]},{each.numbers[1]})"
    names = {"varchar": "string", "integer": "int", "real": "float", "varbinary": "binary"}
    if each.name not in names and each.name not in _SPELLINGS or each.name in ("unknown", "json"):
        raise not_supported(f"store a column of the type {each}")
    if each.name == "timestamp with time zone":
        raise QueryError("NOT_SUPPORTED", "Unsupported Hive type: timestamp(3) with time zone")
    return names.get(each.name, each.name)


# --- DuckDB and Arrow -------------------------------------------------------------------------------------------------

_DUCKDB = {
    "unknown": "INTEGER",
    "real": "FLOAT",
    "varbinary": "BLOB",
    "timestamp with time zone": "TIMESTAMPTZ",
    "interval day to second": "INTERVAL",
    "interval year to month": "INTERVAL",
}


def duckdb(each: Type) -> str:
    """As DuckDB's SQL spells it."""
    if each.name == "array":
        return f"{duckdb(each.of[0])}[]"
    if each.name == "map":
        return f"MAP({duckdb(each.of[0])}, {duckdb(each.of[1])})"
    if each.name == "row":
        fields = (f"{quoted(field_key(each, n))} {duckdb(of)}" for n, of in enumerate(each.of))
        return f"STRUCT({', '.join(fields)})"
    if each.name == "decimal":
        return f"DECIMAL({each.numbers[0]}, {each.numbers[1]})"
    return _DUCKDB.get(each.name, each.name.upper())


def quoted(name: str) -> str:
    """A DuckDB identifier."""
    return '"' + name.replace('"', '""') + '"'


def text(value: str) -> str:
    """A DuckDB string literal."""
    return "'" + value.replace("'", "''") + "'"


def arrow(each: Type) -> Any:
    """The Arrow type with which DuckDB is handed values. Timestamps have no zone."""
    import pyarrow as pa

    if each.name == "array":
        return pa.list_(arrow(each.of[0]))
    if each.name == "map":
        return pa.map_(arrow(each.of[0]), arrow(each.of[1]))
    if each.name == "row":
        return pa.struct([pa.field(field_key(each, n), arrow(of)) for n, of in enumerate(each.of)])
    if each.name == "decimal":
        return pa.decimal128(*each.numbers)
    simple = {
        "boolean": pa.bool_(),
        "tinyint": pa.int8(),
        "smallint": pa.int16(),
        "integer": pa.int32(),
        "bigint": pa.int64(),
        "real": pa.float32(),
        "double": pa.float64(),
        "varchar": pa.string(),
        "varbinary": pa.binary(),
        "date": pa.date32(),
        "timestamp": pa.timestamp("us"),
    }
    return simple[each.name]


# --- coercion ---------------------------------------------------------------------------------------------------------


def common(left: Type, right: Type) -> Type | None:
    """The type that both are coerced to without a cast, None where there is none.

    https://trino.io/docs/current/language/types.html; TypeCoercion.java of Trino has the whole lattice.
    """
    if left == right or right.name == "unknown":
        return left
    if left.name == "unknown":
        return right
    if left.name == right.name and left.of:
        return _common_of_nested(left, right)
    if left.is_number and right.is_number:
        return _common_number(left, right)
    order = ("date", "timestamp", "timestamp with time zone")
    if left.name in order and right.name in order:
        if left.name == right.name:
            # Zones may differ: the values are the same instants, and there is one zone to show them in.
            raise not_supported("mix timestamps of different time zones in one expression")
        return max(left, right, key=lambda each: order.index(each.name))
    return None


def _common_of_nested(left: Type, right: Type) -> Type | None:
    if len(left.of) != len(right.of):
        return None
    of = [common(one, other) for one, other in zip(left.of, right.of, strict=True)]
    if any(each is None for each in of):
        return None
    names = tuple(one if one == other else "" for one, other in zip(left.names, right.names, strict=True))
    return Type(left.name, tuple(each for each in of if each), names)


def _common_number(left: Type, right: Type) -> Type:
    names = (left.name, right.name)
    if "double" in names:
        return DOUBLE
    if "real" in names:
        return REAL
    if "decimal" in names:
        one, other = as_decimal(left).numbers, as_decimal(right).numbers
        scale = max(one[1], other[1])
        return decimal(max(one[0] - one[1], other[0] - other[1]) + scale, scale)
    return max(left, right, key=lambda each: INTEGERS.index(each.name))


def as_decimal(each: Type) -> Type:
    """The decimal that holds every value of an integer type."""
    return each if each.name == "decimal" else decimal(_DIGITS[each.name], 0)


def leaves(each: Type, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """The paths of a type's leaves; `[]` stands for an element, `{}` for what is in a map."""
    if each.name == "row":
        for n, of in enumerate(each.of):
            yield from leaves(of, (*path, field_key(each, n)))
    elif each.name == "array":
        yield from leaves(each.of[0], (*path, "[]"))
    else:
        yield path


def pruned(each: Type, used: set[tuple[str, ...]]) -> Type:
    """The type with only those fields of rows that lie on a used path; () uses all."""
    if () in used:
        return each
    if each.name == "array":
        inner = {path[1:] for path in used if path[:1] == ("[]",)}
        return array(pruned(each.of[0], inner)) if inner else each
    if each.name == "row":
        kept = [
            (key, pruned(of, inner))
            for n, of in enumerate(each.of)
            if (inner := {path[1:] for path in used if path[0] == (key := field_key(each, n))})
        ]
        if not kept:
            # Only whether it is there matters: one leaf says so.
            kept = [(field_key(each, 0), pruned(each.of[0], {("",)}))]
        return row(tuple(key for key, _ in kept), tuple(of for _, of in kept))
    return each
