"""Operators, with Trino's types and errors. https://trino.io/docs/current/functions/math.html and .../comparison.html"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from sqlglot import exp

from local_aws.athena import intervals, nested, types
from local_aws.athena.errors import QueryError, not_supported
from local_aws.athena.types import BIGINT, BOOLEAN, UNKNOWN, VARCHAR, Type
from local_aws.athena.values import Value, cast, composed, failing

COMPARISONS: dict[Any, str] = {
    exp.EQ: "=",
    exp.NEQ: "<>",
    exp.LT: "<",
    exp.LTE: "<=",
    exp.GT: ">",
    exp.GTE: ">=",
}
_ARITHMETIC: dict[Any, str] = {exp.Add: "+", exp.Sub: "-", exp.Mul: "*", exp.Div: "/", exp.Mod: "%"}
_BY_ZERO = ("DIVISION_BY_ZERO", "'/ by zero'")


def binary(kind: type[exp.Expression], left: Value, right: Value, at: str) -> Value:
    """`left` and `right` with an operator between; TYPE_MISMATCH where Trino has none for the types."""
    if kind in COMPARISONS:
        return _comparison(COMPARISONS[kind], left, right, at)
    sign = _ARITHMETIC[kind]
    if UNKNOWN in (left.type, right.type) and (left.type.is_number or right.type.is_number):
        shared = left.type if left.type.is_number else right.type
        left, right = cast(left, shared), cast(right, shared)
    if left.type.is_number and right.type.is_number:
        return _arithmetic(sign, left, right)
    found = intervals.shifted(sign, left, right)
    if found is None:
        raise _mismatch(sign, left, right, at)
    return found


def _mismatch(sign: str, left: Value, right: Value, at: str) -> QueryError:
    return QueryError("TYPE_MISMATCH", f"{at}Cannot apply operator: {left.type} {sign} {right.type}")


def _arithmetic(sign: str, left: Value, right: Value) -> Value:
    shared = types.common(left.type, right.type)
    assert shared is not None
    if shared.name == "decimal":
        return _decimal(sign, left, right)
    left, right = cast(left, shared), cast(right, shared)
    if sign in "/%" and shared.is_integer:
        operator = "//" if sign == "/" else "%"
        zero = failing(*_BY_ZERO, shared)
        sql = f"(CASE WHEN {right.sql} = 0 THEN {zero} ELSE {left.sql} {operator} {right.sql} END)"
        return composed(sql, shared, (left, right))
    return composed(f"CAST({left.sql} {sign} {right.sql} AS {types.duckdb(shared)})", shared, (left, right))


def _decimal(sign: str, left: Value, right: Value) -> Value:
    """https://trino.io/docs/current/functions/decimal.html has the result's precision and scale."""
    (p1, s1), (p2, s2) = (types.as_decimal(each.type).numbers for each in (left, right))
    scale = max(s1, s2)
    one, other = (cast(each, types.as_decimal(each.type)) for each in (left, right))
    if sign == "/":
        kind = types.decimal(p1 + s2 + max(0, s2 - s1), scale)
        return divided(one, other, kind)
    if sign == "*":
        kind = types.decimal(p1 + p2, s1 + s2)
        sql = f"CAST({one.sql} * {other.sql} AS {types.duckdb(kind)})"
    elif sign == "%":
        kind = types.decimal(min(p2 - s2, p1 - s1) + scale, scale)
        zero = failing(*_BY_ZERO, kind)
        sql = f"(CASE WHEN {other.sql} = 0 THEN {zero} ELSE CAST({one.sql} % {other.sql} AS {types.duckdb(kind)}) END)"
    else:
        kind = types.decimal(scale + max(p1 - s1, p2 - s2) + 1, scale)
        wide = types.duckdb(kind)
        sql = f"CAST(CAST({one.sql} AS {wide}) {sign} CAST({other.sql} AS {wide}) AS {wide})"
    return composed(sql, kind, (one, other))


def divided(one: Value, other: Value, kind: Type) -> Value:
    """Decimals divided exactly, half rounded up, as DuckDB does not: it would give a double.

    Both are turned into whole numbers (a decimal's digits without its point), and the quotient back by its digits.
    """
    scale = kind.numbers[1]
    shift = scale + other.type.numbers[1] - one.type.numbers[1]
    numerator, denominator = _digits(one.sql), _digits(other.sql)
    if shift >= 0:
        numerator = f"({numerator} * {10**shift})"
    else:
        denominator = f"({denominator} * {10**-shift})"
    half = f"(abs({denominator}) // 2)"
    quotient = f"((abs({numerator}) + {half}) // abs({denominator}) * sign({numerator}) * sign({denominator}))"
    point = f"CAST('{10.0**-scale:.{scale}f}' AS DECIMAL({scale + 1}, {scale}))" if scale else "1"
    whole = f"CAST({quotient} AS DECIMAL({38 - scale - 1 if scale else 38}, 0))"
    result = f"CAST({whole} * {point} AS {types.duckdb(kind)})"
    zero = failing("DIVISION_BY_ZERO", "'Division by zero'", kind)
    return composed(f"(CASE WHEN {other.sql} = 0 THEN {zero} ELSE {result} END)", kind, (one, other))


def _digits(sql: str) -> str:
    return f"CAST(replace(CAST({sql} AS VARCHAR), '.', '') AS HUGEINT)"


def _comparison(sign: str, left: Value, right: Value, at: str) -> Value:
    shared = types.common(left.type, right.type)
    if shared is None and left.type.name == right.type.name == "timestamp with time zone":
        shared = left.type
    if shared is None or (shared.name in ("map", "json") and sign not in ("=", "<>")):
        raise _mismatch(sign, left, right, at)
    one, other = _instants(left, shared), _instants(right, shared)
    if shared.of:
        return composed(nested.compared(sign, one.sql, other.sql, shared), BOOLEAN, (one, other))
    sql = f"({one.sql} {sign} {other.sql})"
    if shared.is_float:
        sql = _with_nan(sign, sql, one, other)
    return composed(sql, BOOLEAN, (one, other))


def _instants(value: Value, shared: Type) -> Value:
    """Zones do not matter to a comparison."""
    both = value.type.name == shared.name == "timestamp with time zone"
    return replace(value, type=shared) if both else cast(value, shared)


def _with_nan(sign: str, sql: str, one: Value, other: Value) -> str:
    """NaN equals and precedes nothing in Trino; to DuckDB it is one value, and the greatest."""
    left, right = (not each.is_constant for each in (one, other))
    if sign == "<>":
        return f"({sql} OR isnan({one.sql}))" if left and right else sql
    watched = [each.sql for each, varies in ((one, left), (other, right)) if varies]
    tests = [f"NOT isnan({each})" for each in watched]
    return f"({' AND '.join([sql, *tests])})" if tests else sql


def alike(values: Sequence[Value], at: str) -> list[Value]:
    """The values coerced to one type; TYPE_MISMATCH where there is none."""
    shared = UNKNOWN
    for each in values:
        found = types.common(shared, each.type)
        if found is None:
            raise QueryError("TYPE_MISMATCH", f"{at}All operands must be the same type: {shared} and {each.type}")
        shared = found
    return [cast(each, shared) for each in values]


def concatenation(values: list[Value], at: str) -> Value:
    """`||` and concat: strings or arrays; an element may stand beside an array of its type."""
    if any(each.type.name == "array" for each in values):
        lists = [
            each
            if each.type.name == "array" or each.type == UNKNOWN
            else replace(each, sql=f"[{each.sql}]", type=types.array(each.type))
            for each in values
        ]
        lists = alike(lists, at)
        sql = " || ".join(each.sql for each in lists)
        nulls = " OR ".join(f"{each.sql} IS NULL" for each in lists)
        return composed(f"(CASE WHEN {nulls} THEN NULL ELSE {sql} END)", lists[0].type, lists)
    kinds = {each.type.name for each in values} - {"unknown"}
    if kinds - {"varchar"} and kinds != {"varbinary"}:
        wrong = next(each.type for each in values if each.type.name not in ("varchar", "unknown"))
        raise QueryError("TYPE_MISMATCH", f"{at}Unexpected parameters ({wrong}) for function concat")
    shared = VARCHAR if kinds != {"varbinary"} else types.VARBINARY
    cells = [cast(each, shared) for each in values]
    return composed("(" + " || ".join(each.sql for each in cells) + ")", shared, cells)


def subscript(base: Value, index: Value, at: str) -> Value:
    """`array[n]` and `map[key]`: what is not there is an error, not NULL."""
    code = "INVALID_FUNCTION_ARGUMENT"
    index = cast(index, BIGINT) if base.type.name == "array" and index.type == UNKNOWN else index
    if base.type.name == "array" and index.type.is_integer:
        kind = base.type.of[0]
        below = failing(code, "'SQL array indices start at 1'", kind)
        negative = failing(code, "'Array subscript is negative: ' || CAST(" + index.sql + " AS VARCHAR)", kind)
        words = "'Array subscript must be less than or equal to array length: ' || "
        words += f"CAST({index.sql} AS VARCHAR) || ' > ' || CAST(len({base.sql}) AS VARCHAR)"
        sql = (
            f"(CASE WHEN {index.sql} = 0 THEN {below} WHEN {index.sql} < 0 THEN {negative} "
            f"WHEN {index.sql} > len({base.sql}) THEN {failing(code, words, kind)} "
            f"ELSE list_extract({base.sql}, CAST({index.sql} AS BIGINT)) END)"
        )
        return composed(sql, kind, (base, index))
    if base.type.name == "map" and types.common(base.type.of[0], index.type) == base.type.of[0]:
        key, kind = cast(index, base.type.of[0]), base.type.of[1]
        absent = failing(code, f"'Key not present in map: ' || CAST({key.sql} AS VARCHAR)", kind)
        sql = f"(CASE WHEN NOT map_contains({base.sql}, {key.sql}) THEN {absent} ELSE {base.sql}[{key.sql}] END)"
        return composed(sql, kind, (base, key))
    raise QueryError("TYPE_MISMATCH", f"{at}Cannot use {index.type} for subscript of {base.type}")


def row_of(values: list[Value], names: tuple[str, ...] = ()) -> Value:
    """A row of values."""
    names = names or ("",) * len(values)
    kind = types.row(names, tuple(each.type for each in values))
    fields = ", ".join(f"{types.text(types.field_key(kind, n))}: {each.sql}" for n, each in enumerate(values))
    return composed(f"{{{fields}}}", kind, values)


def filtered(aggregate: Value, condition: Value) -> Value:
    """An aggregate over the rows that meet a condition. The mark stands where FILTER goes in its SQL."""
    if aggregate.sql.count(FILTER) < 1:
        raise not_supported("filter this aggregate")
    sql = aggregate.sql.replace(FILTER, f" FILTER (WHERE {condition.sql}){FILTER}")
    return replace(aggregate, sql=sql, refs=aggregate.refs + condition.refs)


# Stands behind each aggregate call, where FILTER or OVER may go; removed when the query is written out.
FILTER = "\x03"
