"""CAST, as strict as Trino's. https://trino.io/docs/current/functions/conversion.html"""

from __future__ import annotations

from dataclasses import replace

from local_aws.athena import types
from local_aws.athena.errors import QueryError, not_supported
from local_aws.athena.types import BOOLEAN, DATE, DOUBLE, REAL, TIMESTAMP, UNKNOWN, VARCHAR, Type
from local_aws.athena.values import Value, cast, composed, failing

_INTEGER = r"[+-]?\d+"
_DATE = r"\s*[+-]?\d{1,6}-\d{1,2}-\d{1,2}\s*"
_CLOCK = r"\d{1,2}:\d{2}(:\d{2}(\.\d{1,6})?)?"
_TIMESTAMP = rf"\s*\d{{4}}-\d{{1,2}}-\d{{1,2}}( {_CLOCK})?\s*"
_OTHER_ZONE = r"^\s*\d{4}-\d{1,2}-\d{1,2} [\d:.]+ ?[A-Za-z+-]"
_ZONED = rf"\s*\d{{4}}-\d{{1,2}}-\d{{1,2}}( {_CLOCK})?( ?(UTC|Z|[+-]00:00))?\s*"


def explicit(value: Value, to: Type, at: str) -> Value:
    """CAST(value AS to); TYPE_MISMATCH where Trino has no such cast."""
    if to.name == "varchar" and to.numbers:
        whole, most = explicit(value, VARCHAR, at), to.numbers[0]
        sql = f"left({whole.sql}, {most})"
        if value.type != VARCHAR:
            reason = f"'Value ' || {whole.sql} || ' cannot be represented as varchar({most})'"
            long = failing("INVALID_CAST_ARGUMENT", reason, VARCHAR)
            sql = f"(CASE WHEN length({whole.sql}) > {most} THEN {long} ELSE {whole.sql} END)"
        return replace(whole, sql=sql, type=VARCHAR, ref=None, constant=None, is_constant=False)
    if value.type == to:
        return value
    if value.type == UNKNOWN:
        return cast(value, to)
    sql = _sql(value, to, at)
    done = composed(sql, to, (value,))
    return replace(done, constant=value.constant, is_constant=value.is_constant) if _keeps(value, to) else done


def _keeps(value: Value, to: Type) -> bool:
    """Whether a literal's Python value still stands for it: `date '2026-01-01'` is compared with statistics as text."""
    return value.is_constant and (value.type == to or (value.type == VARCHAR and to in (DATE, TIMESTAMP)))


def _sql(value: Value, to: Type, at: str) -> str:
    kind = value.type
    if to == VARCHAR:
        return text(value, at)
    if kind == VARCHAR:
        return _from_text(value, to, at)
    if to.is_number and (kind.is_number or kind == BOOLEAN):
        return _number(value, to)
    if to == BOOLEAN and kind.is_number:
        return f"({value.sql} <> 0)"
    if to.name in ("date", "timestamp", "timestamp with time zone"):
        found = _time(value, to)
        if found:
            return found
    if to.name == kind.name and to.of and len(to.of) == len(kind.of):
        return _nested(value, to, at)
    if to.name == "json":
        return _to_json(value)
    if kind.name == "json":
        return _from_json(value, to)
    raise QueryError("TYPE_MISMATCH", f"{at}Cannot cast {kind} to {to}")


def text(value: Value, at: str) -> str:
    """A value as CAST(... AS varchar) writes it."""
    kind = value.type.name
    if kind in ("real", "double"):
        return f"trino_{kind}_text({value.sql})"
    if kind == "timestamp":
        return f"strftime({value.sql}, '%Y-%m-%d %H:%M:%S.%g')"
    if kind == "timestamp with time zone":
        local = f"timezone({types.text(value.type.zone)}, {value.sql})"
        return f"(strftime({local}, '%Y-%m-%d %H:%M:%S.%g') || ' ' || {types.text(value.type.zone)})"
    if kind == "json":
        wrong = failing("INVALID_CAST_ARGUMENT", f"'Cannot cast to varchar: ' || CAST({value.sql} AS VARCHAR)", VARCHAR)
        return f"(CASE WHEN json_type({value.sql}) IN ('ARRAY', 'OBJECT') THEN {wrong} ELSE {value.sql} ->> '$' END)"
    if kind in (*types.INTEGERS, "decimal", "boolean", "date", "varchar", "unknown"):
        return f"CAST({value.sql} AS VARCHAR)"
    raise QueryError("TYPE_MISMATCH", f"{at}Cannot cast {value.type} to varchar")


def _from_text(value: Value, to: Type, at: str) -> str:
    words = {
        BOOLEAN: "(?i)(t|true|1|f|false|0)",
        DATE: _DATE,
        TIMESTAMP: _TIMESTAMP,
        DOUBLE: r"\s*[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?[dDfF]?\s*|[+-]?(NaN|Infinity)",
    }
    if to == types.VARBINARY:
        return f"encode({value.sql})"
    if to.is_integer:
        pattern, fine = _INTEGER, f"CAST({value.sql} AS {types.duckdb(to)})"
    elif to.name == "decimal":
        pattern, fine = r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", f"CAST({value.sql} AS {types.duckdb(to)})"
    elif to.name == "timestamp with time zone":
        pattern = _ZONED
        plain = f"regexp_replace({value.sql}, ' ?(UTC|Z|[+-]00:00)\\s*$', '')"
        fine = f"timezone('UTC', {_milliseconds(f'CAST({plain} AS TIMESTAMP)')})"
    elif to in (*words, REAL):
        pattern, fine = words.get(to, words[DOUBLE]), f"CAST(trim({value.sql}) AS {types.duckdb(to)})"
        fine = _milliseconds(fine) if to == TIMESTAMP else fine
    elif to.name == "json":
        return f"to_json({value.sql})"
    else:
        raise QueryError("TYPE_MISMATCH", f"{at}Cannot cast varchar to {to}")
    spelled = {"date": "Value cannot be cast to date: ", "timestamp": "Value cannot be cast to timestamp: "}
    message = f"{types.text(spelled.get(to.name, 'Cannot cast ' + chr(39)))} || {value.sql}"
    if to.name not in spelled:
        message += f" || {types.text(f'{chr(39)} to {to}')}"
    wrong = failing("INVALID_CAST_ARGUMENT", message, to)
    elsewhere = f"WHEN regexp_full_match({value.sql}, {types.text(pattern)}) THEN {fine}"
    if to.name == "timestamp with time zone":
        zone = failing("NOT_SUPPORTED", f"'local Athena reads no other zone than UTC: ' || {value.sql}", to)
        elsewhere += f" WHEN regexp_matches({value.sql}, {types.text(_OTHER_ZONE)}) THEN {zone}"
    return f"(CASE WHEN {value.sql} IS NULL THEN NULL {elsewhere} ELSE {wrong} END)"


def _milliseconds(sql: str) -> str:
    """A timestamp to the millisecond, as timestamp(3) keeps it: half is rounded up."""
    return f"date_trunc('millisecond', {sql} + INTERVAL '500 MICROSECOND')"


def _number(value: Value, to: Type) -> str:
    if value.type.is_float and to.is_integer:
        # Half is rounded away from zero; DuckDB's cast rounds half to even.
        wrong = failing("INVALID_CAST_ARGUMENT", f"'Cannot cast double NaN to {to}'", to)
        return f"(CASE WHEN isnan({value.sql}) THEN {wrong} ELSE CAST(round({value.sql}) AS {types.duckdb(to)}) END)"
    if value.type.is_float and to.name == "decimal":
        # Of the digits that it is written with, 1.005, not of the binary fraction: BigDecimal.valueOf in Trino.
        wrong = failing("INVALID_CAST_ARGUMENT", f"'Cannot cast NaN or infinity to {to}'", to)
        digits = f"CAST(CAST({value.sql} AS VARCHAR) AS {types.duckdb(to)})"
        return f"(CASE WHEN NOT isfinite({value.sql}) THEN {wrong} ELSE {digits} END)"
    return f"CAST({value.sql} AS {types.duckdb(to)})"


def _time(value: Value, to: Type) -> str | None:
    kind = value.type.name
    if kind == "timestamp with time zone":
        local = f"timezone({types.text(value.type.zone)}, {value.sql})"
        return f"CAST({local} AS {types.duckdb(to)})" if to.name != kind else value.sql
    if kind in ("date", "timestamp"):
        return cast(value, to).sql if to.name == "timestamp with time zone" else f"CAST({value.sql} AS {to.name})"
    return None


def _nested(value: Value, to: Type, at: str) -> str:
    """Elements are cast one by one with the rules above; rows by position."""
    if to.name == "array":
        inner = explicit(Value("c_element", value.type.of[0]), to.of[0], at)
        return f"list_transform({value.sql}, lambda c_element: {inner.sql})"
    if to.name == "row":
        keys = [types.field_key(value.type, n) for n in range(len(to.of))]
        cells = [
            Value(f"struct_extract({value.sql}, {types.text(key)})", of)
            for key, of in zip(keys, value.type.of, strict=True)
        ]
        done = [explicit(each, of, at).sql for each, of in zip(cells, to.of, strict=True)]
        fields = ", ".join(f"{types.text(types.field_key(to, n))}: {each}" for n, each in enumerate(done))
        return f"(CASE WHEN {value.sql} IS NULL THEN NULL ELSE {{{fields}}} END)"
    if value.type.of[0] == to.of[0] and not to.of[1].of and types.common(value.type.of[1], to.of[1]) == to.of[1]:
        return f"CAST({value.sql} AS {types.duckdb(to)})"
    raise not_supported(f"cast {value.type} to {to}")


def _to_json(value: Value) -> str:
    if value.type.name not in ("boolean", "bigint", "integer", "double", "varchar"):
        raise not_supported(f"cast {value.type} to json")
    return f"to_json({value.sql})"


def _from_json(value: Value, to: Type) -> str:
    if to.name in ("bigint", "integer", "double", "boolean"):
        return f"CAST(({value.sql} ->> '$') AS {types.duckdb(to)})"
    if to.name in ("array", "map", "row"):
        raise not_supported(f"cast JSON to {to}")
    raise QueryError("TYPE_MISMATCH", f"Cannot cast json to {to}")
